#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use antumbra_shadow::{FailedCondition, Section};

use super::*;

/// One error of every reason.
fn samples() -> Vec<Error> {
    vec![
        Error::invalid("key.device_id", "must not be empty"),
        Error::InvalidJson {
            field: "desired_json".into(),
            reason: "not JSON".into(),
        },
        Error::InvalidNode {
            field: "desired_json".into(),
            reason: "an array holds null".into(),
        },
        Error::TooDeep {
            field: "state".into(),
            max: 8,
        },
        Error::NotFound,
        Error::VersionConflict { current: 7 },
        Error::ConditionFailed {
            condition: "path condition 0 does not hold".into(),
        },
        Error::RequestIdReused,
        Error::TooLarge {
            what: "document",
            bytes: 9000,
            max: 8192,
        },
        Error::TooManyShadows { max: 64 },
        Error::Overloaded,
        Error::Unavailable("no leader"),
        Error::Refused("it leads already".into()),
        Error::OutcomeUnknown,
        Error::Deadline,
        Error::Unauthenticated,
        Error::PermissionDenied,
        Error::Damaged,
        Error::Internal("bug"),
        Error::UnknownPath,
        Error::MethodNotAllowed,
        Error::UnsupportedEncoding,
    ]
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.row().name).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    let produced: BTreeSet<_> = samples().iter().map(Error::reason).collect();
    assert_eq!(produced.into_iter().collect::<Vec<_>>(), {
        let mut all = Reason::ALL.to_vec();
        all.sort();
        all
    });
}

/// The document is the contract; the table is what happens. They must say the same.
#[test]
fn errors_document_agrees_with_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    let text = std::fs::read_to_string(path).unwrap();
    let documented: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let names: Vec<_> = documented
        .iter()
        .map(|row| row[0].trim_matches('`'))
        .collect();
    let expected: Vec<_> = Reason::ALL.iter().map(|reason| reason.row().name).collect();
    assert_eq!(names, expected, "reasons in the order of the enum");
    for (row, reason) in documented.iter().zip(Reason::ALL) {
        let wanted = reason.row();
        let code = format!("{:?}", wanted.grpc);
        let code = code.chars().fold(String::new(), |mut text, next| {
            if next.is_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.push(next.to_ascii_uppercase());
            text
        });
        assert_eq!(row[1], code, "gRPC code of {}", wanted.name);
        assert_eq!(
            row[2],
            format!("{} {}", wanted.http, wanted.exception),
            "{}",
            wanted.name
        );
        let applied = match wanted.applied {
            Applied::No => "no",
            Applied::Maybe => "maybe",
        };
        assert_eq!(
            row[3], applied,
            "whether {} may have been applied",
            wanted.name
        );
    }
}

/// What gRPC clients read: code, reason, domain, and the details that belong to the kind.
#[test]
fn statuses_carry_their_details() {
    for error in samples() {
        let row = error.row();
        let status = Status::from(error.clone());
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(status.code(), row.grpc);
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (row.name, "antumbra")
        );
        let is_field = matches!(
            error,
            Error::Invalid { .. }
                | Error::InvalidJson { .. }
                | Error::InvalidNode { .. }
                | Error::TooDeep { .. }
        );
        assert_eq!(details.bad_request().is_some(), is_field, "{error}");
        let retry = matches!(
            error,
            Error::Overloaded | Error::Unavailable(_) | Error::Refused(_)
        );
        assert_eq!(details.retry_info().is_some(), retry, "{error}");
    }
    let conflict = Status::from(Error::VersionConflict { current: 7 });
    let info = conflict.get_error_details().error_info().unwrap().clone();
    assert_eq!(info.metadata["current_version"], "7");
}

/// Only refusals of our own may call themselves unavailable; whatever may have been applied says so.
#[test]
fn failures_keep_their_certainty() {
    for (failure, applied) in [
        (Failure::Overloaded, Applied::No),
        (Failure::NotLeader, Applied::No),
        (Failure::Unavailable("starting"), Applied::No),
        (Failure::Unknown, Applied::Maybe),
        (Failure::Deadline, Applied::Maybe),
        (Failure::Damaged, Applied::Maybe),
    ] {
        assert_eq!(Error::from(failure).row().applied, applied, "{failure:?}");
        assert_eq!(failure.is_certain(), applied == Applied::No, "{failure:?}");
    }
}

#[test]
fn rejections_have_their_reason() {
    let condition = FailedCondition::SectionVersion {
        section: Section::Desired,
        current: 3,
    };
    for (rejection, reason) in [
        (
            Rejection::VersionConflict { current: 3 },
            Reason::VersionConflict,
        ),
        (
            Rejection::ConditionFailed { condition },
            Reason::ConditionFailed,
        ),
        (Rejection::NotFound, Reason::NotFound),
        (
            Rejection::DocumentTooLarge { bytes: 9, max: 8 },
            Reason::TooLarge,
        ),
        (Rejection::TooDeep { max: 8 }, Reason::TooDeep),
        (Rejection::KeyTooLong { max: 8 }, Reason::InvalidNode),
        (
            Rejection::SectionNotObject {
                section: Section::Desired,
            },
            Reason::InvalidArgument,
        ),
        (Rejection::ArrayNull, Reason::InvalidNode),
        (Rejection::TooManyShadows { max: 8 }, Reason::TooManyShadows),
        (
            Rejection::ClientTokenTooLong { max: 8 },
            Reason::InvalidArgument,
        ),
        (Rejection::BatchSize { max: 8 }, Reason::InvalidArgument),
        (
            Rejection::TooManyConditions { max: 8 },
            Reason::InvalidArgument,
        ),
        (Rejection::RequestIdReused, Reason::RequestIdReused),
        (Rejection::RequestForgotten, Reason::OutcomeUnknown),
        (Rejection::UnknownRules { rules: 9 }, Reason::Unavailable),
        (Rejection::Undecodable, Reason::Internal),
    ] {
        assert_eq!(
            Error::from(rejection.clone()).reason(),
            reason,
            "{rejection:?}"
        );
        let item = Rejection::Item {
            index: 1,
            rejection: Box::new(rejection),
        };
        assert_eq!(Error::from(item).reason(), reason);
    }
}
