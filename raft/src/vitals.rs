//! What the replicas and the stores of a node are like at the moment, for its metrics.

use std::collections::BTreeSet;

use rocksdb::DB;

use crate::host::Host;
use crate::ids::ShardId;
use crate::metrics::{record_shard, record_store};
use crate::role::Role;
use crate::shard::Shard;

/// Puts what is not counted where it happens into the metrics, whenever it is asked to.
#[derive(Debug, Default)]
pub struct Vitals {
    /// Shards that were led at the last look.
    led: BTreeSet<ShardId>,
}

impl Vitals {
    /// Looks at the shards that this node leads and at its stores. Takes well under a millisecond for
    /// each, but may wait for a lock of RocksDB: not for a thread that must not block.
    pub fn record(&mut self, host: &Host) {
        let mut led = BTreeSet::new();
        for shard in host.shards() {
            if let Some(seen) = ShardVitals::of(&shard) {
                record_shard(shard.id(), Some(seen));
                led.insert(shard.id());
            }
        }
        for lost in self.led.difference(&led) {
            record_shard(*lost, None);
        }
        self.led = led;
        for (store, seen) in host.store_vitals() {
            record_store(store, seen);
        }
    }
}

/// What the leader of a shard sees of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardVitals {
    /// Entries that are not committed.
    pub(crate) commit_lag: u64,
    /// Committed entries that are not applied.
    pub(crate) apply_lag: u64,
    /// Entries that the voter furthest behind does not have.
    pub(crate) replica_lag: u64,
    /// Replicas that vote.
    pub(crate) voters: u64,
    /// Voters that were heard lately, the leader included.
    pub(crate) voters_heard: u64,
}

impl ShardVitals {
    /// Nothing unless this replica leads.
    fn of(shard: &Shard) -> Option<ShardVitals> {
        let status = shard.status();
        if !matches!(status.role, Role::Leader { .. }) {
            return None;
        }
        let members = shard.members().into_iter();
        let mut seen = ShardVitals {
            commit_lag: status.last_log_index.saturating_sub(status.committed_index),
            apply_lag: status.committed_index.saturating_sub(status.applied_index),
            ..ShardVitals::default()
        };
        for voter in members.filter(|member| member.voter) {
            seen.voters += 1;
            if voter.replica == shard.replica() {
                seen.voters_heard += 1;
                continue;
            }
            seen.voters_heard += u64::from(shard.is_heard(voter.replica));
            let matched = status.matched.get(&voter.replica).copied().unwrap_or(0);
            let behind = status.last_log_index.saturating_sub(matched);
            seen.replica_lag = seen.replica_lag.max(behind);
        }
        Some(seen)
    }
}

/// What a store says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoreVitals {
    /// 0 for none, 1 for writes that are slowed down, 2 for writes that wait.
    pub(crate) write_stall: u64,
    /// Bytes that compactions have to rewrite.
    pub(crate) pending_compaction_bytes: u64,
    /// Compactions that run.
    pub(crate) running_compactions: u64,
    /// Errors in the background since the store was opened.
    pub(crate) background_errors: u64,
    /// Bytes in memtables.
    pub(crate) memtable_bytes: u64,
    /// Bytes in the block cache.
    pub(crate) block_cache_bytes: u64,
    /// Bytes that the block cache may hold.
    pub(crate) block_cache_capacity_bytes: u64,
    /// Bytes of the files with live data.
    pub(crate) live_files_bytes: u64,
}

impl StoreVitals {
    /// What RocksDB does not say is 0.
    pub(crate) fn of(db: &DB) -> StoreVitals {
        let ask = |name: &str| db.property_int_value(name).ok().flatten().unwrap_or(0);
        let (stopped, delayed) = (
            ask("rocksdb.is-write-stopped") > 0,
            ask("rocksdb.actual-delayed-write-rate") > 0,
        );
        StoreVitals {
            write_stall: match (stopped, delayed) {
                (true, _) => 2,
                (false, true) => 1,
                (false, false) => 0,
            },
            pending_compaction_bytes: ask("rocksdb.estimate-pending-compaction-bytes"),
            running_compactions: ask("rocksdb.num-running-compactions"),
            background_errors: ask("rocksdb.background-errors"),
            memtable_bytes: ask("rocksdb.cur-size-all-mem-tables"),
            block_cache_bytes: ask("rocksdb.block-cache-usage"),
            block_cache_capacity_bytes: ask("rocksdb.block-cache-capacity"),
            live_files_bytes: ask("rocksdb.live-sst-files-size"),
        }
    }
}
