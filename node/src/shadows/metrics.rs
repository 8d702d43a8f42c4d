//! Metrics of the use cases. Labels are bounded: shards and reset reasons, never devices.

use antumbra_raft::ShardId;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::ResetReason;

const WATCHES: &str = "antumbra_watch_tasks";
const WATCH_EVENTS: &str = "antumbra_watch_events_total";
const WATCH_RESETS: &str = "antumbra_watch_resets_total";
const WATCH_OVERTAKEN: &str = "antumbra_watch_overtaken_total";
const STREAMS_BROKEN: &str = "antumbra_watch_streams_broken_total";
const FORWARDED: &str = "antumbra_forwarded_requests_total";
const SERVED: &str = "antumbra_served_requests_total";
const REPEATED: &str = "antumbra_repeated_attempts_total";
const FEED_BYTES: &str = "antumbra_feed_bytes";
const FEED_TRIMMED_INDEX: &str = "antumbra_feed_trimmed_index";

/// Every value of the label of [`FORWARDED`].
const FORWARD_RESULTS: [&str; 5] = ["answered", "refused", "not_leader", "not_sent", "lost"];

/// Describes the metrics of this module to the installed recorder, and has them appear.
pub(crate) fn describe() {
    gauge!(WATCHES).increment(0.0);
    let counters = [
        WATCH_EVENTS,
        WATCH_OVERTAKEN,
        STREAMS_BROKEN,
        SERVED,
        REPEATED,
    ];
    for name in counters {
        counter!(name).increment(0);
    }
    for result in FORWARD_RESULTS {
        counter!(FORWARDED, "result" => result).increment(0);
    }
    counter!(WATCH_RESETS, "reason" => ResetReason::CursorUnknown.as_str()).increment(0);
    describe_gauge!(WATCHES, "Watches that are running");
    describe_counter!(WATCH_EVENTS, "Events handed to watchers");
    describe_counter!(WATCH_RESETS, "Watches that had to begin anew, by reason");
    describe_counter!(
        WATCH_OVERTAKEN,
        "Times a reader was slower than the relay and was caught up from the feed"
    );
    describe_counter!(
        STREAMS_BROKEN,
        "Streams of changes from other nodes that broke and were opened again"
    );
    describe_counter!(
        FORWARDED,
        "Requests sent to other nodes, by what became of them"
    );
    describe_counter!(SERVED, "Requests of other nodes that were taken");
    describe_counter!(
        REPEATED,
        "Attempts at a request that failed and could be repeated"
    );
    describe_gauge!(
        FEED_BYTES,
        Unit::Bytes,
        "Bytes of change records kept in the feed, by shard"
    );
    describe_gauge!(
        FEED_TRIMMED_INDEX,
        "Last log index trimmed from the feed, by shard"
    );
}

/// Counts a watch as running until it is dropped.
pub(crate) struct Running(());

impl Drop for Running {
    fn drop(&mut self) {
        gauge!(WATCHES).decrement(1.0);
    }
}

pub(crate) fn watch_started() -> Running {
    gauge!(WATCHES).increment(1.0);
    Running(())
}

pub(crate) fn watch_events(count: usize) {
    counter!(WATCH_EVENTS).increment(count as u64);
}

pub(crate) fn watch_reset(reason: &'static str) {
    counter!(WATCH_RESETS, "reason" => reason).increment(1);
}

pub(crate) fn watch_overtaken() {
    counter!(WATCH_OVERTAKEN).increment(1);
}

pub(crate) fn stream_broke() {
    counter!(STREAMS_BROKEN).increment(1);
}

/// A request to another node: `answered`, `refused`, `not_leader`, `not_sent` or `lost`.
pub(crate) fn forwarded(result: &'static str) {
    counter!(FORWARDED, "result" => result).increment(1);
}

pub(crate) fn served() {
    counter!(SERVED).increment(1);
}

pub(crate) fn repeated() {
    counter!(REPEATED).increment(1);
}

pub(crate) fn feed(shard: ShardId, kept_bytes: u64, trimmed_index: u64) {
    gauge!(FEED_BYTES, "shard" => shard.to_string()).set(kept_bytes as f64);
    gauge!(FEED_TRIMMED_INDEX, "shard" => shard.to_string()).set(trimmed_index as f64);
}
