//! `antumbra cert …`: certificates for the nodes of a cluster and for its clients.
//!
//! A certificate says who it is for in a URI, `antumbra://CLUSTER/node/NAME`; the peer link goes by
//! it. See [`crate::peer::CertificateName`].

mod authority;
mod ca;
mod client;
mod files;
mod node;
mod validity;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};

use crate::peer::CertificateName;

use super::output;
use super::problem::{Exit, Problem};

pub(crate) use files::write_secret;

use authority::Authority;
use files::Pair;
use validity::Days;

/// Make certificates for nodes and clients
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Ca(ca::Args),
    Node(node::Args),
    Client(client::Args),
}

impl Verb {
    pub(crate) fn run(&self) -> Result<(), Problem> {
        match self {
            Self::Ca(args) => ca::run(args),
            Self::Node(args) => node::run(args),
            Self::Client(args) => client::run(args),
        }
    }
}

/// Flags of `node` and `client`.
#[derive(Debug, clap::Args)]
struct IssueArgs {
    /// Directory of the authority: ca.pem and ca.key
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Directory to write NAME.pem and NAME.key into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Cluster it is for; that of the authority if left out
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Days for which it is valid, but not longer than the authority
    #[arg(long, value_name = "N", default_value = "365", value_parser = validity::parse_days)]
    days: Days,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

/// What a new certificate is good for.
struct Leaf {
    name: CertificateName,
    /// Host names and addresses, beside the name itself.
    hosts: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

/// Files that were written, and until when their certificate is valid.
struct Issued {
    pair: Pair,
    ends: String,
}

/// Makes a key and a certificate for it, signed by the authority, and writes both.
fn issue(args: &IssueArgs, authority: &Authority, leaf: Leaf) -> Result<Issued, Problem> {
    if leaf.name.name == authority::NAME {
        let what = format!("cannot use --name `{}`", authority::NAME);
        return Err(Problem::new(Exit::Usage, what).why("the files of the authority have it"));
    }
    let pair = Pair::in_directory(&args.out, &leaf.name.name);
    pair.check_free(args.force)?;
    let validity = args.days.starting_now(Some(authority.ends()));

    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&leaf.name.cluster, &leaf.name.name);
    params.subject_alt_names = leaf.hosts;
    let uri = leaf.name.to_string().try_into().map_err(cannot_make)?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = leaf.usages;
    params.use_authority_key_identifier_extension = true;
    let ends = validity.apply(&mut params);

    let key = KeyPair::generate().map_err(cannot_make)?;
    let certificate = params.signed_by(&key, authority.issuer());
    let certificate = certificate.map_err(cannot_make)?.pem();
    pair.write(&certificate, &key.serialize_pem(), args.force)?;
    Ok(Issued { pair, ends })
}

/// The cluster a certificate is for.
fn cluster(args: &IssueArgs, authority: &Authority) -> Result<String, Problem> {
    match &args.cluster {
        Some(cluster) => check_node_name("--cluster", cluster).map(|()| cluster.clone()),
        None => authority.cluster(),
    }
}

fn check_node_name(flag: &str, name: &str) -> Result<(), Problem> {
    if CertificateName::is_node_name(name) {
        return Ok(());
    }
    Err(
        Problem::new(Exit::Usage, format!("cannot use {flag} `{name}`"))
            .why("a name has 1-63 characters of a-z, 0-9 and -")
            .try_this("the name that the configuration has"),
    )
}

fn distinguished_name(cluster: &str, name: &str) -> rcgen::DistinguishedName {
    let mut distinguished = rcgen::DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, cluster);
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn cannot_make(error: impl ToString) -> Problem {
    Problem::new(Exit::Failure, "cannot make the certificate").why(error)
}

/// Says what was written.
fn print_made(pair: &Pair, certificate: &str, key: &str) {
    let rows = [
        (pair.certificate.display().to_string(), certificate),
        (pair.key.display().to_string(), key),
    ];
    let width = rows.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    for (path, what) in rows {
        output::print(&format!("wrote {path:<width$}  {what}\n"));
    }
}

/// A path as a TOML string.
fn toml_path(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
