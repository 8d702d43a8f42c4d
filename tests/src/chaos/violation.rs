//! What must never be seen.

use std::fmt;

use super::history::ShadowId;

/// The kinds of things that must never be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged change is not there.
    Lost,
    /// A version was given to two changes.
    RepeatedVersion,
    /// Two answers disagree about what a version is.
    WrongValue,
    /// Something nobody wrote.
    Phantom,
    /// One operation made two versions.
    AppliedTwice,
    /// A change that the client was told is certainly not made was made.
    DeniedButApplied,
    /// A version that nobody can have made.
    Gap,
    /// A read, or the refusal of a condition, shows less than was complete before it began.
    StaleRead,
    /// A read shows less than another read that was complete before it began.
    ReadWentBack,
    /// A read shows a change that began after the read was complete.
    ReadFromFuture,
    /// Two changes took effect against the order in which clients made them.
    Reordered,
    /// A change was accepted although its condition did not hold, or refused although it held.
    ConditionBroken,
    /// The shadow was reported absent when it cannot have been.
    ImpossiblyAbsent,
    /// A local read showed less than an earlier one of the same process.
    LocalReadWentBack,
    /// No order of the operations explains what the clients were told.
    NotLinearizable,
    /// The search for an order was given up.
    Undecided,
    /// A watch left out a version.
    WatchGap,
    /// A watch told a version again.
    WatchRepeat,
    /// A watch told something that is not what the version is.
    WatchWrong,
    /// A watch broke its own protocol.
    WatchProtocol,
    /// A watch began anew without a reason that is documented for what happened.
    WatchReset,
    /// A watch never told the last version.
    WatchIncomplete,
    /// Replicas hold different things.
    ReplicasDiffer,
    /// The comparison of the replicas could not be made.
    NotVerified,
    /// Something did not serve in time.
    NotServing,
    /// A process ended by itself.
    ProcessEnded,
    /// A node was not repaired in time.
    NotRepaired,
}

/// One thing that must never be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind of thing.
    pub kind: Kind,
    /// The shadow, when it is about one.
    pub shadow: Option<ShadowId>,
    /// What was seen, for people.
    pub text: String,
}

impl Violation {
    /// Something about one shadow.
    pub fn of(shadow: ShadowId, kind: Kind, text: impl Into<String>) -> Violation {
        Violation {
            kind,
            shadow: Some(shadow),
            text: text.into(),
        }
    }

    /// Something about the whole run.
    pub fn general(kind: Kind, text: impl Into<String>) -> Violation {
        Violation {
            kind,
            shadow: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shadow {
            Some(shadow) => write!(f, "{:?} (shadow {}): {}", self.kind, shadow.0, self.text),
            None => write!(f, "{:?}: {}", self.kind, self.text),
        }
    }
}
