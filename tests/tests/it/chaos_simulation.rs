//! Histories for testing the checkers: a simulated linearizable store whose answers are right by
//! construction, and a judge that tries every order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use antumbra_tests::chaos::history::{
    Action, Change, Feed, Feeds, Moment, NEVER, Operation, Outcome, ShadowId,
};

/// What a simulation is made of.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) shadows: u32,
    pub(crate) operations: usize,
    /// Of 100 operations so many have no answer, and as many are refused for certain.
    pub(crate) trouble: u32,
    /// Whether there are local reads.
    pub(crate) local: bool,
}

/// What a simulation gave.
pub(crate) struct Simulated {
    pub(crate) operations: Vec<Operation>,
    pub(crate) feeds: Feeds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Effect,
    End,
}

#[derive(Default)]
struct Stored {
    version: u64,
    value: Option<u64>,
    log: BTreeMap<u64, Change>,
    local: u64,
}

struct Simulation {
    load: Load,
    random: SmallRng,
    stored: Vec<Stored>,
    operations: Vec<Operation>,
    known: Vec<u64>,
    /// Operations whose clients never get an answer.
    silent: BTreeSet<usize>,
    steps: BinaryHeap<Reverse<(Moment, usize, Step, usize)>>,
    sequence: usize,
}

/// Runs clients against a store that is linearizable because it does one thing after another.
pub(crate) fn simulate(load: Load) -> Simulated {
    let mut simulation = Simulation {
        random: SmallRng::seed_from_u64(load.seed),
        stored: (0..load.shadows).map(|_| Stored::default()).collect(),
        operations: Vec::with_capacity(load.operations),
        known: vec![0; load.shadows as usize],
        silent: BTreeSet::new(),
        steps: BinaryHeap::new(),
        sequence: 0,
        load,
    };
    for _ in 0..simulation.load.clients {
        simulation.begin(0);
    }
    while let Some(Reverse((now, _, step, index))) = simulation.steps.pop() {
        match step {
            Step::Effect => simulation.effect(index),
            Step::End => {
                if !simulation.silent.contains(&index) {
                    simulation.operations[index].completed = now;
                }
                if simulation.operations.len() < simulation.load.operations {
                    simulation.begin(now + 1);
                }
            }
        }
    }
    let logs = simulation.stored.into_iter().enumerate();
    let feeds = logs.map(|(number, stored)| {
        let feed = Feed {
            changes: stored.log,
            complete: true,
        };
        (ShadowId(number as u32), feed)
    });
    Simulated {
        feeds: feeds.filter(|(_, feed)| !feed.changes.is_empty()).collect(),
        operations: simulation.operations,
    }
}

impl Simulation {
    fn push(&mut self, at: Moment, step: Step, index: usize) {
        self.sequence += 1;
        self.steps.push(Reverse((at, self.sequence, step, index)));
    }

    fn begin(&mut self, now: Moment) {
        let index = self.operations.len();
        let shadow = self.random.random_range(0..self.load.shadows);
        let value = index as u64 + 1;
        let known = self.known[shadow as usize];
        let action = match self.random.random_range(0..100) {
            0..40 => Action::Update {
                value,
                expected: None,
            },
            40..55 => Action::Update {
                value,
                expected: Some(known),
            },
            55..60 => Action::Update {
                value,
                expected: Some(0),
            },
            60..70 => Action::Delete { value },
            70..80 if self.load.local => Action::ReadLocal { session: Some(0) },
            _ => Action::Read,
        };
        let trouble = self.random.random_range(0..100);
        let (fails, silent) = (
            trouble < self.load.trouble,
            (self.load.trouble..2 * self.load.trouble).contains(&trouble),
        );
        let takes = self.random.random_range(0..20);
        let invoked = now + self.random.random_range(0..4);
        self.operations.push(Operation {
            shadow: ShadowId(shadow),
            invoked,
            completed: NEVER,
            action,
            outcome: if fails {
                Outcome::Failed
            } else {
                Outcome::Unknown
            },
        });
        let end = invoked + takes;
        if silent {
            // It takes effect at any time, or never, and the client does not hear of it.
            if self.random.random_bool(0.6) {
                let later = self.random.random_range(0..200);
                self.push(invoked + later, Step::Effect, index);
            }
            self.silent.insert(index);
        } else if !fails {
            let effect = invoked + self.random.random_range(0..=takes);
            self.push(effect, Step::Effect, index);
        }
        self.push(end, Step::End, index);
    }

    fn effect(&mut self, index: usize) {
        let operation = self.operations[index];
        let shadow = operation.shadow.0 as usize;
        let outcome = self.apply(shadow, operation.action);
        if self.silent.contains(&index) {
            return;
        }
        if let Outcome::Accepted { version } | Outcome::Found { version, .. } = outcome {
            self.known[shadow] = version;
        }
        self.operations[index].outcome = outcome;
    }

    fn apply(&mut self, shadow: usize, action: Action) -> Outcome {
        let stored = &mut self.stored[shadow];
        let current = stored.value.map_or(0, |_| stored.version);
        match action {
            Action::Update {
                expected: Some(expected),
                ..
            } if expected != current => Outcome::Conflict { current },
            Action::Update { value, .. } => stored.change(value, false),
            Action::Delete { .. } if stored.value.is_none() => Outcome::Absent,
            Action::Delete { value } => stored.change(value, true),
            Action::Read => stored.read(),
            Action::ReadLocal { .. } => {
                stored.local = self.random.random_range(stored.local..=stored.version);
                let at = stored.log.get(&stored.local);
                match at.filter(|change| !change.deleted) {
                    None => Outcome::Absent,
                    Some(change) => Outcome::Found {
                        version: stored.local,
                        value: change.value,
                    },
                }
            }
        }
    }
}

impl Stored {
    fn change(&mut self, value: u64, deleted: bool) -> Outcome {
        self.version += 1;
        self.value = (!deleted).then_some(value);
        self.log.insert(self.version, Change { value, deleted });
        Outcome::Accepted {
            version: self.version,
        }
    }

    fn read(&self) -> Outcome {
        let version = self.version;
        self.value
            .map_or(Outcome::Absent, |value| Outcome::Found { version, value })
    }
}

/// Whether some order explains the operations of one shadow, found by trying all of them. With a
/// feed the changes must come out exactly as in it.
pub(crate) fn explained(operations: &[Operation], feed: Option<&Feed>) -> bool {
    let bound = |operation: &&Operation| match operation.outcome {
        Outcome::Failed | Outcome::Refused => false,
        Outcome::Unknown => operation.action.value().is_some(),
        _ => true,
    };
    let mut tried = BTreeSet::new();
    let operations: Vec<_> = operations.iter().filter(bound).copied().collect();
    assert!(operations.len() < 20, "too many to try every order");
    try_orders(&operations, feed, (0, 0, None), &mut tried)
}

type Tried = (u32, u64, Option<u64>);

fn try_orders(
    operations: &[Operation],
    feed: Option<&Feed>,
    state: Tried,
    tried: &mut BTreeSet<Tried>,
) -> bool {
    let (done, version, value) = state;
    let open = |index: usize| done & (1 << index) == 0;
    let answered = |index: usize| operations[index].outcome != Outcome::Unknown;
    let all = (0..operations.len()).all(|index| !open(index) || !answered(index));
    if all && feed.is_none_or(|feed| feed.changes.len() as u64 == version) {
        return true;
    }
    if !tried.insert(state) {
        return false;
    }
    for (index, operation) in operations.iter().enumerate().filter(|(i, _)| open(*i)) {
        let overtaken = (0..operations.len()).any(|other| {
            open(other) && answered(other) && operations[other].completed < operation.invoked
        });
        let next = step(operation, version, value);
        let (Some((version, value)), false) = (next, overtaken) else {
            continue;
        };
        let told = feed.is_none_or(|feed| {
            let change = operation.action.value().map(|value| Change {
                value,
                deleted: operation.action.deletes(),
            });
            version == state.1 || feed.changes.get(&version).copied() == change
        });
        if told && try_orders(operations, feed, (done | 1 << index, version, value), tried) {
            return true;
        }
    }
    false
}

/// The state behind an operation, if it can take effect here with the outcome that it had.
fn step(operation: &Operation, version: u64, value: Option<u64>) -> Option<(u64, Option<u64>)> {
    let current = value.map_or(0, |_| version);
    let allowed = match operation.action {
        Action::Update { expected, .. } => expected.is_none_or(|expected| expected == current),
        Action::Delete { .. } => value.is_some(),
        Action::Read | Action::ReadLocal { .. } => false,
    };
    let after = operation.action.value().map(|value| {
        let value = (!operation.action.deletes()).then_some(value);
        (version + 1, value)
    });
    match (operation.action, operation.outcome) {
        (_, Outcome::Accepted { version: told }) => {
            after.filter(|_| allowed && told == version + 1)
        }
        (_, Outcome::Unknown) => after.filter(|_| allowed),
        (
            _,
            Outcome::Found {
                version: told,
                value: seen,
            },
        ) => (told == version && value == Some(seen)).then_some((version, value)),
        (_, Outcome::Absent) => value.is_none().then_some((version, value)),
        (Action::Update { expected, .. }, Outcome::Conflict { current: told }) => {
            let refused = expected.is_some_and(|expected| expected != current);
            (refused && told == current).then_some((version, value))
        }
        _ => None,
    }
}
