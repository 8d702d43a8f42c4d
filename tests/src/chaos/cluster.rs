//! A cluster of real processes, each with a network namespace and, where faults need one, a disk of
//! its own.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::command::{self, Printed};
use super::network::{self, Network};
use super::process::{Launch, Process, write};
use crate::disk::Disk;
use crate::{environment, waiting};

const GRPC: u16 = 7400;
const PEER: u16 = 7401;
const HTTP: u16 = 7480;
const MQTT: u16 = 1883;
/// Begins the names of the directories of runs; the process id follows.
const DIRECTORY: &str = "antumbra-chaos-";
const KEPT: &str = "antumbra-kept-";
/// Of a node's disk. The file behind it is sparse.
const DISK_BYTES: u64 = 2 << 30;

/// How to make a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of nodes: 1, 3 or 5.
    pub nodes: usize,
    /// Nodes that are not among the seeds and do not run: they come after the others when they are started.
    pub spares: usize,
    /// The binary under test.
    pub binary: PathBuf,
    /// Whether each node has a disk of its own, which faults can fill, slow down and cut off.
    pub disks: bool,
    /// Added to the environment of every node.
    pub environment: Vec<(String, String)>,
}

/// A cluster. Everything of it is gone when it is dropped, unless [`Cluster::keep`] was called.
pub struct Cluster {
    options: Options,
    members: Vec<Member>,
    network: Network,
    lives: Lives,
    directory: Option<TempDir>,
}

/// Counts the processes of each node, so that clients can tell one from the next.
pub type Lives = Arc<Vec<AtomicU32>>;

struct Member {
    process: Option<Process>,
    launch: Launch,
    data: PathBuf,
    disk: Option<Disk>,
}

/// A process that ended although nobody ended it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which node, counted from 0.
    pub node: usize,
    /// How it ended, and the end of its log.
    pub text: String,
}

impl Cluster {
    /// Makes networks, disks and configurations, after removing what killed runs left behind.
    /// Nothing runs yet.
    pub fn create(options: Options) -> Result<Cluster> {
        network::remove_leftovers()?;
        remove_leftovers()?;
        let prefix = format!("{DIRECTORY}{}-", process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let mut cluster = Cluster {
            members: Vec::new(),
            network: Network::create(options.nodes + options.spares)?,
            lives: Arc::new(
                (0..options.nodes + options.spares)
                    .map(|_| AtomicU32::new(0))
                    .collect(),
            ),
            directory: None,
            options,
        };
        for node in 0..cluster.options.nodes + cluster.options.spares {
            let member = cluster.member(node, directory.path())?;
            cluster.members.push(member);
        }
        cluster.directory = Some(directory);
        Ok(cluster)
    }

    fn member(&self, node: usize, directory: &Path) -> Result<Member> {
        let directory = directory.join(name(node));
        fs::create_dir_all(&directory)?;
        let disk = match self.options.disks {
            true => Some(Disk::create(&directory, DISK_BYTES)?),
            false => None,
        };
        let place = disk.as_ref().map_or(directory.as_path(), Disk::path);
        let data = place.join("data");
        let config = directory.join("antumbra.toml");
        write(&config, &self.config(node, &data))?;
        Ok(Member {
            process: None,
            launch: Launch {
                binary: self.options.binary.clone(),
                config,
                environment: self.options.environment.clone(),
                namespace: self.network.namespace(node),
                log: directory.join("log"),
            },
            data,
            disk,
        })
    }

    fn config(&self, node: usize, data: &Path) -> String {
        let address = self.network.address(node);
        let mut text = format!(
            "[node]\nname = \"{}\"\ndata_dir = \"{}\"\n\
             [api]\nlisten = \"{address}:{GRPC}\"\n\
             [http]\nlisten = \"{address}:{HTTP}\"\n\
             [mqtt]\nlisten = \"{address}:{MQTT}\"\n\
             [storage]\ncache_bytes = \"32MiB\"\ntail_bytes = \"4MiB\"\nflush_interval = \"5s\"\n\
             [cluster]\nname = \"chaos\"\n{}",
            name(node),
            data.display(),
            // A node that is gone for longer is given up, where others may come.
            match self.options.spares {
                0 => "",
                _ => "replace_after = \"15s\"\n",
            }
        );
        let nodes = self.options.nodes;
        if nodes > 1 || node >= nodes {
            let seed = |node| format!("{}={}:{PEER}", name(node), self.network.address(node));
            let seeds: Vec<String> = (0..nodes).map(seed).collect();
            write!(
                text,
                "seeds = \"{}\"\n\
                 [peer]\nlisten = \"{address}:{PEER}\"\nadvertise = \"{address}:{PEER}\"\n",
                seeds.join(",")
            )
            .ok();
        }
        text
    }

    /// Number of nodes, those that come later not included.
    pub fn nodes(&self) -> usize {
        self.options.nodes
    }

    /// The nodes that come later.
    pub fn spares(&self) -> Vec<usize> {
        (self.options.nodes..self.members.len()).collect()
    }

    /// Where a node serves MQTT.
    pub fn mqtt(&self, node: usize) -> SocketAddr {
        (self.network.address(node), MQTT).into()
    }

    /// Where a node serves HTTP.
    pub fn http(&self, node: usize) -> SocketAddr {
        (self.network.address(node), HTTP).into()
    }

    /// Adds variables to the environment of every process that is started from now on.
    pub fn add_environment(&mut self, variables: &[(String, String)]) {
        for member in &mut self.members {
            member.launch.environment.extend_from_slice(variables);
        }
    }

    /// Waits until the process of a node has ended by itself. True when it ended with success.
    pub fn wait_ended(&mut self, node: usize, limit: Duration) -> Result<bool> {
        let process = self.process(node)?;
        let ended = waiting::until("the process ends", limit, || process.ended().transpose());
        let status = ended.and_then(|status| status);
        let status = status.with_context(|| format!("{}:\n{}", name(node), self.log_end(node)))?;
        self.members[node].process = None;
        Ok(status.success())
    }

    /// Everything that a node has printed since it was made.
    pub fn log(&self, node: usize) -> String {
        let log = fs::read(&self.members[node].launch.log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The network between the nodes.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Counts the processes of each node.
    pub fn lives(&self) -> Lives {
        Arc::clone(&self.lives)
    }

    /// Where a node serves gRPC.
    pub fn grpc(&self, node: usize) -> SocketAddr {
        (self.network.address(node), GRPC).into()
    }

    /// The disk of a node.
    pub fn disk(&self, node: usize) -> Result<&Disk> {
        let disk = self.members[node].disk.as_ref();
        disk.with_context(|| format!("{} has no disk of its own", name(node)))
    }

    /// The process of a node.
    pub fn process(&mut self, node: usize) -> Result<&mut Process> {
        let process = self.members[node].process.as_mut();
        process.with_context(|| format!("{} does not run", name(node)))
    }

    /// Starts the process of a node; it is not ready yet.
    pub fn start(&mut self, node: usize) -> Result<()> {
        let member = &mut self.members[node];
        if member.process.is_some() {
            bail!("{} runs already", name(node));
        }
        member.process = Some(Process::spawn(&member.launch)?);
        self.lives[node].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Waits until all these nodes printed that they serve.
    pub fn wait_ready(&mut self, nodes: &[usize], limit: Duration) -> Result<()> {
        let ready = |member: &Member| member.process.as_ref().is_some_and(Process::is_ready);
        let all = waiting::until("all nodes are ready", limit, || {
            nodes
                .iter()
                .all(|node| ready(&self.members[*node]))
                .then_some(())
        });
        all.with_context(|| {
            let late = nodes.iter().filter(|node| !ready(&self.members[**node]));
            let texts = late.map(|node| format!("{}:\n{}", name(*node), self.log_end(*node)));
            texts.collect::<Vec<_>>().join("\n")
        })
    }

    /// SIGKILL. True when it was that what ended the process. A node that does not run is fine.
    pub fn kill(&mut self, node: usize) -> Result<bool> {
        match self.members[node].process.take() {
            Some(mut process) => process.kill(),
            None => Ok(false),
        }
    }

    /// SIGTERM, and waits for the end. True when the process ended with success.
    pub fn terminate(&mut self, node: usize) -> Result<bool> {
        match self.members[node].process.take() {
            Some(mut process) => process.terminate(),
            None => Ok(false),
        }
    }

    /// Removes the data of a node, which must not run. True when there were some.
    pub fn wipe(&mut self, node: usize) -> Result<bool> {
        let member = &self.members[node];
        if member.process.is_some() {
            bail!("{} runs", name(node));
        }
        let existed = member.data.join("identity").exists();
        fs::remove_dir_all(&member.data)?;
        Ok(existed && !member.data.exists())
    }

    /// Processes that ended by themselves since the last call. They are let go of.
    pub fn ended(&mut self) -> Result<Vec<Ended>> {
        let mut ended = Vec::new();
        for node in 0..self.members.len() {
            let Some(process) = &mut self.members[node].process else {
                continue;
            };
            let Some(status) = process.ended()? else {
                continue;
            };
            let text = format!(
                "{} ended with {status}:\n{}",
                name(node),
                self.log_end(node)
            );
            self.members[node].process = None;
            ended.push(Ended { node, text });
        }
        Ok(ended)
    }

    /// Whether a process of the node is there.
    pub fn is_running(&self, node: usize) -> bool {
        self.members[node].process.is_some()
    }

    fn log_end(&self, node: usize) -> String {
        let log = fs::read(&self.members[node].launch.log).unwrap_or_default();
        let end = &log[log.len().saturating_sub(2000)..];
        String::from_utf8_lossy(end).into_owned()
    }

    /// Runs a verb of the binary that asks the cluster through one node.
    pub fn ask(&self, node: usize, arguments: &[&str], limit: Duration) -> Result<Printed> {
        command::finish(self.asking(node, arguments), "", limit)
    }

    /// Begins to run such a verb, and waits for nothing. Nobody hears what it prints.
    pub fn begin(&self, node: usize, arguments: &[&str]) -> Result<Child> {
        let mut command = self.asking(node, arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    fn asking(&self, node: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.binary);
        command
            .args(arguments)
            .args(["-o", "json", "--endpoint"])
            .arg(format!("http://{}", self.grpc(node)));
        environment::isolate(&mut command);
        command
    }

    /// Keeps logs and data for people, and says where.
    pub fn keep(mut self) -> Result<PathBuf> {
        for member in &mut self.members {
            member.process = None;
            member.disk = None;
        }
        let directory = self.directory.take().context("a cluster has a directory")?;
        let path = directory.keep();
        let renamed = path.to_string_lossy().replace(DIRECTORY, KEPT);
        fs::rename(&path, &renamed)?;
        Ok(renamed.into())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Processes first: they use disks and namespaces.
        for member in &mut self.members {
            member.process = None;
        }
        self.members.clear();
    }
}

/// `node-1` is number 0.
pub fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// Unmounts and removes what killed runs left behind.
fn remove_leftovers() -> Result<()> {
    let base = std::env::temp_dir();
    for entry in fs::read_dir(&base)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let owner = name
            .strip_prefix(DIRECTORY)
            .and_then(|rest| rest.split('-').next());
        if !owner.is_some_and(network::is_gone) {
            continue;
        }
        let mounts = fs::read_to_string("/proc/mounts")?;
        let own = mounts
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .filter(|mount| Path::new(mount).starts_with(&path));
        for mount in own {
            command::run("umount", &["--lazy", mount]).ok();
        }
        fs::remove_dir_all(&path).ok();
    }
    Ok(())
}
