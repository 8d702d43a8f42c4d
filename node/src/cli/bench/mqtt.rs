//! `antumbra bench mqtt`: many device sessions, what they cost and how soon updates reach them.
//!
//! Sessions are spread over child processes of this program, because a process may open so many
//! files only, and a source address has so many ports towards one server.

mod clock;
mod crew;
mod job;
mod memory;
mod plan;
mod report;
mod updates;
mod worker;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use antumbra_proto::v1::shadows_client::ShadowsClient;
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::cli::Context;
use crate::cli::connect::{self, Dialer};
use crate::cli::mqtt::{Endpoint, LinkArgs};
use crate::cli::output::{Format, print_event};
use crate::cli::problem::{Exit, Problem};
use crate::cli::tls::TlsArgs;
use crate::config::parse_duration;

use crew::Crew;
use memory::Memory;
use report::{ConnectReport, UpdateReport};

/// Servers free what a storm of connections took for a moment.
const SETTLE: Duration = Duration::from_secs(2);
/// How long deltas may still be under way after the last update.
const GRACE: Duration = Duration::from_secs(3);
/// How long updates are sent, when the user does not say.
const SECONDS: u64 = 30;
const DEFAULT_GRPC: &str = "http://127.0.0.1:7400";

/// Open device sessions, hold them, and measure how soon updates reach them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each session subscribes to the deltas and documents of its own shadow. With --updates-per-second,
desired states are written over gRPC, and the time until the device has each is measured. Without it
the sessions are held for --seconds, or until Ctrl-C.
Example: antumbra bench mqtt --devices 10000 --updates-per-second 500 --seconds 30")]
pub(crate) struct Args {
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    devices: u64,
    /// MQTT doors, over which sessions spread evenly
    #[arg(
        long,
        value_name = "URL,…",
        value_delimiter = ',',
        env = "ANTUMBRA_MQTT",
        default_value = "mqtt://127.0.0.1:1883"
    )]
    endpoints: Vec<Endpoint>,
    /// Sessions that are begun in a second; 0 for as many as possible
    #[arg(long, value_name = "R", default_value_t = 1_000)]
    connect_rate: u32,
    /// Start clean, and let sessions end with their connections
    #[arg(long)]
    clean: bool,
    /// How long sessions outlive their connections, without --clean
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1h")]
    session_expiry: Duration,
    /// Processes to spread over, at least [default: as few as possible]
    #[arg(long, value_name = "P")]
    processes: Option<u32>,
    /// Start of device and client ids: PREFIX-000001 and so on
    #[arg(long, default_value = "bench")]
    prefix: String,
    /// Named shadow; without it the classic one
    #[arg(long, value_name = "NAME")]
    shadow: Option<String>,
    /// Local addresses, one for each process in turn; at loopback a thousand sessions have one each
    /// [default: 127.1.0.2 and so on for loopback]
    #[arg(long, value_name = "IP,…", value_delimiter = ',')]
    bind: Vec<IpAddr>,
    /// Updates that are sent in a second, over all devices
    #[arg(long, value_name = "U", value_parser = clap::value_parser!(u32).range(1..))]
    updates_per_second: Option<u32>,
    /// How long to update, or to hold [default: 30 with --updates-per-second]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// gRPC doors for updates [env: ANTUMBRA_ENDPOINT] [default: http://127.0.0.1:7400]
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    grpc: Vec<String>,
    /// Tenant of the devices, for updates [env: ANTUMBRA_TENANT] [default: the caller's own]
    #[arg(long)]
    tenant: Option<String>,
    /// Token to show with updates, and of sessions without --username; better in the environment,
    /// where others do not see it [env: ANTUMBRA_TOKEN]
    #[arg(long)]
    token: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Processes whose memory is measured before and after connecting
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pids: Vec<u32>,
    /// Be one of the processes
    #[arg(long, hide = true)]
    worker: bool,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    link: LinkArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    // One thread: workers are many processes, and the parent has little to do but to send.
    crate::cli::block_on(async {
        match args.worker {
            true => worker::run().await,
            false => bench(args, context).await,
        }
    })
}

async fn bench(args: &Args, context: &Context) -> Result<(), Problem> {
    let token = args.token.as_deref().or(context.environment.token());
    let jobs = plan::jobs(args, token)?;
    let processes = jobs.len();
    // Before the sessions: whoever mistyped the door is told at once.
    let clients = match args.updates_per_second {
        Some(_) => {
            let endpoints = grpc(args, context)?;
            let dialer = Dialer::new(&endpoints, &args.tls, updates::TIMEOUT, context)?;
            Some(updates::open(&endpoints, &dialer).await?)
        }
        None => None,
    };
    let before = Memory::of(&args.pids);
    let mut crew = Crew::start(jobs)?;
    let opened = tokio::select! {
        () = interrupted() => return Ok(()),
        opened = crew.connect(progress) => opened?,
    };
    end_progress();
    sleep(SETTLE).await;
    let report = ConnectReport {
        sessions: args.devices,
        endpoints: args.endpoints.len(),
        processes,
        opened,
        before,
        after: Memory::of(&args.pids),
        own: Memory::of(&crew.pids()),
    };
    print_event(args.output, &report.value(), || {
        report.text().trim_end().to_owned()
    });
    if report.opened.connected() == 0 {
        return Err(Problem::new(Exit::Unavailable, "no session was opened")
            .why(report.opened.errors_text()));
    }
    match (args.updates_per_second, clients) {
        (Some(rate), Some(clients)) => {
            let load = updates::Load {
                devices: args.devices,
                prefix: args.prefix.clone(),
                shadow: args.shadow.clone().unwrap_or_default(),
                tenant: tenant(args, context),
                token: token.map(connect::shown).transpose()?,
                rate,
                seconds: args.seconds.unwrap_or(SECONDS),
            };
            update(args.output, crew, load, clients).await
        }
        _ => hold(args, crew).await,
    }
}

/// Sends updates and says how soon devices had them.
async fn update(
    output: Format,
    mut crew: Crew,
    load: updates::Load,
    clients: Vec<ShadowsClient<Channel>>,
) -> Result<(), Problem> {
    let (rate, seconds) = (load.rate, load.seconds);
    crew.measure().await?;
    let sent = tokio::select! {
        () = interrupted() => return Ok(()),
        sent = updates::run(load, clients) => sent,
    };
    sleep(GRACE).await;
    let report = UpdateReport {
        rate,
        seconds,
        sent,
        received: crew.report().await?,
    };
    print_event(output, &report.value(), || {
        report.text().trim_end().to_owned()
    });
    match report.sent.accepted_count() {
        0 => Err(Problem::new(Exit::Failure, "no update was accepted")
            .why(report::errors_text(&report.sent.errors))),
        _ => Ok(()),
    }
}

/// Keeps the sessions open, and says what became of them.
async fn hold(args: &Args, mut crew: Crew) -> Result<(), Problem> {
    let time_is_up = async {
        match args.seconds {
            Some(seconds) => sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = interrupted() => {}
        () = time_is_up => {}
        problem = crew.ended() => return Err(problem),
    }
    let received = crew.report().await?;
    let value = report::held(&received);
    print_event(args.output, &value, || {
        format!("lost        {}", report::errors_text(&received.errors))
    });
    Ok(())
}

async fn interrupted() {
    // Where signals cannot be watched, Ctrl-C ends the process as ever.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// Says how far it is, on one line of standard error, if somebody watches.
fn progress(connected: u64, failed: u64) {
    let mut out = io::stderr().lock();
    if out.is_terminal() {
        let _ = write!(out, "\r{connected} connected, {failed} failed ");
    }
}

/// Ends that line.
fn end_progress() {
    let mut out = io::stderr().lock();
    if out.is_terminal() {
        let _ = writeln!(out);
    }
}

fn grpc(args: &Args, context: &Context) -> Result<Vec<String>, Problem> {
    let given = args.grpc.join(",");
    let given = match given.is_empty() {
        true => context.environment.endpoint().unwrap_or(DEFAULT_GRPC),
        false => &given,
    };
    given
        .split(',')
        .map(|url| connect::url(url.trim()))
        .collect()
}

fn tenant(args: &Args, context: &Context) -> String {
    let given = args.tenant.as_deref().or(context.environment.tenant());
    given.unwrap_or_default().to_owned()
}

/// The device with this number, which is its client id, too.
fn device(prefix: &str, number: u64) -> String {
    format!("{prefix}-{number:06}")
}
