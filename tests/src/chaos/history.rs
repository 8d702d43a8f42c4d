//! What clients did and what they were told: values that checkers judge.

use std::collections::BTreeMap;

/// A moment of one run, in nanoseconds since its beginning, on one monotonic clock.
pub type Moment = u64;

/// The completion of an operation that nobody heard of again.
pub const NEVER: Moment = Moment::MAX;

/// A shadow of the run, by its place in the list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShadowId(pub u32);

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets the value; `expected` is the condition on the version, 0 for "must not exist".
    Update {
        /// Unique among all updates and deletes of the run.
        value: u64,
        /// The version that the shadow must have.
        expected: Option<u64>,
    },
    /// Deletes the shadow.
    Delete {
        /// Unique among all updates and deletes of the run.
        value: u64,
    },
    /// A linearizable read.
    Read,
    /// A read of what one replica has applied. Within a session it never goes back.
    ReadLocal {
        /// One life of one process; `None` where the answer can come from different replicas.
        session: Option<u32>,
    },
}

impl Action {
    /// The unique value of a change.
    pub fn value(self) -> Option<u64> {
        match self {
            Action::Update { value, .. } | Action::Delete { value } => Some(value),
            Action::Read | Action::ReadLocal { .. } => None,
        }
    }

    /// Whether this deletes.
    pub fn deletes(self) -> bool {
        matches!(self, Action::Delete { .. })
    }
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A change was accepted at this version.
    Accepted {
        /// The version it made.
        version: u64,
    },
    /// A read found this.
    Found {
        /// Version of the document.
        version: u64,
        /// The value in it.
        value: u64,
    },
    /// The shadow did not exist: of a read, or the refusal of a delete.
    Absent,
    /// A conditional update was refused because the shadow was at this version, 0 for absent.
    Conflict {
        /// The version that it had.
        current: u64,
    },
    /// Refused for good for a reason that says nothing about the shadow.
    Refused,
    /// Certainly not applied.
    Failed,
    /// Nobody said anything that binds.
    Unknown,
}

impl Outcome {
    /// Whether the client was told that its change was not made and never will be.
    pub fn denies_change(self) -> bool {
        use Outcome::{Absent, Conflict, Failed, Refused};
        matches!(self, Absent | Conflict { .. } | Refused | Failed)
    }
}

/// One operation of one client on one shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// On what.
    pub shadow: ShadowId,
    /// When the client sent it first.
    pub invoked: Moment,
    /// When the client had the answer; [`NEVER`] without one.
    pub completed: Moment,
    /// What was asked.
    pub action: Action,
    /// What was answered.
    pub outcome: Outcome,
}

/// What the shadow is at one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The value of the operation that made the version.
    pub value: u64,
    /// Whether it deleted the shadow.
    pub deleted: bool,
}

/// What the feed told about one shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// What each version is.
    pub changes: BTreeMap<u64, Change>,
    /// Whether every version is in it: then a version that is not was never made.
    pub complete: bool,
}

/// The feeds of a run; a shadow without an entry has no known feed.
pub type Feeds = BTreeMap<ShadowId, Feed>;

/// What one replica holds of a shadow when everything is quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Final {
    /// A document.
    Present {
        /// Its version.
        version: u64,
        /// The value in it.
        value: u64,
    },
    /// Nothing: never created, or deleted.
    Absent,
}

/// The operations of each shadow, those of one shadow in the order of their invocation.
pub fn by_shadow(operations: &[Operation]) -> Vec<(ShadowId, Vec<Operation>)> {
    let mut sorted = operations.to_vec();
    sorted.sort_by_key(|operation| (operation.shadow, operation.invoked));
    let groups = sorted.chunk_by(|left, right| left.shadow == right.shadow);
    groups
        .map(|group| (group[0].shadow, group.to_vec()))
        .collect()
}
