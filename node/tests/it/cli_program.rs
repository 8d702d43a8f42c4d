//! Runs the built binary as a user would.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How one run of the program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Standard output of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// The run, which must have ended with this code and a problem as *what / why / try this*.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> Run {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains("error: "), "{self:#?}");
        assert!(
            !self.stderr.contains('\x1b'),
            "colours without a terminal: {self:#?}"
        );
        self
    }
}

/// A command line with a clean environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_antumbra"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Run {
    finish(command(arguments))
}

/// Runs a prepared command to its end.
pub(crate) fn finish(mut command: Command) -> Run {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A running `antumbra dev` on ports that the system chose; killed when dropped.
pub(crate) struct Dev {
    child: Child,
    /// What it printed before `ready`.
    pub(crate) banner: String,
    /// URL of the gRPC door.
    pub(crate) endpoint: String,
}

impl Dev {
    /// Starts a node over `data_dir` and waits until it serves.
    pub(crate) fn start(data_dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Dev {
        let mut command = command(&["dev", "--base-port", "0", "--data-dir"]);
        command
            .arg(data_dir)
            .args(arguments)
            .envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        loop {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "the node ended before it was ready:\n{banner}");
            if line == "ready\n" {
                break;
            }
            banner.push_str(&line);
        }
        let words = banner.split_whitespace().collect::<Vec<_>>();
        let at = words
            .iter()
            .position(|word| *word == "gRPC")
            .expect("the banner names gRPC");
        let endpoint = words[at + 1].to_owned();
        Dev {
            child,
            banner,
            endpoint,
        }
    }

    /// Runs a client command against this node.
    pub(crate) fn client(&self, arguments: &[&str]) -> Run {
        finish(self.client_command(arguments))
    }

    /// A client command against this node.
    pub(crate) fn client_command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("ANTUMBRA_ENDPOINT", &self.endpoint);
        command
    }

    /// Runs a client command with this text on its standard input.
    pub(crate) fn client_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut command = self.client_command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asks it to stop and gives its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the node does not stop");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
