//! What the replicas and the stores of a node are like at the moment, for its metrics.

use std::collections::BTreeSet;

use rocksdb::{ColumnFamily, DB};

use crate::host::Host;
use crate::ids::ShardId;
use crate::membership::ShardStatus;
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
        let voters = members.filter(|member| member.voter);
        let voters = voters.map(|voter| match voter.replica == shard.replica() {
            true => Voter {
                matched: status.last_log_index,
                is_heard: true,
            },
            false => Voter {
                matched: status.matched.get(&voter.replica).copied().unwrap_or(0),
                is_heard: shard.is_heard(voter.replica),
            },
        });
        Some(ShardVitals::new(&status, voters))
    }

    fn new(status: &ShardStatus, voters: impl Iterator<Item = Voter>) -> ShardVitals {
        let mut seen = ShardVitals {
            commit_lag: status.last_log_index.saturating_sub(status.committed_index),
            apply_lag: status.committed_index.saturating_sub(status.applied_index),
            ..ShardVitals::default()
        };
        for voter in voters {
            seen.voters += 1;
            seen.voters_heard += u64::from(voter.is_heard);
            let behind = status.last_log_index.saturating_sub(voter.matched);
            seen.replica_lag = seen.replica_lag.max(behind);
        }
        seen
    }
}

/// A voter as the leader sees it.
struct Voter {
    /// Index up to which it has the log.
    matched: u64,
    /// Whether it has answered within the lease.
    is_heard: bool,
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
    /// Bytes in memtables, and of rows that wait in front of them.
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

    /// The same with another column family of the store, which shares its block cache.
    pub(crate) fn with_family(mut self, db: &DB, family: &ColumnFamily) -> StoreVitals {
        let ask = |name: &str| {
            let asked = db.property_int_value_cf(family, name);
            asked.ok().flatten().unwrap_or(0)
        };
        self.pending_compaction_bytes += ask("rocksdb.estimate-pending-compaction-bytes");
        self.memtable_bytes += ask("rocksdb.cur-size-all-mem-tables");
        self.live_files_bytes += ask("rocksdb.live-sst-files-size");
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    /// The slowest voter counts, and one that is not heard is a voter still.
    #[test]
    fn shard_is_as_far_as_its_slowest_voter() {
        let status = ShardStatus {
            role: Role::Leader { term: 3 },
            term: 3,
            last_log_index: 100,
            committed_index: 90,
            applied_index: 85,
            flushed_index: 0,
            purged_index: 0,
            matched: BTreeMap::new(),
        };
        let voters = [(100, true), (95, true), (40, false)];
        let voters = voters.map(|(matched, is_heard)| Voter { matched, is_heard });
        let expected = ShardVitals {
            commit_lag: 10,
            apply_lag: 5,
            replica_lag: 60,
            voters: 3,
            voters_heard: 2,
        };
        assert_eq!(ShardVitals::new(&status, voters.into_iter()), expected);
    }

    /// RocksDB knows the properties by these names: what is written is seen.
    #[test]
    fn store_says_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let db = DB::open_default(directory.path()).unwrap();
        let empty = StoreVitals::of(&db);
        assert_eq!((empty.write_stall, empty.background_errors), (0, 0));
        assert_eq!(empty.live_files_bytes, 0);
        assert!(empty.block_cache_capacity_bytes > 0);
        db.put(b"key", vec![7; 1 << 20]).unwrap();
        let written = StoreVitals::of(&db);
        assert!(written.memtable_bytes >= empty.memtable_bytes + (1 << 20));
        db.flush().unwrap();
        assert!(StoreVitals::of(&db).live_files_bytes > 0);
    }
}
