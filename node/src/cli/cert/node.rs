//! `antumbra cert node`.

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::pki_types::{DnsName, IpAddr, ServerName};

use crate::cli::output::print;
use crate::cli::problem::{Exit, Problem};
use crate::peer::{CertificateName, Holder};

use super::authority::Authority;
use super::{IssueArgs, Leaf, check_node_name, cluster, issue, print_made, toml_path};

/// Make the certificate of a node
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: antumbra cert node --ca ca --out node-1 --name node-1 --host lamps-1.example.org,10.0.0.1

A running node takes a new certificate within ten seconds.")]
pub(crate) struct Args {
    /// Name of the node, as `node.name` in its configuration
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Host names and addresses under which it is reached, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    host: Vec<String>,
    #[command(flatten)]
    issue: IssueArgs,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    check_node_name("--name", &args.name)?;
    let authority = Authority::read(&args.issue.ca)?;
    let name = CertificateName {
        cluster: cluster(&args.issue, &authority)?,
        holder: Holder::Node,
        name: args.name.clone(),
    };
    let cluster = name.cluster.clone();
    let leaf = Leaf {
        name,
        hosts: hosts(args)?,
        // Nodes connect to each other.
        usages: vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
    let issued = issue(&args.issue, &authority, leaf)?;

    let what = format!(
        "{} of cluster `{cluster}`, valid until {}",
        args.name, issued.ends
    );
    print_made(&issued.pair, &what, "its private key");
    print(&format!(
        "\nCopy both and {} to the node, and configure:\n  \
         [peer]\n  \
         tls_certificate = {}\n  \
         tls_key = {}\n  \
         tls_authority = {}\n",
        authority.certificate().display(),
        toml_path(&issued.pair.certificate),
        toml_path(&issued.pair.key),
        toml_path(authority.certificate()),
    ));
    Ok(())
}

/// The name of the node and where it is reached, each once.
fn hosts(args: &Args) -> Result<Vec<SanType>, Problem> {
    let mut hosts = Vec::new();
    let given = args.host.iter().map(|host| host.trim());
    for host in std::iter::once(args.name.as_str()).chain(given) {
        let parsed = parse_host(host).ok_or_else(|| {
            Problem::new(Exit::Usage, format!("cannot use --host `{host}`"))
                .why("it is neither a host name nor an IP address")
                .try_this("names and addresses without ports, such as lamps-1.example.org,10.0.0.1")
        })?;
        if !hosts.contains(&parsed) {
            hosts.push(parsed);
        }
    }
    Ok(hosts)
}

fn parse_host(host: &str) -> Option<SanType> {
    if let Some(domain) = host.strip_prefix("*.") {
        DnsName::try_from(domain).ok()?;
        return host.try_into().ok().map(SanType::DnsName);
    }
    match ServerName::try_from(host).ok()? {
        ServerName::IpAddress(IpAddr::V4(address)) => {
            Some(SanType::IpAddress(std::net::Ipv4Addr::from(address).into()))
        }
        ServerName::IpAddress(IpAddr::V6(address)) => {
            Some(SanType::IpAddress(std::net::Ipv6Addr::from(address).into()))
        }
        _ => host.try_into().ok().map(SanType::DnsName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address as a host name would never match.
    #[test]
    fn tells_names_from_addresses() {
        let name = |host| matches!(parse_host(host), Some(SanType::DnsName(_)));
        let address = |host| matches!(parse_host(host), Some(SanType::IpAddress(_)));
        assert!(name("node-1") && name("a.example.org") && name("*.example.org"));
        assert!(address("127.0.0.1") && address("::1"));
        for host in ["", "a b", "a:7401", "*", "*.", "a/b", "ü"] {
            assert_eq!(parse_host(host), None, "{host}");
        }
    }
}
