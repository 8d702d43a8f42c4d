#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::OneshotReceiverOf;
use tokio::sync::oneshot;

use super::*;
use crate::config::HostConfig;
use crate::log::store::ShardRows;
use crate::log::{Log, ShardLog};
use crate::types::{Command, Entry, Payload, TypeConfig, Vote, log_id};

/// A store whose syncs the test lets through one by one.
struct GatedStore {
    /// What happens, in order.
    events: mpsc::Sender<String>,
    allow: Mutex<mpsc::Receiver<bool>>,
}

struct Gate {
    events: mpsc::Receiver<String>,
    allow: mpsc::Sender<bool>,
}

fn gated() -> (Arc<GatedStore>, Gate) {
    let (events, seen) = mpsc::channel();
    let (allow, allowed) = mpsc::channel();
    let store = GatedStore {
        events,
        allow: Mutex::new(allowed),
    };
    let gate = Gate {
        events: seen,
        allow,
    };
    (Arc::new(store), gate)
}

impl Gate {
    fn next(&self) -> String {
        self.events.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

fn describe(batch: &Batch) -> String {
    let change = |change: &Change| {
        let what = match &change.action {
            Action::Append(entries) => format!("append{}", entries.len()),
            Action::Vote(vote) => format!("vote{}", vote.leader_id.term),
            Action::Committed(id) => format!("committed{}", id.index),
            Action::Truncate { from } => format!("truncate{from}"),
            Action::Purge { upto, .. } => format!("purge{}", upto.index),
            Action::Clear => "clear".to_owned(),
        };
        format!("{}:{what}", change.shard)
    };
    let changes: Vec<_> = batch.changes.iter().map(change).collect();
    format!("{} {}", batch.number, changes.join(" "))
}

impl LogStore for GatedStore {
    fn last_batch(&self) -> u64 {
        0
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        self.events.send(describe(batch)).unwrap();
        // An abandoned gate lets everything through.
        let allowed = self.allow.lock().recv().unwrap_or(true);
        if allowed {
            Ok(())
        } else {
            Err(Error::io("sync", std::io::Error::other("injected")))
        }
    }

    fn rows(&self, _shard: ShardId) -> Result<ShardRows, Error> {
        Ok(ShardRows::default())
    }

    fn entries(
        &self,
        _shard: ShardId,
        _first: u64,
        _visit: &mut dyn FnMut(Entry, usize) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn seal(&self, number: u64) -> Result<(), Error> {
        let _ = self.events.send(format!("seal {number}"));
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, number: u64) -> Result<(), Error> {
        let _ = self.events.send(format!("close {number}"));
        Ok(())
    }
}

fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
    let entry = |index| Entry {
        log_id: log_id(1, index),
        payload: Payload::Normal(Command::one(Bytes::from_static(b"command"))),
    };
    range.map(entry).collect()
}

fn open(store: &Arc<GatedStore>) -> (Arc<Log>, Failure) {
    let failure = Failure::new();
    let config = HostConfig::new("/nowhere", [1; 16]);
    let log = Log::over(
        Arc::clone(store) as Arc<dyn LogStore>,
        &config,
        failure.clone(),
    );
    (log.unwrap(), failure)
}

type Flushed = OneshotReceiverOf<TypeConfig, Result<(), std::io::Error>>;

async fn append(log: &mut ShardLog, range: std::ops::Range<u64>) -> Flushed {
    let (flushed, done) = TypeConfig::oneshot();
    log.append(entries(range), IOFlushed::signal(flushed))
        .await
        .unwrap();
    done
}

/// One client at a time must not pay for the batches of many.
#[test]
fn only_who_comes_with_others_waits_for_more() {
    assert_eq!(interval(0), Duration::ZERO);
    assert_eq!(interval(1), Duration::ZERO);
    assert_eq!(interval(2), Duration::from_micros(2_200));
    assert_eq!(interval(30), GATHER_MAX);
    assert_eq!(interval(usize::MAX), GATHER_MAX);
}

/// What comes alone behind a batch of many gives others the time to come along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_behind_one_of_many_waits_for_more() {
    let (store, gate) = gated();
    let (log, _) = open(&store);
    let mut shard = log.shard(ShardId(1)).await.unwrap();
    let begun = Instant::now();
    let many = append(&mut shard, 0..60).await;
    assert_eq!(gate.next(), "1 1:append60");
    gate.allow.send(true).unwrap();
    many.await.unwrap().unwrap();
    let one = append(&mut shard, 60..61).await;
    let mut next = gate.next();
    if next.starts_with("seal") {
        next = gate.next();
    }
    assert_eq!(next, "2 1:append1");
    assert!(begun.elapsed() >= GATHER_MAX, "{:?}", begun.elapsed());
    gate.allow.send(true).unwrap();
    one.await.unwrap().unwrap();
}

/// A batch grows until as much waits as is wanted, or its time is up, and not while the log is closed.
#[tokio::test]
async fn gathering_ends_with_enough_commands_in_time_and_with_the_log() {
    const LONG: Duration = Duration::from_secs(20);
    let queue = Arc::new(Queue::new(1 << 20));
    let (rows, none) = (ShardRows::default(), VecDeque::new());
    let tail = Arc::new(Tail::new(ShardId(1), 0, rows, 0, none));
    let push = async |range| {
        let request = Request {
            tail: Arc::clone(&tail),
            change: Change {
                shard: ShardId(1),
                action: Action::Append(entries(range)),
            },
            completion: Completion::Nobody,
            place: queue.reserve(100).await.unwrap(),
        };
        assert!(queue.push(request).is_ok());
    };
    let gather = |commands, limit| {
        let (queue, begun) = (Arc::clone(&queue), Instant::now());
        let gathering = move || {
            queue.gather(commands, begun + limit);
            begun.elapsed()
        };
        std::thread::spawn(gathering)
    };
    let gathering = gather(4, LONG);
    push(0..3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!gathering.is_finished());
    push(3..4).await;
    assert!(gathering.join().unwrap() < LONG / 2);
    let taken = queue.take(1 << 20, Duration::ZERO);
    assert!(matches!(taken, Taken::Requests(requests) if requests.len() == 2));

    // What was taken counts no more.
    let limit = Duration::from_millis(20);
    assert!(gather(1, limit).join().unwrap() >= limit);
    let gathering = gather(1, LONG);
    queue.close(oneshot::channel().0);
    assert!(gathering.join().unwrap() < LONG / 2);
}

/// Invariant: nothing is acknowledged before it is synced, yet it is readable at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledges_only_after_fsync() {
    let (store, gate) = gated();
    let (log, _) = open(&store);
    let mut shard = log.shard(ShardId(1)).await.unwrap();
    let mut flushed = append(&mut shard, 0..3).await;
    assert_eq!(shard.try_get_log_entries(0..9).await.unwrap().len(), 3);
    assert_eq!(gate.next(), "1 1:append3");
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(flushed.try_recv().is_err());
    // Meanwhile it can be told how long the disk takes.
    assert!(log.writing_for().unwrap() >= Duration::from_millis(30));
    gate.allow.send(true).unwrap();
    flushed.await.unwrap().unwrap();
    assert_eq!(log.writing_for(), None);
}

/// A vote that was given must survive a crash, or this replica could vote twice in a term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vote_is_durable_before_return() {
    let (store, gate) = gated();
    let (log, _) = open(&store);
    let mut shard = log.shard(ShardId(1)).await.unwrap();
    let mut voter = shard.clone();
    let voting = tokio::spawn(async move { voter.save_vote(&Vote::new(3, 7)).await });
    assert_eq!(gate.next(), "1 1:vote3");
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!voting.is_finished());
    assert_eq!(shard.read_vote().await.unwrap(), None);
    gate.allow.send(true).unwrap();
    voting.await.unwrap().unwrap();
    assert_eq!(shard.read_vote().await.unwrap(), Some(Vote::new(3, 7)));
}

/// What queues up during a sync of one shard is the next batch of all shards, in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sync_covers_all_shards_in_queue_order() {
    let (store, gate) = gated();
    let (log, _) = open(&store);
    let mut first = log.shard(ShardId(1)).await.unwrap();
    let mut second = log.shard(ShardId(2)).await.unwrap();
    let one = append(&mut first, 0..1).await;
    assert_eq!(gate.next(), "1 1:append1");
    let two = append(&mut second, 0..2).await;
    let three = append(&mut first, 1..4).await;
    first.save_committed(Some(log_id(1, 0))).await.unwrap();
    gate.allow.send(true).unwrap();
    one.await.unwrap().unwrap();
    assert_eq!(gate.next(), "2 2:append2 1:append3 1:committed0");
    gate.allow.send(true).unwrap();
    two.await.unwrap().unwrap();
    three.await.unwrap().unwrap();
    // Quiet: the seal states what is durable.
    assert_eq!(gate.next(), "seal 2");
}

/// A truncation is durable before openraft goes on, and in order with what surrounds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncation_is_durable_before_return() {
    let (store, gate) = gated();
    let (log, _) = open(&store);
    let mut shard = log.shard(ShardId(1)).await.unwrap();
    let appended = append(&mut shard, 0..5).await;
    assert_eq!(gate.next(), "1 1:append5");
    let mut other = shard.clone();
    let cutting = tokio::spawn(async move { other.truncate_after(Some(log_id(1, 1))).await });
    gate.allow.send(true).unwrap();
    appended.await.unwrap().unwrap();
    let mut event = gate.next();
    if event.starts_with("seal") {
        event = gate.next();
    }
    assert_eq!(event, "2 1:truncate2");
    assert!(!cutting.is_finished());
    assert_eq!(shard.try_get_log_entries(0..9).await.unwrap().len(), 2);
    gate.allow.send(true).unwrap();
    cutting.await.unwrap().unwrap();
}

/// After a failed sync nobody knows what is on disk: all waiters are told, nothing more is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_writer_for_good() {
    let (store, gate) = gated();
    let (log, failure) = open(&store);
    let mut failed = failure.subscribe();
    let mut shard = log.shard(ShardId(1)).await.unwrap();
    let first = append(&mut shard, 0..1).await;
    assert_eq!(gate.next(), "1 1:append1");
    let second = append(&mut shard, 1..2).await;
    gate.allow.send(false).unwrap();
    assert!(first.await.unwrap().is_err());
    assert!(second.await.unwrap().is_err());
    let error = failed.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(error.unwrap().code(), "IO");
    assert!(shard.save_vote(&Vote::new(1, 1)).await.is_err());
    let (flushed, _done) = TypeConfig::oneshot();
    let refused = shard
        .append(entries(2..3), IOFlushed::signal(flushed))
        .await;
    assert!(refused.is_err());
    assert!(log.close().await.is_err());
    drop((shard, log));
    assert!(gate.events.try_recv().is_err());
}

/// A clean close leaves nothing in memory only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_writes_what_waits_and_refuses_what_comes() {
    let (store, gate) = gated();
    let (log, _) = open(&store);
    let mut shard = log.shard(ShardId(1)).await.unwrap();
    gate.allow.send(true).unwrap();
    append(&mut shard, 0..3).await.await.unwrap().unwrap();
    shard.save_committed(Some(log_id(1, 2))).await.unwrap();
    gate.allow.send(true).unwrap();
    log.close().await.unwrap();
    let events: Vec<_> = gate
        .events
        .try_iter()
        .filter(|event| !event.starts_with("seal"))
        .collect();
    assert_eq!(events, ["1 1:append3", "2 1:committed2", "close 2"]);
    assert!(shard.save_vote(&Vote::new(1, 1)).await.is_err());
}

/// A queue that is full makes appends wait, and lets them on once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_makes_appends_wait() {
    let (store, gate) = gated();
    let failure = Failure::new();
    let mut config = HostConfig::new("/nowhere", [1; 16]);
    config.log_queue_bytes = 4096;
    let log = Log::over(store as Arc<dyn LogStore>, &config, failure).unwrap();
    let mut shard = log.shard(ShardId(1)).await.unwrap();
    let first = append(&mut shard, 0..30).await;
    assert_eq!(gate.next(), "1 1:append30");
    let mut waiting = Box::pin(append(&mut shard, 30..60));
    let waited = tokio::time::timeout(Duration::from_millis(30), &mut waiting).await;
    assert!(waited.is_err());
    gate.allow.send(true).unwrap();
    first.await.unwrap().unwrap();
    let second = waiting.await;
    gate.allow.send(true).unwrap();
    second.await.unwrap().unwrap();
}
