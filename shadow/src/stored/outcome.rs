//! The form of outcomes: the reply of an entry, and what is remembered for a request id.

use bincode::{BorrowDecode, Encode};

use crate::id::{Position, ShadowName, Time};
use crate::outcome::{AcceptedItem, FailedCondition, Outcome, Rejection};

use super::entry::SectionV1;
use super::{DecodeError, Tag, malformed};

#[derive(Encode, BorrowDecode)]
struct OutcomesV1<'a> {
    outcomes: Vec<OutcomeV1<'a>>,
}

#[derive(Encode, BorrowDecode)]
pub(super) enum OutcomeV1<'a> {
    Accepted(Vec<AcceptedItemV1<'a>>),
    Rejected(RejectionV1),
    RejectedItem { index: u32, rejection: RejectionV1 },
}

#[derive(Encode, BorrowDecode)]
pub(super) struct AcceptedItemV1<'a> {
    shadow: &'a str,
    version: u64,
    time: u64,
    feed_index: u64,
    feed_sequence: u32,
}

#[derive(Encode, BorrowDecode)]
pub(super) enum RejectionV1 {
    VersionConflict { current: u64 },
    ProposedVersion { current: u64 },
    SectionVersion { section: SectionV1, current: u64 },
    Path { index: u32 },
    NotFound,
    DocumentTooLarge { bytes: u64, max: u64 },
    TooDeep { max: u32 },
    KeyTooLong { max: u32 },
    SectionNotObject { section: SectionV1 },
    ArrayNull,
    TooManyShadows { max: u32 },
    ClientTokenTooLong { max: u32 },
    BatchSize { max: u32 },
    TooManyConditions { max: u32 },
    RequestIdReused,
    RequestForgotten,
    UnknownRules { rules: u16 },
    Undecodable,
}

pub(crate) fn encode_outcomes(outcomes: &[Outcome]) -> Vec<u8> {
    let shape = OutcomesV1 {
        outcomes: outcomes.iter().map(OutcomeV1::from).collect(),
    };
    super::encode(Tag::OutcomesV1, &shape, 32 + 32 * outcomes.len())
}

pub(crate) fn decode_outcomes(bytes: &[u8]) -> Result<Vec<Outcome>, DecodeError> {
    let shape: OutcomesV1<'_> = super::decode(Tag::OutcomesV1, bytes)?;
    shape.outcomes.into_iter().map(Outcome::try_from).collect()
}

impl<'a> From<&'a Outcome> for OutcomeV1<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Accepted(items) => {
                OutcomeV1::Accepted(items.iter().map(AcceptedItemV1::from).collect())
            }
            Outcome::Rejected(Rejection::Item { index, rejection }) => OutcomeV1::RejectedItem {
                index: *index,
                rejection: rejection.as_ref().into(),
            },
            Outcome::Rejected(rejection) => OutcomeV1::Rejected(rejection.into()),
        }
    }
}

impl TryFrom<OutcomeV1<'_>> for Outcome {
    type Error = DecodeError;

    fn try_from(shape: OutcomeV1<'_>) -> Result<Self, DecodeError> {
        Ok(match shape {
            OutcomeV1::Accepted(items) => Outcome::Accepted(
                items
                    .into_iter()
                    .map(AcceptedItem::try_from)
                    .collect::<Result<_, _>>()?,
            ),
            OutcomeV1::Rejected(rejection) => Outcome::Rejected(rejection.into()),
            OutcomeV1::RejectedItem { index, rejection } => Outcome::Rejected(Rejection::Item {
                index,
                rejection: Box::new(rejection.into()),
            }),
        })
    }
}

impl<'a> From<&'a AcceptedItem> for AcceptedItemV1<'a> {
    fn from(item: &'a AcceptedItem) -> Self {
        AcceptedItemV1 {
            shadow: item.shadow.as_str(),
            version: item.version,
            time: item.time.0,
            feed_index: item.position.index,
            feed_sequence: item.position.sequence,
        }
    }
}

impl TryFrom<AcceptedItemV1<'_>> for AcceptedItem {
    type Error = DecodeError;

    fn try_from(shape: AcceptedItemV1<'_>) -> Result<Self, DecodeError> {
        Ok(AcceptedItem {
            shadow: ShadowName::parse(shape.shadow).map_err(malformed)?,
            version: shape.version,
            time: Time(shape.time),
            position: Position {
                index: shape.feed_index,
                sequence: shape.feed_sequence,
            },
        })
    }
}

impl From<&Rejection> for RejectionV1 {
    fn from(rejection: &Rejection) -> Self {
        match *rejection {
            Rejection::VersionConflict { current } => RejectionV1::VersionConflict { current },
            Rejection::ConditionFailed { ref condition } => match *condition {
                FailedCondition::ProposedVersion { current } => {
                    RejectionV1::ProposedVersion { current }
                }
                FailedCondition::SectionVersion { section, current } => {
                    RejectionV1::SectionVersion {
                        section: section.into(),
                        current,
                    }
                }
                FailedCondition::Path { index } => RejectionV1::Path { index },
            },
            Rejection::NotFound => RejectionV1::NotFound,
            Rejection::DocumentTooLarge { bytes, max } => {
                RejectionV1::DocumentTooLarge { bytes, max }
            }
            Rejection::TooDeep { max } => RejectionV1::TooDeep { max },
            Rejection::KeyTooLong { max } => RejectionV1::KeyTooLong { max },
            Rejection::SectionNotObject { section } => RejectionV1::SectionNotObject {
                section: section.into(),
            },
            Rejection::ArrayNull => RejectionV1::ArrayNull,
            Rejection::TooManyShadows { max } => RejectionV1::TooManyShadows { max },
            Rejection::ClientTokenTooLong { max } => RejectionV1::ClientTokenTooLong { max },
            Rejection::BatchSize { max } => RejectionV1::BatchSize { max },
            Rejection::TooManyConditions { max } => RejectionV1::TooManyConditions { max },
            Rejection::RequestIdReused => RejectionV1::RequestIdReused,
            Rejection::RequestForgotten => RejectionV1::RequestForgotten,
            Rejection::UnknownRules { rules } => RejectionV1::UnknownRules { rules },
            Rejection::Undecodable => RejectionV1::Undecodable,
            // Items do not nest; the cause is what counts.
            Rejection::Item { ref rejection, .. } => RejectionV1::from(rejection.cause()),
        }
    }
}

impl From<RejectionV1> for Rejection {
    fn from(shape: RejectionV1) -> Self {
        let failed = |condition| Rejection::ConditionFailed { condition };
        match shape {
            RejectionV1::VersionConflict { current } => Rejection::VersionConflict { current },
            RejectionV1::ProposedVersion { current } => {
                failed(FailedCondition::ProposedVersion { current })
            }
            RejectionV1::SectionVersion { section, current } => {
                failed(FailedCondition::SectionVersion {
                    section: section.into(),
                    current,
                })
            }
            RejectionV1::Path { index } => failed(FailedCondition::Path { index }),
            RejectionV1::NotFound => Rejection::NotFound,
            RejectionV1::DocumentTooLarge { bytes, max } => {
                Rejection::DocumentTooLarge { bytes, max }
            }
            RejectionV1::TooDeep { max } => Rejection::TooDeep { max },
            RejectionV1::KeyTooLong { max } => Rejection::KeyTooLong { max },
            RejectionV1::SectionNotObject { section } => Rejection::SectionNotObject {
                section: section.into(),
            },
            RejectionV1::ArrayNull => Rejection::ArrayNull,
            RejectionV1::TooManyShadows { max } => Rejection::TooManyShadows { max },
            RejectionV1::ClientTokenTooLong { max } => Rejection::ClientTokenTooLong { max },
            RejectionV1::BatchSize { max } => Rejection::BatchSize { max },
            RejectionV1::TooManyConditions { max } => Rejection::TooManyConditions { max },
            RejectionV1::RequestIdReused => Rejection::RequestIdReused,
            RejectionV1::RequestForgotten => Rejection::RequestForgotten,
            RejectionV1::UnknownRules { rules } => Rejection::UnknownRules { rules },
            RejectionV1::Undecodable => Rejection::Undecodable,
        }
    }
}
