//! `antumbra dev`: a durable node on this machine, for development.

use std::path::{Path, PathBuf};

use crate::boot::Node;
use crate::config::Sources;
use crate::config::load::Override;

use super::Context;
use super::problem::{Exit, Problem};
use super::start::{self, NodeArgs};

/// Offset of the HTTP door from the base port.
const HTTP_OFFSET: u16 = 80;
const DEFAULT_PORT: u16 = 7400;

/// Run a node on this machine: durable, open, loopback only
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of its data, kept from run to run [default: antumbra-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// gRPC is served on this port and HTTP on this plus 80; 0 lets the system choose both
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    base_port: u16,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let sources = Sources {
        file: None,
        environment: context.environment.clone(),
        flags: flags(args)?,
        allow_test_switches: args.node.allow_test_switches,
    };
    let loaded = start::load(&sources)?;
    let (data_dir, program) = (loaded.config.node.data_dir.clone(), context.program.clone());
    start::run(loaded, context, |node| banner(node, &data_dir, &program))
}

/// The doors come last: nothing else may open them to other machines.
fn flags(args: &Args) -> Result<Vec<Override>, Problem> {
    let http = match args.base_port {
        0 => 0,
        port => port.checked_add(HTTP_OFFSET).ok_or_else(|| {
            Problem::new(Exit::Usage, format!("cannot use base port {port}"))
                .why(format!(
                    "HTTP is served {HTTP_OFFSET} above it, and ports end at 65535"
                ))
                .try_this(format!("--base-port {DEFAULT_PORT}"))
        })?,
    };
    let mut flags = start::overrides(&args.node.set);
    if let Some(directory) = &args.data_dir {
        flags.push(Override {
            key: "node.data_dir".to_owned(),
            value: directory.display().to_string(),
            flag: "--data-dir",
        });
    }
    for (door, port) in [("api", args.base_port), ("http", http)] {
        flags.push(Override {
            key: format!("{door}.listen"),
            value: format!("127.0.0.1:{port}"),
            flag: "--base-port",
        });
    }
    Ok(flags)
}

fn banner(node: &Node, data_dir: &Path, program: &str) -> String {
    let (api, http) = (node.addresses().grpc, node.addresses().http);
    let directory = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let endpoint = match api.port() {
        DEFAULT_PORT => String::new(),
        _ => format!(" --endpoint http://{api}"),
    };
    format!(
        "\
antumbra {version}: one node for development

  gRPC   http://{api}   antumbra.v1.Shadows, health, reflection
  HTTP   http://{http}   AWS iot-data, /livez /readyz /startupz, /metrics
  data   {directory}
         persistent: every change is on disk before it is acknowledged, and the next start finds it
  open   no authentication, no encryption; it listens on the loopback interface only

Commands to paste:

  {program} shadow update{endpoint} lamp-1 --desired '{{\"on\":true}}'
  curl -s -d '{{\"state\":{{\"reported\":{{\"on\":false}}}}}}' http://{http}/things/lamp-1/shadow
  {program} shadow watch{endpoint} lamp-1

",
        version = env!("CARGO_PKG_VERSION"),
        directory = directory.display(),
    )
}
