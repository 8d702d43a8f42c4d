//! Whether one order of the operations of each shadow explains everything that clients were told.
//!
//! Every accepted change of a shadow has a version of its own, so the versions *are* the order of
//! the changes, and what remains to be checked is that everybody saw that order:
//!
//! 1. [`versions`] gathers what each version is from acknowledgements, reads and the feed. Two
//!    answers that disagree, a version without a change that can have made it, and a change that the
//!    client was told is not made are violations.
//! 2. [`order`] walks through time: an operation that began after another was complete must not take
//!    effect before it. With the order of changes given, this is not only necessary but sufficient.
//! 3. Where a client got no answer and the feed is not known, there may be versions that nobody told.
//!    They are left to [`search`](super::search), which tries every such operation for them.
//!
//! Pure: histories in, violations out; about a microsecond per operation.

use std::collections::BTreeSet;

use super::history::{self, Feed, Feeds, Operation, ShadowId};
use super::search::{self, Answer};
use super::violation::{Kind, Violation};

pub mod order;
pub mod versions;

/// Configurations that a search of one shadow may visit.
const SEARCH_BUDGET: usize = 1_000_000;

/// What was judged, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything that must not be.
    pub violations: Vec<Violation>,
    /// Shadows with at least one operation.
    pub shadows: u64,
    /// Operations judged.
    pub operations: u64,
    /// Shadows that needed the search, because nobody told all their versions.
    pub searched: u64,
}

/// Judges all operations of a run, given what is known of the feeds.
pub fn check(operations: &[Operation], feeds: &Feeds) -> Report {
    let mut report = Report {
        operations: operations.len() as u64,
        ..Report::default()
    };
    let unknown = Feed::default();
    let mut used = BTreeSet::new();
    for (shadow, operations) in history::by_shadow(operations) {
        used.insert(shadow);
        let feed = feeds.get(&shadow).unwrap_or(&unknown);
        let judged = check_shadow(shadow, &operations, feed);
        report.searched += u64::from(judged.searched);
        report.violations.extend(judged.violations);
    }
    report.shadows = used.len() as u64;
    for (shadow, feed) in feeds {
        if !used.contains(shadow) && !feed.changes.is_empty() {
            let text = format!("{} changes of a shadow nobody used", feed.changes.len());
            let phantom = Violation::of(*shadow, Kind::Phantom, text);
            report.violations.push(phantom);
        }
    }
    report
}

/// The judgement on one shadow.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Everything that must not be.
    pub violations: Vec<Violation>,
    /// Whether the search was needed.
    pub searched: bool,
}

/// Judges the operations of one shadow, which are in the order of their invocation.
pub fn check_shadow(shadow: ShadowId, operations: &[Operation], feed: &Feed) -> Judged {
    let versions = versions::gather(shadow, operations, feed);
    let mut judged = Judged {
        violations: versions.violations.clone(),
        searched: false,
    };
    judged
        .violations
        .extend(order::check(shadow, operations, &versions));
    if !judged.violations.is_empty() || !versions.open {
        return judged;
    }
    judged.searched = true;
    let missing = format!(
        "{} versions are not told by anybody, and later ones may have been made",
        versions.holes
    );
    match search::search(operations, &versions.changes, SEARCH_BUDGET) {
        Answer::Linearizable => {}
        Answer::Impossible => judged.violations.push(Violation::of(
            shadow,
            Kind::NotLinearizable,
            format!(
                "no order of the operations of unknown outcome explains what was seen; {missing}"
            ),
        )),
        Answer::Undecided => {
            judged
                .violations
                .push(Violation::of(shadow, Kind::Undecided, missing))
        }
    }
    judged
}
