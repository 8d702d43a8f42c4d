//! The search for an order of the operations of one shadow, after Wing and Gong, and Lowe.
//!
//! It walks through time with a set of *configurations*: what the shadow may be by now, and which
//! operations in flight have taken effect. When an operation is complete, every configuration in
//! which it has not taken effect is carried on, by operations in flight, until it has, or dropped.
//! Equal configurations are visited once. When none is left, no order explains the history.
//!
//! Three facts keep it small. A version that somebody told was made by a known operation. What was
//! seen of a version changes nothing, so it takes effect at the first chance. And an operation
//! without an answer, whose value nobody ever saw, is like any other of its sort that began: only
//! their number matters.
//!
//! Pure. It shares nothing with the version-order checker but the list of what versions are known to
//! be, and each is tested against the other.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Action, Change, NEVER, Operation, Outcome};

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is an order.
    Linearizable,
    /// There is none.
    Impossible,
    /// The budget was used up.
    Undecided,
}

/// Searches an order of the operations of one shadow, which are in the order of their invocation.
/// `known` says what some versions are; at most `budget` configurations are visited.
pub fn search(operations: &[Operation], known: &BTreeMap<u64, Change>, budget: usize) -> Answer {
    let Some(known) = Known::gather(operations, known) else {
        return Answer::Impossible;
    };
    let mut search = Search {
        operations,
        known,
        anonymous: [0; SORTS],
        begun: BTreeSet::new(),
        budget,
    };
    search.run()
}

/// What versions are known to be.
struct Known {
    changes: BTreeMap<u64, Change>,
    /// The operation that made each known version.
    writers: BTreeMap<u64, usize>,
    /// Operations that made a known version.
    placed: BTreeSet<usize>,
}

impl Known {
    /// `None` when two answers exclude each other.
    fn gather(operations: &[Operation], known: &BTreeMap<u64, Change>) -> Option<Known> {
        let mut changes = known.clone();
        let mut tell = |version: u64, change: Change| {
            version > 0 && *changes.entry(version).or_insert(change) == change
        };
        let mut by_value = BTreeMap::new();
        for (index, operation) in operations.iter().enumerate() {
            if let Some(value) = operation.action.value() {
                by_value.insert(value, index);
            }
            let consistent = match (operation.outcome, operation.action.value()) {
                (Outcome::Accepted { version }, Some(value)) => {
                    let deleted = operation.action.deletes();
                    tell(version, Change { value, deleted })
                }
                (Outcome::Found { version, value }, _) => {
                    let deleted = false;
                    tell(version, Change { value, deleted })
                }
                _ => true,
            };
            if !consistent {
                return None;
            }
        }
        let mut writers = BTreeMap::new();
        for (version, change) in &changes {
            let writer = *by_value.get(&change.value)?;
            let operation = &operations[writer];
            let may =
                !operation.outcome.denies_change() && operation.action.deletes() == change.deleted;
            if !may {
                return None;
            }
            writers.insert(*version, writer);
        }
        let placed: BTreeSet<usize> = writers.values().copied().collect();
        (placed.len() == writers.len()).then_some(Known {
            changes,
            writers,
            placed,
        })
    }
}

/// The sorts of operations that are alike when nobody knows what they did.
const SORTS: usize = 3;
const UPDATE: usize = 0;
const CREATE: usize = 1;
const DELETE: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    version: u64,
    absent: bool,
    /// How many of each sort took effect.
    used: [u32; SORTS],
    /// Unknown updates bound to a version other than "absent", by index, that took effect.
    bound: Vec<usize>,
    /// Observations in flight that have taken effect.
    seen: Vec<usize>,
}

struct Search<'a> {
    operations: &'a [Operation],
    known: Known,
    /// How many of each sort began.
    anonymous: [u32; SORTS],
    /// Everything that began and is not complete, or never will be.
    begun: BTreeSet<usize>,
    budget: usize,
}

impl Search<'_> {
    fn run(&mut self) -> Answer {
        let mut configurations = BTreeSet::from([Configuration {
            version: 0,
            absent: true,
            used: [0; SORTS],
            bound: Vec::new(),
            seen: Vec::new(),
        }]);
        for (completes, index) in self.events() {
            if !completes {
                self.begin(index);
                configurations = configurations
                    .into_iter()
                    .map(|configuration| self.look(configuration, &[index]))
                    .collect();
                continue;
            }
            let Some(finished) = self.finish(index, configurations) else {
                return Answer::Undecided;
            };
            if finished.is_empty() {
                return Answer::Impossible;
            }
            configurations = finished;
        }
        if self.can_reach_the_known_end(configurations) {
            Answer::Linearizable
        } else if self.budget == 0 {
            Answer::Undecided
        } else {
            Answer::Impossible
        }
    }

    /// Beginnings and completions in time; at the same moment beginnings come first.
    fn events(&self) -> Vec<(bool, usize)> {
        let mut events = Vec::new();
        for (index, operation) in self.operations.iter().enumerate() {
            let binds = match operation.outcome {
                Outcome::Failed | Outcome::Refused => false,
                Outcome::Unknown => operation.action.value().is_some(),
                _ => !matches!(operation.action, Action::ReadLocal { .. }),
            };
            if !binds {
                continue;
            }
            events.push((operation.invoked, false, index));
            if operation.outcome != Outcome::Unknown && operation.completed != NEVER {
                events.push((operation.completed, true, index));
            }
        }
        events.sort_unstable();
        let ordered = events.into_iter();
        ordered
            .map(|(_, completes, index)| (completes, index))
            .collect()
    }

    fn begin(&mut self, index: usize) {
        let operation = &self.operations[index];
        if operation.outcome == Outcome::Unknown
            && !self.known.placed.contains(&index)
            && let Some(sort) = sort(operation.action)
        {
            self.anonymous[sort] += 1;
            return;
        }
        self.begun.insert(index);
    }

    /// Lets observations in flight take effect where they can.
    fn look(&self, mut configuration: Configuration, candidates: &[usize]) -> Configuration {
        for index in candidates {
            let fits = observes(&self.operations[*index], &configuration);
            if fits && let Err(at) = configuration.seen.binary_search(index) {
                configuration.seen.insert(at, *index);
            }
        }
        configuration
    }

    fn observers(&self) -> Vec<usize> {
        let observer = |index: &&usize| is_observation(&self.operations[**index]);
        self.begun.iter().filter(observer).copied().collect()
    }

    /// Carries every configuration on until `index` has taken effect; `None` without budget.
    fn finish(
        &mut self,
        index: usize,
        configurations: BTreeSet<Configuration>,
    ) -> Option<BTreeSet<Configuration>> {
        let observers = self.observers();
        let mut finished = BTreeSet::new();
        let mut visited = configurations.clone();
        let mut open: Vec<Configuration> = configurations.into_iter().collect();
        while let Some(mut configuration) = open.pop() {
            self.budget = self.budget.checked_sub(1)?;
            if self.took_effect(index, &configuration) {
                configuration.seen.retain(|seen| *seen != index);
                finished.insert(configuration);
                continue;
            }
            for next in self.next(&configuration) {
                let next = self.look(next, &observers);
                if visited.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        self.begun.remove(&index);
        Some(finished)
    }

    fn took_effect(&self, index: usize, configuration: &Configuration) -> bool {
        match self.operations[index].outcome {
            Outcome::Accepted { version } => configuration.version >= version,
            _ => configuration.seen.binary_search(&index).is_ok(),
        }
    }

    /// What the shadow can become by one more change.
    fn next(&self, configuration: &Configuration) -> Vec<Configuration> {
        let version = configuration.version + 1;
        if let Some(writer) = self.known.writers.get(&version) {
            let operation = &self.operations[*writer];
            let began = self.begun.contains(writer);
            if !began || !allowed(operation.action, configuration) {
                return Vec::new();
            }
            return vec![Configuration {
                version,
                absent: operation.action.deletes(),
                ..configuration.clone()
            }];
        }
        // Somebody told a later version, so one of unknown outcome made this one; or nobody did, and
        // it may still have happened.
        let mut next = Vec::new();
        for sort in 0..SORTS {
            let fits = match sort {
                CREATE => configuration.absent,
                DELETE => !configuration.absent,
                _ => true,
            };
            if fits && configuration.used[sort] < self.anonymous[sort] {
                let mut used = configuration.used;
                used[sort] += 1;
                next.push(Configuration {
                    version,
                    absent: sort == DELETE,
                    used,
                    ..configuration.clone()
                });
            }
        }
        for index in &self.begun {
            let operation = &self.operations[*index];
            let unplaced =
                operation.outcome == Outcome::Unknown && !self.known.placed.contains(index);
            if !unplaced || !allowed(operation.action, configuration) {
                continue;
            }
            if let Err(at) = configuration.bound.binary_search(index) {
                let mut bound = configuration.bound.clone();
                bound.insert(at, *index);
                next.push(Configuration {
                    version,
                    absent: false,
                    bound,
                    ..configuration.clone()
                });
            }
        }
        next
    }

    /// What is known of versions must have happened, even if its client never heard of it.
    fn can_reach_the_known_end(&mut self, configurations: BTreeSet<Configuration>) -> bool {
        let end = self.known.changes.keys().next_back().copied();
        let end = end.unwrap_or_default();
        let mut visited = configurations.clone();
        let mut open: Vec<Configuration> = configurations.into_iter().collect();
        while let Some(configuration) = open.pop() {
            if configuration.version >= end {
                return true;
            }
            let Some(left) = self.budget.checked_sub(1) else {
                return false;
            };
            self.budget = left;
            for next in self.next(&configuration) {
                if visited.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        false
    }
}

/// The sort of a change that nobody ever saw; `None` when it is bound to one version.
fn sort(action: Action) -> Option<usize> {
    match action {
        Action::Update { expected: None, .. } => Some(UPDATE),
        Action::Update {
            expected: Some(0), ..
        } => Some(CREATE),
        Action::Delete { .. } => Some(DELETE),
        _ => None,
    }
}

/// Whether a change can be accepted here.
fn allowed(action: Action, configuration: &Configuration) -> bool {
    match action {
        Action::Update { expected: None, .. } => true,
        Action::Update {
            expected: Some(0), ..
        } => configuration.absent,
        Action::Update {
            expected: Some(expected),
            ..
        } => !configuration.absent && configuration.version == expected,
        Action::Delete { .. } => !configuration.absent,
        Action::Read | Action::ReadLocal { .. } => false,
    }
}

fn is_observation(operation: &Operation) -> bool {
    matches!(
        operation.outcome,
        Outcome::Found { .. } | Outcome::Absent | Outcome::Conflict { .. }
    )
}

/// Whether what an operation was told is what the shadow is here.
fn observes(operation: &Operation, configuration: &Configuration) -> bool {
    match (operation.action, operation.outcome) {
        (_, Outcome::Found { version, .. }) => {
            !configuration.absent && configuration.version == version
        }
        (_, Outcome::Absent) => configuration.absent,
        (Action::Update { expected, .. }, Outcome::Conflict { current }) => {
            let here = if configuration.absent {
                0
            } else {
                configuration.version
            };
            here == current && expected.is_some_and(|expected| expected != current)
        }
        _ => false,
    }
}
