//! When a sign of life is due, and when the server has been silent for too long.

use std::time::Duration;

use tokio::time::Instant;

/// How long a PINGREQ may stay without an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The keep-alive of a connection.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Option<Duration>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing has been sent since.
    Quiet(Instant),
    /// A PINGREQ was sent then and has no answer.
    Asked(Instant),
}

/// What to do now that the deadline has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a PINGREQ.
    Ping,
    /// Give up.
    Silent,
}

impl KeepAlive {
    /// The keep-alive that was agreed on; 0 for none.
    pub(super) fn new(seconds: u16) -> Self {
        Self {
            interval: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
            state: State::Quiet(Instant::now()),
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        Some(match self.state {
            State::Quiet(since) => since + interval,
            State::Asked(at) => at + PATIENCE,
        })
    }

    /// Something was sent.
    pub(super) fn sent(&mut self) {
        if let State::Quiet(since) = &mut self.state {
            *since = Instant::now();
        }
    }

    /// The answer to a PINGREQ came.
    pub(super) fn answered(&mut self) {
        self.state = State::Quiet(Instant::now());
    }

    /// The deadline has passed.
    pub(super) fn due(&mut self) -> Due {
        match self.state {
            State::Quiet(_) => {
                self.state = State::Asked(Instant::now());
                Due::Ping
            }
            State::Asked(_) => Due::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is gone without a trace is found out; one that answers is not.
    #[tokio::test]
    async fn asks_once_and_gives_up() {
        let mut keep_alive = KeepAlive::new(60);
        let quiet = keep_alive.deadline().unwrap();
        assert!(quiet > Instant::now() + Duration::from_secs(58));
        assert_eq!(keep_alive.due(), Due::Ping);
        assert!(keep_alive.deadline().unwrap() <= Instant::now() + PATIENCE);
        keep_alive.answered();
        assert_eq!(keep_alive.due(), Due::Ping);
        keep_alive.sent();
        assert_eq!(keep_alive.due(), Due::Silent);
        assert_eq!(KeepAlive::new(0).deadline(), None);
    }
}
