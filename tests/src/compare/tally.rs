//! What the clients of one run counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Latencies above this are recorded as this.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// The time in which answers count, and what was counted. All clients of a run share one.
pub(crate) struct Tally {
    /// Answers before this only warm up.
    pub(crate) from: Instant,
    /// Nothing is sent after this, and answers after it do not count.
    pub(crate) until: Instant,
    counted: Mutex<Counted>,
}

/// The numbers themselves.
#[derive(Clone)]
pub(crate) struct Counted {
    /// Operations answered while the clock ran; a batch holds several.
    pub(crate) operations: u64,
    /// Calls repeated because somebody else had changed the key.
    pub(crate) conflicts: u64,
    /// Latencies of the calls in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Calls that failed, by reason, at any time of the run.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// What a successful call did.
pub(crate) struct Done {
    /// Updates or reads in it.
    pub(crate) operations: u64,
    /// How often it had to be repeated.
    pub(crate) conflicts: u64,
}

impl Done {
    /// One update or read at the first attempt.
    pub(crate) const ONE: Done = Done {
        operations: 1,
        conflicts: 0,
    };
}

impl Tally {
    /// Counts from `warm_up` after now, for `length`.
    pub(crate) fn start(warm_up: Duration, length: Duration) -> Result<Self> {
        let latency = Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3)
            .map_err(|error| anyhow!("make a histogram: {error}"))?;
        let from = Instant::now() + warm_up;
        let counted = Mutex::new(Counted {
            operations: 0,
            conflicts: 0,
            latency,
            errors: BTreeMap::new(),
        });
        Ok(Tally {
            from,
            until: from + length,
            counted,
        })
    }

    /// Whether no more may be sent.
    pub(crate) fn over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// A call that was sent at `sent` was answered now.
    pub(crate) fn answered(&self, sent: Instant, done: &Done) {
        self.count(sent, Instant::now(), done);
    }

    fn count(&self, sent: Instant, now: Instant, done: &Done) {
        if now < self.from || now >= self.until {
            return;
        }
        let micros = u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX);
        let mut counted = self.lock();
        counted.latency.saturating_record(micros.max(1));
        counted.operations += done.operations;
        counted.conflicts += done.conflicts;
    }

    /// A call failed. Counted at any time: a run with errors is no measurement.
    pub(crate) fn failed(&self, reason: &str) {
        let mut counted = self.lock();
        match counted.errors.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(counted.errors.insert(reason.to_owned(), 1)),
        }
    }

    /// The numbers so far.
    pub(crate) fn counted(&self) -> Counted {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only answers within the time count; errors always do.
    #[test]
    fn counts_answers_in_the_window_and_errors_always() {
        let tally = Tally::start(Duration::from_secs(2), Duration::from_secs(5)).unwrap();
        let begin = tally.from - Duration::from_secs(2);
        for second in 0..10 {
            let now = begin + Duration::from_millis(1_000 * second + 500);
            tally.count(now - Duration::from_millis(20), now, &Done::ONE);
            tally.failed("UNAVAILABLE");
        }
        let counted = tally.counted();
        assert_eq!((counted.operations, counted.latency.len()), (5, 5));
        assert_eq!(counted.errors["UNAVAILABLE"], 10);
        let p50 = counted.latency.value_at_quantile(0.5);
        assert!((19_980..=20_020).contains(&p50), "{p50}");
        assert!(!tally.over());
    }
}
