//! `antumbra cert ca`.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};

use crate::cli::output::print;
use crate::cli::problem::Problem;

use super::authority::NAME;
use super::files::Pair;
use super::validity::{self, Days};
use super::{cannot_make, check_node_name, distinguished_name, print_made};

/// Make the authority that signs the certificates of a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: antumbra cert ca --out ca --cluster lamps")]
pub(crate) struct Args {
    /// Directory to write ca.pem and ca.key into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the cluster, as `cluster.name` in the configuration
    #[arg(long, value_name = "NAME", default_value = "antumbra")]
    cluster: String,
    /// Days for which it is valid
    #[arg(long, value_name = "N", default_value = "3650", value_parser = validity::parse_days)]
    days: Days,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    check_node_name("--cluster", &args.cluster)?;
    let pair = Pair::in_directory(&args.out, NAME);
    pair.check_free(args.force)?;

    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ends = args.days.starting_now(None).apply(&mut params);
    let key = KeyPair::generate().map_err(cannot_make)?;
    // An authority that replaces another one must have a name of its own.
    let id: String = params
        .key_identifier(&key)
        .iter()
        .take(4)
        .fold(String::new(), |id, byte| format!("{id}{byte:02x}"));
    params.distinguished_name =
        distinguished_name(&args.cluster, &format!("Antumbra authority {id}"));
    let certificate = params.self_signed(&key).map_err(cannot_make)?.pem();
    pair.write(&certificate, &key.serialize_pem(), args.force)?;

    let what = format!(
        "authority of cluster `{}`, valid until {ends}",
        args.cluster
    );
    print_made(
        &pair,
        &what,
        "its private key; no node needs it, keep it safe",
    );
    let directory = args.out.display();
    print(&format!(
        "\nNext, for every node:\n  \
         antumbra cert node --ca {directory} --out DIR --name NODE --host HOST,ADDRESS\n"
    ));
    Ok(())
}
