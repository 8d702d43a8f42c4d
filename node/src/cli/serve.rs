//! `antumbra serve --config FILE`: a node as its configuration says.

use std::path::{Path, PathBuf};

use crate::boot::Node;
use crate::config::Sources;

use super::Context;
use super::problem::{Exit, Problem};
use super::start::{self, NodeArgs, Until};

/// Run a node as its configuration says
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file; docs/antumbra.toml is one to start from
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Serve although there is no authentication and no encryption yet
    #[arg(long)]
    insecure: bool,
    /// Stop when standard input ends, for a program that holds the other end of a pipe
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    if !args.insecure {
        return Err(Problem::new(Exit::Usage, "refusing to serve")
            .why(
                "this version has no authentication and no encryption: whoever reaches its ports \
                 can read and change every shadow",
            )
            .try_this(
                "--insecure if only trusted programs reach them, or `antumbra dev` for a node \
                 that only this machine reaches",
            ));
    }
    let text = start::read_file(&args.config)?;
    let sources = Sources {
        file: Some((&args.config, &text)),
        environment: context.environment.clone(),
        flags: start::overrides(&args.node.set),
        allow_test_switches: args.node.allow_test_switches,
    };
    let loaded = start::load(&sources)?;
    let until = match args.exit_with_stdin {
        true => Until::SignalOrEndOfInput,
        false => Until::Signal,
    };
    let data_dir = loaded.config.node.data_dir.clone();
    start::run(loaded, context, until, |node| banner(node, &data_dir))
}

fn banner(node: &Node, data_dir: &Path) -> String {
    let addresses = node.addresses();
    format!(
        "antumbra {}: {}, gRPC on {}, HTTP on {}, other nodes on {}, data in {}; open to whoever \
         reaches it\n",
        env!("CARGO_PKG_VERSION"),
        node.info().name,
        addresses.grpc,
        addresses.http,
        addresses.peer,
        data_dir.display()
    )
}
