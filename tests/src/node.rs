//! One process of the node under test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{environment, http, waiting};

const READY_LIMIT: Duration = Duration::from_secs(60);
const EXIT_LIMIT: Duration = Duration::from_secs(60);
const LOG_BYTES_MAX: usize = 1 << 20;

/// How to start a node.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// First port; the others follow from it. Chosen at the first start when absent.
    pub base_port: Option<u16>,
    /// Arguments after `dev --data-dir … --base-port …`.
    pub arguments: Vec<String>,
    /// Added to the environment.
    pub environment: Vec<(String, String)>,
    /// How long a start may take until the line `ready`.
    pub ready_limit: Duration,
}

impl Options {
    /// A node over `data_dir` with defaults everywhere else.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Options {
            data_dir: data_dir.into(),
            base_port: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            ready_limit: READY_LIMIT,
        }
    }

    /// The same with one more environment variable.
    pub fn with_env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same with one more argument.
    pub fn with_argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The same with a switch that only tests may use.
    pub fn with_test_switch(self, name: &str, value: impl ToString) -> Self {
        let options = self.with_env(name, value);
        let allow = "--allow-test-switches";
        if options.arguments.iter().any(|argument| argument == allow) {
            return options;
        }
        options.with_argument(allow)
    }

    /// The same over another directory.
    pub fn over(&self, data_dir: impl Into<PathBuf>) -> Self {
        Options {
            data_dir: data_dir.into(),
            ..self.clone()
        }
    }
}

/// What became of a start.
pub enum Launch {
    /// It printed `ready`.
    Ready(Node),
    /// It ended before that.
    Stopped(Stopped),
}

/// A node that ended by itself.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Exit status.
    pub status: ExitStatus,
    /// Everything it printed (bounded), standard output and error mixed.
    pub output: String,
}

/// A running node. Killed when dropped; its output is printed when a test fails.
pub struct Node {
    child: Child,
    base_port: u16,
    output: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
    /// From the start of the process to the line `ready`.
    pub started_within: Duration,
}

impl Node {
    /// Starts a node and waits until it serves.
    pub fn start(options: &Options) -> Result<Node> {
        match Node::launch(options)? {
            Launch::Ready(node) => Ok(node),
            Launch::Stopped(stopped) => {
                bail!(
                    "the node stopped with {}:\n{}",
                    stopped.status,
                    stopped.output
                )
            }
        }
    }

    /// Starts a node that may as well refuse to start.
    pub fn launch(options: &Options) -> Result<Launch> {
        let mut tries = 0;
        loop {
            let base_port = options.base_port.map_or_else(free_base_port, Ok)?;
            let launch = Node::launch_at(options, base_port)?;
            let Launch::Stopped(stopped) = &launch else {
                return Ok(launch);
            };
            // Another test may have taken the port between looking and binding.
            tries += 1;
            if !stopped
                .output
                .to_lowercase()
                .contains("address already in use")
                || tries == 20
            {
                return Ok(launch);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn launch_at(options: &Options, base_port: u16) -> Result<Launch> {
        let started = Instant::now();
        let mut command = Command::new(environment::binary());
        command.arg("dev").arg("--data-dir").arg(&options.data_dir);
        command
            .arg("--base-port")
            .arg(base_port.to_string())
            .args(&options.arguments);
        environment::isolate(&mut command);
        command.envs(options.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;

        let output = Arc::new(Mutex::new(String::new()));
        let (ready_sender, ready) = mpsc::channel();
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (kept, other) = (Arc::clone(&output), Arc::clone(&output));
        let readers = vec![
            thread::spawn(move || keep_lines(stdout, &kept, Some(&ready_sender))),
            thread::spawn(move || keep_lines(stderr, &other, None)),
        ];
        let node = Node {
            child,
            base_port,
            output,
            readers,
            started_within: Duration::ZERO,
        };
        node.wait_ready(&ready, started, options.ready_limit)
    }

    fn wait_ready(
        mut self,
        ready: &Receiver<()>,
        started: Instant,
        limit: Duration,
    ) -> Result<Launch> {
        loop {
            match ready.recv_timeout(Duration::from_millis(20)) {
                Ok(()) => {
                    self.started_within = started.elapsed();
                    return Ok(Launch::Ready(self));
                }
                Err(mpsc::RecvTimeoutError::Timeout) if started.elapsed() < limit => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let output = self.output();
                    bail!("the node is not ready after {limit:?}:\n{output}");
                }
                // Standard output is closed: the process is ending.
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return self.wait_exit(EXIT_LIMIT).map(Launch::Stopped);
                }
            }
        }
    }

    /// `host:port` of the gRPC door.
    pub fn grpc(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port))
    }

    /// `host:port` of the HTTP door.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + 80))
    }

    /// `host:port` of the MQTT door.
    pub fn mqtt(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + 83))
    }

    /// The first port; a restart at the same place gives it to [`Options::base_port`].
    pub fn base_port(&self) -> u16 {
        self.base_port
    }

    /// Everything printed so far (bounded).
    pub fn output(&self) -> String {
        self.output.lock().expect("readers do not panic").clone()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(self) -> Result<Stopped> {
        self.signal("TERM")?;
        self.wait_exit(EXIT_LIMIT)
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status()?;
        anyhow::ensure!(sent.success(), "kill -s {name} {pid}: {sent}");
        Ok(())
    }

    /// SIGSTOP, and waits until no thread runs any more.
    pub fn freeze(&self) -> Result<()> {
        self.signal("STOP")?;
        let tasks = format!("/proc/{}/task", self.child.id());
        let stopped = || -> Result<bool> {
            for task in fs::read_dir(&tasks)? {
                let status = fs::read_to_string(task?.path().join("status"))?;
                if !status.lines().any(|line| line.starts_with("State:\tT")) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        waiting::until("the node stands still", EXIT_LIMIT, || {
            stopped().is_ok_and(|stopped| stopped).then_some(())
        })
    }

    /// Waits until the process ends by itself.
    pub fn wait_exit(mut self, limit: Duration) -> Result<Stopped> {
        let ended = waiting::until("the node ends", limit, || self.child.try_wait().transpose());
        let status = match ended {
            Ok(status) => status?,
            Err(error) => bail!("{error}:\n{}", self.output()),
        };
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
        Ok(Stopped {
            status,
            output: self.output(),
        })
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> Result<u64> {
        self.status_kib("VmRSS:").map(|kib| kib * 1024)
    }

    /// Highest resident memory so far in bytes.
    pub fn rss_peak(&self) -> Result<u64> {
        self.status_kib("VmHWM:").map(|kib| kib * 1024)
    }

    fn status_kib(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number
            .with_context(|| format!("no {field} in /proc"))?
            .parse()?)
    }

    /// Sum of all series of a metric, 0 when it has none yet.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let answer = http::get(self.http(), "/metrics")?;
        anyhow::ensure!(answer.status == 200, "/metrics answers {}", answer.status);
        let text = answer.text();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.trim().parse::<f64>().ok()
        });
        Ok(values.sum())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            println!(
                "── output of the node at port {}\n{}",
                self.base_port,
                self.output()
            );
        }
    }
}

/// Copies lines into the shared output, and tells when the line `ready` came.
fn keep_lines(pipe: impl Read, output: &Mutex<String>, ready: Option<&mpsc::Sender<()>>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if line.trim_ascii() == b"ready" {
            ready.map(|sender| sender.send(()).ok());
        }
        let mut output = output.lock().expect("readers do not panic");
        if output.len() < LOG_BYTES_MAX {
            output.push_str(&String::from_utf8_lossy(&line));
        }
        line.clear();
    }
}

/// A base port whose doors are all free now. Below the range the kernel gives to clients.
pub fn free_base_port() -> Result<u16> {
    for _ in 0..1000 {
        let base = rand::random_range(10_000..32_000);
        let doors = [base, base + 1, base + 80, base + 83];
        if doors
            .iter()
            .all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        {
            return Ok(base);
        }
    }
    bail!("no free ports")
}

/// Runs the binary to its end with these arguments; fails after a minute.
pub fn run(arguments: &[&str], directory: &Path) -> Result<Stopped> {
    let mut command = Command::new(environment::binary());
    command.args(arguments).current_dir(directory);
    environment::isolate(&mut command);
    run_command(command, EXIT_LIMIT)
}

/// Runs any command to its end and keeps what it printed.
pub fn run_command(mut command: Command, limit: Duration) -> Result<Stopped> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let output = Arc::new(Mutex::new(String::new()));
    let stdout = child.stdout.take().context("stdout is piped")?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let (kept, other) = (Arc::clone(&output), Arc::clone(&output));
    let readers = [
        thread::spawn(move || keep_lines(stdout, &kept, None)),
        thread::spawn(move || keep_lines(stderr, &other, None)),
    ];
    let ended = waiting::until("the command ends", limit, || child.try_wait().transpose());
    if ended.is_err() {
        child.kill().ok();
        child.wait().ok();
    }
    for reader in readers {
        reader.join().ok();
    }
    let output = output.lock().expect("readers do not panic").clone();
    match ended {
        Ok(status) => Ok(Stopped {
            status: status?,
            output,
        }),
        Err(error) => bail!("{error}: {command:?}\n{output}"),
    }
}
