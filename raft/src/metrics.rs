//! Names of the engine's metrics, and how they are recorded.

use std::time::Duration;

use metrics::{
    Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::ids::ShardId;
use crate::log::Counts;
use crate::net::Lane;
use crate::shard::{ProposeError, Proposed};
use crate::vitals::{ShardVitals, StoreVitals};

/// Seconds that writing and syncing one batch of the log took.
pub const LOG_FSYNC_SECONDS: &str = "antumbra_raft_fsync_duration_seconds";
/// Entries in one batch of the log.
pub const LOG_BATCH_ENTRIES: &str = "antumbra_raft_batch_entries";
/// Bytes of entries that were written to the log.
pub const LOG_WRITTEN_BYTES: &str = "antumbra_raft_log_written_bytes_total";
/// Commands in the entries that were written to the log.
pub const LOG_COMMANDS: &str = "antumbra_raft_log_commands_total";
/// Batches that were written to the log.
pub const LOG_BATCHES: &str = "antumbra_raft_log_batches_total";
/// How often the seal of the log was written.
pub const LOG_SEALS: &str = "antumbra_raft_log_seals_total";

/// Connections that this node opened to others, by lane.
pub const LINKS_OPENED: &str = "antumbra_raft_links_opened_total";
/// Connections among them that were lost, by lane.
pub const LINKS_LOST: &str = "antumbra_raft_links_lost_total";
/// Bytes of snapshots that this node sent.
pub const SNAPSHOT_SENT_BYTES: &str = "antumbra_snapshot_sent_bytes_total";
/// Bytes of snapshots that this node received.
pub const SNAPSHOT_RECEIVED_BYTES: &str = "antumbra_snapshot_received_bytes_total";
/// Snapshots of other nodes that were installed here.
pub const SNAPSHOTS_INSTALLED: &str = "antumbra_snapshots_installed_total";

/// Commands that were proposed here, by what their proposer was told; label `result`.
pub const PROPOSALS: &str = "antumbra_raft_proposals_total";
/// Times a replica of this node began to lead; label `shard`.
pub const LEADER_CHANGES: &str = "antumbra_leader_changes_total";

/// 1 while this node leads the shard, 0 when it did before; label `shard`.
pub const SHARD_LEADER: &str = "antumbra_shard_leader";
/// Entries that the leader has and that are not committed; label `shard`.
pub const SHARD_COMMIT_LAG: &str = "antumbra_shard_commit_lag_entries";
/// Entries that are committed and not applied on the leader; label `shard`.
pub const SHARD_APPLY_LAG: &str = "antumbra_shard_apply_lag_entries";
/// Entries of the leader that the voter furthest behind does not have; label `shard`.
pub const SHARD_REPLICA_LAG: &str = "antumbra_shard_replica_lag_entries";
/// Replicas that vote; label `shard`.
pub const SHARD_VOTERS: &str = "antumbra_shard_voters";
/// Replicas among them that the leader has heard within its lease, itself included; label `shard`.
pub const SHARD_VOTERS_HEARD: &str = "antumbra_shard_voters_heard";

/// 0 while the store takes writes, 1 while it slows them down, 2 while it takes none; label `store`.
pub const ROCKSDB_WRITE_STALL: &str = "antumbra_rocksdb_write_stall";
/// Bytes that compactions have to rewrite, as estimated; label `store`.
pub const ROCKSDB_PENDING_COMPACTION_BYTES: &str = "antumbra_rocksdb_pending_compaction_bytes";
/// Compactions that run; label `store`.
pub const ROCKSDB_RUNNING_COMPACTIONS: &str = "antumbra_rocksdb_running_compactions";
/// Errors of flushes and compactions since the start; label `store`.
pub const ROCKSDB_BACKGROUND_ERRORS: &str = "antumbra_rocksdb_background_errors";
/// Bytes in memtables, and of rows that wait in front of them; label `store`.
pub const ROCKSDB_MEMTABLE_BYTES: &str = "antumbra_rocksdb_memtable_bytes";
/// Bytes in the block cache; label `store`.
pub const ROCKSDB_BLOCK_CACHE_BYTES: &str = "antumbra_rocksdb_block_cache_bytes";
/// Bytes that the block cache may hold; label `store`.
pub const ROCKSDB_BLOCK_CACHE_CAPACITY_BYTES: &str = "antumbra_rocksdb_block_cache_capacity_bytes";
/// Bytes of the files with live data; label `store`.
pub const ROCKSDB_LIVE_FILES_BYTES: &str = "antumbra_rocksdb_live_files_bytes";

/// Upper bounds of the buckets of [`LOG_BATCH_ENTRIES`].
pub const BATCH_ENTRIES_BUCKETS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// Tells the recorder what the metrics mean, and has those appear that may stay at zero for long. Called
/// once by whoever installs it.
pub fn describe() {
    describe_log();
    describe_links();
    describe_shards();
    describe_stores();
}

fn describe_log() {
    describe_histogram!(
        LOG_FSYNC_SECONDS,
        Unit::Seconds,
        "Writing and syncing one batch of the log"
    );
    describe_histogram!(LOG_BATCH_ENTRIES, "Entries in one batch of the log");
    describe_counter!(
        LOG_WRITTEN_BYTES,
        Unit::Bytes,
        "Bytes of entries written to the log"
    );
    describe_counter!(LOG_COMMANDS, "Commands written to the log");
    describe_counter!(LOG_BATCHES, "Batches written to the log");
    describe_counter!(LOG_SEALS, "Times the seal of the log was written");
    for name in [LOG_WRITTEN_BYTES, LOG_COMMANDS, LOG_BATCHES, LOG_SEALS] {
        counter!(name).increment(0);
    }
}

fn describe_links() {
    describe_counter!(LINKS_OPENED, "Connections opened to other nodes, by lane");
    describe_counter!(
        LINKS_LOST,
        "Connections to other nodes that were lost, by lane"
    );
    describe_counter!(
        SNAPSHOT_SENT_BYTES,
        Unit::Bytes,
        "Bytes of snapshots sent to other nodes"
    );
    describe_counter!(
        SNAPSHOT_RECEIVED_BYTES,
        Unit::Bytes,
        "Bytes of snapshots received from other nodes"
    );
    describe_counter!(SNAPSHOTS_INSTALLED, "Snapshots installed on this node");
    for lane in Lane::ALL {
        counter!(LINKS_OPENED, "lane" => lane.name()).increment(0);
        counter!(LINKS_LOST, "lane" => lane.name()).increment(0);
    }
    let snapshots = [
        SNAPSHOT_SENT_BYTES,
        SNAPSHOT_RECEIVED_BYTES,
        SNAPSHOTS_INSTALLED,
    ];
    for name in snapshots {
        counter!(name).increment(0);
    }
}

fn describe_shards() {
    describe_counter!(
        PROPOSALS,
        "Commands proposed on this node, by what their proposer was told"
    );
    for result in RESULTS {
        counter!(PROPOSALS, "result" => result).increment(0);
    }
    describe_counter!(
        LEADER_CHANGES,
        "Times a replica of this node began to lead, by shard"
    );
    describe_gauge!(
        SHARD_LEADER,
        "1 while this node leads the shard, 0 when it did before"
    );
    describe_gauge!(
        SHARD_COMMIT_LAG,
        "On the leader: entries that are not committed yet"
    );
    describe_gauge!(
        SHARD_APPLY_LAG,
        "On the leader: committed entries that are not applied yet"
    );
    describe_gauge!(
        SHARD_REPLICA_LAG,
        "On the leader: entries that the voter furthest behind does not have"
    );
    describe_gauge!(SHARD_VOTERS, "On the leader: replicas that vote");
    describe_gauge!(
        SHARD_VOTERS_HEARD,
        "On the leader: voters heard within its lease, itself included"
    );
}

fn describe_stores() {
    describe_gauge!(
        ROCKSDB_WRITE_STALL,
        "0 while the store takes writes, 1 while it slows them down, 2 while it takes none"
    );
    describe_gauge!(
        ROCKSDB_PENDING_COMPACTION_BYTES,
        Unit::Bytes,
        "Bytes that compactions have to rewrite, as estimated"
    );
    describe_gauge!(ROCKSDB_RUNNING_COMPACTIONS, "Compactions that run");
    describe_gauge!(
        ROCKSDB_BACKGROUND_ERRORS,
        "Errors of flushes and compactions since the start"
    );
    describe_gauge!(
        ROCKSDB_MEMTABLE_BYTES,
        Unit::Bytes,
        "Bytes in memtables, and of rows that wait in front of them"
    );
    describe_gauge!(
        ROCKSDB_BLOCK_CACHE_BYTES,
        Unit::Bytes,
        "Bytes in the block cache"
    );
    describe_gauge!(
        ROCKSDB_BLOCK_CACHE_CAPACITY_BYTES,
        Unit::Bytes,
        "Bytes that the block cache may hold"
    );
    describe_gauge!(
        ROCKSDB_LIVE_FILES_BYTES,
        Unit::Bytes,
        "Bytes of the files with live data"
    );
}

/// Records one durable batch.
pub(crate) fn record_batch(took: Duration, counts: Counts) {
    histogram!(LOG_FSYNC_SECONDS).record(took.as_secs_f64());
    histogram!(LOG_BATCH_ENTRIES).record(counts.entries as f64);
    counter!(LOG_WRITTEN_BYTES).increment(counts.bytes as u64);
    counter!(LOG_COMMANDS).increment(counts.commands as u64);
    counter!(LOG_BATCHES).increment(1);
}

/// Records one seal.
pub(crate) fn record_seal() {
    counter!(LOG_SEALS).increment(1);
}

/// Records a connection that was opened.
pub(crate) fn record_link_opened(lane: Lane) {
    counter!(LINKS_OPENED, "lane" => lane.name()).increment(1);
}

/// Records a connection that was lost.
pub(crate) fn record_link_lost(lane: Lane) {
    counter!(LINKS_LOST, "lane" => lane.name()).increment(1);
}

/// Records a chunk of a snapshot on its way.
pub(crate) fn record_chunk_sent(bytes: usize) {
    counter!(SNAPSHOT_SENT_BYTES).increment(bytes as u64);
}

/// Records a snapshot that was installed.
pub(crate) fn record_snapshot_installed() {
    counter!(SNAPSHOTS_INSTALLED).increment(1);
}

/// Records a chunk of a snapshot that arrived.
pub(crate) fn record_chunk_received(bytes: usize) {
    counter!(SNAPSHOT_RECEIVED_BYTES).increment(bytes as u64);
}

/// Every value of the label of [`PROPOSALS`].
const RESULTS: [&str; 5] = [
    "committed",
    "not_leader",
    "overloaded",
    "unknown",
    "stopped",
];

/// What proposers are told. Looked up once per shard, because a look-up costs more than a count.
pub(crate) struct ProposalCounters {
    /// In the order of [`RESULTS`].
    counters: [Counter; 5],
}

impl ProposalCounters {
    /// Looks them up in the recorder that is installed now.
    pub(crate) fn new() -> ProposalCounters {
        ProposalCounters {
            counters: RESULTS.map(|result| counter!(PROPOSALS, "result" => result)),
        }
    }

    /// Counts what a proposer is told.
    pub(crate) fn count(&self, outcome: &Result<Proposed, ProposeError>) {
        let [committed, not_leader, overloaded, unknown, stopped] = &self.counters;
        let counter = match outcome {
            Ok(_) => committed,
            Err(ProposeError::NotLeader) => not_leader,
            Err(ProposeError::Overloaded) => overloaded,
            Err(ProposeError::Unknown) => unknown,
            Err(ProposeError::Stopped) => stopped,
        };
        counter.increment(1);
    }
}

/// Records that a replica of this node began to lead.
pub(crate) fn record_lead(shard: ShardId) {
    counter!(LEADER_CHANGES, "shard" => shard.to_string()).increment(1);
}

/// Records what the leader of a shard sees of it, or that this node leads it no more.
pub(crate) fn record_shard(shard: ShardId, seen: Option<ShardVitals>) {
    let label = shard.to_string();
    let leads = f64::from(u8::from(seen.is_some()));
    gauge!(SHARD_LEADER, "shard" => label.clone()).set(leads);
    let seen = seen.unwrap_or_default();
    let values = [
        (SHARD_COMMIT_LAG, seen.commit_lag),
        (SHARD_APPLY_LAG, seen.apply_lag),
        (SHARD_REPLICA_LAG, seen.replica_lag),
        (SHARD_VOTERS, seen.voters),
        (SHARD_VOTERS_HEARD, seen.voters_heard),
    ];
    for (name, value) in values {
        gauge!(name, "shard" => label.clone()).set(value as f64);
    }
}

/// Records what a store says of itself.
pub(crate) fn record_store(store: &'static str, seen: StoreVitals) {
    let values = [
        (ROCKSDB_WRITE_STALL, seen.write_stall),
        (
            ROCKSDB_PENDING_COMPACTION_BYTES,
            seen.pending_compaction_bytes,
        ),
        (ROCKSDB_RUNNING_COMPACTIONS, seen.running_compactions),
        (ROCKSDB_BACKGROUND_ERRORS, seen.background_errors),
        (ROCKSDB_MEMTABLE_BYTES, seen.memtable_bytes),
        (ROCKSDB_BLOCK_CACHE_BYTES, seen.block_cache_bytes),
        (
            ROCKSDB_BLOCK_CACHE_CAPACITY_BYTES,
            seen.block_cache_capacity_bytes,
        ),
        (ROCKSDB_LIVE_FILES_BYTES, seen.live_files_bytes),
    ];
    for (name, value) in values {
        gauge!(name, "store" => store).set(value as f64);
    }
}
