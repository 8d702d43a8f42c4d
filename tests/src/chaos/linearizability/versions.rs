//! What each version of a shadow is, according to everybody who said something about it.

use std::collections::BTreeMap;

use super::super::history::{Action, Change, Feed, Operation, Outcome, ShadowId};
use super::super::violation::{Kind, Violation};

/// The versions of one shadow.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// What each version is, as far as anybody told.
    pub changes: BTreeMap<u64, Change>,
    /// At which version each value took effect.
    pub places: BTreeMap<u64, u64>,
    /// The highest version that anybody mentioned.
    pub highest: u64,
    /// Versions up to the highest that nobody told.
    pub holes: u64,
    /// Whether an operation of unknown outcome may have made a version that nobody told, be it one
    /// of these or a later one.
    pub open: bool,
    /// Contradictions found on the way.
    pub violations: Vec<Violation>,
}

impl Versions {
    /// The version that an operation made, if it made one that is known.
    pub fn place(&self, operation: &Operation) -> Option<u64> {
        self.places.get(&operation.action.value()?).copied()
    }

    /// Whether the shadow is absent at a version; `None` when nobody told.
    pub fn absent_at(&self, version: u64) -> Option<bool> {
        match version {
            0 => Some(true),
            version => self.changes.get(&version).map(|change| change.deleted),
        }
    }
}

/// Gathers what is known, and says where it contradicts itself.
pub fn gather(shadow: ShadowId, operations: &[Operation], feed: &Feed) -> Versions {
    let mut gatherer = Gatherer {
        shadow,
        versions: Versions::default(),
    };
    gatherer.acknowledged(operations);
    gatherer.feed(operations, feed);
    gatherer.seen(operations);
    gatherer.writers(operations);
    gatherer.gaps(operations, feed);
    gatherer.conditions(operations);
    gatherer.versions
}

struct Gatherer {
    shadow: ShadowId,
    versions: Versions,
}

impl Gatherer {
    fn violation(&mut self, kind: Kind, text: String) {
        self.versions
            .violations
            .push(Violation::of(self.shadow, kind, text));
    }

    /// What is already known about a version, after mentioning it.
    fn mention(&mut self, version: u64) -> Option<Change> {
        self.versions.highest = self.versions.highest.max(version);
        self.versions.changes.get(&version).copied()
    }

    fn acknowledged(&mut self, operations: &[Operation]) {
        for operation in operations {
            let (Outcome::Accepted { version }, Some(value)) =
                (operation.outcome, operation.action.value())
            else {
                continue;
            };
            if version == 0 {
                self.violation(
                    Kind::WrongValue,
                    format!("value {value} accepted at version 0"),
                );
                continue;
            }
            let deleted = operation.action.deletes();
            if let Some(other) = self.mention(version) {
                let text = format!("version {version} for {} and for {value}", other.value);
                self.violation(Kind::RepeatedVersion, text);
                continue;
            }
            self.versions
                .changes
                .insert(version, Change { value, deleted });
        }
    }

    fn feed(&mut self, operations: &[Operation], feed: &Feed) {
        for (version, change) in &feed.changes {
            match self.mention(*version) {
                Some(known) if known != *change => {
                    let text = format!("version {version} is {known:?}, the feed says {change:?}");
                    self.violation(Kind::WrongValue, text);
                }
                Some(_) => {}
                None => {
                    self.versions.changes.insert(*version, *change);
                }
            }
        }
        if !feed.complete {
            return;
        }
        for operation in operations {
            if let Outcome::Accepted { version } | Outcome::Found { version, .. } =
                operation.outcome
                && !feed.changes.contains_key(&version)
            {
                let text = format!("{operation:?} is not in the feed");
                self.violation(Kind::Lost, text);
            }
        }
    }

    fn seen(&mut self, operations: &[Operation]) {
        for operation in operations {
            match operation.outcome {
                Outcome::Found { version, value } => self.found(version, value, operation),
                Outcome::Conflict { current }
                    if current > 0
                        && self.mention(current).is_some_and(|change| change.deleted) =>
                {
                    let text = format!("{operation:?}, but version {current} is a delete");
                    self.violation(Kind::WrongValue, text);
                }
                _ => {}
            }
        }
    }

    fn found(&mut self, version: u64, value: u64, operation: &Operation) {
        let found = Change {
            value,
            deleted: false,
        };
        match self.mention(version) {
            Some(known) if known != found => {
                let text = format!("{operation:?}, but version {version} is {known:?}");
                self.violation(Kind::WrongValue, text);
            }
            Some(_) => {}
            None if version == 0 => {
                self.violation(Kind::WrongValue, format!("{operation:?}"));
            }
            None => {
                self.versions.changes.insert(version, found);
            }
        }
    }

    /// Compares every version with the operation that made it.
    fn writers(&mut self, operations: &[Operation]) {
        let mut writers: Vec<(u64, &Operation)> = operations
            .iter()
            .filter_map(|operation| Some((operation.action.value()?, operation)))
            .collect();
        writers.sort_unstable_by_key(|(value, _)| *value);
        let changes: Vec<_> = self
            .versions
            .changes
            .iter()
            .map(|(v, c)| (*v, *c))
            .collect();
        for (version, change) in changes {
            let value = change.value;
            if let Some(other) = self.versions.places.insert(value, version) {
                let text = format!("value {value} made versions {other} and {version}");
                self.violation(Kind::AppliedTwice, text);
            }
            let at = writers.binary_search_by_key(&value, |(value, _)| *value);
            let Ok(at) = at else {
                let text = format!("version {version} has value {value}, which nobody wrote");
                self.violation(Kind::Phantom, text);
                continue;
            };
            let writer = writers[at].1;
            if writer.outcome.denies_change() {
                let text = format!("{writer:?} made version {version}");
                self.violation(Kind::DeniedButApplied, text);
            } else if writer.action.deletes() != change.deleted {
                let text = format!("version {version} is {change:?}, made by {writer:?}");
                self.violation(Kind::WrongValue, text);
            }
        }
    }

    /// Counts versions that nobody told, and compares with the operations that can have made them.
    fn gaps(&mut self, operations: &[Operation], feed: &Feed) {
        let told = self.versions.changes.len() as u64;
        let holes = self.versions.highest.saturating_sub(told);
        let possible = operations.iter().filter(|operation| {
            operation.outcome == Outcome::Unknown
                && operation.action.value().is_some()
                && self.versions.place(operation).is_none()
        });
        let possible = if feed.complete {
            0
        } else {
            possible.count() as u64
        };
        self.versions.holes = holes;
        self.versions.open = possible > 0;
        if holes > possible {
            let told = self.versions.changes.keys().copied();
            let first = (1..)
                .zip(told.chain([0]))
                .find(|(expected, told)| expected != told)
                .map_or(0, |(expected, _)| expected);
            let text = format!(
                "{holes} of {} versions (the first is {first}) were given to nobody, and {possible} \
                 operations of unknown outcome can have made one",
                self.versions.highest
            );
            self.violation(Kind::Gap, text);
        }
    }

    /// Compares every accepted change with what it required, and every conflict with its condition.
    fn conditions(&mut self, operations: &[Operation]) {
        for operation in operations {
            let broken = match (operation.action, operation.outcome) {
                (Action::Update { expected, .. }, Outcome::Conflict { current }) => {
                    expected.is_none_or(|expected| expected == current)
                }
                (Action::Update { expected, .. }, _) => {
                    let before = self.before(operation);
                    match (before, expected) {
                        (Some((_, absent)), Some(0)) => absent == Some(false),
                        (Some((version, absent)), Some(expected)) => {
                            version != expected || absent == Some(true)
                        }
                        _ => false,
                    }
                }
                (Action::Delete { .. }, _) => self
                    .before(operation)
                    .is_some_and(|(_, absent)| absent == Some(true)),
                _ => false,
            };
            if broken {
                let place = self.versions.place(operation);
                self.violation(Kind::ConditionBroken, format!("{operation:?} at {place:?}"));
            }
        }
    }

    /// The version before the one that an operation made, and whether the shadow was absent then.
    fn before(&self, operation: &Operation) -> Option<(u64, Option<bool>)> {
        let before = self.versions.place(operation)?.checked_sub(1)?;
        Some((before, self.versions.absent_at(before)))
    }
}
