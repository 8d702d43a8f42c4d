//! `antumbra bench shadow`: updates of many shadows over gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cli::Context;
use crate::cli::connect::{self, ClientArgs};
use crate::cli::output::print_value;
use crate::cli::problem::{Exit, Problem};
use crate::metrics::cpu_seconds;

use super::load::{self, Plan};
use super::report::{Cpu, Report};
use super::server;
use super::tally::Tally;

const TICK: Duration = Duration::from_millis(250);

/// Update shadows as fast as the node takes them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It creates and changes devices `bench-0`, `bench-1` … of the tenant.
Example: antumbra bench shadow --clients 8 --in-flight 64 --seconds 10 --devices 10000")]
pub(crate) struct Args {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// Updates of one client that wait for their answer at one time
    #[arg(long, value_name = "M", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How long to run before measuring, in seconds
    #[arg(long, value_name = "S", default_value_t = 1)]
    warm_up: u64,
    /// Devices whose shadows are updated
    #[arg(long, value_name = "D", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    devices: u64,
    /// Start of their ids
    #[arg(long, default_value = "bench-")]
    prefix: String,
    /// Bytes of padding in each update
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    padding: u32,
    /// One call per update, or one stream of updates per client
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Process to measure, when it cannot be found by its port
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

/// How updates travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// `UpdateShadow`
    #[default]
    Unary,
    /// `StreamUpdates`
    Stream,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Problem::new(Exit::Failure, "cannot start the runtime").why(error))?;
    let report = runtime.block_on(bench(args, context))?;
    print_value(args.client.format(), &report.value(), || report.text());
    match report.tally.accepted_count() {
        0 => Err(Problem::new(Exit::Failure, "no update was accepted").why(report.errors_text())),
        _ => Ok(()),
    }
}

async fn bench(args: &Args, context: &Context) -> Result<Report, Problem> {
    // Several nodes share the clients evenly.
    let endpoints = args.client.endpoints(context)?;
    let dialer = args.client.dialer(&endpoints, context)?;
    let mut clients = Vec::new();
    for endpoint in endpoints.iter().cycle().take(usize::from(args.clients)) {
        clients.push(connect::open(endpoint, &dialer).await?);
    }
    let server_pid = args.server_pid.or_else(|| server::find(endpoints.first()?));
    let from = Instant::now() + Duration::from_secs(args.warm_up);
    let plan = Arc::new(Plan {
        devices: args.devices,
        prefix: args.prefix.clone(),
        tenant: args.client.tenant(context),
        token: args.client.token(context)?,
        in_flight: args.in_flight as usize,
        padding: args.padding as usize,
        timeout: args.client.timeout(),
        from,
        until: from + Duration::from_secs(args.seconds),
        progress: AtomicU64::new(0),
    });
    let mut workers = JoinSet::new();
    for (n, client) in clients.into_iter().enumerate() {
        // Clients start apart, so that they meet at the same device as late as possible.
        let first = args.devices * n as u64 / u64::from(args.clients);
        match args.mode {
            Mode::Unary => workers.spawn(load::unary(plan.clone(), client, first)),
            Mode::Stream => workers.spawn(load::stream(plan.clone(), client, first)),
        };
    }
    let cpu = measure(&plan, server_pid, context).await;
    let mut tally = Tally::new();
    while let Some(worker) = workers.join_next().await {
        worker
            .map(|one| tally.add(&one))
            .unwrap_or_else(|_| tally.failed("PANICKED"));
    }
    Ok(Report {
        mode: args.mode,
        clients: args.clients,
        in_flight: args.in_flight,
        devices: args.devices,
        seconds: args.seconds,
        tally,
        cpu,
    })
}

/// Waits until the time is up, with a progress bar, and measures the processes meanwhile.
async fn measure(plan: &Plan, server_pid: Option<u32>, context: &Context) -> Cpu {
    let own = std::process::id();
    let seconds = |pid: Option<u32>| pid.and_then(cpu_seconds);
    sleep_until(plan.from).await;
    let before = (seconds(server_pid), seconds(Some(own)));
    let bar = progress_bar(plan.until - plan.from, context);
    while !bar.is_hidden() && Instant::now() + TICK < plan.until {
        tokio::time::sleep(TICK).await;
        let elapsed = plan.from.elapsed();
        let rate = plan.progress.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64();
        bar.set_position(elapsed.as_millis() as u64);
        bar.set_message(format!("{rate:.0} updates/s"));
    }
    sleep_until(plan.until).await;
    bar.finish_and_clear();
    let used = |before: Option<f64>, after: Option<f64>| Some(after? - before?);
    Cpu {
        server_pid,
        server: used(before.0, seconds(server_pid)),
        client: used(before.1, seconds(Some(own))),
    }
}

/// A bar over the milliseconds of the run; hidden where nobody watches.
fn progress_bar(length: Duration, context: &Context) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(length.as_millis() as u64),
        ProgressDrawTarget::stderr(),
    );
    let bars = if context.color {
        "{bar:40.cyan}"
    } else {
        "{bar:40}"
    };
    let template = format!("{{elapsed:>4}} {bars} {{percent:>3}}%  {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}
