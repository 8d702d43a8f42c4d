//! The results of the bench, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_shadow::json::{Number, Value};

use crate::cli::bench::tally::Tally;
use crate::cli::output::{number, object, pairs, string};

use super::memory::Memory;

/// How opening the sessions went.
pub(super) struct Opened {
    /// From TCP to CONNACK.
    pub(super) connect: Tally,
    /// From SUBSCRIBE to SUBACK.
    pub(super) subscribe: Tally,
    /// Until the last was open or had failed.
    pub(super) elapsed: Duration,
}

impl Opened {
    /// Sessions that are open and subscribed.
    pub(super) fn connected(&self) -> u64 {
        self.subscribe.accepted_count()
    }

    /// Why sessions could not be opened.
    pub(super) fn errors_text(&self) -> String {
        errors_text(&self.errors())
    }

    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = self.connect.errors.clone();
        for (reason, count) in &self.subscribe.errors {
            *errors.entry(reason.clone()).or_default() += count;
        }
        errors
    }

    fn rate(&self) -> f64 {
        self.connected() as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }
}

/// Sessions, and what they cost.
pub(super) struct ConnectReport {
    /// Sessions that were wanted.
    pub(super) sessions: u64,
    /// MQTT doors.
    pub(super) endpoints: usize,
    /// Processes that hold the sessions.
    pub(super) processes: usize,
    /// How it went.
    pub(super) opened: Opened,
    /// Memory of the measured processes before.
    pub(super) before: Memory,
    /// And with the sessions.
    pub(super) after: Memory,
    /// Memory of the processes that hold the sessions.
    pub(super) own: Memory,
}

impl ConnectReport {
    /// For people.
    pub(super) fn text(&self) -> String {
        let load = format!(
            "{} over {} endpoints, held by {} processes",
            self.sessions, self.endpoints, self.processes
        );
        let connected = format!(
            "{} in {:.1} s, {:.0} connects/s",
            self.opened.connected(),
            self.opened.elapsed.as_secs_f64(),
            self.opened.rate()
        );
        let mut rows = vec![
            ("sessions", load),
            ("connected", connected),
            ("failed", self.opened.errors_text()),
            ("connect", latency_text(&self.opened.connect)),
            ("subscribe", latency_text(&self.opened.subscribe)),
        ];
        for (before, after) in self.before.resident.iter().zip(&self.after.resident) {
            let mib = |bytes: Option<u64>| match bytes {
                Some(bytes) => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
                None => "not seen".to_owned(),
            };
            let line = format!("pid {}: {} to {}", after.0, mib(before.1), mib(after.1));
            rows.push(("memory", line));
        }
        if let Some(bytes) = self.bytes_per_session() {
            rows.push(("per session", format!("{bytes:.0} bytes")));
        }
        if let Some(bytes) = self.own_bytes_per_session() {
            rows.push(("of this bench", format!("{bytes:.0} bytes per session")));
        }
        pairs(rows)
    }

    /// For programs.
    pub(super) fn value(&self) -> Value {
        let optional = |value: Option<f64>| value.map_or(Value::Null, decimal);
        let bytes = |memory: &Memory| memory.total().map_or(Value::Null, number);
        let opened = &self.opened;
        object([
            ("event", string("connected")),
            ("sessions", number(self.sessions)),
            ("endpoints", number(self.endpoints as u64)),
            ("processes", number(self.processes as u64)),
            ("connected", number(opened.connected())),
            ("seconds", decimal(opened.elapsed.as_secs_f64())),
            ("connects_per_second", decimal(opened.rate())),
            ("errors", errors_value(&opened.errors())),
            ("connect", latency_value(&opened.connect)),
            ("subscribe", latency_value(&opened.subscribe)),
            ("resident_bytes_before", bytes(&self.before)),
            ("resident_bytes_after", bytes(&self.after)),
            ("memory", self.memory_value()),
            ("bytes_per_session", optional(self.bytes_per_session())),
            (
                "bench_bytes_per_session",
                optional(self.own_bytes_per_session()),
            ),
        ])
    }

    /// Of each measured process, by its id.
    fn memory_value(&self) -> Value {
        let seen = |bytes: Option<u64>| bytes.map_or(Value::Null, number);
        let pairs = self.before.resident.iter().zip(&self.after.resident);
        let processes = pairs.map(|((pid, before), (_, after))| {
            object([
                ("pid", number((*pid).into())),
                ("resident_bytes_before", seen(*before)),
                ("resident_bytes_after", seen(*after)),
            ])
        });
        Value::Array(processes.collect())
    }

    fn bytes_per_session(&self) -> Option<f64> {
        let (before, after) = (self.before.total()?, self.after.total()?);
        let connected = self.opened.connected();
        (connected > 0).then(|| (after as f64 - before as f64) / connected as f64)
    }

    fn own_bytes_per_session(&self) -> Option<f64> {
        let connected = self.opened.connected();
        let total = self.own.total().filter(|_| connected > 0)?;
        Some(total as f64 / connected as f64)
    }
}

/// How soon updates reached devices.
pub(super) struct UpdateReport {
    /// Updates in a second that were wanted.
    pub(super) rate: u32,
    /// How long they were sent.
    pub(super) seconds: u64,
    /// Answers over gRPC.
    pub(super) sent: Tally,
    /// From sending to arrival at the device, and why sessions were lost.
    pub(super) received: Tally,
}

impl UpdateReport {
    /// For people.
    pub(super) fn text(&self) -> String {
        let accepted = self.sent.accepted_count();
        pairs([
            (
                "updates",
                format!(
                    "{accepted} accepted in {} s, {:.0} of {} wanted per second",
                    self.seconds,
                    accepted as f64 / self.seconds.max(1) as f64,
                    self.rate
                ),
            ),
            ("refused", errors_text(&self.sent.errors)),
            ("answered", latency_text(&self.sent)),
            ("reached", format!("{}", self.received.accepted_count())),
            ("at the device", latency_text(&self.received)),
            ("lost", errors_text(&self.received.errors)),
        ])
    }

    /// For programs.
    pub(super) fn value(&self) -> Value {
        object([
            ("event", string("updated")),
            ("wanted_per_second", number(self.rate.into())),
            ("seconds", number(self.seconds)),
            ("accepted", number(self.sent.accepted_count())),
            ("errors", errors_value(&self.sent.errors)),
            ("answer", latency_value(&self.sent)),
            ("reached", number(self.received.accepted_count())),
            ("update_to_device", latency_value(&self.received)),
            ("lost", errors_value(&self.received.errors)),
        ])
    }
}

/// What became of sessions that were only held.
pub(super) fn held(received: &Tally) -> Value {
    object([
        ("event", string("held")),
        ("lost", errors_value(&received.errors)),
    ])
}

/// How often what happened.
pub(super) fn errors_text(errors: &BTreeMap<String, u64>) -> String {
    let reasons: Vec<String> = errors
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if reasons.is_empty() {
        "none".to_owned()
    } else {
        reasons.join(", ")
    }
}

fn errors_value(errors: &BTreeMap<String, u64>) -> Value {
    let errors = errors.iter();
    object(errors.map(|(reason, count)| (reason.as_str(), number(*count))))
}

fn latency_text(tally: &Tally) -> String {
    let ms = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1e3);
    let [p50, p99] = [0.5, 0.99].map(|share| ms(tally.quantile(share)));
    format!("p50 {p50}   p99 {p99}   max {}", ms(tally.max()))
}

fn latency_value(tally: &Tally) -> Value {
    let micros = |duration: Duration| number(duration.as_micros() as u64);
    object([
        ("count", number(tally.accepted_count())),
        ("p50_us", micros(tally.quantile(0.5))),
        ("p99_us", micros(tally.quantile(0.99))),
        ("max_us", micros(tally.max())),
    ])
}

/// A number with three digits after the point.
fn decimal(value: f64) -> Value {
    Number::from_text(&format!("{value:.3}")).map_or(Value::Null, Value::Number)
}
