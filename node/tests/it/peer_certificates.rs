//! `antumbra cert …`: the files it makes, what it says, and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use antumbra::peer::{CertificateName, Tls, TlsFiles};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use crate::cli_program::{Run, run};

fn cert(directory: &Path, arguments: &str) -> Run {
    let directory = directory.to_str().unwrap();
    let arguments = arguments.replace("DIR", directory);
    let arguments: Vec<&str> = std::iter::once("cert")
        .chain(arguments.split_whitespace())
        .collect();
    run(&arguments)
}

fn name_of(path: &Path) -> String {
    let certificate = CertificateDer::from_pem_file(path).unwrap();
    CertificateName::of(&certificate).unwrap().to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What the three verbs make is what a node takes, and only the owner can read the keys.
#[test]
fn makes_an_authority_a_node_and_a_client() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let made = cert(directory.path(), "ca --out DIR --cluster lamps").success();
    assert!(
        made.contains("authority of cluster `lamps`, valid until 2"),
        "{made}"
    );
    assert!(made.contains("\n  antumbra cert node --ca "), "{made}");
    let arguments = "node --ca DIR --out DIR/n --name node-1 --host a.example.org,10.0.0.1";
    let made = cert(directory.path(), arguments).success();
    for part in [
        "node-1 of cluster `lamps`, valid until 2",
        "\n  [peer]\n  tls_certificate = \"",
        "node-1.key\"\n  tls_authority = \"",
    ] {
        assert!(made.contains(part), "no `{part}` in {made}");
    }
    let made = cert(directory.path(), "client --ca DIR --out DIR --name Bill.1").success();
    assert!(made.contains("client Bill.1 of cluster `lamps`"), "{made}");

    assert_eq!(name_of(&at("n/node-1.pem")), "antumbra://lamps/node/node-1");
    assert_eq!(name_of(&at("Bill.1.pem")), "antumbra://lamps/client/Bill.1");
    for key in ["ca.key", "n/node-1.key", "Bill.1.key"] {
        assert_eq!(mode(&at(key)), 0o600, "{key}");
    }
    let files = TlsFiles {
        certificate: at("n/node-1.pem"),
        key: at("n/node-1.key"),
        authority: at("ca.pem"),
    };
    Tls::open(files, "node-1").unwrap();
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 5, "no drafts are left: {names:?}");
}

/// A key that was replaced by mistake is gone for ever.
#[test]
fn replaces_nothing_without_force() {
    let directory = TempDir::new().unwrap();
    let key = directory.path().join("ca.key");
    cert(directory.path(), "ca --out DIR").success();
    let before = fs::read(&key).unwrap();
    let refused = cert(directory.path(), "ca --out DIR").failure(2);
    assert!(
        refused.stderr.contains("ca.pem exists already\n  why: ")
            && refused
                .stderr
                .contains("  try this: another --out, or --force"),
        "{refused:#?}"
    );
    assert!(refused.stdout.is_empty());
    assert_eq!(fs::read(&key).unwrap(), before);

    // A wider mode of an old file does not pass on to the new key.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    cert(directory.path(), "ca --out DIR --force").success();
    assert!(fs::read(&key).unwrap() != before);
    assert_eq!(mode(&key), 0o600);
}

/// A mistake is told with what, why and what to try, and leaves no files.
#[test]
fn refuses_what_would_not_work() {
    let directory = TempDir::new().unwrap();
    let (ca, other) = (directory.path().join("ca"), directory.path().join("other"));
    for directory in [&ca, &other] {
        cert(directory, "ca --out DIR").success();
    }
    let out = directory.path().join("out");
    let node =
        "node --ca DIR --out OUT --name node-1 --host h".replace("OUT", out.to_str().unwrap());
    let cases = [
        (
            node.replace("DIR", "/nowhere"),
            "cannot read /nowhere/ca.pem",
        ),
        (
            node.replace("node-1", "Node_1"),
            "cannot use --name `Node_1`",
        ),
        (node.replace("node-1", "ca"), "cannot use --name `ca`"),
        (
            node.replace("--host h", "--host h:7401"),
            "cannot use --host `h:7401`",
        ),
        (format!("{node} --cluster A"), "cannot use --cluster `A`"),
        (
            node.replace("node --", "client --")
                .replace("--host h", "")
                .replace("node-1", "a/b"),
            "cannot use --name `a/b`",
        ),
        (
            "ca --out DIR/new --cluster A".to_owned(),
            "cannot use --cluster `A`",
        ),
    ];
    for (arguments, what) in cases {
        let refused = cert(&ca, &arguments).failure(2);
        let first = format!("error: {what}\n  why: ");
        assert!(
            refused.stderr.starts_with(&first),
            "{arguments}: {refused:#?}"
        );
    }
    fs::copy(other.join("ca.key"), ca.join("ca.key")).unwrap();
    let refused = cert(&ca, &node).failure(2);
    assert!(
        refused.stderr.contains("it is not the key of ca.pem"),
        "{refused:#?}"
    );
    assert_eq!(cert(&ca, &format!("{node} --days 0")).code, 2);
    assert!(!out.exists() && !ca.join("new").exists());
}

/// Whoever reads the help finds every flag with its meaning.
#[test]
fn help_names_every_flag() {
    let cases = [
        (
            "--help",
            "\
Make certificates for nodes and clients

Usage: antumbra cert <COMMAND>

Commands:
  ca      Make the authority that signs the certificates of a cluster
  node    Make the certificate of a node
  client  Make the certificate of a client
  help    Print this message or the help of the given subcommand(s)

Options:
  -h, --help  Print help
",
        ),
        (
            "ca --help",
            "\
Make the authority that signs the certificates of a cluster

Usage: antumbra cert ca [OPTIONS] --out <DIR>

Options:
      --out <DIR>       Directory to write ca.pem and ca.key into
      --cluster <NAME>  Name of the cluster, as `cluster.name` in the configuration [default:
                        antumbra]
      --days <N>        Days for which it is valid [default: 3650]
      --force           Replace files that exist
  -h, --help            Print help

Example: antumbra cert ca --out ca --cluster lamps
",
        ),
        (
            "node --help",
            "\
Make the certificate of a node

Usage: antumbra cert node [OPTIONS] --name <NAME> --host <LIST> --ca <DIR> --out <DIR>

Options:
      --name <NAME>     Name of the node, as `node.name` in its configuration
      --host <LIST>     Host names and addresses under which it is reached, separated by commas
      --ca <DIR>        Directory of the authority: ca.pem and ca.key
      --out <DIR>       Directory to write NAME.pem and NAME.key into
      --cluster <NAME>  Cluster it is for; that of the authority if left out
      --days <N>        Days for which it is valid, but not longer than the authority [default: 365]
      --force           Replace files that exist
  -h, --help            Print help

Example: antumbra cert node --ca ca --out node-1 --name node-1 --host lamps-1.example.org,10.0.0.1

A running node takes a new certificate within ten seconds.
",
        ),
        (
            "client --help",
            "\
Make the certificate of a client

Usage: antumbra cert client [OPTIONS] --name <NAME> --ca <DIR> --out <DIR>

Options:
      --name <NAME>     Name of the client
      --ca <DIR>        Directory of the authority: ca.pem and ca.key
      --out <DIR>       Directory to write NAME.pem and NAME.key into
      --cluster <NAME>  Cluster it is for; that of the authority if left out
      --days <N>        Days for which it is valid, but not longer than the authority [default: 365]
      --force           Replace files that exist
  -h, --help            Print help

Example: antumbra cert client --ca ca --out clients --name billing
",
        ),
    ];
    for (arguments, expected) in cases {
        let help = cert(Path::new("."), arguments).success();
        assert_eq!(help, expected, "{arguments}");
    }
}
