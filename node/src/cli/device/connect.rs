//! `antumbra device connect NAME`: a device that is played.
//!
//! It follows its shadow over MQTT with the topics of AWS IoT, makes of itself what is desired, and
//! reports that. When the connection breaks it comes back; what it could not report by then it
//! reports as one state.

mod script;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use antumbra_shadow::json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::cli::Context;
use crate::cli::mqtt::device::{self, Kind, Topics};
use crate::cli::mqtt::{self, Connection, Endpoint, Event, LinkArgs, Settings};
use crate::cli::output::Format;
use crate::cli::problem::{Exit, Problem};
use crate::config::parse_duration;
use crate::gateway::mqtt::wire::{Message, PacketId, Qos, Reason};

use script::{Step, Steps};
use show::Show;

const KEEP_ALIVE: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long answers are awaited at the end of a script.
const GRACE: Duration = Duration::from_secs(2);

/// Play a device: follow a shadow over MQTT and report whatever is desired
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lines of the script or of the terminal: report KEY=VALUE… (or report JSON), sleep 500ms,
disconnect, reconnect; # begins a comment. It ends with Ctrl-C or at the end of the script.
Example: antumbra device connect lamp-1")]
pub(crate) struct Args {
    /// Device id
    name: String,
    /// Named shadow; without it the classic one
    #[arg(long, value_name = "NAME")]
    shadow: Option<String>,
    /// What the device does, one thing a line; - for standard input
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// MQTT door of any node
    #[arg(
        long,
        value_name = "URL",
        env = "ANTUMBRA_MQTT",
        default_value = "mqtt://127.0.0.1:1883"
    )]
    mqtt: Endpoint,
    /// MQTT client id [default: the device id]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Keep the session for so long after a connection breaks [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    session_expiry: Option<Duration>,
    /// Local address to connect from
    #[arg(long, value_name = "IP")]
    bind: Option<std::net::IpAddr>,
    /// How events are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    link: LinkArgs,
}

pub(crate) async fn run(args: &Args, _context: &Context) -> Result<(), Problem> {
    let endpoints = std::slice::from_ref(&args.mqtt);
    let mut settings = args.link.settings(endpoints, args.bind, KEEP_ALIVE)?;
    if let Some(expiry) = args.session_expiry {
        settings.clean_start = false;
        settings.session_expiry_s = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
    }
    let steps = Steps::open(args.script.as_deref())?;
    let stop = stop_signal()?;
    let mut device = Device {
        topics: Topics::new(&args.name, args.shadow.as_deref()),
        endpoint: args.mqtt.clone(),
        client_id: args.client_id.clone().unwrap_or_else(|| args.name.clone()),
        settings,
        show: Show::new(args.output, &args.name, args.shadow.as_deref()),
        link: Link::Off,
        version: 0,
        unsent: None,
        in_flight: BTreeMap::new(),
        unanswered: BTreeSet::new(),
        reports: 0,
    };
    let ended = tokio::select! {
        biased;
        () = stop => Ok(()),
        ended = device.play(steps) => ended,
    };
    device.leave().await;
    ended
}

/// Resolves at Ctrl-C or when the process is asked to stop.
fn stop_signal() -> Result<impl Future<Output = ()>, Problem> {
    let unwatched =
        |error: std::io::Error| Problem::new(Exit::Failure, "cannot wait for signals").why(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unwatched)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unwatched)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// A device that is played.
struct Device {
    topics: Topics,
    endpoint: Endpoint,
    client_id: String,
    settings: Settings,
    show: Show,
    link: Link,
    /// Newest version of the document that was seen.
    version: u64,
    /// What is to be reported once there is a connection.
    unsent: Option<Value>,
    /// Reports that the server has not acknowledged.
    in_flight: BTreeMap<PacketId, Value>,
    /// Client tokens of reports that were neither accepted nor rejected.
    unanswered: BTreeSet<String>,
    /// Reports so far.
    reports: u64,
}

/// The connection of the device.
enum Link {
    Up(Box<Connection>),
    /// It broke or could not be opened; it is tried again then.
    Down {
        retry_at: Instant,
        wait: Duration,
    },
    /// The script wants none.
    Off,
}

/// What a link does by itself.
enum Happening {
    Said(Event),
    Broke(mqtt::Error),
    Retry(Duration),
}

impl Link {
    /// May be dropped midway.
    async fn next(&mut self) -> Happening {
        match self {
            Self::Up(connection) => match connection.next().await {
                Ok(event) => Happening::Said(event),
                Err(error) => Happening::Broke(error),
            },
            Self::Down { retry_at, wait } => {
                sleep_until(*retry_at).await;
                Happening::Retry(*wait)
            }
            Self::Off => std::future::pending().await,
        }
    }
}

impl Device {
    /// Connects and goes through the steps. A first connection that fails is a problem; later ones
    /// are tried again.
    async fn play(&mut self, mut steps: Steps) -> Result<(), Problem> {
        self.connect()
            .await
            .map_err(|error| error.problem(&self.endpoint))?;
        let mut ends_at = None;
        loop {
            let answered = self.in_flight.is_empty() && self.unanswered.is_empty();
            if ends_at.is_some() && answered {
                return Ok(());
            }
            tokio::select! {
                biased;
                happening = self.link.next() => self.handle(happening).await?,
                step = steps.next(), if ends_at.is_none() => match step {
                    Some(step) => self.perform(step).await?,
                    None => ends_at = Some(Instant::now() + GRACE),
                },
                () = sleep_until(ends_at.unwrap_or_else(Instant::now)), if ends_at.is_some() => {
                    return Ok(());
                }
            }
        }
    }

    /// Opens the link, subscribes, asks for the document and reports what is left to report.
    async fn connect(&mut self) -> Result<(), mqtt::Error> {
        let connected = mqtt::connect(&self.endpoint, &self.client_id, &self.settings).await;
        let mut connection = connected?;
        connection.subscribe(self.topics.all()).await?;
        self.show
            .connected(&self.endpoint, connection.session_present());
        connection.publish(self.topics.get(), "", Qos::AtMostOnce)?;
        self.link = Link::Up(Box::new(connection));
        if let Some(state) = self.unsent.take() {
            self.report(state)?;
        }
        Ok(())
    }

    /// Connects; when that fails, it is tried again after `wait`.
    async fn connect_or_wait(&mut self, wait: Duration) {
        if let Err(error) = self.connect().await {
            self.lose(&error, wait);
        }
    }

    async fn perform(&mut self, step: Step) -> Result<(), Problem> {
        match step {
            Step::Report(state) => self.try_report(state),
            Step::Disconnect => {
                self.leave().await;
                self.keep_in_flight();
            }
            Step::Reconnect => {
                self.leave().await;
                self.keep_in_flight();
                self.connect_or_wait(FIRST_WAIT).await;
            }
            // Done by the steps themselves.
            Step::Sleep(_) => {}
        }
        Ok(())
    }

    async fn handle(&mut self, happening: Happening) -> Result<(), Problem> {
        match happening {
            Happening::Said(Event::Message(message)) => self.receive(&message),
            Happening::Said(Event::Acknowledged { packet_id, reason }) => {
                let state = self.in_flight.remove(&packet_id);
                if reason.is_failure()
                    && let Some(state) = state
                {
                    self.show.refused(&state, reason);
                    self.unanswered.clear();
                }
            }
            Happening::Said(Event::Subscribed { .. }) => {}
            Happening::Broke(error) => {
                // Somebody else plays this device: two would throw each other out for ever.
                if let mqtt::Error::Ended {
                    reason: Reason::SessionTakenOver,
                    ..
                } = error
                {
                    self.link = Link::Off;
                    return Err(error
                        .problem(&self.endpoint)
                        .try_this("--client-id with another name"));
                }
                self.lose(&error, FIRST_WAIT);
            }
            Happening::Retry(wait) => {
                self.connect_or_wait((wait * 2).min(LONGEST_WAIT)).await;
            }
        }
        Ok(())
    }

    fn receive(&mut self, message: &Message) {
        let Some(kind) = self.topics.kind(&message.topic) else {
            return;
        };
        let Some(payload) = device::parse(&message.payload) else {
            return self.show.unreadable(&message.topic);
        };
        let answers = payload
            .get("clientToken")
            .and_then(Value::as_str)
            .is_some_and(|token| self.unanswered.remove(token));
        match kind {
            Kind::Delta | Kind::Got => {
                let Some(delta) = device::delta(kind, &payload) else {
                    return;
                };
                // Deltas may be repeated and overtaken; an old one would undo a newer one.
                if delta.version < self.version {
                    return;
                }
                self.version = delta.version;
                self.show.delta(&delta);
                self.try_report(delta.state);
            }
            Kind::Accepted => {
                let version = device::version(&payload).unwrap_or_default();
                self.version = self.version.max(version);
                if answers {
                    self.show.accepted(version);
                }
            }
            Kind::Rejected => self.show.rejected(&device::rejection(&payload)),
            Kind::GetRejected => {
                let rejection = device::rejection(&payload);
                // A device that is new has no shadow yet.
                if rejection.code != 404 {
                    self.show.rejected(&rejection);
                }
            }
        }
    }

    fn try_report(&mut self, state: Value) {
        if let Err(error) = self.report(state) {
            self.lose(&error, FIRST_WAIT);
        }
    }

    /// Reports now, or keeps it for later where there is no connection.
    fn report(&mut self, state: Value) -> Result<(), mqtt::Error> {
        let Link::Up(connection) = &mut self.link else {
            self.show.kept(&state);
            self.keep(state);
            return Ok(());
        };
        self.reports += 1;
        let token = format!("{}-{}", self.client_id, self.reports);
        let payload = device::report(state.clone(), &token);
        let packet_id = connection.publish(self.topics.update(), payload, Qos::AtLeastOnce)?;
        self.show.reported(&state);
        self.in_flight
            .extend(packet_id.map(|packet_id| (packet_id, state)));
        self.unanswered.insert(token);
        Ok(())
    }

    /// Notes that there is no connection until a retry in `wait`.
    fn lose(&mut self, error: &mqtt::Error, wait: Duration) {
        self.show.lost(error, wait);
        self.link = Link::Down {
            retry_at: Instant::now() + wait,
            wait,
        };
        self.keep_in_flight();
    }

    /// What was not acknowledged may not have arrived: it is reported once more, merged into one.
    fn keep_in_flight(&mut self) {
        self.unanswered.clear();
        let later = self.unsent.take();
        let states = std::mem::take(&mut self.in_flight).into_values();
        states.chain(later).for_each(|state| self.keep(state));
    }

    fn keep(&mut self, state: Value) {
        match &mut self.unsent {
            Some(unsent) => device::merge(unsent, state),
            None => self.unsent = Some(state),
        }
    }

    /// Says goodbye, if there is somebody to say it to.
    async fn leave(&mut self) {
        if let Link::Up(connection) = std::mem::replace(&mut self.link, Link::Off) {
            // It ends either way.
            let _ = connection.disconnect().await;
            self.show.disconnected();
        }
    }
}
