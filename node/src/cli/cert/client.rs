//! `antumbra cert client`.

use rcgen::ExtendedKeyUsagePurpose;

use crate::cli::output::print;
use crate::cli::problem::{Exit, Problem};
use crate::peer::{CertificateName, Holder};

use super::authority::Authority;
use super::{IssueArgs, Leaf, cluster, issue, print_made};

/// Make the certificate of a client
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: antumbra cert client --ca ca --out clients --name billing")]
pub(crate) struct Args {
    /// Name of the client
    #[arg(long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    issue: IssueArgs,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    if !CertificateName::is_client_name(&args.name) {
        let what = format!("cannot use --name `{}`", args.name);
        return Err(Problem::new(Exit::Usage, what)
            .why("a client's name has 1-63 characters of a-z, A-Z, 0-9, ., _ and -"));
    }
    let authority = Authority::read(&args.issue.ca)?;
    let name = CertificateName {
        cluster: cluster(&args.issue, &authority)?,
        holder: Holder::Client,
        name: args.name.clone(),
    };
    let cluster = name.cluster.clone();
    let leaf = Leaf {
        name,
        hosts: Vec::new(),
        usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    let issued = issue(&args.issue, &authority, leaf)?;

    let what = format!(
        "client {} of cluster `{cluster}`, valid until {}",
        args.name, issued.ends
    );
    print_made(&issued.pair, &what, "its private key");
    print(&format!(
        "\nGive both to the client, with {} to check the nodes by. A node's peer port refuses it.\n",
        authority.certificate().display()
    ));
    Ok(())
}
