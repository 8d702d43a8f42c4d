//! The log store of a node: entries and votes of all its shards.
//!
//! - [`shard`]: one shard's log as openraft sees it.
//! - `tail`: bounds and newest entries in memory; readable before they are durable.
//! - `queue`, `writer`: one queue, one thread, one numbered batch with one sync at a time for all shards.
//! - `store`: the port below the writer; `rocks` implements it on RocksDB, `keys` are its rows.
//! - `seal`, `damage`: what proves at open that nothing synced was lost.
//!
//! Guarantees: what was acknowledged was synced; votes and entries of a shard reach the disk in the
//! order in which they were given; a store that lost something refuses to open.

mod damage;
mod keys;
mod queue;
mod rocks;
mod seal;
mod shard;
mod store;
mod tail;
mod writer;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::{Defects, HostConfig};
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ShardId;
use crate::vitals::StoreVitals;

use queue::Queue;
use rocks::RocksLog;
use store::LogStore;
use tail::Tail;
use writer::{Tails, Writer, Writing};

pub use shard::ShardLog;
pub(crate) use store::Counts;
pub(crate) use tail::weight;

/// The log of all shards of a node. Dropping it without [`Log::close`] leaves the store as a crash
/// would, but waits for the batch that is being written.
pub(crate) struct Log {
    store: Arc<dyn LogStore>,
    queue: Arc<Queue>,
    tails: Arc<Tails>,
    failure: Failure,
    tail_bytes: usize,
    defects: Defects,
    writer: Mutex<Option<JoinHandle<()>>>,
    opening: tokio::sync::Mutex<()>,
    /// When the batch that is being written was begun.
    writing: Arc<Writing>,
    /// Bytes of entries that were queued since the start.
    bytes_written: Arc<AtomicU64>,
}

impl Log {
    /// Opens the log store in `<directory>/log`, or refuses it and leaves it alone. Blocks on the disk.
    pub(crate) fn open(config: &HostConfig, failure: Failure) -> Result<Arc<Log>, Error> {
        let store = Arc::new(RocksLog::open(config)?);
        Log::over(store, config, failure)
    }

    /// A log over any store.
    fn over(
        store: Arc<dyn LogStore>,
        config: &HostConfig,
        failure: Failure,
    ) -> Result<Arc<Log>, Error> {
        let queue = Arc::new(Queue::new(config.log_queue_bytes));
        let tails = Arc::new(Tails::default());
        let writer = Writer::new(
            Arc::clone(&store),
            Arc::clone(&queue),
            Arc::clone(&tails),
            failure.clone(),
            config.log_batch_bytes,
        )
        .with(config.defects);
        let writing = writer.writing();
        let thread = std::thread::Builder::new()
            .name("antumbra-log".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| Error::io("start the log writer", error))?;
        Ok(Arc::new(Log {
            store,
            queue,
            tails,
            failure,
            tail_bytes: config.tail_bytes,
            defects: config.defects,
            writer: Mutex::new(Some(thread)),
            opening: tokio::sync::Mutex::new(()),
            writing,
            bytes_written: Arc::new(AtomicU64::new(0)),
        }))
    }

    /// The log of one shard, blank if it was never written. The first call reads and checks all its
    /// entries; later calls share what the first one found.
    pub(crate) async fn shard(&self, shard: ShardId) -> Result<ShardLog, Error> {
        let _opening = self.opening.lock().await;
        let open = self.tails.lock().get(&shard).cloned();
        let tail = match open {
            Some(tail) => tail,
            None => {
                let (store, tail_bytes) = (Arc::clone(&self.store), self.tail_bytes);
                let tail = tokio::task::spawn_blocking(move || load(&*store, shard, tail_bytes))
                    .await
                    .map_err(|_| Error::Stopped)??;
                let tail = Arc::new(tail);
                self.tails.lock().insert(shard, Arc::clone(&tail));
                tail
            }
        };
        Ok(ShardLog {
            tail,
            queue: Arc::clone(&self.queue),
            store: Arc::clone(&self.store),
            failure: self.failure.clone(),
            votes_not_synced: self.defects.votes_not_synced,
            bytes_written: Arc::clone(&self.bytes_written),
        })
    }

    /// Lets a shard's log be purged up to and including `index`: its state is flushed up to there.
    /// Without effect for a shard that is not open, and below an earlier gate.
    pub(crate) fn set_purge_gate(&self, shard: ShardId, index: u64) {
        if let Some(tail) = self.tails.lock().get(&shard) {
            tail.set_purge_gate(index);
        }
    }

    /// How long the batch that is being written has taken so far.
    pub(crate) fn writing_for(&self) -> Option<Duration> {
        self.writing.lock().map(|begun| begun.elapsed())
    }

    /// Bytes of entries that all shards have written since the start.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// What the store says of itself.
    pub(crate) fn vitals(&self) -> Option<StoreVitals> {
        self.store.vitals()
    }

    /// Writes what is queued, flushes and seals the store. What comes afterwards is refused.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        self.queue.close(done);
        let closed = closed.await;
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            joined
                .map_err(|_| Error::Stopped)?
                .map_err(|_| Error::Stopped)?;
        }
        match closed {
            Ok(Ok(())) => Ok(()),
            // The first error was reported with its reason.
            Ok(Err(_)) | Err(_) => Err(Error::Stopped),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.abandon();
        if let Some(writer) = self.writer.lock().take() {
            // A panic of the writer was reported when it happened.
            let _ = writer.join();
        }
    }
}

/// Reads a shard and checks that nothing of it is missing.
fn load(store: &dyn LogStore, shard: ShardId, tail_bytes: usize) -> Result<Tail, Error> {
    let rows = store.rows(shard)?;
    let start = rows.purged.map_or(0, |purged| purged.index + 1);
    let mut expected = start;
    let mut wrong = None;
    let mut last = rows.purged;
    let (mut entries, mut bytes) = (VecDeque::new(), 0);
    // From the very first index: an entry that was purged and is there again is as wrong as a hole.
    store.entries(shard, 0, &mut |entry, _| {
        if entry.log_id.index != expected || last.is_some_and(|last| last > entry.log_id) {
            wrong = Some(entry.log_id);
            return ControlFlow::Break(());
        }
        expected += 1;
        last = Some(entry.log_id);
        bytes += weight(&entry);
        entries.push_back(entry);
        while bytes > tail_bytes && entries.len() > 1 {
            bytes -= entries.pop_front().map_or(0, |oldest| weight(&oldest));
        }
        ControlFlow::Continue(())
    })?;
    if let Some(wrong) = wrong {
        return Err(Error::log_damaged(format!(
            "shard {shard} has entry {wrong} where index {expected} belongs"
        )));
    }
    if let Some(committed) = rows.committed.filter(|id| id.index >= expected) {
        return Err(Error::log_damaged(format!(
            "shard {shard} knew entry {committed} to be committed, but its log ends before {expected}"
        )));
    }
    Ok(Tail::new(shard, tail_bytes, rows, start, entries))
}

#[cfg(test)]
mod tests;
