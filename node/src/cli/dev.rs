//! `antumbra dev`: a durable node, or a cluster of them, on this machine, for development.
//!
//! One node runs in this process. Several are child processes, `antumbra serve` each with a file of its
//! own; this process starts them, says where they are, starts again what dies, and stops them.

mod backoff;
mod banner;
mod child;
mod fleet;
mod plan;
mod supervisor;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::access::Mode;
use crate::config::load::Override;
use crate::config::{Config, Sources};
use crate::identity::{DataDirectory, Owner};

use super::mqtt::Endpoint;
use super::problem::{Exit, Problem};
use super::start::{self, NodeArgs, Until};
use super::{Context, block_on};

use plan::Plan;

/// gRPC of the first node, unless the user says otherwise.
const DEFAULT_PORT: u16 = 7400;

/// Run nodes on this machine: durable, open, loopback only
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --nodes 3 every change is on the disks of two nodes before it is acknowledged. Kill one of the
three (kill -9) and go on: the others take over, and it is started again.")]
pub(crate) struct Args {
    /// Nodes of the cluster, each a process of its own; later starts need the same number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Gateways beside them: they serve all doors and keep no data; their ports follow those of the nodes
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=60))]
    gateways: u16,
    /// Directory of the data, kept from run to run [default: antumbra-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// gRPC is served on this port, HTTP on this plus 80, MQTT on this plus 83 (1883 when this is 7400),
    /// other nodes on this plus 1; the next node is 100 further. 0 lets the system choose, for one node.
    /// With `mqtt.tls_certificate` and `mqtt.tls_key`, MQTT with TLS is on this plus 84 (8883)
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    base_port: u16,
    /// Devices that live in this process: each reports a temperature and does what is desired
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    devices: u32,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    match (args.nodes, args.gateways) {
        (1, 0) => run_one(args, context),
        _ => run_several(args, context),
    }
}

fn run_one(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut flags = flags(args);
    let ports = plan::ports(args.base_port, 1)?;
    // The doors come last: nothing else may open them to other machines.
    for (door, address) in [
        ("api", ports.grpc),
        ("http", ports.http),
        ("mqtt", ports.mqtt),
        ("peer", ports.peer),
    ] {
        flags.push(Override {
            key: format!("{door}.listen"),
            value: address.to_string(),
            flag: "--base-port",
        });
    }
    let mut loaded = start::load(&sources(args, context, flags))?;
    let mqtt = &mut loaded.config.mqtt;
    if !mqtt.tls_certificate.is_empty() && mqtt.tls_listen.is_empty() {
        mqtt.tls_listen = ports.mqtts.to_string();
    }
    loaded.config.mode = Mode::Open;
    let (data_dir, program) = (loaded.config.node.data_dir.clone(), context.program.clone());
    refuse_another_number(&data_dir, IN_THIS_PROCESS)?;
    let stop = CancellationToken::new();
    let ended = start::run(loaded, context, Until::Signal, |node| {
        start_fleet(args.devices, &[node.addresses().mqtt], &stop);
        banner::one(node, &data_dir, &program)
    });
    stop.cancel();
    ended
}

fn run_several(args: &Args, context: &Context) -> Result<(), Problem> {
    refuse_what_differs_per_node(&args.node)?;
    if args.base_port == 0 {
        let processes = args.nodes + args.gateways;
        return Err(
            Problem::new(Exit::Usage, format!("cannot start {processes} nodes"))
                .why("nodes must know each other's ports, so the system cannot choose them")
                .try_this(format!("--base-port {DEFAULT_PORT}")),
        );
    }
    // What is wrong with the options is said once, not by every node.
    let loaded = start::load(&sources(args, context, flags(args)))?;
    let config = loaded.config;
    let directory = &config.node.data_dir;
    let plan = Plan::new(directory, args.base_port, args.nodes, args.gateways)?
        .secure(!config.mqtt.tls_certificate.is_empty());
    refuse_another_number(&plan.directory, args.nodes)?;
    refuse_another_port(&plan.directory, args.base_port)?;
    let claimed = claim(&plan.directory, &config)?;
    for warning in &loaded.warnings {
        supervisor::tell(warning);
    }
    for switch in config.test_switches.active() {
        supervisor::tell(&format!("TEST SWITCH ACTIVE on all nodes: {switch}"));
    }
    plan.write()?;
    let launcher = child::Launcher::new(&args.node)?;
    let program = context.program.clone();
    let stop = CancellationToken::new();
    let banner = |pids: &[u32]| {
        let doors: Vec<_> = plan.members.iter().map(|m| m.ports.mqtt).collect();
        start_fleet(args.devices, &doors, &stop);
        banner::several(&plan, pids, &program)
    };
    let stop_timeout = config.node.stop_delay + config.node.shutdown_timeout;
    let ended = block_on(supervisor::run(&plan, launcher, stop_timeout, banner));
    stop.cancel();
    drop(claimed);
    ended
}

/// Devices that connect to these doors, until they are told to stop.
fn start_fleet(devices: u32, doors: &[SocketAddr], stop: &CancellationToken) {
    let endpoints = doors
        .iter()
        .filter_map(|door| format!("mqtt://{door}").parse().ok());
    let endpoints: Vec<Endpoint> = endpoints.collect();
    tokio::spawn(fleet::run(endpoints, devices, stop.clone()));
}

fn sources(args: &Args, context: &Context, flags: Vec<Override>) -> Sources<'static> {
    Sources {
        file: None,
        environment: context.environment.clone(),
        flags,
        allow_test_switches: args.node.allow_test_switches,
    }
}

fn flags(args: &Args) -> Vec<Override> {
    let mut flags = start::overrides(&args.node.set);
    if let Some(directory) = &args.data_dir {
        flags.push(Override {
            key: "node.data_dir".to_owned(),
            value: directory.display().to_string(),
            flag: "--data-dir",
        });
    }
    flags
}

/// Options that every node has for itself cannot be set for all.
fn refuse_what_differs_per_node(args: &NodeArgs) -> Result<(), Problem> {
    let mut keys = args.set.iter().map(|(key, _)| key.as_str());
    match keys.find(|key| plan::differs_per_node(key) && *key != plan::DATA_DIR) {
        None => Ok(()),
        Some(key) => Err(Problem::new(
            Exit::Usage,
            format!("cannot set `{key}` for several nodes"),
        )
        .why("every node has a value of its own, which --base-port and --data-dir decide")
        .try_this("`antumbra serve --config FILE` to run one node of a cluster")),
    }
}

/// The number of nodes with a directory below the one that is given, when the only node uses that.
const IN_THIS_PROCESS: u16 = 0;

/// A directory keeps the number of nodes it was started with.
fn refuse_another_number(directory: &Path, nodes: u16) -> Result<(), Problem> {
    let found = plan::nodes_found(directory).map_err(|error| {
        Problem::new(
            Exit::Failure,
            format!("cannot read {}", directory.display()),
        )
        .why(error)
    })?;
    if found == 0 || found == nodes {
        return Ok(());
    }
    let started = match nodes {
        IN_THIS_PROCESS => "a node alone".to_owned(),
        nodes => count(nodes),
    };
    let what = format!("cannot start {started} over {}", directory.display());
    let again = match found {
        1 => "--nodes 1 --gateways 1".to_owned(),
        found => format!("--nodes {found}"),
    };
    let found = count(found);
    Err(Problem::new(Exit::Usage, what)
        .why(format!(
            "it holds a cluster of {found}, and a cluster cannot grow or shrink yet"
        ))
        .try_this(format!("{again}, or another --data-dir")))
}

fn count(nodes: u16) -> String {
    let plural = if nodes == 1 { "" } else { "s" };
    format!("{nodes} node{plural}")
}

/// The nodes of a cluster find each other where they were when they last ran.
fn refuse_another_port(directory: &Path, base_port: u16) -> Result<(), Problem> {
    match plan::former_base_port(directory) {
        Some(former) if former != base_port => {
            let what = format!(
                "cannot move {} to base port {base_port}",
                directory.display()
            );
            Err(Problem::new(Exit::Usage, what)
                .why(format!("its nodes know each other at base port {former}"))
                .try_this(format!("--base-port {former}, or another --data-dir")))
        }
        _ => Ok(()),
    }
}

/// Keeps other `antumbra dev` out of the directory, and looks that no single node lives there.
fn claim(directory: &Path, config: &Config) -> Result<DataDirectory, Problem> {
    let what = || format!("cannot use {}", directory.display());
    let claimed = DataDirectory::lock(directory).map_err(|error| {
        let problem = Problem::new(Exit::Failure, format!("{}: {}", what(), error.code()));
        problem.why(&error).try_this("another --data-dir")
    })?;
    let owner = Owner {
        cluster_name: &config.cluster.name,
        node_name: &config.node.name,
    };
    match claimed.read(owner) {
        Ok(None) => Ok(claimed),
        // Also when its header names another node or is missing: several never write one here.
        Ok(Some(_)) | Err(_) => Err(holds_one_node(what())),
    }
}

fn holds_one_node(what: String) -> Problem {
    Problem::new(Exit::Usage, format!("{what} for several nodes"))
        .why("it holds the data of a single node, and a cluster cannot grow yet")
        .try_this("another --data-dir, or no --nodes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    fn node_args(set: &[(&str, &str)]) -> NodeArgs {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        NodeArgs {
            set: set.iter().map(owned).collect(),
            allow_test_switches: false,
        }
    }

    /// Two nodes with one port would start and fail in turns.
    #[test]
    fn what_differs_per_node_cannot_be_set_for_all() {
        let refused = |set: &[(&str, &str)]| refuse_what_differs_per_node(&node_args(set)).is_err();
        assert!(refused(&[
            ("telemetry.log_format", "json"),
            ("api.listen", "0.0.0.0:1")
        ]));
        assert!(refused(&[("node.name", "a")]));
        assert!(refused(&[("cluster.seeds", "")]));
        assert!(!refused(&[
            ("telemetry.log_format", "json"),
            ("cluster.shards", "5")
        ]));
        assert!(
            !refused(&[("node.data_dir", "d")]),
            "it is where all of them are"
        );
    }

    /// A cluster that comes up with other nodes than it has would wait for ever.
    #[test]
    fn directory_keeps_its_number_of_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |nodes| refuse_another_number(directory.path(), nodes).is_err();
        assert!(
            !refused(1) && !refused(3),
            "an empty directory takes any number"
        );
        let missing = directory.path().join("missing");
        assert!(refuse_another_number(&missing, 3).is_ok());
        for name in ["node-1", "node-2", "node-3"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        assert!(refused(IN_THIS_PROCESS) && refused(1) && refused(2) && refused(4));
        assert!(!refused(3));
        let problem = refuse_another_number(directory.path(), 1).unwrap_err();
        let text = problem.render(false);
        assert!(
            text.contains("a cluster of 3 nodes") && text.contains("--nodes 3"),
            "{text}"
        );
        // One node and gateways: the node alone would begin anew beside its data.
        for name in ["node-2", "node-3"] {
            fs::remove_dir(directory.path().join(name)).unwrap();
        }
        assert!(refused(IN_THIS_PROCESS) && !refused(1));
    }

    #[test]
    fn directory_is_claimed_once_and_not_from_a_single_node() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::default();
        let claimed = claim(directory.path(), &config).unwrap();
        let second = claim(directory.path(), &config).unwrap_err().render(false);
        assert!(second.contains("DIRECTORY_LOCKED"), "{second}");
        drop(claimed);
        fs::create_dir(directory.path().join("log")).unwrap();
        let single = claim(directory.path(), &config).unwrap_err().render(false);
        assert!(single.contains("the data of a single node"), "{single}");
    }
}
