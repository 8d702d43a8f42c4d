//! One process of a node inside its namespace.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::command;
use crate::{environment, waiting};

const LIMIT: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The binary of the node.
    pub binary: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Added to its environment.
    pub environment: Vec<(String, String)>,
    /// File of its network namespace.
    pub namespace: PathBuf,
    /// Everything it prints is added to this file.
    pub log: PathBuf,
}

/// A running process. Killed when dropped, and by the kernel when this process ends.
pub struct Process {
    child: Child,
    /// Where this process began in the log.
    log: PathBuf,
    log_start: u64,
}

impl Process {
    /// Starts a node; it is not ready yet.
    pub fn spawn(launch: &Launch) -> Result<Process> {
        let mut log = OpenOptions::new();
        let log = log.create(true).append(true).open(&launch.log)?;
        let log_start = log.metadata()?.len();
        // Both programs become the next one: the process id stays the same to the end.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={}", launch.namespace.display()))
            .arg(&launch.binary)
            .args(["serve", "--insecure", "--allow-test-switches", "--config"])
            .arg(&launch.config);
        environment::isolate(&mut command);
        command
            .envs(launch.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        let child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Process {
            child,
            log: launch.log.clone(),
            log_start,
        })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it printed that it serves.
    pub fn is_ready(&self) -> bool {
        self.output().lines().any(|line| line.trim() == "ready")
    }

    /// Everything it printed.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let own = bytes.get(self.log_start as usize..).unwrap_or_default();
        String::from_utf8_lossy(own).into_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL. True when it was that what ended it, and nothing before.
    pub fn kill(&mut self) -> Result<bool> {
        self.child.kill()?;
        let status = self.child.wait()?;
        Ok(status.signal() == Some(SIGKILL) && !self.exists())
    }

    fn exists(&self) -> bool {
        Path::new(&format!("/proc/{}", self.id())).exists()
    }

    /// SIGTERM, and waits for the end. True when it ended with success.
    pub fn terminate(&mut self) -> Result<bool> {
        self.signal("TERM")?;
        let status = waiting::until("the process ends", LIMIT, || self.ended().transpose())??;
        Ok(status.success())
    }

    /// SIGSTOP, and waits until no thread runs any more.
    pub fn stop(&self) -> Result<()> {
        self.signal("STOP")?;
        waiting::until("the process stands still", LIMIT, || {
            self.stands_still().ok().filter(|still| *still)
        })?;
        Ok(())
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Whether every thread is stopped.
    pub fn stands_still(&self) -> Result<bool> {
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            if !status.lines().any(|line| line.starts_with("State:\tT")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) -> Result<()> {
        command::run("kill", &["-s", name, &self.id().to_string()])?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Writes a configuration or another small file whole.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    ensure!(!text.is_empty(), "{} would be empty", path.display());
    fs::write(path, text).with_context(|| path.display().to_string())?;
    File::open(path)?.sync_all()?;
    Ok(())
}
