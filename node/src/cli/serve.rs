//! `antumbra serve --config FILE`: a node as its configuration says.

use std::path::{Path, PathBuf};

use crate::access::Mode;
use crate::boot::Node;
use crate::config::{Config, Sources};

use super::Context;
use super::problem::{Exit, Problem};
use super::start::{self, NodeArgs, Until};

/// Run a node as its configuration says
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file; docs/antumbra.toml is one to start from
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Let everybody in who shows no credentials, and allow a peer link without encryption
    #[arg(long)]
    insecure: bool,
    /// Stop when standard input ends, for a program that holds the other end of a pipe
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let text = start::read_file(&args.config)?;
    let sources = Sources {
        file: Some((&args.config, &text)),
        environment: context.environment.clone(),
        flags: start::overrides(&args.node.set),
        allow_test_switches: args.node.allow_test_switches,
    };
    let mut loaded = start::load(&sources)?;
    match args.insecure {
        true => loaded.config.mode = Mode::Open,
        false => refuse_open_peers(&loaded.config)?,
    }
    let mode = loaded.config.mode;
    let until = match args.exit_with_stdin {
        true => Until::SignalOrEndOfInput,
        false => Until::Signal,
    };
    let data_dir = loaded.config.node.data_dir.clone();
    start::run(loaded, context, until, |node| banner(node, &data_dir, mode))
}

/// Whoever reaches a peer door without TLS is taken for a node.
fn refuse_open_peers(config: &Config) -> Result<(), Problem> {
    let peer = &config.peer;
    if !peer.tls_certificate.is_empty() || peer.listen.ip().is_loopback() {
        return Ok(());
    }
    let why = format!(
        "other nodes are listened for on {} without TLS: whoever reaches it can read and change \
         every shadow",
        peer.listen
    );
    Err(Problem::new(Exit::Usage, "refusing to serve")
        .why(why)
        .try_this(
            "`antumbra cert` for peer.tls_certificate, peer.tls_key and peer.tls_authority; or \
             --insecure if only trusted programs reach this node",
        ))
}

fn banner(node: &Node, data_dir: &Path, mode: Mode) -> String {
    let addresses = node.addresses();
    let open = match mode {
        Mode::Open => "INSECURE: open to whoever reaches it",
        Mode::Closed => "closed: callers show credentials",
    };
    format!(
        "antumbra {}: {}, gRPC on {}, HTTP on {}, other nodes on {}, data in {}; {open}\n",
        env!("CARGO_PKG_VERSION"),
        node.info().name,
        addresses.grpc,
        addresses.http,
        addresses.peer,
        data_dir.display()
    )
}
