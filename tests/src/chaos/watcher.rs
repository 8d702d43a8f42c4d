//! Watchers that follow all shadows of a run, at any node, across everything that breaks them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tonic::Streaming;

use antumbra_proto::v1;
use v1::watch_shadows_response::Event;

use super::door::{self, Doors};
use super::history::ShadowId;
use super::recorder::Recorder;
use super::watch::{Note, Watched};

/// How many watchers there are; they begin at different nodes.
const WATCHERS: usize = 4;
/// A watch says something at least this often, if only a bookmark; else another node is tried.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const OPEN_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// The watchers of a run.
pub struct Watchers {
    shared: Arc<Shared>,
    tasks: JoinSet<Watched>,
    /// How far each watcher has come, per shadow.
    progress: Vec<Progress>,
    /// From here on there is everything.
    beginning: String,
}

type Progress = Arc<Vec<AtomicU64>>;

struct Shared {
    recorder: Arc<Recorder>,
    doors: Doors,
    stopping: AtomicBool,
    /// The first cursor that a watcher got.
    beginning: Mutex<String>,
    /// Watchers that know the beginning.
    synced: AtomicUsize,
}

impl Watchers {
    /// Starts the watchers and waits until all know that nothing is there yet.
    pub async fn start(
        recorder: &Arc<Recorder>,
        doors: &Doors,
        seed: u64,
        limit: Duration,
    ) -> Result<Watchers> {
        let shared = Arc::new(Shared {
            recorder: Arc::clone(recorder),
            doors: doors.clone(),
            stopping: AtomicBool::new(false),
            beginning: Mutex::new(String::new()),
            synced: AtomicUsize::new(0),
        });
        let shadows = recorder.names.all().count();
        let mut watchers = Watchers {
            shared: Arc::clone(&shared),
            tasks: JoinSet::new(),
            progress: Vec::new(),
            beginning: String::new(),
        };
        for number in 0..WATCHERS {
            let progress: Progress = Arc::new((0..shadows).map(|_| AtomicU64::new(0)).collect());
            watchers.progress.push(Arc::clone(&progress));
            let node = number % doors.count();
            let random = SmallRng::seed_from_u64(seed ^ (number as u64 + 1) << 32);
            let watcher = Watcher::new(&shared, format!("watcher {}", number + 1), progress);
            watchers.tasks.spawn(watcher.follow(node, random, limit));
        }
        let begun = || async {
            let all = shared.synced.load(Ordering::SeqCst) >= WATCHERS;
            let beginning = shared.beginning.lock().expect("watchers do not panic");
            all.then(|| beginning.clone())
        };
        let what = "all watches begin";
        watchers.beginning = crate::waiting::until_async(what, limit, begun).await?;
        Ok(watchers)
    }

    /// Waits until every watcher was told these versions, at most for `limit`; then stops them.
    pub async fn stop(mut self, last: &[(ShadowId, u64)], limit: Duration) -> Result<Vec<Watched>> {
        let told = |progress: &Progress| {
            last.iter().all(|(shadow, version)| {
                progress[shadow.0 as usize].load(Ordering::Relaxed) >= *version
            })
        };
        let all = || async { self.progress.iter().all(told).then_some(()) };
        // Who is late is named by the checker.
        crate::waiting::until_async("all is told", limit, all)
            .await
            .ok();
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut watched = Vec::new();
        while let Some(one) = self.tasks.join_next().await {
            watched.push(one?);
        }
        watched.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(watched)
    }

    /// The cursor of the beginning, from where everything can be read again.
    pub fn beginning(&self) -> String {
        self.beginning.clone()
    }
}

/// Reads the whole feed again through one node, from the beginning to these versions.
pub async fn replay(
    recorder: &Arc<Recorder>,
    doors: &Doors,
    node: usize,
    beginning: &str,
    last: &[(ShadowId, u64)],
    limit: Duration,
) -> Result<Watched> {
    let shared = Arc::new(Shared {
        recorder: Arc::clone(recorder),
        doors: doors.clone(),
        stopping: AtomicBool::new(false),
        beginning: Mutex::new(beginning.to_owned()),
        synced: AtomicUsize::new(0),
    });
    let shadows = recorder.names.all().count();
    let progress: Progress = Arc::new((0..shadows).map(|_| AtomicU64::new(0)).collect());
    let name = format!("replay at node {}", node + 1);
    let mut watcher = Watcher::new(&shared, name, Arc::clone(&progress));
    watcher.cursor = beginning.to_owned();
    let done = || {
        let told = |(shadow, version): &(ShadowId, u64)| {
            progress[shadow.0 as usize].load(Ordering::Relaxed) >= *version
        };
        last.iter().all(told)
    };
    let started = tokio::time::Instant::now();
    while !done() && started.elapsed() < limit {
        let stream = watcher.open(node).await;
        let Ok(mut stream) = stream else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while !done() && started.elapsed() < limit {
            if watcher.next(&mut stream).await.is_err() {
                break;
            }
        }
    }
    Ok(watcher.watched)
}

struct Watcher {
    shared: Arc<Shared>,
    progress: Progress,
    cursor: String,
    synced: bool,
    watched: Watched,
}

impl Watcher {
    fn new(shared: &Arc<Shared>, name: String, progress: Progress) -> Watcher {
        Watcher {
            shared: Arc::clone(shared),
            progress,
            cursor: String::new(),
            synced: false,
            watched: Watched {
                name,
                notes: Vec::new(),
            },
        }
    }

    /// Connects again and again, after random numbers of events too, until told to stop.
    async fn follow(mut self, mut node: usize, mut random: SmallRng, first: Duration) -> Watched {
        let begun = tokio::time::Instant::now();
        while !self.is_stopping() {
            if let Ok(mut stream) = self.open(node).await {
                // The first connection lasts until it knows the beginning.
                let mut left = random.random_range(20..2_000);
                while !self.is_stopping() && left > 0 {
                    if self.next(&mut stream).await.is_err() {
                        break;
                    }
                    left -= 1;
                }
            }
            if !self.cursor.is_empty() || begun.elapsed() > first {
                node = random.random_range(0..self.shared.doors.count());
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.watched
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    async fn open(&mut self, node: usize) -> Result<Streaming<v1::WatchShadowsResponse>> {
        let client = self.shared.doors.client(node).with_limit(OPEN_LIMIT);
        let prefix = self.shared.recorder.names.prefix();
        let stream = client.watch(prefix, &self.cursor).await?;
        let opened = match self.cursor.is_empty() {
            true => Note::Opened,
            false => Note::Resumed,
        };
        self.watched.notes.push(opened);
        Ok(stream)
    }

    /// Takes one message. An error means that another connection is needed.
    async fn next(&mut self, stream: &mut Streaming<v1::WatchShadowsResponse>) -> Result<()> {
        let message = tokio::time::timeout(SILENCE_MAX, stream.message()).await;
        let message = message??.context("the watch ended")?;
        let names = &self.shared.recorder.names;
        let synced = matches!(message.event, Some(Event::Synced(_)));
        match message.event {
            Some(Event::Document(shadow)) => {
                let id = names.id(shadow.key.as_ref());
                self.advance(id, shadow.version);
                self.watched.notes.push(Note::Document {
                    shadow: id,
                    version: shadow.version,
                    value: door::value_of(&shadow.desired_json),
                });
            }
            Some(Event::Change(change)) => {
                let id = names.id(change.key.as_ref());
                self.advance(id, change.version);
                self.watched.notes.push(Note::Changed {
                    shadow: id,
                    version: change.version,
                    change: door::change_of(&change),
                });
            }
            Some(Event::Synced(_)) => self.watched.notes.push(Note::Synced),
            Some(Event::Reset(reset)) => self.watched.notes.push(Note::Reset(reset.reason)),
            Some(Event::Bookmark(_)) => {}
            None => bail!("an empty message"),
        }
        // Empty while the documents of a new beginning are not complete: then resuming is impossible.
        self.cursor = message.cursor;
        if synced && !self.synced {
            self.synced = true;
            let mut beginning = self.shared.beginning.lock().expect("watchers do not panic");
            if beginning.is_empty() {
                beginning.clone_from(&self.cursor);
            }
            self.shared.synced.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn advance(&self, shadow: ShadowId, version: u64) {
        if let Some(progress) = self.progress.get(shadow.0 as usize) {
            progress.fetch_max(version, Ordering::Relaxed);
        }
    }
}
