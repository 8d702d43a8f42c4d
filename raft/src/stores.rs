//! Both stores of a node, and when they are flushed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::HostConfig;
use crate::error::Error;
use crate::failure::Failure;
use crate::hold::HoldLimits;
use crate::log::Log;
use crate::shards::Shards;
use crate::state::{Flusher, StateOptions, StateStore, finish_ready_installs};

/// How often the host looks whether a flush is due or RocksDB failed in the background.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// What the host shares with its own tasks.
pub(crate) struct Stores {
    pub(crate) log: Arc<Log>,
    pub(crate) state: Arc<StateStore>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) failure: Failure,
    pub(crate) shards: Arc<Shards>,
    hold_limits: HoldLimits,
}

impl Stores {
    /// Opens both stores and finishes snapshot installs that a crash interrupted. Blocks on the disk.
    pub(crate) fn open(config: &HostConfig, shards: Arc<Shards>) -> Result<Stores, Error> {
        let failure = Failure::new();
        let log = Log::open(config, failure.clone())?;
        let state = StateStore::open(&StateOptions::new(config), failure.clone())?;
        finish_ready_installs(&state)?;
        let flusher = Arc::new(Flusher::new(Arc::clone(&state), Arc::clone(&log)));
        Ok(Stores {
            log,
            state,
            flusher,
            failure,
            shards,
            hold_limits: HoldLimits::new(config),
        })
    }

    /// Flushes, then asks openraft to note the flushed positions and to purge the logs up to them, where
    /// no follower needs more of it.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        self.flusher.flush().await?;
        let written = self.log.bytes_written();
        for shard in self.shards.all() {
            if shard.holds_log(&self.hold_limits, written) {
                continue;
            }
            shard.inner.progress.mark_fresh();
            // A replica that has stopped needs no purge.
            let _ = shard.inner.raft.trigger().snapshot().await;
        }
        Ok(())
    }
}

/// Flushes when it is due, and watches RocksDB's own tasks.
pub(crate) struct FlushService {
    pub(crate) stores: Arc<Stores>,
    pub(crate) interval: Duration,
    pub(crate) log_bytes: u64,
}

impl FlushService {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut flushed_at = tokio::time::Instant::now();
        let mut flushed_bytes = self.stores.log.bytes_written();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_INTERVAL.min(self.interval)) => {}
            }
            if self.stores.state.background_errors() {
                let source = std::io::Error::other("RocksDB reports a failed flush or compaction");
                let error = Error::io("work on the state store", source);
                self.stores.failure.note(&Arc::new(error));
                return;
            }
            let bytes = self.stores.log.bytes_written();
            let due = flushed_at.elapsed() >= self.interval && self.stores.flusher.is_behind()
                || bytes - flushed_bytes >= self.log_bytes
                || self.stores.state.is_filling_up();
            if !due {
                continue;
            }
            (flushed_at, flushed_bytes) = (tokio::time::Instant::now(), bytes);
            if let Err(error) = self.stores.flush().await {
                self.stores.failure.note(&Arc::new(error));
                return;
            }
        }
    }
}
