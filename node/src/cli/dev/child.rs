//! One node as a child process: how it is started, how it says that it is ready, how it is stopped.
//!
//! A child gets a pipe as its standard input and stops when that closes: when it is told to, and also
//! when this process is killed, so that no node is ever left behind. Its log goes to a file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cli::problem::{Exit, Problem};
use crate::cli::start::{NodeArgs, READY};

use super::plan::{self, Member};

/// A log that is larger is emptied at the start.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of a log that are looked at for the reason of a failed start.
const TAIL_BYTES_MAX: u64 = 16 << 10;
/// Most lines of it that are shown.
const TAIL_LINES_MAX: usize = 12;

/// How nodes are started.
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launcher {
    /// Nodes of this same program, with the options that all of them have.
    pub(super) fn new(args: &NodeArgs) -> Result<Launcher, Problem> {
        let program = std::env::current_exe().map_err(|error| {
            Problem::new(Exit::Failure, "cannot find this program to start nodes").why(error)
        })?;
        let mut arguments: Vec<OsString> = Vec::new();
        if args.allow_test_switches {
            arguments.push("--allow-test-switches".into());
        }
        for (key, value) in &args.set {
            // It is the directory of all nodes; each has its own below it.
            if key != plan::DATA_DIR {
                arguments.extend(["--set".into(), format!("{key}={value}").into()]);
            }
        }
        Ok(Launcher { program, arguments })
    }

    /// Starts a node. It runs until its handle is dropped.
    pub(super) fn start(&self, member: &Member) -> io::Result<Running> {
        let log = open_log(&member.log_file)?;
        let log_start = log.metadata()?.len();
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--insecure", "--exit-with-stdin", "--config"])
            .arg(&member.config_file)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Else Ctrl-C in a terminal would reach it twice: from there, and from this process.
            .process_group(0)
            .kill_on_drop(true);
        for variable in plan::overriding_variables() {
            command.env_remove(variable);
        }
        let mut child = command.spawn()?;
        let (sender, ready) = oneshot::channel();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(listen(stdout, sender));
        }
        Ok(Running {
            pid: child.id().unwrap_or_default(),
            alive: child.stdin.take(),
            child,
            ready: Some(ready),
            log_start,
        })
    }
}

/// A node that was started.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    /// Says that it serves, once.
    ready: Option<oneshot::Receiver<()>>,
    child: Child,
    /// The node stops when this closes.
    alive: Option<ChildStdin>,
    /// Where its lines begin in the log.
    log_start: u64,
}

impl Running {
    /// Resolves when it is ready, and then when it has ended. May be dropped midway.
    pub(super) async fn next(&mut self) -> Next {
        let Some(ready) = &mut self.ready else {
            return Next::Ended(self.child.wait().await);
        };
        let said = tokio::select! {
            biased;
            status = self.child.wait() => return Next::Ended(status),
            said = ready => said,
        };
        self.ready = None;
        match said {
            Ok(()) => Next::Ready,
            // It has closed its standard output, which it does at its end only.
            Err(_) => Next::Ended(self.child.wait().await),
        }
    }

    /// Asks it to stop and waits; kills it after `patience`, or when `hurry` says so. `None` when it
    /// had to be killed.
    pub(super) async fn stop(
        mut self,
        patience: Duration,
        hurry: &CancellationToken,
    ) -> Option<ExitStatus> {
        drop(self.alive.take());
        let stopped = tokio::select! {
            biased;
            () = hurry.cancelled() => None,
            stopped = timeout(patience, self.child.wait()) => stopped.ok()?.ok(),
        };
        if stopped.is_none() {
            let _ = self.child.kill().await;
        }
        stopped
    }

    /// What it said last, for a person who wants to know why it ended.
    pub(super) fn last_words(&self, member: &Member) -> String {
        last_words(&member.log_file, self.log_start).unwrap_or_default()
    }
}

/// What happens to a node.
#[derive(Debug)]
pub(super) enum Next {
    /// It serves.
    Ready,
    /// It is gone.
    Ended(io::Result<ExitStatus>),
}

/// How a process ended, in words.
pub(super) fn describe(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("cannot be watched: {error}"),
    }
}

/// Reads what a node prints until its end, so that it never blocks, and says when it is ready.
async fn listen(stdout: ChildStdout, ready: oneshot::Sender<()>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == READY {
            let _ = ready.send(());
            break;
        }
    }
    let mut rest = lines.into_inner();
    let mut sink = [0; 4096];
    while rest.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}

/// Opens a log for more lines, and empties it when it has grown too large.
fn open_log(path: &Path) -> io::Result<File> {
    let log = OpenOptions::new().create(true).append(true).open(path)?;
    if log.metadata()?.len() > LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}

/// The problem at the end of a log after `start`, else its last lines.
fn last_words(path: &Path, start: u64) -> io::Result<String> {
    let mut log = File::open(path)?;
    let end = log.metadata()?.len();
    // A log that was emptied meanwhile begins anew.
    let start = if start > end { 0 } else { start };
    log.seek(SeekFrom::Start(
        start.max(end.saturating_sub(TAIL_BYTES_MAX)),
    ))?;
    let mut bytes = Vec::new();
    log.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let problem = lines.iter().rposition(|line| line.starts_with("error: "));
    let from = problem
        .unwrap_or(0)
        .max(lines.len().saturating_sub(TAIL_LINES_MAX));
    Ok(lines.get(from..).unwrap_or_default().join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    /// What the user sees of a failed start is the node's own problem, not the lines around it.
    #[test]
    fn last_words_are_the_problem() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node-1.log");
        fs::write(&path, "error: an old one\n").unwrap();
        let start = fs::metadata(&path).unwrap().len();
        assert_eq!(last_words(&path, start).unwrap(), "");
        let text =
            "error: an old one\nINFO open\nerror: the node cannot run: LISTEN\n  why: taken\n";
        fs::write(&path, text).unwrap();
        let words = last_words(&path, start).unwrap();
        assert_eq!(words, "error: the node cannot run: LISTEN\n  why: taken");
        let many: String = (0..100).map(|n| format!("INFO line {n}\n")).collect();
        fs::write(&path, many).unwrap();
        let words = last_words(&path, 0).unwrap();
        assert_eq!(words.lines().count(), TAIL_LINES_MAX);
        assert!(words.ends_with("INFO line 99"), "{words}");
        assert!(last_words(&path, 1 << 40).is_ok(), "it was emptied");
    }

    #[test]
    fn large_log_is_emptied_and_a_small_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node-1.log");
        fs::write(&path, "kept\n").unwrap();
        open_log(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept\n");
        File::create(&path)
            .unwrap()
            .set_len(LOG_BYTES_MAX + 1)
            .unwrap();
        open_log(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn ends_are_described() {
        assert_eq!(
            describe(&Ok(ExitStatus::from_raw(9))),
            "was killed by signal 9"
        );
        assert_eq!(
            describe(&Ok(ExitStatus::from_raw(8 << 8))),
            "ended with code 8"
        );
    }
}
