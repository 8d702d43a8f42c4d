//! Settings of the engine on one node.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;

/// Whether the log reaches the disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// Every batch is synced before anybody is told. The only mode for data that matter.
    #[default]
    Fsync,
    /// Nothing is synced. It exists to prove that the power-cut test can fail.
    NoSyncForTests,
}

/// Defects of our own that a test switches on, to prove that it would notice them. None by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Defects {
    /// Entries are reported durable, and written and synced only later.
    pub early_acknowledgement: bool,
    /// A vote is given as if it were durable, and a crash forgets it.
    pub votes_not_synced: bool,
    /// Reads do not ask whether this replica is up to date.
    pub stale_reads: bool,
}

/// Settings of the engine on one node. Sizes are in bytes.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Holds `log/`, `state/` and `seal`. Must exist.
    pub directory: PathBuf,
    /// Both stores carry this id and refuse another.
    pub store_id: [u8; 16],
    /// First start of this node: the stores may be created. Otherwise a missing store is an error.
    pub create: bool,
    /// Longest time between two flushes of the state store.
    pub flush_interval: Duration,
    /// The state store is flushed after this much log, or earlier when its memtables fill up. The less, the
    /// less of the log is flushed before it is purged; what `log_entries_kept` keeps is flushed in any case.
    pub flush_log_bytes: u64,
    /// Entries of each shard that stay in the log although the state store has them, so that a
    /// follower that lags a little needs no snapshot.
    pub log_entries_kept: u64,
    /// More stays for a follower that lags further, or is being sent a snapshot, unless it was not heard for longer
    /// than this.
    pub log_held_silence_max: Duration,
    /// What may be written to the logs of the node meanwhile: then they are purged all the same, and such a
    /// follower needs a snapshot, or another one.
    pub log_held_bytes_max: u64,
    /// Recent entries of each shard that stay in memory.
    pub tail_bytes: usize,
    /// Cache of encoded values in front of the state store, for all shards together.
    pub cache_bytes: usize,
    /// Block cache of both stores together.
    pub block_cache_bytes: usize,
    /// Rows that may be applied and not flushed, all shards together. At three quarters of it, looked at every 200 ms,
    /// they are flushed; RocksDB does so by itself when one of its memtables has that much, which is harmless, but
    /// then the log is purged later. At least 128 KiB, of which a memtable's own parts take little.
    pub memtable_bytes: usize,
    /// What waits for the log writer, all shards together.
    pub log_queue_bytes: usize,
    /// The log writer closes a batch once it holds this much.
    pub log_batch_bytes: usize,
    /// Memtable and write-ahead log of the log store.
    pub log_buffer_bytes: usize,
    /// Time between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout; also the lease of a leader.
    pub election_max: Duration,
    /// Bytes of snapshots that this node sends in a second, all shards together.
    pub snapshot_bytes_per_second: u64,
    /// Whether the log is synced.
    pub sync: SyncMode,
    /// What is broken on purpose.
    pub defects: Defects,
}

impl HostConfig {
    /// The defaults for a directory that exists.
    pub fn new(directory: impl Into<PathBuf>, store_id: [u8; 16]) -> HostConfig {
        HostConfig {
            directory: directory.into(),
            store_id,
            create: false,
            flush_interval: Duration::from_secs(60),
            flush_log_bytes: 24 << 20,
            log_entries_kept: 1024,
            log_held_silence_max: Duration::from_secs(10),
            log_held_bytes_max: 4 << 30,
            tail_bytes: 16 << 20,
            cache_bytes: 64 << 20,
            block_cache_bytes: 64 << 20,
            memtable_bytes: 96 << 20,
            log_queue_bytes: 64 << 20,
            log_batch_bytes: 4 << 20,
            log_buffer_bytes: 64 << 20,
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(800),
            snapshot_bytes_per_second: 64 << 20,
            sync: SyncMode::Fsync,
            defects: Defects::default(),
        }
    }

    /// Refuses settings that cannot work together.
    pub fn validate(&self) -> Result<(), Error> {
        if self.heartbeat * 2 > self.election_min {
            return Err(invalid(
                "election_min",
                "must be at least twice the heartbeat",
            ));
        }
        if self.election_min >= self.election_max {
            return Err(invalid(
                "election_max",
                "must be longer than the shortest election timeout",
            ));
        }
        if self.log_queue_bytes == 0 || self.log_batch_bytes == 0 {
            return Err(invalid(
                "log_queue_bytes, log_batch_bytes",
                "must not be zero",
            ));
        }
        // A slower chunk would take longer than the other side waits for it.
        if self.snapshot_bytes_per_second < 256 << 10 {
            return Err(invalid(
                "snapshot_bytes_per_second",
                "must be at least 256 KiB",
            ));
        }
        if self.log_buffer_bytes < 1 << 20 {
            return Err(invalid("log_buffer_bytes", "must be at least 1 MiB"));
        }
        // RocksDB makes smaller ones larger, so what is full would not be known.
        if self.memtable_bytes < 128 << 10 {
            return Err(invalid("memtable_bytes", "must be at least 128 KiB"));
        }
        Ok(())
    }
}

fn invalid(setting: &'static str, what: &str) -> Error {
    Error::Config {
        setting,
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_sync() {
        let config = HostConfig::new("/nowhere", [0; 16]);
        assert!(config.validate().is_ok());
        assert_eq!(config.sync, SyncMode::Fsync);
        assert_eq!(config.defects, Defects::default());
        assert!(!config.create);
    }

    #[test]
    fn refuses_an_election_within_one_heartbeat() {
        let mut config = HostConfig::new("/nowhere", [0; 16]);
        config.heartbeat = config.election_min;
        assert!(config.validate().is_err());
    }
}
