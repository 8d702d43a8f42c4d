//! The metrics of the twins. They are sums over all shards of the node, without labels.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

/// Twins that run.
pub const TWINS_LIVE: &str = "antumbra_twins_live";
/// Twins that were started.
pub const TWIN_STARTS_TOTAL: &str = "antumbra_twin_starts_total";
/// Twins that were stopped to make room for others.
pub const TWIN_EVICTIONS_TOTAL: &str = "antumbra_twin_evictions_total";
/// Twins that ended by a panic, which is a bug.
pub const TWIN_PANICS_TOTAL: &str = "antumbra_twin_panics_total";
/// Log entries that were proposed, by twins or past them.
pub const TWIN_ENTRIES_TOTAL: &str = "antumbra_twin_entries_total";
/// Commands in those entries.
pub const TWIN_COMMANDS_TOTAL: &str = "antumbra_twin_commands_total";
/// Entries whose outcome was lost, each of which stopped its twin if it had one.
pub const TWIN_UNKNOWN_TOTAL: &str = "antumbra_twin_unknown_total";
/// Commands that were refused because too many were waiting.
pub const TWIN_OVERLOADED_TOTAL: &str = "antumbra_twin_overloaded_total";
/// Commands whose deadline passed before they were sent.
pub const TWIN_CANCELLED_TOTAL: &str = "antumbra_twin_cancelled_total";
/// Commands that wait in mailboxes of twins or are in flight; recorded by whoever looks at
/// [`Twins::waiting`](crate::Twins::waiting).
pub const TWIN_MAILBOX_COMMANDS: &str = "antumbra_twin_mailbox_commands";
/// Bytes of documents that twins cache; recorded by whoever looks at
/// [`Twins::cached_bytes`](crate::Twins::cached_bytes).
pub const TWIN_CACHED_BYTES: &str = "antumbra_twin_cached_bytes";

/// Tells the installed recorder what the metrics of the twins mean, and has them appear.
pub fn describe() {
    describe_gauge!(
        TWIN_MAILBOX_COMMANDS,
        Unit::Count,
        "Commands that wait in mailboxes of twins or are in flight"
    );
    describe_gauge!(
        TWIN_CACHED_BYTES,
        Unit::Bytes,
        "Bytes of documents that twins cache"
    );
    gauge!(TWIN_MAILBOX_COMMANDS).increment(0.0);
    gauge!(TWIN_CACHED_BYTES).increment(0.0);
    // A gateway has no twins, and says so.
    let _ = Metrics::new();
    describe_gauge!(TWINS_LIVE, Unit::Count, "Twins that run");
    describe_counter!(TWIN_STARTS_TOTAL, Unit::Count, "Twins started");
    describe_counter!(
        TWIN_EVICTIONS_TOTAL,
        Unit::Count,
        "Twins stopped to make room"
    );
    describe_counter!(TWIN_PANICS_TOTAL, Unit::Count, "Twins ended by a panic");
    describe_counter!(
        TWIN_ENTRIES_TOTAL,
        Unit::Count,
        "Log entries proposed for devices"
    );
    describe_counter!(
        TWIN_COMMANDS_TOTAL,
        Unit::Count,
        "Commands in those entries"
    );
    describe_counter!(
        TWIN_UNKNOWN_TOTAL,
        Unit::Count,
        "Entries whose outcome was lost"
    );
    describe_counter!(
        TWIN_OVERLOADED_TOTAL,
        Unit::Count,
        "Commands refused as overload"
    );
    describe_counter!(
        TWIN_CANCELLED_TOTAL,
        Unit::Count,
        "Commands whose deadline passed before they were sent"
    );
}

/// Handles of the metrics, looked up once per shard because a look-up costs more than a count.
pub(crate) struct Metrics {
    pub(crate) live: Gauge,
    pub(crate) starts: Counter,
    pub(crate) evictions: Counter,
    pub(crate) panics: Counter,
    pub(crate) entries: Counter,
    pub(crate) commands: Counter,
    pub(crate) unknown: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) cancelled: Counter,
}

impl Metrics {
    /// Looks the metrics up in the recorder that is installed now.
    pub(crate) fn new() -> Self {
        Self {
            live: gauge!(TWINS_LIVE),
            starts: counter!(TWIN_STARTS_TOTAL),
            evictions: counter!(TWIN_EVICTIONS_TOTAL),
            panics: counter!(TWIN_PANICS_TOTAL),
            entries: counter!(TWIN_ENTRIES_TOTAL),
            commands: counter!(TWIN_COMMANDS_TOTAL),
            unknown: counter!(TWIN_UNKNOWN_TOTAL),
            overloaded: counter!(TWIN_OVERLOADED_TOTAL),
            cancelled: counter!(TWIN_CANCELLED_TOTAL),
        }
    }
}
