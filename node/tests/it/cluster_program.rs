//! A development cluster of real processes: `antumbra dev --nodes 3` on ports that are free.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli_program::{Run, command, finish};

/// Longer than any start or stop of a healthy cluster on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running cluster; killed when dropped, and its nodes stop with it.
pub(crate) struct Cluster {
    parent: Child,
    lines: Receiver<String>,
    base_port: u16,
    /// What it printed before `ready`.
    pub(crate) banner: String,
    /// What it said on standard error so far.
    pub(crate) said: String,
}

impl Cluster {
    /// Starts three nodes over `directory` and waits until all serve.
    pub(crate) fn start(directory: &Path) -> Cluster {
        Cluster::start_at(directory, free_base_port())
    }

    /// The same at a base port.
    pub(crate) fn start_at(directory: &Path, base_port: u16) -> Cluster {
        let mut command = dev(directory, base_port, &["--nodes", "3"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut parent = command.spawn().unwrap();
        let printed = lines_of(parent.stdout.take().unwrap());
        let lines = lines_of(parent.stderr.take().unwrap());
        let mut cluster = Cluster {
            parent,
            lines,
            base_port,
            banner: String::new(),
            said: String::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match printed.recv_timeout(left) {
                Ok(line) if line == "ready" => return cluster,
                Ok(line) => cluster.banner.push_str(&(line + "\n")),
                Err(_) => {
                    let (said, logs) = (cluster.all_said().to_owned(), logs(directory));
                    panic!("not ready:\n{}\n{said}\n{logs}", cluster.banner);
                }
            }
        }
    }

    pub(crate) fn base_port(&self) -> u16 {
        self.base_port
    }

    /// URL of the gRPC door of a node, counted from 1.
    pub(crate) fn endpoint(&self, node: u16) -> String {
        format!("http://127.0.0.1:{}", self.base_port + 100 * (node - 1))
    }

    /// Runs a client command against a node.
    pub(crate) fn client(&self, node: u16, arguments: &[&str]) -> Run {
        let mut command = command(arguments);
        command.env("ANTUMBRA_ENDPOINT", self.endpoint(node));
        finish(command)
    }

    /// The JSON of a client command that must succeed.
    pub(crate) fn json(&self, node: u16, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["-o", "json"]].concat();
        parse(&self.client(node, &arguments).success())
    }

    /// Repeats a client command against a node until its JSON is as wanted.
    pub(crate) fn until(
        &self,
        node: u16,
        arguments: &[&str],
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let arguments = [arguments, &["-o", "json"]].concat();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let run = self.client(node, &arguments);
            let value = serde_json::from_str(&run.stdout).unwrap_or(Value::Null);
            if wanted(&value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{arguments:?} stays {run:#?}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Process id of a node, as the banner says.
    pub(crate) fn pid(&self, node: u16) -> u32 {
        let start = format!("  node-{node} ");
        let line = self.banner.lines().find(|line| line.starts_with(&start));
        let pid = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        pid.unwrap_or_else(|| panic!("no pid of node {node} in\n{}", self.banner))
    }

    /// Waits until it says this on standard error.
    pub(crate) fn says(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("it never said `{text}`:\n{}", self.said));
            self.said.push_str(&(line + "\n"));
        }
    }

    /// Asks it to stop and gives its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        signal("TERM", self.parent.id());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.parent.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the cluster does not stop:\n{}", self.all_said());
    }

    /// Kills the parent alone, as a user who closes a terminal the hard way.
    pub(crate) fn kill_parent(&mut self) {
        self.parent.kill().unwrap();
        self.parent.wait().unwrap();
    }

    fn all_said(&mut self) -> &str {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            self.said.push_str(&(line + "\n"));
        }
        &self.said
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

/// `antumbra dev` over a directory at a base port.
pub(crate) fn dev(directory: &Path, base_port: u16, arguments: &[&str]) -> Command {
    let base_port = base_port.to_string();
    let mut command = command(&["dev", "--base-port", &base_port, "--data-dir"]);
    command.arg(directory).args(arguments);
    command
}

/// Sends a signal to one process.
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success(), "kill -s {name} {pid}");
}

/// Waits until a process is gone.
pub(crate) fn gone(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let path = format!("/proc/{pid}/stat");
    loop {
        match std::fs::read_to_string(&path) {
            Err(_) => return,
            // A zombie waits for whoever reaps orphans.
            Ok(stat) if stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z")) => return,
            Ok(_) => {}
        }
        assert!(Instant::now() < deadline, "process {pid} stays");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A base port whose nine ports are free now. They lie below the ports that the system gives out.
pub(crate) fn free_base_port() -> u16 {
    const SLOTS: u32 = 60;
    let first = std::process::id() % SLOTS;
    for nth in 0..SLOTS {
        let slot = (first + nth) % SLOTS;
        let base = 12_000 + u16::try_from(slot).unwrap() * 300;
        let ports = [0, 100, 200].map(|node| [0, 1, 80].map(|door| base + node + door));
        let bound = ports
            .iter()
            .flatten()
            .map(|port| TcpListener::bind(("127.0.0.1", *port)));
        // All at one time.
        if bound.collect::<Result<Vec<_>, _>>().is_ok() {
            return base;
        }
    }
    panic!("no free ports");
}

pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn logs(directory: &Path) -> String {
    let read = |node: u16| {
        let log = std::fs::read_to_string(directory.join(format!("node-{node}.log")));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        format!("node-{node}:\n{}\n", lines.join("\n"))
    };
    (1..=3).map(read).collect()
}
