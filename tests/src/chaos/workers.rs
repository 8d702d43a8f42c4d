//! Clients that write and read all the time, at all nodes, and note everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::cluster::Lives;
use super::door::{Doors, Errand};
use super::history::{Action, NEVER, Operation, Outcome, ShadowId};
use super::recorder::Recorder;

/// Clients that do one thing after another.
const WORKERS: u64 = 10;
/// Attempts of one operation at most, all with the same request id.
const ATTEMPTS_MAX: u32 = 5;
const PULSE_LIMIT: Duration = Duration::from_secs(1);

/// What all clients share.
#[derive(Clone)]
pub struct Clients {
    /// Takes the notes.
    pub recorder: Arc<Recorder>,
    /// The nodes.
    pub doors: Doors,
    /// The processes of the nodes.
    pub lives: Lives,
    /// How often each steadily written shadow is written, answered or not.
    pub pulse_every: Duration,
}

impl Clients {
    /// Starts all clients. They end soon after the recorder was told to stop.
    pub fn start(&self, seed: u64) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..WORKERS {
            let random = SmallRng::seed_from_u64(seed ^ (number + 1).wrapping_mul(0x9e37_79b9));
            tasks.spawn(self.clone().work(random));
        }
        for (offset, shadow) in self.recorder.names.pulse().enumerate() {
            tasks.spawn(self.clone().pulse(shadow, offset));
        }
        tasks
    }

    /// Closed loop: random operations, one after another, changing the node after trouble.
    async fn work(self, mut random: SmallRng) {
        let mut node = random.random_range(0..self.doors.count());
        while !self.recorder.is_stopping() {
            let hot = random.random_bool(0.5);
            let shadow = self.recorder.names.pick(hot, random.random());
            let action = self.choose(shadow, &mut random);
            let limit = Duration::from_millis(random.random_range(500..3_000));
            let persists = random.random_bool(0.7);
            let attempts = if persists { ATTEMPTS_MAX } else { 1 };
            let settled = self.settle(node, shadow, action, limit, attempts).await;
            if settled.troubled || random.random_bool(0.02) {
                node = random.random_range(0..self.doors.count());
            }
            let pause = Duration::from_millis(random.random_range(0..30));
            tokio::time::sleep(pause).await;
        }
    }

    fn choose(&self, shadow: ShadowId, random: &mut SmallRng) -> Action {
        let value = self.recorder.value();
        let known = self.recorder.version(shadow);
        match random.random_range(0..100) {
            0..35 => Action::Update {
                value,
                expected: None,
            },
            35..50 => Action::Update {
                value,
                expected: Some(known),
            },
            50..53 => Action::Update {
                value,
                expected: Some(0),
            },
            53..60 => Action::Delete { value },
            60..75 => Action::ReadLocal { session: None },
            _ => Action::Read,
        }
    }

    /// Open loop: a write every so often, whatever became of the one before.
    async fn pulse(self, shadow: ShadowId, offset: usize) {
        let mut ticks = interval(self.pulse_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        let mut node = offset;
        while !self.recorder.is_stopping() {
            ticks.tick().await;
            node = (node + 1) % self.doors.count();
            let clients = self.clone();
            under_way.spawn(async move {
                let value = clients.recorder.value();
                let expected = None;
                let action = Action::Update { value, expected };
                clients.settle(node, shadow, action, PULSE_LIMIT, 1).await;
            });
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Tries one operation until its outcome is known or it is given up, and notes it.
    async fn settle(
        &self,
        first: usize,
        shadow: ShadowId,
        action: Action,
        limit: Duration,
        attempts: u32,
    ) -> Settled {
        let errand = Errand {
            key: self.recorder.names.key(shadow),
            action,
            issued: now(),
        };
        let lives = self.life(first);
        let invoked = self.recorder.invoke();
        let mut outcome = Outcome::Failed;
        let mut troubled = false;
        for attempt in 0..attempts {
            let node = (first + attempt as usize) % self.doors.count();
            let answer = self.doors.attempt(node, &errand, limit).await;
            outcome = combine(outcome, answer);
            troubled |= matches!(answer, Outcome::Failed | Outcome::Unknown);
            let open = matches!(outcome, Outcome::Failed | Outcome::Unknown);
            // A read is not repeated: its answer must belong to one node.
            let once = action.value().is_none();
            let settled = !matches!(answer, Outcome::Failed | Outcome::Unknown);
            if !open || settled || once || self.recorder.is_stopping() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
        }
        let same_life = lives == self.life(first);
        let action = match action {
            Action::ReadLocal { .. } => Action::ReadLocal {
                session: lives.filter(|_| same_life),
            },
            action => action,
        };
        let completed = match outcome {
            Outcome::Unknown => NEVER,
            _ => self.recorder.now(),
        };
        self.recorder.note(Operation {
            shadow,
            invoked,
            completed,
            action,
            outcome,
        });
        Settled { troubled }
    }

    /// The process of a node, where every node has a replica of everything.
    fn life(&self, node: usize) -> Option<u32> {
        let life = self.lives[node].load(Ordering::SeqCst);
        (self.lives.len() <= 3).then_some(node as u32 * 1_000_000 + life)
    }
}

struct Settled {
    /// Whether an attempt had no good answer.
    troubled: bool,
}

/// What is known after another attempt with the same request id. Once an attempt may have been
/// applied, only an acceptance settles it: a later refusal says nothing about the earlier attempt,
/// which may still be on its way.
fn combine(before: Outcome, answer: Outcome) -> Outcome {
    match (before, answer) {
        (Outcome::Unknown, Outcome::Accepted { .. }) => answer,
        (Outcome::Unknown, _) => Outcome::Unknown,
        (_, answer) => answer,
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "clients say when they sent something first"
)]
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refusal after an attempt of unknown outcome does not make it known.
    #[test]
    fn combines_attempts_honestly() {
        let accepted = Outcome::Accepted { version: 3 };
        let conflict = Outcome::Conflict { current: 2 };
        assert_eq!(combine(Outcome::Failed, accepted), accepted);
        assert_eq!(combine(Outcome::Failed, conflict), conflict);
        assert_eq!(combine(Outcome::Failed, Outcome::Failed), Outcome::Failed);
        assert_eq!(combine(Outcome::Unknown, accepted), accepted);
        assert_eq!(combine(Outcome::Unknown, conflict), Outcome::Unknown);
        assert_eq!(combine(Outcome::Unknown, Outcome::Failed), Outcome::Unknown);
    }
}
