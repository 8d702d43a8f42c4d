//! How long to wait before the next attempt, within the caller's deadline.

use std::time::Duration;

use antumbra_raft::Role;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    pause: Duration,
    /// Attempts so far.
    pub(super) attempt: usize,
    /// Who failed last.
    pub(super) failed: Option<String>,
    /// The next attempt need not wait: somebody has just said who to ask.
    told: bool,
    /// A hint was followed since the last pause.
    followed: bool,
}

impl Retry {
    pub(crate) fn new(deadline: Instant) -> Retry {
        Retry {
            deadline,
            pause: PAUSE_MIN,
            attempt: 0,
            failed: None,
            told: false,
            followed: false,
        }
    }

    /// An attempt at this node failed.
    pub(super) fn failed_at(&mut self, name: &str) {
        self.failed = Some(name.to_owned());
    }

    /// The node that failed says who leads. The first word is followed at once; nodes that send a
    /// caller round in circles cost pauses.
    pub(super) fn told(&mut self, leader: &str) {
        if self.failed.as_deref() != Some(leader) && !self.followed {
            self.followed = true;
            self.told = true;
        }
    }

    /// Waits before the next attempt, at most until `role` changes. False when there is no time for
    /// another one.
    pub(super) async fn again(&mut self, role: Option<watch::Receiver<Role>>) -> bool {
        let Some(pause) = self.next(Instant::now()) else {
            return false;
        };
        if !pause.is_zero() {
            tokio::select! {
                biased;
                () = change(role) => {}
                () = sleep(pause) => {}
            }
        }
        true
    }

    /// The pause before the next attempt; `None` when it would not begin before the deadline.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        self.attempt += 1;
        if std::mem::take(&mut self.told) {
            return (now < self.deadline).then_some(Duration::ZERO);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        self.followed = false;
        (now + pause < self.deadline).then_some(pause)
    }
}

/// Resolves when the role changes, never without one.
async fn change(role: Option<watch::Receiver<Role>>) {
    if let Some(mut role) = role {
        role.mark_unchanged();
        if role.changed().await.is_ok() {
            return;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(pause: Option<Duration>) -> Option<u128> {
        pause.map(|pause| pause.as_millis())
    }

    /// Pauses grow, and the last attempt begins before the deadline.
    #[test]
    fn pauses_double_up_to_their_maximum_and_end_before_the_deadline() {
        let begin = Instant::now();
        let mut retry = Retry::new(begin + Duration::from_millis(400));
        let (mut now, mut pauses) = (begin, Vec::new());
        while let Some(pause) = retry.next(now) {
            now += pause;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(now - begin, Duration::from_millis(355));
    }

    /// A hint is worth an attempt at once, but only one between two pauses.
    #[test]
    fn first_hint_is_followed_without_a_pause() {
        let now = Instant::now();
        let mut retry = Retry::new(now + Duration::from_secs(1));
        retry.failed_at("b");
        retry.told("c");
        assert_eq!(milliseconds(retry.next(now)), Some(0));
        retry.failed_at("c");
        retry.told("b");
        assert_eq!(milliseconds(retry.next(now)), Some(5));
        retry.failed_at("b");
        retry.told("b");
        assert_eq!(milliseconds(retry.next(now)), Some(10));
        retry.told("c");
        assert_eq!(retry.next(now + Duration::from_secs(1)), None);
    }

    /// An election that ends is worth an attempt at once.
    #[tokio::test]
    async fn change_of_role_ends_the_pause() {
        let mut retry = Retry::new(Instant::now() + Duration::from_secs(3600));
        retry.pause = Duration::from_secs(1800);
        let (sender, role) = watch::channel(Role::default());
        let changing = async {
            tokio::task::yield_now().await;
            sender.send_replace(Role::Leader { term: 2 });
        };
        let (again, ()) = tokio::join!(retry.again(Some(role)), changing);
        assert!(again);
    }
}
