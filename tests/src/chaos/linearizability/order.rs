//! Whether the order of the versions agrees with time.

use std::collections::BTreeMap;

use super::super::history::{Action, NEVER, Operation, Outcome, ShadowId};
use super::super::violation::{Kind, Violation};
use super::versions::Versions;

/// Violations reported per shadow; one wrong answer makes many later ones look wrong.
const REPORTED_MAX: usize = 3;

/// Where in the order of a shadow an operation takes effect: a change *at* its version, what was
/// seen of a version *behind* it and before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    version: u64,
    behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Takes effect exactly here.
    Fixed(Rank),
    /// Takes effect behind any version at which the shadow is absent.
    Absent,
    /// Showed a version of a replica: binds later operations, and is bound by its session only.
    Local(u64, Option<u32>),
}

/// Judges the operations of one shadow.
pub fn check(shadow: ShadowId, operations: &[Operation], versions: &Versions) -> Vec<Violation> {
    let mut walk = Walk {
        shadow,
        operations,
        absent: absent_ranks(operations, versions),
        latest: None,
        sessions: BTreeMap::new(),
        violations: Vec::new(),
    };
    let places: Vec<Option<Place>> = operations
        .iter()
        .map(|operation| place(operation, versions))
        .collect();
    let mut ranks = vec![None; operations.len()];
    // At the same moment invocations come first: such operations overlap.
    let mut events = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        events.push((operation.invoked, false, index));
        if operation.outcome != Outcome::Unknown && operation.completed != NEVER {
            events.push((operation.completed, true, index));
        }
    }
    events.sort_unstable();
    for (_, completes, index) in events {
        let Some(place) = places[index] else { continue };
        if completes {
            walk.complete(index, place, ranks[index]);
        } else {
            ranks[index] = walk.invoke(index, place);
        }
        if walk.violations.len() >= REPORTED_MAX {
            break;
        }
    }
    walk.violations
}

fn place(operation: &Operation, versions: &Versions) -> Option<Place> {
    let behind = |version| Rank {
        version,
        behind: true,
    };
    match (operation.action, operation.outcome) {
        (Action::ReadLocal { session }, Outcome::Found { version, .. }) => {
            Some(Place::Local(version, session))
        }
        (Action::ReadLocal { .. }, _) => None,
        (_, Outcome::Found { version, .. }) => Some(Place::Fixed(behind(version))),
        (_, Outcome::Absent | Outcome::Conflict { current: 0 }) => Some(Place::Absent),
        (_, Outcome::Conflict { current }) => Some(Place::Fixed(behind(current))),
        (_, Outcome::Accepted { version }) => Some(Place::Fixed(Rank {
            version,
            behind: false,
        })),
        (_, Outcome::Unknown) => versions.place(operation).map(|version| {
            Place::Fixed(Rank {
                version,
                behind: false,
            })
        }),
        (_, Outcome::Refused | Outcome::Failed) => None,
    }
}

/// Behind which versions the shadow is absent, in order. Where one of unknown outcome may have
/// deleted it, these are all versions that nobody told, and a later one.
fn absent_ranks(operations: &[Operation], versions: &Versions) -> Vec<Rank> {
    let hidden = operations.iter().any(|operation| {
        operation.outcome == Outcome::Unknown
            && operation.action.deletes()
            && versions.place(operation).is_none()
    });
    let behind = |version| Rank {
        version,
        behind: true,
    };
    let mut ranks = vec![behind(0)];
    let untold = operations.len() as u64 >= versions.holes;
    if hidden && versions.open && untold {
        let absent = |version: &u64| versions.absent_at(*version) != Some(false);
        ranks.extend((1..=versions.highest).filter(absent).map(behind));
        ranks.push(behind(u64::MAX));
    } else {
        let deletes = versions.changes.iter().filter(|(_, change)| change.deleted);
        ranks.extend(deletes.map(|(version, _)| behind(*version)));
    }
    ranks
}

struct Walk<'a> {
    shadow: ShadowId,
    operations: &'a [Operation],
    absent: Vec<Rank>,
    /// The last place of all complete operations, and whose it is.
    latest: Option<(Rank, usize)>,
    /// The highest version of all complete local reads of a session.
    sessions: BTreeMap<u32, u64>,
    violations: Vec<Violation>,
}

impl Walk<'_> {
    /// An operation begins: everything complete must be in front of it. Gives its rank.
    fn invoke(&mut self, index: usize, place: Place) -> Option<Rank> {
        let rank = match place {
            Place::Fixed(rank) => rank,
            Place::Local(version, session) => {
                self.check_session(index, version, session);
                return Some(Rank {
                    version,
                    behind: true,
                });
            }
            Place::Absent => {
                // The earliest possible place leaves the most room for everything after it.
                let latest = self.latest.map(|(rank, _)| rank);
                let at = self
                    .absent
                    .partition_point(|rank| latest.is_some_and(|latest| *rank < latest));
                let Some(rank) = self.absent.get(at) else {
                    let before = self.latest.map(|(_, index)| self.operations[index]);
                    let text = format!("{:?} after {before:?}", self.operations[index]);
                    self.report(Kind::ImpossiblyAbsent, text);
                    return None;
                };
                *rank
            }
        };
        if let Some((latest, earlier)) = self.latest
            && latest > rank
        {
            let (before, after) = (self.operations[earlier], self.operations[index]);
            let kind = kind(&before, &after);
            self.report(kind, format!("{before:?} was complete before {after:?}"));
        }
        Some(rank)
    }

    fn complete(&mut self, index: usize, place: Place, rank: Option<Rank>) {
        if let Place::Local(version, Some(session)) = place {
            let highest = self.sessions.entry(session).or_default();
            *highest = version.max(*highest);
        }
        let Some(rank) = rank else { return };
        if self.latest.is_none_or(|(latest, _)| latest < rank) {
            self.latest = Some((rank, index));
        }
    }

    fn check_session(&mut self, index: usize, version: u64, session: Option<u32>) {
        let Some(session) = session else { return };
        let seen = self.sessions.get(&session).copied().unwrap_or_default();
        if version < seen {
            let text = format!("{:?} after version {seen} was read", self.operations[index]);
            self.report(Kind::LocalReadWentBack, text);
        }
    }

    fn report(&mut self, kind: Kind, text: String) {
        self.violations.push(Violation::of(self.shadow, kind, text));
    }
}

/// What it is called when `after` began after `before` was complete and takes effect before it.
fn kind(before: &Operation, after: &Operation) -> Kind {
    let changes = |operation: &Operation| {
        matches!(
            operation.outcome,
            Outcome::Accepted { .. } | Outcome::Unknown
        )
    };
    match (changes(before), changes(after)) {
        (true, true) => Kind::Reordered,
        (true, false) => Kind::StaleRead,
        (false, true) => Kind::ReadFromFuture,
        (false, false) => Kind::ReadWentBack,
    }
}
