//! A write load that remembers what it was told.
//!
//! Every writer has devices of its own and writes them one after another. An attempt whose outcome
//! is unknown is repeated with the same request id until it is known, so that the versions of a
//! device must come without a gap, across any number of crashes.
//!
//! A machine without power says nothing. Where only its disk is cut off, the node goes on talking for
//! a moment, so the load is told when the power goes and comes: an attempt that was under way at
//! either moment is unknown, whatever was answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use antumbra_proto::v1;

use crate::checker::{self, Attempt, Ending, State, Verdict};
use crate::client::{self, Client};
use crate::waiting;

const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// What happened to each device, in order.
pub type History = BTreeMap<String, Vec<Attempt>>;

/// Who writes what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Starts every device id.
    pub prefix: String,
    /// Concurrent writers.
    pub writers: usize,
    /// Devices of each writer.
    pub devices: usize,
    /// Bytes that every update carries besides its number.
    pub padding: usize,
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<History>,
}

struct Shared {
    options: Options,
    stopping: AtomicBool,
    abandoned: AtomicBool,
    acknowledged: AtomicU64,
    power: Power,
}

/// Whether the machine of the node has power.
#[derive(Default)]
struct Power {
    /// Counts how often the power went or came back. Even while there is power.
    changes: AtomicU64,
    late: AtomicU64,
    late_and_lost: AtomicU64,
}

/// Replies that were not counted because the power was off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// Updates that were answered too late to bind the node.
    pub updates: u64,
    /// How many of them were gone when the power was back.
    pub lost: u64,
}

impl Load {
    /// Starts writing to the node at `address`.
    pub fn start(address: SocketAddr, options: Options) -> Load {
        let shared = Arc::new(Shared {
            options,
            stopping: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            power: Power::default(),
        });
        let mut tasks = JoinSet::new();
        for writer in 0..shared.options.writers {
            let client = Client::new(address).with_limit(ATTEMPT_LIMIT);
            tasks.spawn(write(Arc::clone(&shared), writer, client));
        }
        Load { shared, tasks }
    }

    /// Acknowledged updates so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// The power goes now: from here on no reply counts.
    pub fn power_off(&self) {
        let changes = self.shared.power.changes.fetch_add(1, Ordering::SeqCst);
        assert_eq!(changes % 2, 0, "the power is off already");
    }

    /// The power is back, and the process that had none is gone.
    pub fn power_on(&self) {
        let changes = self.shared.power.changes.fetch_add(1, Ordering::SeqCst);
        assert_eq!(changes % 2, 1, "the power is on already");
    }

    /// Replies so far that did not count.
    pub fn late(&self) -> Late {
        Late {
            updates: self.shared.power.late.load(Ordering::Relaxed),
            lost: self.shared.power.late_and_lost.load(Ordering::Relaxed),
        }
    }

    /// Waits for `count` more acknowledgements, which proves that the load is live.
    pub async fn progress(&self, count: u64, limit: Duration) -> Result<()> {
        let goal = self.acknowledged() + count;
        let reached = || async { (self.acknowledged() >= goal).then_some(()) };
        waiting::until_async("acknowledged updates", limit, reached).await
    }

    /// Stops writing. Attempts under way are repeated until they are known, at most for `limit`.
    pub async fn stop(mut self, limit: Duration) -> Result<History> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let mut history = History::new();
        while !self.tasks.is_empty() {
            let left = limit.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, self.tasks.join_next()).await {
                Ok(Some(part)) => history.extend(part?),
                Ok(None) => break,
                Err(_) => {
                    self.shared.abandoned.store(true, Ordering::Relaxed);
                    let part = self.tasks.join_next().await.context("a writer is left")?;
                    history.extend(part?);
                }
            }
        }
        Ok(history)
    }
}

async fn write(shared: Arc<Shared>, writer: usize, client: Client) -> History {
    let options = &shared.options;
    let device = |number| format!("{}-{writer}-{number}", options.prefix);
    let mut history: History = (0..options.devices)
        .map(|number| (device(number), Vec::new()))
        .collect();
    let padding = "x".repeat(options.padding);
    let mut value = 0;
    while !shared.stopping.load(Ordering::Relaxed) {
        value += 1;
        let device = device(value as usize % options.devices);
        let update = v1::UpdateShadowRequest {
            request_id: format!("{device}-{value}"),
            ..client::desired_update(&device, &format!(r#"{{"n":{value},"p":"{padding}"}}"#))
        };
        let ending = settle(&shared, &client, update).await;
        history
            .entry(device)
            .or_default()
            .push(Attempt { value, ending });
    }
    history
}

/// Repeats one update until its outcome is known or the load is abandoned.
async fn settle(shared: &Shared, client: &Client, update: v1::UpdateShadowRequest) -> Ending {
    let power = &shared.power;
    let mut late: Option<v1::UpdateShadowResponse> = None;
    loop {
        let begun = power.changes.load(Ordering::SeqCst);
        let reply = client.send(update.clone()).await;
        let had_power = begun.is_multiple_of(2) && power.changes.load(Ordering::SeqCst) == begun;
        match reply {
            Ok(accepted) if had_power => {
                // The answer to a repeated update carries the time of the first one.
                if late.is_some_and(|late| late.time != accepted.time) {
                    power.late_and_lost.fetch_add(1, Ordering::Relaxed);
                }
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                return Ending::Acknowledged(accepted.version);
            }
            _ if shared.abandoned.load(Ordering::Relaxed) => return Ending::Unknown,
            Ok(accepted) if late.is_none() => {
                power.late.fetch_add(1, Ordering::Relaxed);
                late = Some(accepted);
            }
            Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Reads every device of a history and judges it.
pub async fn check(client: &Client, history: &History) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for (device, attempts) in history {
        let found = client.find(device).await;
        let found = found.map_err(|refusal| anyhow::anyhow!("{device}: {refusal:?}"))?;
        let found = state(found.as_ref())?;
        let judged = checker::check_history(attempts, found);
        verdict += judged.with_context(|| format!("{device}: {attempts:?}"))?;
    }
    Ok(verdict)
}

/// Reads the feed since before the load began and judges it, shadow by shadow.
pub async fn check_feed(
    client: &Client,
    prefix: &str,
    cursor: &str,
    history: &History,
) -> Result<usize> {
    let total = versions(client, history).await?;
    let enough = |changes: &[v1::Change]| changes.len() >= total;
    let changes = client.changes(prefix, cursor, enough).await?;
    judge_feed(&changes, history)?;
    Ok(changes.len())
}

/// Sum of the versions of all devices of a history: how many changes there are.
pub async fn versions(client: &Client, history: &History) -> Result<usize> {
    let mut total = 0;
    for device in history.keys() {
        let found = client.find(device).await;
        let found = found.map_err(|refusal| anyhow::anyhow!("{device}: {refusal:?}"))?;
        total += found.map_or(0, |shadow| shadow.version as usize);
    }
    Ok(total)
}

/// Whether these are the changes that a history made, shadow by shadow.
pub fn judge_feed(changes: &[v1::Change], history: &History) -> Result<()> {
    let mut feeds: BTreeMap<String, Vec<State>> = BTreeMap::new();
    for change in changes {
        let value = number(change.desired_patch_json.as_deref().unwrap_or_default())?;
        let device = client::full_name(change.key.as_ref());
        let version = change.version;
        feeds
            .entry(device)
            .or_default()
            .push(State { version, value });
    }
    for (device, attempts) in history {
        let feed = feeds.remove(device).unwrap_or_default();
        checker::check_feed(attempts, &feed).with_context(|| device.clone())?;
    }
    anyhow::ensure!(
        feeds.is_empty(),
        "changes of devices nobody wrote: {:?}",
        feeds.keys()
    );
    Ok(())
}

fn state(shadow: Option<&v1::Shadow>) -> Result<State> {
    let Some(shadow) = shadow else {
        return Ok(State {
            version: 0,
            value: 0,
        });
    };
    Ok(State {
        version: shadow.version,
        value: number(&shadow.desired_json)?,
    })
}

fn number(desired: &str) -> Result<u64> {
    let value: serde_json::Value = serde_json::from_str(desired)?;
    value["n"]
        .as_u64()
        .with_context(|| format!("no number in {desired}"))
}
