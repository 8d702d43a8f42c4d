//! Names of the engine's metrics, and how they are recorded.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use crate::log::Counts;
use crate::net::Lane;

/// Seconds that writing and syncing one batch of the log took.
pub const LOG_FSYNC_SECONDS: &str = "antumbra_raft_log_fsync_seconds";
/// Entries in one batch of the log.
pub const LOG_BATCH_ENTRIES: &str = "antumbra_raft_log_batch_entries";
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
pub const SNAPSHOT_SENT_BYTES: &str = "antumbra_raft_snapshot_sent_bytes_total";
/// Snapshots of other nodes that were installed here.
pub const SNAPSHOTS_INSTALLED: &str = "antumbra_raft_snapshots_installed_total";

/// Tells the recorder what the metrics mean. Called once by whoever installs it.
pub fn describe() {
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
    describe_counter!(LINKS_OPENED, "Connections opened to other nodes");
    describe_counter!(LINKS_LOST, "Connections to other nodes that were lost");
    describe_counter!(
        SNAPSHOT_SENT_BYTES,
        Unit::Bytes,
        "Bytes of snapshots sent to other nodes"
    );
    describe_counter!(SNAPSHOTS_INSTALLED, "Snapshots installed on this node");
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
