//! How long faults stop writes, from the acknowledgements of shadows that are written all the time.
//! Pure.

use std::collections::BTreeMap;

use super::history::{Moment, ShadowId};
use super::violation::{Kind, Violation};

/// An acknowledged write: when it was sent, and when it was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Sent.
    pub invoked: Moment,
    /// Known.
    pub completed: Moment,
}

/// The acknowledged writes of each shadow that is written all the time, by completion.
pub type Pulse = BTreeMap<ShadowId, Vec<Acknowledged>>;

/// One fault as it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Its name.
    pub fault: String,
    /// When it began.
    pub injected: Moment,
    /// When nothing kept the cluster from serving any more.
    pub healed: Moment,
    /// When it was no longer looked at: the next fault, or the end.
    pub until: Moment,
    /// Whether it is proven to have hit while clients were writing.
    pub hit: bool,
}

/// The longest time without an acknowledged write to one of the shadows, in nanoseconds, while an
/// injection was looked at.
pub fn outage(pulse: &Pulse, injection: &Injection) -> u64 {
    let longest = |writes: &Vec<Acknowledged>| {
        let mut last = injection.injected;
        let mut longest = 0;
        for write in writes {
            if write.completed < injection.injected {
                continue;
            }
            let completed = write.completed.min(injection.until);
            longest = longest.max(completed.saturating_sub(last));
            last = last.max(completed);
        }
        longest.max(injection.until.saturating_sub(last))
    };
    pulse.values().map(longest).max().unwrap_or_default()
}

/// Whether every shadow had an acknowledged write, sent after the heal, within `limit` of it.
pub fn check_served(pulse: &Pulse, injection: &Injection, limit: u64) -> Option<Violation> {
    let deadline = injection.healed.saturating_add(limit);
    let served = |writes: &Vec<Acknowledged>| {
        writes
            .iter()
            .any(|write| write.invoked >= injection.healed && write.completed <= deadline)
    };
    let missing: Vec<u32> = pulse
        .iter()
        .filter(|(_, writes)| !served(writes))
        .map(|(shadow, _)| shadow.0)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let text = format!(
        "{}: shadows {missing:?} took no write within {} ms after the heal at {} ms",
        injection.fault,
        limit / 1_000_000,
        injection.healed / 1_000_000
    );
    Some(Violation::general(Kind::NotServing, text))
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of all are at most this.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// All are at most this.
    pub max: u64,
}

/// Percentiles of durations in nanoseconds.
pub fn percentiles(durations: &[u64]) -> Percentiles {
    let mut sorted: Vec<u64> = durations.iter().map(|nanos| nanos / 1_000_000).collect();
    sorted.sort_unstable();
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    };
    Percentiles {
        p50: at(50),
        p99: at(99),
        max: at(100),
    }
}
