//! Token buckets: how many of something may come, each second.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What may come at once: as much as in one second.
const BURST: Duration = Duration::from_secs(1);
/// Names that are counted at one time.
const NAMES_MAX: usize = 65_536;
/// Names that have been quiet are looked for no more often.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// A token bucket that holds what may come in one second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    interval: Duration,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Rate {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, now: Instant) -> Rate {
        Rate {
            interval: interval(per_second),
            full_at: now,
        }
    }

    /// When one more may come.
    pub(crate) fn next(&self) -> Instant {
        self.full_at.checked_sub(BURST).unwrap_or(self.full_at)
    }

    /// So many have come.
    pub(crate) fn take(&mut self, count: u32, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval * count;
    }
}

fn interval(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}

/// The rates of many, by name. A full bucket is as good as none, so only names with something in the
/// last second or so are kept.
#[derive(Debug)]
pub(crate) struct Rates<N> {
    inner: Mutex<Inner<N>>,
}

#[derive(Debug)]
struct Inner<N> {
    rates: HashMap<N, Rate>,
    tidied: Instant,
}

impl<N: Eq + Hash + Clone> Rates<N> {
    /// Rates of which nothing is used.
    pub(crate) fn new() -> Rates<N> {
        Rates {
            inner: Mutex::new(Inner {
                rates: HashMap::new(),
                tidied: Instant::now(),
            }),
        }
    }

    /// Whether more may come of this name, whose rate is `per_second`; if so, `count` are counted. They
    /// may be more than are left: those that come later then wait for it. A rate of 0 allows nothing.
    pub(crate) fn admit(&self, name: &N, per_second: u32, count: u32, now: Instant) -> bool {
        if per_second == 0 {
            return false;
        }
        let mut inner = self.inner.lock();
        if !inner.rates.contains_key(name) && !inner.has_room(now) {
            return false;
        }
        let rate = inner.rates.entry(name.clone());
        let rate = rate.or_insert_with(|| Rate::new(per_second, now));
        rate.interval = interval(per_second);
        let may = rate.next() <= now;
        if may {
            rate.take(count, now);
        }
        may
    }
}

impl<N: Eq + Hash> Inner<N> {
    /// Whether one more name can be counted.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.rates.len() >= NAMES_MAX
            && now.saturating_duration_since(self.tidied) >= TIDY_INTERVAL
        {
            self.tidied = now;
            self.rates.retain(|_, rate| rate.full_at > now);
        }
        self.rates.len() < NAMES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Protects the node from a storm: a second's worth at once, then the rate.
    #[test]
    fn rate_lets_a_burst_through_and_then_paces() {
        let begin = Instant::now();
        let mut rate = Rate::new(10, begin);
        let mut now = begin;
        let mut come = |count: u32| {
            for _ in 0..count {
                now = now.max(rate.next());
                rate.take(1, now);
            }
            now - begin
        };
        assert_eq!(come(11), Duration::ZERO);
        assert_eq!(come(10), SECOND);
    }

    /// What one tenant uses up is not taken from another, and comes back with time; a rate that was
    /// changed counts at once.
    #[test]
    fn names_have_rates_of_their_own() {
        let (rates, begin) = (Rates::new(), Instant::now());
        let admitted = |name: &'static str, per_second, now| {
            let admitted = (0..100).filter(|_| rates.admit(&name, per_second, 1, now));
            admitted.count()
        };
        assert_eq!(admitted("loud", 10, begin), 11);
        assert_eq!(admitted("loud", 10, begin), 0);
        assert_eq!(admitted("quiet", 10, begin), 11);
        assert_eq!(admitted("loud", 10, begin + SECOND), 10);
        assert_eq!(admitted("loud", 0, begin + SECOND * 9), 0);
        assert_eq!(admitted("loud", 20, begin + SECOND * 9), 21);
    }

    /// A batch is let through whole, and what comes after it waits for all of it.
    #[test]
    fn many_at_once_are_paid_back() {
        let (rates, begin) = (Rates::new(), Instant::now());
        assert!(rates.admit(&"a", 10, 50, begin));
        assert!(!rates.admit(&"a", 10, 1, begin + SECOND * 3));
        assert!(rates.admit(&"a", 10, 1, begin + SECOND * 4));
    }

    /// Whoever makes up names must not fill the memory; names that were quiet make room.
    #[test]
    fn names_are_bounded() {
        let (rates, begin) = (Rates::new(), Instant::now());
        let later = begin + SECOND * 2;
        for name in 0..NAMES_MAX {
            assert!(rates.admit(&name, 10, 1, later));
        }
        assert!(!rates.admit(&NAMES_MAX, 10, 1, later));
        assert!(rates.admit(&0, 10, 1, later), "who is known is counted on");
        assert!(rates.admit(&NAMES_MAX, 10, 1, later + SECOND * 2));
        assert_eq!(rates.inner.lock().rates.len(), 1);
    }
}
