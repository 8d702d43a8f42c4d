//! The result of a bench, for people and for programs.

use std::time::Duration;

use antumbra_shadow::json::{Number, Value};

use crate::cli::output::{number, object, pairs, string};

use super::shadow::Mode;
use super::tally::Tally;

/// Processor seconds that were used while the clock ran; `None` where they cannot be seen.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// The process of the node, if it is on this machine.
    pub(crate) server_pid: Option<u32>,
    /// Its processor time.
    pub(crate) server: Option<f64>,
    /// Processor time of this program.
    pub(crate) client: Option<f64>,
}

/// What was run and what came out.
#[derive(Debug)]
pub(crate) struct Report {
    /// How updates travelled.
    pub(crate) mode: Mode,
    /// Connections.
    pub(crate) clients: u16,
    /// Updates in flight per connection.
    pub(crate) in_flight: u32,
    /// Devices that were updated.
    pub(crate) devices: u64,
    /// How long was measured.
    pub(crate) seconds: u64,
    /// What was counted.
    pub(crate) tally: Tally,
    /// What it cost.
    pub(crate) cpu: Cpu,
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let ms = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1e3);
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| ms(self.tally.quantile(share)));
        let load = format!(
            "{}, {} clients x {} in flight, {} devices, {} s",
            self.mode_name(),
            self.clients,
            self.in_flight,
            self.devices,
            self.seconds
        );
        let throughput = format!(
            "{:.0} updates/s ({} accepted)",
            self.rate(),
            self.tally.accepted_count()
        );
        let latency = format!(
            "p50 {p50}   p99 {p99}   p99.9 {p999}   max {}",
            ms(self.tally.max())
        );
        pairs([
            ("load", load),
            ("throughput", throughput),
            ("latency", latency),
            ("errors", self.errors_text()),
            (
                "server CPU",
                self.cpu_text(self.cpu.server, self.cpu.server_pid),
            ),
            ("client CPU", self.cpu_text(self.cpu.client, None)),
        ])
    }

    /// For programs.
    pub(crate) fn value(&self) -> Value {
        let micros = |duration: Duration| number(duration.as_micros() as u64);
        let errors = self.tally.errors.iter();
        let errors = errors.map(|(reason, count)| (reason.as_str(), number(*count)));
        let optional = |value: Option<f64>| value.map_or(Value::Null, decimal);
        object([
            ("mode", string(self.mode_name())),
            ("clients", number(self.clients.into())),
            ("in_flight", number(self.in_flight.into())),
            ("devices", number(self.devices)),
            ("seconds", number(self.seconds)),
            ("accepted", number(self.tally.accepted_count())),
            ("updates_per_second", decimal(self.rate())),
            ("p50_us", micros(self.tally.quantile(0.5))),
            ("p99_us", micros(self.tally.quantile(0.99))),
            ("p999_us", micros(self.tally.quantile(0.999))),
            ("max_us", micros(self.tally.max())),
            ("failed", number(self.tally.failed_count())),
            ("errors", object(errors)),
            (
                "server_cpu_us_per_update",
                optional(self.per_update(self.cpu.server)),
            ),
            ("server_cores", optional(self.cores(self.cpu.server))),
            (
                "client_cpu_us_per_update",
                optional(self.per_update(self.cpu.client)),
            ),
            ("client_cores", optional(self.cores(self.cpu.client))),
        ])
    }

    /// Refused and lost updates, by reason.
    pub(crate) fn errors_text(&self) -> String {
        let reasons: Vec<String> = self
            .tally
            .errors
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        if reasons.is_empty() {
            "none".to_owned()
        } else {
            reasons.join(", ")
        }
    }

    fn rate(&self) -> f64 {
        self.tally.accepted_count() as f64 / self.seconds as f64
    }

    fn per_update(&self, seconds: Option<f64>) -> Option<f64> {
        let accepted = self.tally.accepted_count();
        (accepted > 0).then_some(seconds? * 1e6 / accepted as f64)
    }

    fn cores(&self, seconds: Option<f64>) -> Option<f64> {
        Some(seconds? / self.seconds as f64)
    }

    fn cpu_text(&self, seconds: Option<f64>, pid: Option<u32>) -> String {
        let (Some(micros), Some(cores)) = (self.per_update(seconds), self.cores(seconds)) else {
            return "unknown: the process is not on this machine or was not found".to_owned();
        };
        let process = pid
            .map(|pid| format!(", process {pid}"))
            .unwrap_or_default();
        format!("{micros:.1} us per update ({cores:.2} cores{process})")
    }

    fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Unary => "unary",
            Mode::Stream => "stream",
        }
    }
}

/// A number with three digits after the point.
fn decimal(value: f64) -> Value {
    Number::from_text(&format!("{value:.3}")).map_or(Value::Null, Value::Number)
}
