//! What one worker of a bench counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies above this are recorded as this.
const LATENCY_MAX: Duration = Duration::from_secs(120);

/// Updates that were answered, by outcome.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Latencies of accepted updates in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Updates that were not accepted, by reason.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3)
            .expect("three digits and two minutes are valid bounds");
        Self {
            latency,
            errors: BTreeMap::new(),
        }
    }

    /// An accepted update.
    pub(crate) fn accepted(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros.max(1));
    }

    /// An update that was not accepted.
    pub(crate) fn failed(&mut self, reason: &str) {
        *self.errors.entry(reason.to_owned()).or_default() += 1;
    }

    /// Adds what another worker counted.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.latency
            .add(&other.latency)
            .expect("both have the same bounds");
        for (reason, count) in &other.errors {
            *self.errors.entry(reason.clone()).or_default() += count;
        }
    }

    /// Accepted updates.
    pub(crate) fn accepted_count(&self) -> u64 {
        self.latency.len()
    }

    /// Updates that were not accepted.
    pub(crate) fn failed_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// A latency that this share of updates did not exceed, such as 0.99.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(share))
    }

    /// The longest latency.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.latency.max())
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use std::time::Duration;

    /// Percentiles over all workers must be those of all their updates, not a mean of means.
    #[test]
    fn tallies_of_workers_add_up() {
        let (mut all, mut slow) = (Tally::new(), Tally::new());
        (0..99).for_each(|_| all.accepted(Duration::from_millis(1)));
        slow.accepted(Duration::from_millis(500));
        slow.failed("OVERLOADED");
        all.add(&slow);
        assert_eq!((all.accepted_count(), all.failed_count()), (100, 1));
        assert!(all.quantile(0.99) < Duration::from_millis(2));
        assert!(all.quantile(0.999) > Duration::from_millis(490));
    }
}
