//! Keeps the log of a shard for followers that still need it, a snapshot on its way included: whoever has
//! installed one goes on with the entries behind it, and under steady writes those would be gone by then, again
//! and again.

use std::time::{Duration, Instant};

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use tracing::info;

use crate::config::HostConfig;
use crate::ids::ReplicaId;
use crate::role::Role;
use crate::shard::Shard;

/// For whom and for how long the logs of a node are held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HoldLimits {
    /// A follower that is not heard for longer gets a snapshot when it is back.
    silence_max: Duration,
    /// What is written to the logs of the node while one is held.
    bytes_max: u64,
    /// Entries that a purge leaves in any case.
    entries_kept: u64,
}

impl HoldLimits {
    pub(crate) fn new(config: &HostConfig) -> HoldLimits {
        HoldLimits {
            silence_max: config.log_held_silence_max,
            bytes_max: config.log_held_bytes_max,
            entries_kept: config.log_entries_kept,
        }
    }
}

/// What is remembered of one shard from flush to flush.
#[derive(Debug, Default)]
pub(crate) struct LogHold {
    /// The term in which this replica leads, and when that was first seen.
    led: Option<(u64, Instant)>,
    /// What had been written to the logs of the node when holding began.
    held_from: Option<u64>,
}

/// A follower as its leader sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follower {
    /// Index up to which it has the log.
    matched: u64,
    /// When it last answered this leader; `None` before the first time.
    heard: Option<Instant>,
}

impl LogHold {
    /// Whether the entries up to `flushed` have to stay for one of the `followers` of the leader of `term`; on a
    /// replica that does not lead there are none. `written` counts what was ever written to the logs of the node.
    pub(crate) fn holds(
        &mut self,
        limits: &HoldLimits,
        term: Option<u64>,
        followers: impl IntoIterator<Item = Follower>,
        flushed: u64,
        written: u64,
    ) -> bool {
        let Some(term) = term else {
            *self = LogHold::default();
            return false;
        };
        let led = match self.led {
            Some((known, since)) if known == term => since,
            _ => Instant::now(),
        };
        self.led = Some((term, led));
        let purged = flushed.saturating_sub(limits.entries_kept);
        let needs = |follower: Follower| {
            let heard = follower.heard.unwrap_or(led);
            follower.matched < purged && heard.elapsed() <= limits.silence_max
        };
        let from = self.held_from.unwrap_or(written);
        let holds = followers.into_iter().any(needs) && written - from < limits.bytes_max;
        if holds && self.held_from.is_none() {
            info!(term, flushed, "hold a log for a follower");
        }
        self.held_from = holds.then_some(from);
        holds
    }
}

impl Shard {
    /// Whether the log has to stay as it is. To be asked before each purge, and only then.
    pub(crate) fn holds_log(&self, limits: &HoldLimits, written: u64) -> bool {
        let status = self.status();
        let term = match status.role {
            Role::Leader { term } => Some(term),
            _ => None,
        };
        let others = status.matched.iter();
        let others = others.filter(|(replica, _)| **replica != self.replica());
        let followers = others.map(|(replica, matched)| Follower {
            matched: *matched,
            heard: self.heard_at(*replica),
        });
        let mut hold = self.inner.hold.lock();
        hold.holds(limits, term, followers, status.flushed_index, written)
    }

    /// When a follower last answered this leader.
    pub(crate) fn heard_at(&self, replica: ReplicaId) -> Option<Instant> {
        let metrics = self.inner.raft.metrics();
        let now = metrics.borrow_watched();
        let heard = now.heartbeat.as_ref()?.get(&replica.0)?.as_ref()?;
        Some(Instant::now() - heard.elapsed())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LIMITS: HoldLimits = HoldLimits {
        silence_max: Duration::from_secs(10),
        bytes_max: 1000,
        entries_kept: 100,
    };

    fn heard(matched: u64, seconds_ago: u64) -> Follower {
        Follower {
            matched,
            heard: Instant::now().checked_sub(Duration::from_secs(seconds_ago)),
        }
    }

    fn never_heard(matched: u64) -> Follower {
        Follower {
            matched,
            heard: None,
        }
    }

    /// Held for whoever would miss entries and is there to ask for them.
    #[test]
    fn holds_for_a_follower_that_lags_and_answers() {
        let holds = |followers: &[Follower]| {
            let followers = followers.iter().copied();
            LogHold::default().holds(&LIMITS, Some(2), followers, 500, 0)
        };
        assert!(holds(&[heard(500, 0), heard(399, 0)]));
        assert!(!holds(&[heard(500, 0), heard(400, 0)]));
        assert!(!holds(&[heard(500, 0), heard(399, 11)]));
        // A new leader has not heard it yet.
        assert!(holds(&[heard(500, 0), never_heard(0)]));
        assert!(!holds(&[]));
    }

    /// Silence since the election counts, and a new term begins anew.
    #[test]
    fn does_not_hold_for_a_follower_that_a_leader_never_heard() {
        let mut hold = LogHold::default();
        assert!(hold.holds(&LIMITS, Some(2), [never_heard(0)], 500, 0));
        hold.led = Instant::now()
            .checked_sub(Duration::from_secs(11))
            .map(|since| (2, since));
        assert!(!hold.holds(&LIMITS, Some(2), [never_heard(0)], 500, 0));
        assert!(hold.holds(&LIMITS, Some(3), [never_heard(0)], 500, 0));
        assert!(!hold.holds(&LIMITS, None, [never_heard(0)], 500, 0));
        assert!(hold.led.is_none());
    }

    /// The log does not grow without end: once in a while it is purged all the same, and held again after that.
    #[test]
    fn holds_so_many_bytes_at_most() {
        let mut hold = LogHold::default();
        let mut holds = |matched, written| {
            let followers = [heard(matched, 0)];
            hold.holds(&LIMITS, Some(2), followers, 500, written)
        };
        assert!(holds(0, 5000));
        assert!(holds(0, 5999));
        assert!(!holds(0, 6000));
        assert!(holds(0, 6100));
        assert!(holds(0, 7099));
        // It has caught up: what is written from the next time on counts.
        assert!(!holds(500, 7099));
        assert!(holds(0, 8000));
        assert!(holds(0, 8999));
        assert!(!holds(0, 9000));
    }
}
