//! How long to wait before a node that ended is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// A node that ran for so long is not one that fails at every start.
const STABLE: Duration = Duration::from_secs(60);

/// Waits 1 s, 2 s, 4 s, 8 s, then 10 s, and begins anew after a node has run well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST }
    }

    /// The wait after a node that ran for `ran` has ended.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_ten_seconds_and_begin_anew() {
        let mut backoff = Backoff::new();
        let short = Duration::from_secs(1);
        let waits: Vec<u64> = (0..6).map(|_| backoff.after(short).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.after(STABLE), FIRST);
        assert_eq!(backoff.after(short), 2 * FIRST);
    }
}
