//! Whether everything acknowledged is there after all is healed. Pure.

use std::collections::BTreeMap;

use super::history::{Change, Feeds, Final, Operation, Outcome, ShadowId};
use super::violation::{Kind, Violation};

/// What one node shows of one shadow when everything is quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The node asked, counted from 1.
    pub node: u32,
    /// The shadow.
    pub shadow: ShadowId,
    /// What it shows.
    pub found: Final,
}

/// What was judged, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything that must not be.
    pub violations: Vec<Violation>,
    /// Answers judged: shadows times nodes.
    pub shown: u64,
}

/// Compares what every node shows with the last acknowledged change of every shadow: it must be
/// there, or a later one.
pub fn check(operations: &[Operation], feeds: &Feeds, shown: &[Shown]) -> Report {
    let acknowledged = acknowledged(operations);
    let mut report = Report {
        shown: shown.len() as u64,
        ..Report::default()
    };
    for shown in shown {
        let Some((version, change)) = acknowledged.get(&shown.shadow) else {
            continue;
        };
        let wrong = match shown.found {
            Final::Present { version: found, .. } if found < *version => Some(Kind::Lost),
            Final::Present {
                version: found,
                value,
            } if found == *version => {
                (change.deleted || value != change.value).then_some(Kind::WrongValue)
            }
            Final::Present { .. } => None,
            Final::Absent if change.deleted => None,
            Final::Absent => {
                let may = may_be_deleted(shown.shadow, *version, operations, feeds);
                (!may).then_some(Kind::Lost)
            }
        };
        if let Some(kind) = wrong {
            let text = format!(
                "node {} shows {:?}, acknowledged was {change:?} at version {version}",
                shown.node, shown.found
            );
            report
                .violations
                .push(Violation::of(shown.shadow, kind, text));
        }
    }
    report
}

/// The last acknowledged change of every shadow.
pub fn acknowledged(operations: &[Operation]) -> BTreeMap<ShadowId, (u64, Change)> {
    let mut last = BTreeMap::new();
    for operation in operations {
        if let (Outcome::Accepted { version }, Some(value)) =
            (operation.outcome, operation.action.value())
        {
            let deleted = operation.action.deletes();
            let change = (version, Change { value, deleted });
            let entry = last.entry(operation.shadow).or_insert(change);
            if version > entry.0 {
                *entry = change;
            }
        }
    }
    last
}

/// Whether a delete behind `version` is known, or possible because its outcome is not known.
fn may_be_deleted(shadow: ShadowId, version: u64, operations: &[Operation], feeds: &Feeds) -> bool {
    match feeds.get(&shadow) {
        Some(feed) if feed.complete => feed
            .changes
            .last_key_value()
            .is_some_and(|(last, change)| *last > version && change.deleted),
        _ => operations.iter().any(|operation| {
            operation.shadow == shadow
                && operation.action.deletes()
                && operation.outcome == Outcome::Unknown
        }),
    }
}
