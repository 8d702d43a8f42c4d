//! When a container that ended is started again, and an image that could not be pulled is asked for
//! again. Pure.

use std::time::Duration;

/// The first pause; it doubles from there.
const FIRST: Duration = Duration::from_secs(10);
/// And grows to this.
const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran for so long begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// A pause after another, each longer than the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct BackOff(Duration);

impl BackOff {
    fn grow(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(FIRST, LONGEST);
        self.0
    }
}

/// Images that could not be pulled for a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulls {
    failed: u32,
    back_off: BackOff,
}

impl Pulls {
    /// How many could not.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// How long to wait before the next one, divided by `time_scale`.
    pub(super) fn fail(&mut self, time_scale: f64) -> Duration {
        self.failed += 1;
        self.back_off.grow().div_f64(time_scale)
    }
}

/// Restarts of the container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Restarts {
    count: u32,
    /// What comes before the next restart.
    delay: BackOff,
}

impl Restarts {
    /// How many there were.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How long to wait before the next one, after a container that ran for so long. All times are
    /// divided by `time_scale`, but for `ran`, which has been measured.
    pub(super) fn next(&mut self, ran: Duration, time_scale: f64) -> Duration {
        if ran >= FORGIVEN_AFTER.div_f64(time_scale) {
            self.delay = BackOff::default();
        }
        let BackOff(delay) = self.delay;
        self.delay.grow();
        self.count += 1;
        delay.div_f64(time_scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_restart_is_immediate_and_the_next_ones_wait_ever_longer() {
        let mut restarts = Restarts::default();
        let expected: [u64; 8] = [0, 10, 20, 40, 80, 160, 300, 300];
        for seconds in expected {
            let delay = restarts.next(Duration::from_secs(1), 1.0);
            assert_eq!(delay, Duration::from_secs(seconds));
        }
        assert_eq!(restarts.count(), 8);
    }

    #[test]
    fn image_that_cannot_be_pulled_is_asked_for_ever_later() {
        let mut pulls = Pulls::default();
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(pulls.fail(2.0), Duration::from_secs(seconds) / 2);
        }
        assert_eq!(pulls.failed(), 7);
    }

    #[test]
    fn container_that_ran_for_ten_minutes_is_forgiven() {
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            restarts.next(Duration::ZERO, 10.0);
        }
        assert_eq!(
            restarts.next(Duration::from_secs(59), 10.0),
            Duration::from_secs(16)
        );
        assert_eq!(restarts.next(Duration::from_secs(60), 10.0), Duration::ZERO);
        assert_eq!(restarts.next(Duration::ZERO, 10.0), Duration::from_secs(1));
    }
}
