//! What applying a command gave. Outcomes are replicated: every replica computes the same.

use crate::id::{Position, ShadowName, Time};
use crate::patch::Section;
use crate::stored::{self, DecodeError};

/// The result of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done; one item per changed shadow, in the order of the command.
    Accepted(Vec<AcceptedItem>),
    /// Nothing was done.
    Rejected(Rejection),
}

/// One accepted change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedItem {
    /// The shadow.
    pub shadow: ShadowName,
    /// Its new version; for a delete that of the tombstone.
    pub version: u64,
    /// The time of the change.
    pub time: Time,
    /// Its place in the feed.
    pub position: Position,
}

/// Why a command changed nothing. The code of each is stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The shadow is at another version than expected; 0 when it does not exist.
    #[error("the shadow is at version {current}")]
    VersionConflict {
        /// The version now.
        current: u64,
    },
    /// Another condition does not hold.
    #[error("condition failed: {condition}")]
    ConditionFailed {
        /// Which one.
        condition: FailedCondition,
    },
    /// The shadow to delete does not exist.
    #[error("the shadow does not exist")]
    NotFound,
    /// The change would leave a document over the limit and larger than before.
    #[error("the document would have {bytes} bytes; at most {max} are allowed")]
    DocumentTooLarge {
        /// Compact JSON of both sections after the change.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// More levels of names than allowed.
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// The limit.
        max: u32,
    },
    /// A key is longer than allowed.
    #[error("a key is longer than {max} bytes")]
    KeyTooLong {
        /// The limit.
        max: u32,
    },
    /// `desired` or `reported` is neither an object nor `null`.
    #[error("{section} is not an object")]
    SectionNotObject {
        /// The section.
        section: Section,
    },
    /// An array holds `null`.
    #[error("an array holds null")]
    ArrayNull,
    /// The device has as many shadows, or has used as many names, as it may.
    #[error("the device has {max} shadows already")]
    TooManyShadows {
        /// The limit that was reached.
        max: u32,
    },
    /// The client token is longer than allowed.
    #[error("the client token is longer than {max} bytes")]
    ClientTokenTooLong {
        /// The limit.
        max: u32,
    },
    /// A batch without items, or with more than allowed.
    #[error("a batch has 1 to {max} items")]
    BatchSize {
        /// The limit.
        max: u32,
    },
    /// More path conditions than allowed.
    #[error("more than {max} path conditions")]
    TooManyConditions {
        /// The limit.
        max: u32,
    },
    /// The request id was used for another command.
    #[error("the request id was used for another command")]
    RequestIdReused,
    /// The request is as old as ids that were forgotten: it may have been applied before. It is not
    /// applied now, and the caller is told that its outcome is unknown.
    #[error("the request is older than the ids that are remembered")]
    RequestForgotten,
    /// The entry asks for rules that this build does not have.
    #[error("rules {rules} are not known here")]
    UnknownRules {
        /// The rules that were asked for.
        rules: u16,
    },
    /// The entry, or a part of it, cannot be read.
    #[error("the command cannot be read")]
    Undecodable,
    /// An item of a batch was refused, and therefore the whole batch.
    #[error("item {index}: {rejection}")]
    Item {
        /// Position in the batch, from 0.
        index: u32,
        /// Why; never an `Item` itself.
        rejection: Box<Rejection>,
    },
}

/// A condition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailedCondition {
    /// The proposed version is not greater than the last one.
    #[error("the last proposed version is {current}")]
    ProposedVersion {
        /// The last one.
        current: u64,
    },
    /// The section was changed by another version than expected.
    #[error("{section} was last changed by version {current}")]
    SectionVersion {
        /// The section.
        section: Section,
        /// The version of its last change; 0 when there is none.
        current: u64,
    },
    /// A path condition does not hold.
    #[error("path condition {index} does not hold")]
    Path {
        /// Position in the list of path conditions, from 0.
        index: u32,
    },
}

impl Rejection {
    /// The stable code. A refused item of a batch has the code of its cause.
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::VersionConflict { .. } => "VERSION_CONFLICT",
            Rejection::ConditionFailed { .. } => "CONDITION_FAILED",
            Rejection::NotFound => "NOT_FOUND",
            Rejection::DocumentTooLarge { .. } => "DOCUMENT_TOO_LARGE",
            Rejection::TooDeep { .. } => "TOO_DEEP",
            Rejection::KeyTooLong { .. } => "KEY_TOO_LONG",
            Rejection::SectionNotObject { .. } => "SECTION_NOT_OBJECT",
            Rejection::ArrayNull => "ARRAY_NULL",
            Rejection::TooManyShadows { .. } => "TOO_MANY_SHADOWS",
            Rejection::ClientTokenTooLong { .. } => "CLIENT_TOKEN_TOO_LONG",
            Rejection::BatchSize { .. } => "BATCH_SIZE",
            Rejection::TooManyConditions { .. } => "TOO_MANY_CONDITIONS",
            Rejection::RequestIdReused => "REQUEST_ID_REUSED",
            Rejection::RequestForgotten => "REQUEST_FORGOTTEN",
            Rejection::UnknownRules { .. } => "UNKNOWN_RULES",
            Rejection::Undecodable => "UNDECODABLE",
            Rejection::Item { rejection, .. } => rejection.code(),
        }
    }

    /// The rejection itself, without the item of a batch around it.
    pub fn cause(&self) -> &Rejection {
        match self {
            Rejection::Item { rejection, .. } => rejection.cause(),
            other => other,
        }
    }

    /// The item of a batch that was refused.
    pub fn item(&self) -> Option<u32> {
        match self {
            Rejection::Item { index, .. } => Some(*index),
            _ => None,
        }
    }
}

impl Outcome {
    /// The first accepted item, if the command was accepted.
    pub fn accepted(&self) -> Option<&AcceptedItem> {
        match self {
            Outcome::Accepted(items) => items.first(),
            Outcome::Rejected(_) => None,
        }
    }
}

/// The reply of an entry: one outcome per command, in order.
pub fn encode_outcomes(outcomes: &[Outcome]) -> Vec<u8> {
    stored::encode_outcomes(outcomes)
}

/// Reads what [`encode_outcomes`] wrote.
pub fn decode_outcomes(bytes: &[u8]) -> Result<Vec<Outcome>, DecodeError> {
    stored::decode_outcomes(bytes)
}
