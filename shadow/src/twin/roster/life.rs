//! The tie of a twin to its roster: however the twin ends, it is taken off the roster and counted
//! out, and a panic is told from an orderly end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{debug, error};

use crate::id::DeviceKey;
use crate::port::ShardPort;
use crate::twin::roster::Roster;

/// The tie of one twin to the roster. However the twin ends, dropping this takes it off the roster
/// and counts it out.
pub(crate) struct Life<P: ShardPort> {
    roster: Arc<Roster<P>>,
    device: DeviceKey,
    number: u64,
    term: u64,
    fence: u64,
    has_started: bool,
    is_handling: bool,
}

impl<P: ShardPort> Life<P> {
    pub(super) fn new(roster: Arc<Roster<P>>, device: DeviceKey, number: u64, term: u64) -> Self {
        roster.live.fetch_add(1, Ordering::AcqRel);
        roster.metrics.live.increment(1.0);
        let fence = roster.fence.load(Ordering::Acquire);
        Self {
            roster,
            device,
            number,
            term,
            fence,
            has_started: false,
            is_handling: false,
        }
    }

    pub(crate) fn roster(&self) -> &Roster<P> {
        &self.roster
    }

    pub(crate) fn device(&self) -> &DeviceKey {
        &self.device
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Whether the role has changed since the twin was started: it is being stopped.
    pub(crate) fn is_fenced(&self) -> bool {
        self.roster.fence.load(Ordering::Acquire) != self.fence
    }

    /// The actor runs. Until now it may be dropped under the roster's lock, so it must not take it.
    pub(crate) fn start(&mut self) {
        self.has_started = true;
    }

    /// A message is being handled; if it is never left again, it panicked.
    pub(crate) fn enter(&mut self) {
        self.is_handling = true;
    }

    pub(crate) fn leave(&mut self) {
        self.is_handling = false;
    }

    /// Nobody finds this twin any more.
    pub(crate) fn leave_roster(&self) {
        let mut seats = self.roster.seats.lock();
        let is_mine = seats
            .by_device
            .peek(&self.device)
            .is_some_and(|s| s.number == self.number);
        if is_mine {
            seats.by_device.pop(&self.device);
        }
    }
}

impl<P: ShardPort> Drop for Life<P> {
    fn drop(&mut self) {
        if self.is_handling {
            self.roster.metrics.panics.increment(1);
            error!(device = %self.device, "twin panicked and was stopped");
        } else {
            debug!(device = %self.device, "twin stopped");
        }
        if self.has_started {
            self.leave_roster();
        }
        self.roster.metrics.live.decrement(1.0);
        if self.roster.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.roster.emptied.notify_waiters();
        }
    }
}
