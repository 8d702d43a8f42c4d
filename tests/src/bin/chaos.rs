//! `chaos`: a cluster of real processes under load and faults, and a verdict in one line of JSON.
//!
//! Progress goes to standard error; standard output is the line alone. Ends with 0 when nothing was
//! seen that must never be seen, with 1 when something was, with 2 when the run could not be done.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use antumbra_tests::chaos::plan::{self, Faults};
use antumbra_tests::chaos::run::{Options, run};
use antumbra_tests::environment;
use anyhow::{Context, Result, ensure};
use clap::Parser;

/// Run a cluster under faults and judge what clients saw. Needs root
#[derive(Debug, Parser)]
#[command(after_help = format!("Faults: {}; `partition` means all three, `all` everything that \
    fits the number of nodes.", plan::names()))]
struct Arguments {
    /// Decides everything that is left to chance [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults are injected
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Which faults, separated by commas
    #[arg(long, default_value = "all")]
    faults: Faults,
    /// Number of nodes: 1, 3 or 5
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// No fault lasts longer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    hold_max: f64,
    /// How often each steadily written shadow is written, in milliseconds: how finely outages are measured
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100)]
    pulse: u64,
    /// The node [default: `antumbra` beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Keep logs and data even when all is well
    #[arg(long)]
    keep: bool,
    /// Do not compare the replicas at the end
    #[arg(long)]
    no_verify: bool,
    /// Added to the environment of every node, NAME=VALUE; to see a broken node being caught
    #[arg(long, value_name = "NAME=VALUE")]
    node_env: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    match go(&arguments, seed) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("seed {seed}; again: {}", again(&arguments, seed));
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("the run could not be done: {error:#}");
            eprintln!("seed {seed}; again: {}", again(&arguments, seed));
            ExitCode::from(2)
        }
    }
}

fn go(arguments: &Arguments, seed: u64) -> Result<bool> {
    ensure!(environment::is_root(), "namespaces and disks need root");
    ensure!(
        [1, 3, 5].contains(&arguments.nodes),
        "there can be 1, 3 or 5 nodes"
    );
    ensure!(
        arguments.minutes > 0.0 && arguments.hold_max > 0.0 && arguments.pulse > 0,
        "durations are more than 0"
    );
    let mut node_environment = Vec::new();
    for pair in &arguments.node_env {
        let (name, value) = pair.split_once('=').context("--node-env NAME=VALUE")?;
        node_environment.push((name.to_owned(), value.to_owned()));
    }
    let options = Options {
        seed,
        lasts: Duration::from_secs_f64(arguments.minutes * 60.0),
        faults: arguments.faults.clone(),
        nodes: arguments.nodes,
        binary: binary(arguments)?,
        hold_max: Duration::from_secs_f64(arguments.hold_max),
        pulse_every: Duration::from_millis(arguments.pulse),
        keep: arguments.keep,
        verify: !arguments.no_verify,
        environment: node_environment,
    };
    eprintln!("seed {seed}");
    let begun = Instant::now();
    let score = run(&options, &mut |text| {
        eprintln!("{:7.1} s  {text}", begun.elapsed().as_secs_f64());
    })?;
    for violation in &score.violations {
        eprintln!("VIOLATION {violation}");
    }
    println!("{}", score.json());
    Ok(score.is_ok())
}

fn binary(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(binary) = &arguments.binary {
        return Ok(binary.clone());
    }
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("antumbra");
    ensure!(
        beside.exists(),
        "{} is missing: build it, or name another with --binary",
        beside.display()
    );
    Ok(beside)
}

/// The command that repeats the run.
fn again(arguments: &Arguments, seed: u64) -> String {
    let own = std::env::current_exe().unwrap_or_else(|_| "chaos".into());
    let mut command = format!(
        "{} --seed {seed} --minutes {} --nodes {} --hold-max {} --pulse {} --faults {}",
        own.display(),
        arguments.minutes,
        arguments.nodes,
        arguments.hold_max,
        arguments.pulse,
        arguments.faults.text()
    );
    if let Some(binary) = &arguments.binary {
        command += &format!(" --binary {}", binary.display());
    }
    if arguments.no_verify {
        command += " --no-verify";
    }
    for pair in &arguments.node_env {
        command += &format!(" --node-env {pair}");
    }
    command
}
