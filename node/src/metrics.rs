//! Metrics of the node itself and of its process, and the exporter behind `/metrics`.
//!
//! Names are constants here; each crate describes its own. Labels are bounded: a shard may be a
//! label, a device never.

use std::borrow::Cow;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use antumbra_raft::metrics::{BATCH_ENTRIES_BUCKETS, LOG_BATCH_ENTRIES};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Always 1; the label `version` says which program runs.
pub const BUILD_INFO: &str = "antumbra_build_info";
/// Resident memory of the process.
pub const PROCESS_RESIDENT_BYTES: &str = "antumbra_process_resident_bytes";
/// Processor time of the process so far, user and system together. A gauge, because counters of
/// this library are whole numbers.
pub const PROCESS_CPU_SECONDS: &str = "antumbra_process_cpu_seconds";
/// When the process started.
pub const PROCESS_START_TIME_SECONDS: &str = "antumbra_process_start_time_seconds";
/// Open file descriptors that the process may have.
pub const PROCESS_MAX_FDS: &str = "antumbra_process_max_fds";
/// Open file descriptors of the process.
pub const PROCESS_OPEN_FDS: &str = "antumbra_process_open_fds";
/// Threads of the process.
pub const PROCESS_THREADS: &str = "antumbra_process_threads";
/// Bytes that the program has allocated and not freed.
pub const HEAP_ALLOCATED_BYTES: &str = "antumbra_heap_allocated_bytes";
/// Bytes in pages that hold allocations.
pub const HEAP_ACTIVE_BYTES: &str = "antumbra_heap_active_bytes";
/// Bytes that the allocator keeps resident.
pub const HEAP_RESIDENT_BYTES: &str = "antumbra_heap_resident_bytes";
/// Requests that a door answered; labels `api`, `op` and `code`.
pub const REQUESTS_TOTAL: &str = "antumbra_requests_total";
/// Time from the head of a request to the head of its answer; labels `api`, `op` and `consistency`.
pub const REQUEST_SECONDS: &str = "antumbra_request_duration_seconds";

/// Requests refused to protect the node or other tenants; label `cause`.
pub const REQUESTS_REFUSED_TOTAL: &str = "antumbra_requests_refused_total";

/// How hard memory presses: 0 not at all, 1 nothing new is begun, 2 load is shed.
pub const MEMORY_PRESSURE: &str = "antumbra_memory_pressure";

/// When the certificate of a door or of the peer link ends; label `certificate`.
pub const CERTIFICATE_EXPIRY: &str = "antumbra_certificate_expiry_timestamp_seconds";

/// Upper bounds of the buckets of every histogram in seconds.
const SECONDS_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Ticks per second in `/proc/<pid>/stat`: 100 in every Linux ABI.
const TICKS_PER_SECOND: u64 = 100;

/// Says what the metrics of this crate mean.
pub fn describe() {
    describe_gauge!(BUILD_INFO, "Always 1; the version is a label");
    describe_gauge!(
        PROCESS_RESIDENT_BYTES,
        Unit::Bytes,
        "Resident memory of the process"
    );
    describe_gauge!(
        PROCESS_CPU_SECONDS,
        Unit::Seconds,
        "Processor time, user and system"
    );
    describe_gauge!(PROCESS_OPEN_FDS, "Open file descriptors");
    describe_gauge!(PROCESS_THREADS, "Threads of the process");
    describe_gauge!(HEAP_ALLOCATED_BYTES, Unit::Bytes, "Allocated and not freed");
    describe_gauge!(
        HEAP_ACTIVE_BYTES,
        Unit::Bytes,
        "In pages that hold allocations"
    );
    describe_gauge!(
        HEAP_RESIDENT_BYTES,
        Unit::Bytes,
        "Kept resident by the allocator"
    );
    describe_gauge!(
        PROCESS_START_TIME_SECONDS,
        Unit::Seconds,
        "When the process started, in seconds since 1970"
    );
    describe_gauge!(
        PROCESS_MAX_FDS,
        "Open file descriptors that the process may have"
    );
    describe_requests();
    describe_gauge!(
        CERTIFICATE_EXPIRY,
        Unit::Seconds,
        "When a certificate of this node ends, in seconds since 1970"
    );
}

/// Says what the metrics of requests mean, and has them appear.
fn describe_requests() {
    describe_counter!(
        REQUESTS_TOTAL,
        "Requests answered, by door, operation and code"
    );
    describe_counter!(
        REQUESTS_REFUSED_TOTAL,
        "Requests refused to protect the node or other tenants, by cause"
    );
    describe_gauge!(
        MEMORY_PRESSURE,
        "0 below the ceiling, 1 while nothing new is begun, 2 while load is shed"
    );
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "From the head of a request to the head of its answer"
    );
    let (api, op) = ("grpc", "GetShadow");
    counter!(REQUESTS_TOTAL, "api" => api, "op" => op, "code" => "OK").increment(0);
    let _ = histogram!(REQUEST_SECONDS, "api" => api, "op" => op, "consistency" => LINEARIZABLE);
    for cause in ["tenant_rate", "memory"] {
        counter!(REQUESTS_REFUSED_TOTAL, "cause" => cause).increment(0);
    }
    gauge!(MEMORY_PRESSURE).increment(0.0);
}

/// A read that contains everything that was acknowledged before it.
pub(crate) const LINEARIZABLE: &str = "linearizable";
/// A read of what the replica here has applied.
pub(crate) const LOCAL: &str = "local";
/// Nothing is read alone.
pub(crate) const NO_READ: &str = "none";

/// A request that was answered.
pub(crate) struct Answered {
    /// The door.
    pub(crate) api: &'static str,
    /// What was asked for, from a closed list.
    pub(crate) op: &'static str,
    /// [`LINEARIZABLE`], [`LOCAL`] or [`NO_READ`].
    pub(crate) consistency: &'static str,
    /// What came of it, from the closed list of the door.
    pub(crate) code: Cow<'static, str>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Answered {
    /// Counts it.
    pub(crate) fn record(self) {
        let (api, op, consistency) = (self.api, self.op, self.consistency);
        counter!(REQUESTS_TOTAL, "api" => api, "op" => op, "code" => self.code).increment(1);
        histogram!(REQUEST_SECONDS, "api" => api, "op" => op, "consistency" => consistency)
            .record(self.took.as_secs_f64());
    }
}

/// When what is called so ends, in seconds since 1970.
pub(crate) fn certificate_expiry(certificate: &'static str, at_seconds: u64) {
    gauge!(CERTIFICATE_EXPIRY, "certificate" => certificate).set(at_seconds as f64);
}

/// Counts a request that is refused: `tenant_rate` or `memory`.
pub(crate) fn refused(cause: &'static str) {
    counter!(REQUESTS_REFUSED_TOTAL, "cause" => cause).increment(1);
}

/// The stage of [`MEMORY_PRESSURE`].
pub(crate) fn memory_pressure(stage: u8) {
    gauge!(MEMORY_PRESSURE).set(f64::from(stage));
}

/// Bytes that the allocator keeps resident, as of now.
pub(crate) fn resident_bytes() -> Option<u64> {
    use tikv_jemalloc_ctl::{epoch, stats};

    epoch::advance().ok()?;
    stats::resident::read().ok().map(|bytes| bytes as u64)
}

/// The metrics of this process in the Prometheus text format. Cloning shares them.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
}

impl Exporter {
    /// The text of `/metrics`, with the process's own numbers read now. Takes well under a
    /// millisecond: three small files of `/proc` and the allocator's counters.
    pub fn render(&self) -> String {
        record_process();
        record_heap();
        self.handle.run_upkeep();
        self.handle.render()
    }
}

/// The exporter of this process: installed by the first call, the same one afterwards. `None` when
/// another recorder was installed before us.
pub fn install() -> Option<Exporter> {
    static EXPORTER: OnceLock<Option<Exporter>> = OnceLock::new();
    EXPORTER
        .get_or_init(|| {
            let builder = PrometheusBuilder::new();
            let seconds = Matcher::Suffix("_seconds".to_owned());
            let builder = builder
                .set_buckets_for_metric(seconds, SECONDS_BUCKETS)
                .ok()?;
            let entries = Matcher::Full(LOG_BATCH_ENTRIES.to_owned());
            let builder = builder
                .set_buckets_for_metric(entries, BATCH_ENTRIES_BUCKETS)
                .ok()?;
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            metrics::set_global_recorder(recorder).ok()?;
            describe();
            antumbra_raft::metrics::describe();
            antumbra_shadow::metrics::describe();
            record_start();
            gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            Some(Exporter { handle })
        })
        .clone()
}

/// Processor time that a process has used, in seconds. `None` when it is gone or not ours to see.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold spaces; fields 14 and 15 are times.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND as f64)
}

/// What does not change while the process runs.
fn record_start() {
    if let Some(seconds) = start_time_seconds() {
        gauge!(PROCESS_START_TIME_SECONDS).set(seconds);
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    if let Some(max) = soft.and_then(|soft| soft.parse::<f64>().ok()) {
        gauge!(PROCESS_MAX_FDS).set(max);
    }
}

/// The boot of the machine, and how long after it the process started.
fn start_time_seconds() -> Option<f64> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Field 22, counted as in `cpu_seconds`.
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    let ticks: u64 = started.parse().ok()?;
    Some(booted as f64 + ticks as f64 / TICKS_PER_SECOND as f64)
}

fn record_process() {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        if let Some(kib) = field("VmRSS:") {
            gauge!(PROCESS_RESIDENT_BYTES).set(kib * 1024.0);
        }
        if let Some(threads) = field("Threads:") {
            gauge!(PROCESS_THREADS).set(threads);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        gauge!(PROCESS_OPEN_FDS).set(entries.count() as f64);
    }
    if let Some(seconds) = cpu_seconds(std::process::id()) {
        gauge!(PROCESS_CPU_SECONDS).set(seconds);
    }
}

fn record_heap() {
    use tikv_jemalloc_ctl::{epoch, stats};

    // The counters are a snapshot that only an advance of the epoch renews.
    if epoch::advance().is_err() {
        return;
    }
    let counters = [
        (HEAP_ALLOCATED_BYTES, stats::allocated::read()),
        (HEAP_ACTIVE_BYTES, stats::active::read()),
        (HEAP_RESIDENT_BYTES, stats::resident::read()),
    ];
    for (name, value) in counters {
        if let Ok(bytes) = value {
            gauge!(name).set(bytes as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    /// Two nodes in one test process share the recorder, and a scrape shows the process.
    #[test]
    fn installs_once_and_renders_the_process() {
        let first = super::install().expect("nobody else installs a recorder");
        let second = super::install().expect("the same recorder again");
        first.render();
        let text = second.render();
        for name in [
            super::PROCESS_RESIDENT_BYTES,
            super::PROCESS_OPEN_FDS,
            super::BUILD_INFO,
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
    }
}
