//! One process of the bench: opens its share of the sessions, holds them, and counts what reaches
//! them. One task per session, no buffers; everything on one thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::bench::tally::Tally;
use crate::cli::mqtt::device::Topics;
use crate::cli::mqtt::{self, Connection, Endpoint, Event, Settings, lines};
use crate::cli::output::print;
use crate::cli::problem::{Exit, Problem};

use super::clock;
use super::job::{Ask, Counts, Job, Say};
use super::plan::address_of;

/// Sessions that are being opened at one time.
const OPENING_MAX: u32 = 256;
/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(250);

/// What all sessions share.
struct Shared {
    job: Job,
    endpoints: Vec<Endpoint>,
    settings: Settings,
    connected: AtomicU64,
    connect: Mutex<Tally>,
    subscribe: Mutex<Tally>,
    /// Latencies of updates since the last [`Ask::Measure`], and why sessions were lost.
    updates: Mutex<Tally>,
}

/// Does the job that comes on standard input.
pub(super) async fn run() -> Result<(), Problem> {
    let mut asks = lines(io::stdin());
    let Some(job) = asks.recv().await else {
        return Ok(());
    };
    let shared = Arc::new(Shared::new(&job)?);
    let slots = Arc::new(Semaphore::new(OPENING_MAX as usize));
    let opening = open_all(shared.clone(), slots);
    tokio::select! {
        () = opening => {}
        () = tell_progress(&shared) => {}
        // The parent is gone.
        () = end_of(&mut asks) => return Ok(()),
    }
    say(&Say::Opened {
        connect: Counts::new(&shared.connect.lock()),
        subscribe: Counts::new(&shared.subscribe.lock()),
    });
    while let Some(ask) = asks.recv().await {
        match serde_json::from_str(&ask).map_err(misunderstood)? {
            Ask::Measure => shared.updates.lock().latency.reset(),
            Ask::Report => say(&Say::Counted {
                latency: Counts::new(&shared.updates.lock()),
            }),
        }
    }
    Ok(())
}

impl Shared {
    fn new(job: &str) -> Result<Self, Problem> {
        let job: Job = serde_json::from_str(job).map_err(misunderstood)?;
        let endpoints = job.endpoints.iter().map(|text| text.parse());
        Ok(Self {
            endpoints: endpoints
                .collect::<Result<_, String>>()
                .map_err(misunderstood)?,
            settings: job.link.clone().settings(job.source)?,
            job,
            connected: AtomicU64::new(0),
            connect: Mutex::new(Tally::new()),
            subscribe: Mutex::new(Tally::new()),
            updates: Mutex::new(Tally::new()),
        })
    }
}

/// Begins sessions at the pace of the job, until each is open or has failed.
async fn open_all(shared: Arc<Shared>, slots: Arc<Semaphore>) {
    let rate = shared.job.rate;
    let pause = (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate));
    let mut next_at = Instant::now();
    for nth in 0..shared.job.count {
        if let Some(pause) = pause {
            sleep_until(next_at).await;
            next_at += pause;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        tokio::spawn(session(shared.clone(), nth, slot));
    }
    // Every slot is given back: nobody is opening any more.
    let _ = slots.acquire_many(OPENING_MAX).await;
}

/// The whole life of a session. `slot` is held while it is opened.
async fn session(shared: Arc<Shared>, nth: u64, slot: OwnedSemaphorePermit) {
    // Boxed: a task keeps room for its largest part, and this one is over soon.
    let opened = Box::pin(open(&shared, nth)).await;
    drop(slot);
    let Ok(mut connection) = opened else {
        return;
    };
    shared.connected.fetch_add(1, Ordering::Relaxed);
    loop {
        match connection.next().await {
            Ok(Event::Message(message)) => {
                let now = clock::now_us();
                if let Some(sent) = clock::stamped(&message.payload) {
                    let latency = Duration::from_micros(now.saturating_sub(sent));
                    shared.updates.lock().accepted(latency);
                }
            }
            Ok(_) => {}
            Err(error) => {
                shared.connected.fetch_sub(1, Ordering::Relaxed);
                return shared.updates.lock().failed(&error.code());
            }
        }
    }
}

/// Connects and subscribes, and counts how that went.
async fn open(shared: &Shared, nth: u64) -> Result<Connection, ()> {
    let endpoints = &shared.endpoints;
    let endpoint = &endpoints[nth as usize % endpoints.len()];
    let number = shared.job.first + nth * shared.job.step;
    let name = super::device(&shared.job.prefix, number);
    let begun = Instant::now();
    let source = shared.settings.source;
    let settings = Settings {
        source: source.map(|first| address_of(first, nth)),
        ..shared.settings.clone()
    };
    let connected = mqtt::connect(endpoint, &name, &settings).await;
    let mut connection = connected.map_err(|error| shared.connect.lock().failed(&error.code()))?;
    shared.connect.lock().accepted(begun.elapsed());
    let topics = Topics::new(&name, shared.job.shadow.as_deref());
    let begun = Instant::now();
    let subscribed = connection.subscribe(topics.followed()).await;
    subscribed.map_err(|error| shared.subscribe.lock().failed(&error.code()))?;
    shared.subscribe.lock().accepted(begun.elapsed());
    Ok(connection)
}

/// Tells how far it is, until it is dropped.
async fn tell_progress(shared: &Shared) {
    let mut ticks = interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let failed = shared.connect.lock().failed_count() + shared.subscribe.lock().failed_count();
        say(&Say::Progress {
            connected: shared.connected.load(Ordering::Relaxed),
            failed,
        });
    }
}

/// Resolves when nothing more can be asked. Nothing is, before the sessions are open.
async fn end_of(asks: &mut mpsc::Receiver<String>) {
    while asks.recv().await.is_some() {}
}

fn say(what: &Say) {
    // Only maps with keys that are not text cannot be written.
    let line = serde_json::to_string(what).expect("counts are numbers and text");
    print(&format!("{line}\n"));
}

fn misunderstood(error: impl ToString) -> Problem {
    Problem::new(Exit::Usage, "cannot understand the job").why(error)
}
