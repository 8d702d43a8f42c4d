//! Makes the applied rows of all shards durable, and only then lets their logs be purged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;
use crate::ids::ShardId;
use crate::log::Log;

use super::progress::Progress;
use super::{Position, StateStore};

/// One per node. Order within a flush: note what every shard has applied, flush the memtable, then
/// publish the noted positions. What is applied meanwhile waits for the next flush.
pub(crate) struct Flusher {
    store: Arc<StateStore>,
    log: Arc<Log>,
    shards: Mutex<BTreeMap<ShardId, Arc<Progress>>>,
    /// Shards of which a replica has run since the store was opened.
    seen: Mutex<BTreeSet<ShardId>>,
    running: tokio::sync::Mutex<()>,
}

impl Flusher {
    pub(crate) fn new(store: Arc<StateStore>, log: Arc<Log>) -> Flusher {
        Flusher {
            store,
            log,
            shards: Mutex::new(BTreeMap::new()),
            seen: Mutex::default(),
            running: tokio::sync::Mutex::new(()),
        }
    }

    /// From now on flushes cover this replica. What the store held at open is flushed already; what a
    /// replica that has run since left in memory is flushed first, because its log may be purged up to there.
    pub(crate) async fn add(&self, progress: Arc<Progress>) -> Result<(), Error> {
        let is_first = self.seen.lock().insert(progress.shard);
        if !is_first {
            self.flush().await?;
        }
        self.publish(&progress, progress.flushed());
        self.shards.lock().insert(progress.shard, progress);
        Ok(())
    }

    pub(crate) fn remove(&self, shard: ShardId) {
        self.shards.lock().remove(&shard);
    }

    /// Whether anything is applied that is not flushed.
    pub(crate) fn is_behind(&self) -> bool {
        let shards = self.shards.lock();
        let mut shards = shards.values();
        shards.any(|progress| progress.flushed().applied < progress.position().applied)
    }

    /// Flushes everything that is applied now. Concurrent calls run one after another. Dropping the
    /// future lets the flush itself go on, but its positions are not published.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let _running = self.running.lock().await;
        let shards: Vec<Arc<Progress>> = self.shards.lock().values().cloned().collect();
        let store = Arc::clone(&self.store);
        let flushing = tokio::task::spawn_blocking(move || {
            let noted: Vec<_> = shards.into_iter().map(|s| (s.position(), s)).collect();
            store.flush().map(|()| noted)
        });
        let noted = flushing.await.map_err(|_| Error::Stopped)??;
        for (position, progress) in noted {
            self.publish(&progress, position);
        }
        Ok(())
    }

    /// A position of one shard is durable by other means: its snapshot was ingested and flushed.
    pub(crate) fn publish(&self, progress: &Progress, position: Position) {
        let index = position.applied.as_ref().map(|id| id.index);
        progress.set_flushed(position);
        if let Some(index) = index {
            self.log.set_purge_gate(progress.shard, index);
        }
    }
}
