//! Short commands of the operating system, each with a deadline.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::waiting;

/// What every command here may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What a command that ended printed.
#[derive(Debug)]
pub struct Printed {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub error: String,
}

/// Runs a command to its end, however it ends.
pub fn finish(mut command: Command, input: &str, limit: Duration) -> Result<Printed> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    // Whoever does not read its input ends and says why.
    child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.stdout.take().context("stdout is piped")?;
    let error = child.stderr.take().context("stderr is piped")?;
    let readers = [read(output), read(error)];
    let ended = waiting::until("the command ends", limit, || child.try_wait().transpose());
    if ended.is_err() {
        stop(&mut child);
    }
    let [output, error] = readers.map(|reader| reader.join().unwrap_or_default());
    let status = ended.with_context(|| format!("{command:?}: {error}"))??;
    Ok(Printed {
        status,
        output,
        error,
    })
}

/// Runs a command, which must succeed, and gives its standard output.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    run_with(program, arguments, "")
}

/// As [`run`], with text for its standard input.
pub fn run_with(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let printed = finish(command, input, LIMIT)?;
    ensure!(
        printed.status.success(),
        "{program} {}: {}: {}",
        arguments.join(" "),
        printed.status,
        printed.error.trim()
    );
    Ok(printed.output)
}

fn stop(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

fn read(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
