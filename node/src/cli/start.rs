//! What `dev` and `serve` share: load the configuration, start the node, wait, stop it.

use std::fs;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::thread;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::boot::{self, Listeners, Node};
use crate::config::load::Override;
use crate::config::{self, Config, Loaded, Problems};
use crate::telemetry::Colors;
use crate::{shutdown, telemetry};

use super::problem::{Exit, Problem};
use super::{Context, output};

/// The line on standard output that says that a node serves.
pub(crate) const READY: &str = "ready";

/// What ends a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// SIGTERM or SIGINT.
    Signal,
    /// These, or the end of standard input: whoever holds the other end of the pipe has gone.
    SignalOrEndOfInput,
}

/// Flags of every command that runs a node.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeArgs {
    /// Sets one option, such as --set telemetry.log_format=json; repeatable
    #[arg(long = "set", value_name = "OPTION=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
    /// Honour ANTUMBRA_TEST_… variables, which inject faults
    #[arg(long, hide = true)]
    pub(crate) allow_test_switches: bool,
}

/// Runs a node until it is told to end or fails. `banner` says where it serves.
pub(crate) fn run(
    loaded: Loaded,
    context: &Context,
    until: Until,
    banner: impl FnOnce(&Node) -> String,
) -> Result<(), Problem> {
    let config = loaded.config.clone();
    let colors = if context.color {
        Colors::OnTerminal
    } else {
        Colors::Never
    };
    telemetry::start(&config.telemetry, colors)
        .map_err(|error| Problem::new(Exit::Usage, "cannot start logging").why(error))?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    for switch in config.test_switches.active() {
        warn!(
            switch,
            "TEST SWITCH ACTIVE: this node injects faults and may lose data"
        );
    }
    // Without it the allocator gives pages back only while it is used, so a node that falls idle
    // would keep what its twins had.
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        warn!(%error, "idle memory will be given back late");
    }
    let runtime = runtime(&config)?;
    let result = runtime.block_on(serve(config, until, banner));
    // Blocking scans that nobody waits for any more must not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn serve(
    config: Config,
    until: Until,
    banner: impl FnOnce(&Node) -> String,
) -> Result<(), Problem> {
    let mut stop = pin!(requested(until));
    let mut node = tokio::select! {
        biased;
        signal = &mut stop => return signal.map_err(signals_failed),
        node = start(&config) => node.map_err(boot_failed)?,
    };
    output::print(&banner(&node));
    output::print(&format!("{READY}\n"));
    let ended = tokio::select! {
        biased;
        failure = node.failed() => match failure {
            boot::Error::Left => Ok(()),
            failure => Err(boot_failed(failure)),
        },
        signal = &mut stop => signal.map_err(signals_failed),
    };
    info!("stopping; a second signal quits at once");
    let stopped = node.shutdown().await.map_err(boot_failed);
    ended.and(stopped)
}

/// Starts the node. One that finds that it has left while it was away begins anew: the second time its
/// directory is set aside.
async fn start(config: &Config) -> Result<Node, boot::Error> {
    let listeners = Listeners::bind(config).await?;
    match boot::start(config.clone(), listeners).await {
        Err(boot::Error::Left) => {
            warn!("this node has left the cluster while it was away: it joins anew");
            let listeners = Listeners::bind(config).await?;
            boot::start(config.clone(), listeners).await
        }
        started => started,
    }
}

/// Resolves when the node is told to end.
async fn requested(until: Until) -> io::Result<()> {
    if until == Until::Signal {
        return shutdown::requested().await;
    }
    let mut signal = Box::pin(shutdown::requested());
    tokio::select! {
        biased;
        signal = &mut signal => signal,
        ended = end_of_input() => {
            // Signals that come while the node stops are heard as they else would be.
            tokio::spawn(signal);
            ended
        }
    }
}

/// Resolves when standard input has ended. The thread that reads it ends with the process.
async fn end_of_input() -> io::Result<()> {
    let (sender, ended) = oneshot::channel();
    let read = move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    };
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(read)?;
    let _ = ended.await;
    Ok(())
}

fn runtime(config: &Config) -> Result<Runtime, Problem> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.node.worker_threads > 0 {
        builder.worker_threads(config.node.worker_threads as usize);
    }
    builder
        .enable_all()
        .thread_name("antumbra")
        .build()
        .map_err(|error| Problem::new(Exit::Failure, "cannot start the runtime").why(error))
}

/// The errors of a node say what to do in their text; the code is what `docs/errors.md` lists.
fn boot_failed(error: boot::Error) -> Problem {
    let exit = if error.is_damage() {
        Exit::Damaged
    } else {
        Exit::Failure
    };
    Problem::new(exit, format!("the node cannot run: {}", error.code()))
        .why(&error)
        .try_this(format!("docs/errors.md explains {}", error.code()))
}

fn signals_failed(error: std::io::Error) -> Problem {
    Problem::new(Exit::Failure, "cannot watch for signals").why(error)
}

/// The text of a configuration file.
pub(crate) fn read_file(path: &Path) -> Result<String, Problem> {
    fs::read_to_string(path).map_err(|error| {
        Problem::new(
            Exit::Usage,
            format!("cannot read the configuration {}", path.display()),
        )
        .why(error)
        .try_this("a path that exists; docs/antumbra.toml is a file to start from")
    })
}

/// `--set section.option=value`.
pub(crate) fn parse_set(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected section.option=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The values of `--set` as the loader takes them.
pub(crate) fn overrides(set: &[(String, String)]) -> Vec<Override> {
    let one = |(key, value): &(String, String)| Override {
        key: key.clone(),
        value: value.clone(),
        flag: "--set",
    };
    set.iter().map(one).collect()
}

/// All that is wrong with a configuration, as one problem.
pub(crate) fn invalid(problems: Problems) -> Problem {
    let count = problems.0.len();
    let plural = if count == 1 { "problem" } else { "problems" };
    Problem::new(
        Exit::Usage,
        format!("the configuration has {count} {plural}"),
    )
    .why(&problems)
    .try_this("docs/configuration.md describes every option")
}

/// Loads the configuration of a node.
pub(crate) fn load(sources: &config::Sources<'_>) -> Result<Loaded, Problem> {
    config::load(sources).map_err(invalid)
}
