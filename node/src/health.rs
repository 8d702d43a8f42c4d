//! What the node says about itself: alive, started, ready. Doors and probes read it.
//!
//! What each probe may depend on follows what an orchestrator does with the answer. `/livez` restarts
//! the process, which helps against nothing that other nodes do. `/readyz` takes the node out of a list of
//! addresses, which helps clients whenever another node would serve them better. A replica that lags is no
//! reason for either: the node forwards.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A node that has not heard the leader of shard 0 for so long is taken to be cut off.
pub const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// A write to the log that takes so long will not come back.
pub const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// A phase in the life of a node. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Opens its data, replays the log, joins, and catches up once.
    Starting,
    /// Takes requests.
    Serving,
    /// Finishes what it has and takes nothing new.
    Stopping,
    /// Found damage or lost its disk: it must be restarted or looked at.
    Failed,
}

/// What is found out again and again about a node that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Vitals {
    /// When the leader of shard 0 was last reached; `None` while nobody looks.
    pub(crate) heard: Option<Instant>,
    /// An operator has drained the node.
    pub(crate) is_drained: bool,
    /// Since when the disk has not answered a write to the log; `None` when it does.
    pub(crate) writing_since: Option<Instant>,
}

/// One thing that a probe depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, in one word.
    pub name: &'static str,
    /// What is wrong; `None` when it is good.
    pub problem: Option<String>,
}

/// The health of a node, shared by everything that asks or tells. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Health {
    phase: Arc<watch::Sender<Phase>>,
    vitals: Arc<watch::Sender<Vitals>>,
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
            vitals: Arc::default(),
        }
    }

    /// Whether restarting the process would not help: `/livez`.
    pub fn live(&self) -> Vec<Check> {
        self.live_at(Instant::now())
    }

    fn live_at(&self, now: Instant) -> Vec<Check> {
        let failed = self.phase() == Phase::Failed;
        let waits = self
            .vitals
            .borrow()
            .writing_since
            .map(|begun| now.saturating_duration_since(begun));
        let stuck = waits.filter(|waits| *waits > WRITTEN_WITHIN);
        vec![
            check(
                "process",
                failed.then(|| "it has failed and ends".to_owned()),
            ),
            check(
                "disk",
                stuck.map(|waits| {
                    format!("a write to the log has taken {} s so far", waits.as_secs())
                }),
            ),
        ]
    }

    /// Whether the start is over: `/startupz`. From then on it stays over.
    pub fn started(&self) -> Vec<Check> {
        let starting = self.phase() == Phase::Starting;
        let why = "the log is replayed, the cluster joined, or a replica behind its leader";
        vec![check("start", starting.then(|| why.to_owned()))]
    }

    /// Whether requests should be sent here: `/readyz`.
    pub fn ready(&self) -> Vec<Check> {
        self.ready_at(Instant::now())
    }

    fn ready_at(&self, now: Instant) -> Vec<Check> {
        let phase = match self.phase() {
            Phase::Serving => None,
            Phase::Starting => Some("the node is starting"),
            Phase::Stopping => Some("the node is stopping"),
            Phase::Failed => Some("the node has failed"),
        };
        let vitals = *self.vitals.borrow();
        let silent = vitals
            .heard
            .map(|heard| now.saturating_duration_since(heard));
        let silent = silent.filter(|silent| *silent > HEARD_WITHIN);
        let drained = vitals.is_drained.then(|| "the node is drained".to_owned());
        vec![
            check("phase", phase.map(str::to_owned)),
            check("drained", drained),
            check(
                "cluster",
                silent.map(|silent| {
                    format!(
                        "the leader of shard 0 was not reached for {} s",
                        silent.as_secs()
                    )
                }),
            ),
        ]
    }

    /// What `/livez` says, in short.
    pub fn is_live(&self) -> bool {
        all_good(&self.live())
    }

    /// What `/startupz` says, in short.
    pub fn is_started(&self) -> bool {
        all_good(&self.started())
    }

    /// What `/readyz` says, in short.
    pub fn is_ready(&self) -> bool {
        all_good(&self.ready())
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows the phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Replaces what is found out about the node.
    pub(crate) fn tell(&self, vitals: Vitals) {
        self.vitals.send_replace(vitals);
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

/// Whether no check found a problem.
pub(crate) fn all_good(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.problem.is_none())
}

fn check(name: &'static str, problem: Option<String>) -> Check {
    Check { name, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(health: &Health) -> (bool, bool, bool) {
        probes_at(health, Instant::now())
    }

    fn probes_at(health: &Health, now: Instant) -> (bool, bool, bool) {
        let good = |checks: Vec<Check>| all_good(&checks);
        (
            good(health.live_at(now)),
            good(health.started()),
            good(health.ready_at(now)),
        )
    }

    #[test]
    fn phases_answer_the_probes() {
        let health = Health::new();
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

    /// A restart does not bring a quorum back, and a node that is cut off is of no use to clients.
    #[test]
    fn silence_of_the_cluster_is_not_a_reason_to_restart() {
        let (health, begun) = (Health::new(), Instant::now());
        health.enter(Phase::Serving);
        health.tell(Vitals {
            heard: Some(begun),
            ..Vitals::default()
        });
        assert_eq!(probes_at(&health, begun + HEARD_WITHIN), (true, true, true));
        let later = begun + HEARD_WITHIN + Duration::from_secs(3);
        assert_eq!(probes_at(&health, later), (true, true, false));
        let ready = health.ready_at(later);
        let problem = ready.iter().find_map(|check| check.problem.as_deref());
        assert_eq!(
            problem,
            Some("the leader of shard 0 was not reached for 13 s")
        );
    }

    /// Draining takes a node out of service, a disk that is gone takes it down.
    #[test]
    fn each_vital_sign_has_its_probe() {
        let (health, begun) = (Health::new(), Instant::now());
        health.enter(Phase::Serving);
        health.tell(Vitals {
            is_drained: true,
            ..Vitals::default()
        });
        assert_eq!(probes(&health), (true, true, false));
        health.tell(Vitals {
            writing_since: Some(begun),
            ..Vitals::default()
        });
        assert_eq!(
            probes_at(&health, begun + WRITTEN_WITHIN),
            (true, true, true)
        );
        let later = begun + WRITTEN_WITHIN + Duration::from_secs(1);
        assert_eq!(probes_at(&health, later), (false, true, true));
    }
}
