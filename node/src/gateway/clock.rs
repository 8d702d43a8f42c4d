//! Time as sessions count it: milliseconds since the gateway began.

use std::sync::Arc;

use antumbra_raft::Clock;
use antumbra_shadow::Time;
use tokio::time::{Duration, Instant};

/// The two clocks of the gateway.
#[derive(Clone)]
pub(crate) struct Clocks {
    begin: Instant,
    wall: Arc<dyn Clock>,
}

impl Clocks {
    pub(crate) fn new(wall: Arc<dyn Clock>) -> Clocks {
        Clocks {
            begin: Instant::now(),
            wall,
        }
    }

    /// Milliseconds since the gateway began; never goes back.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The moment of a number of such milliseconds.
    pub(crate) fn at_ms(&self, ms: u64) -> Instant {
        self.begin + Duration::from_millis(ms)
    }

    /// The time of day.
    pub(crate) fn time(&self) -> Time {
        Time(self.wall.now_ms())
    }
}
