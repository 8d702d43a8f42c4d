//! What the node says about itself: alive, started, ready. Doors and probes read it.

use std::sync::Arc;

use tokio::sync::watch;

/// A phase in the life of a node. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Opens its data and replays the log.
    Starting,
    /// Takes requests.
    Serving,
    /// Finishes what it has and takes nothing new.
    Stopping,
    /// Found damage or lost its disk: it must be restarted or looked at.
    Failed,
}

/// The phase of a node, shared by everything that asks or tells. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Health {
    phase: Arc<watch::Sender<Phase>>,
}

impl Default for Health {
    fn default() -> Health {
        Health::new()
    }
}

impl Health {
    /// The health of a node that is starting.
    pub fn new() -> Health {
        Health {
            phase: Arc::new(watch::Sender::new(Phase::Starting)),
        }
    }

    /// Whether restarting the process would not help: `/livez`.
    pub fn is_live(&self) -> bool {
        self.phase() != Phase::Failed
    }

    /// Whether the start is over: `/startupz`.
    pub fn is_started(&self) -> bool {
        self.phase() != Phase::Starting
    }

    /// Whether requests should be sent here: `/readyz`.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows the phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves forward to `phase`; a step back changes nothing.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_answer_the_probes() {
        let health = Health::new();
        let probes = |h: &Health| (h.is_live(), h.is_started(), h.is_ready());
        assert_eq!(probes(&health), (true, false, false));
        health.enter(Phase::Serving);
        assert_eq!(probes(&health), (true, true, true));
        health.enter(Phase::Stopping);
        assert_eq!(probes(&health), (true, true, false));
        health.enter(Phase::Failed);
        assert_eq!(probes(&health), (false, true, false));
    }

    /// A late step of the start must not make a stopping node ready again.
    #[test]
    fn phase_never_goes_back() {
        let health = Health::new();
        health.enter(Phase::Stopping);
        health.enter(Phase::Serving);
        assert_eq!(health.phase(), Phase::Stopping);
    }
}
