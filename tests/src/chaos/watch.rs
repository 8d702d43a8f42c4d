//! Whether watches told every change once and in order, across everything that broke them.
//!
//! A watcher notes what it was told, and every time it connects anew. Per shadow the versions must
//! come one after another, also across connections when it resumes at a cursor. Only a reset, or a
//! connection without a cursor, may leave something out; then the current documents follow, none of
//! them older than what was told before. Pure: notes in, violations out.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Change, Feed, Feeds, Operation, Outcome, ShadowId};
use super::violation::{Kind, Violation};

/// Violations reported per watcher; one gap makes many.
const REPORTED_MAX: usize = 10;
/// A reset that is right at any time, but only before `Synced`.
const SOURCE_LOST: &str = "SOURCE_LOST";

/// Something that a watcher noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It connected with the last cursor it got: changes follow.
    Resumed,
    /// It connected without a cursor: the current documents follow, then `Synced`.
    Opened,
    /// A current document.
    Document {
        /// Of this shadow.
        shadow: ShadowId,
        /// Its version.
        version: u64,
        /// The value in it.
        value: u64,
    },
    /// All current documents were sent.
    Synced,
    /// A change.
    Changed {
        /// Of this shadow.
        shadow: ShadowId,
        /// The version it made.
        version: u64,
        /// What it did.
        change: Change,
    },
    /// The watch begins anew for this reason.
    Reset(String),
}

/// All notes of one watcher.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Names the watcher in reports.
    pub name: String,
    /// In the order in which they were made.
    pub notes: Vec<Note>,
}

/// What is expected of the watchers of a run.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The last version of each shadow, as far as it is known.
    pub last: BTreeMap<ShadowId, u64>,
    /// Reasons for which a watch may begin anew in this run.
    pub resets: BTreeSet<String>,
}

/// What was judged, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything that must not be.
    pub violations: Vec<Violation>,
    /// Changes and documents told.
    pub events: u64,
    /// Connections made.
    pub connections: u64,
    /// Resets by reason.
    pub resets: BTreeMap<String, u64>,
}

/// What all watchers together told about each shadow. A feed is complete when a watcher that was
/// never reset saw it. The first of two watchers that disagree is believed here; [`check`] reports
/// the other.
pub fn feeds(watchers: &[Watched]) -> Feeds {
    let complete = watchers.iter().any(|watcher| {
        let begins = |note: &&Note| matches!(note, Note::Opened | Note::Reset(_));
        !watcher.notes.is_empty() && watcher.notes.iter().filter(begins).count() <= 1
    });
    let mut feeds = Feeds::new();
    for watcher in watchers {
        for note in &watcher.notes {
            let Note::Changed {
                shadow,
                version,
                change,
            } = note
            else {
                continue;
            };
            let feed = feeds.entry(*shadow).or_insert_with(|| Feed {
                complete,
                ..Feed::default()
            });
            feed.changes.entry(*version).or_insert(*change);
        }
    }
    feeds
}

/// Judges all watchers against what acknowledgements and feeds say that the versions are.
pub fn check(
    watchers: &[Watched],
    operations: &[Operation],
    feeds: &Feeds,
    expected: &Expected,
) -> Report {
    let mut truth: BTreeMap<ShadowId, BTreeMap<u64, Change>> = BTreeMap::new();
    for operation in operations {
        if let (Outcome::Accepted { version }, Some(value)) =
            (operation.outcome, operation.action.value())
        {
            let deleted = operation.action.deletes();
            let changes = truth.entry(operation.shadow).or_default();
            changes.entry(version).or_insert(Change { value, deleted });
        }
    }
    for (shadow, feed) in feeds {
        let changes = truth.entry(*shadow).or_default();
        for (version, change) in &feed.changes {
            changes.entry(*version).or_insert(*change);
        }
    }
    let mut report = Report::default();
    for watcher in watchers {
        let mut reader = Reader {
            truth: &truth,
            expected,
            name: &watcher.name,
            seen: BTreeMap::new(),
            opening: None,
            connections: 0,
            report: Report::default(),
        };
        for note in &watcher.notes {
            reader.read(note);
        }
        reader.end();
        report.events += reader.report.events;
        report.connections += reader.connections;
        for (reason, count) in reader.report.resets {
            *report.resets.entry(reason).or_default() += count;
        }
        let violations = reader.report.violations.into_iter();
        report.violations.extend(violations.take(REPORTED_MAX));
    }
    report
}

/// What a watcher knows of a shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It is at this version.
    At(u64),
    /// It was deleted behind this version, nobody said when.
    GoneAfter(u64),
}

impl Seen {
    fn version(self) -> u64 {
        match self {
            Seen::At(version) | Seen::GoneAfter(version) => version,
        }
    }
}

struct Reader<'a> {
    truth: &'a BTreeMap<ShadowId, BTreeMap<u64, Change>>,
    expected: &'a Expected,
    name: &'a str,
    seen: BTreeMap<ShadowId, Seen>,
    /// The documents told since the watch began anew, until it is synced.
    opening: Option<BTreeSet<ShadowId>>,
    connections: u64,
    report: Report,
}

impl Reader<'_> {
    fn read(&mut self, note: &Note) {
        match note {
            Note::Resumed => {
                self.connections += 1;
                if self.opening.take().is_some() {
                    let text = "a cursor was given before all documents were sent";
                    self.violation(None, Kind::WatchProtocol, text);
                }
            }
            Note::Opened => {
                self.connections += 1;
                self.opening = Some(BTreeSet::new());
            }
            Note::Reset(reason) => {
                *self.report.resets.entry(reason.clone()).or_default() += 1;
                // Documents come from one node; when that is lost meanwhile, they come anew.
                let lost = reason == SOURCE_LOST && self.opening.is_some();
                if !lost && !self.expected.resets.contains(reason) {
                    self.violation(None, Kind::WatchReset, format!("reset: {reason}"));
                }
                self.opening = Some(BTreeSet::new());
            }
            Note::Document {
                shadow,
                version,
                value,
            } => self.document(*shadow, *version, *value),
            Note::Synced => self.synced(),
            Note::Changed {
                shadow,
                version,
                change,
            } => self.change(*shadow, *version, *change),
        }
    }

    fn document(&mut self, shadow: ShadowId, version: u64, value: u64) {
        self.report.events += 1;
        let first = match &mut self.opening {
            Some(told) => told.insert(shadow),
            None => false,
        };
        if !first {
            let text = format!("the document of version {version}, which is not due");
            self.violation(Some(shadow), Kind::WatchProtocol, text);
        }
        let seen = self.seen.get(&shadow).map_or(0, |seen| seen.version());
        if version < seen {
            let text = format!("document of version {version} after version {seen}");
            self.violation(Some(shadow), Kind::WatchRepeat, text);
        }
        let change = Change {
            value,
            deleted: false,
        };
        self.compare(shadow, version, change);
        self.seen.insert(shadow, Seen::At(version));
    }

    /// Whatever has no document now does not exist.
    fn synced(&mut self) {
        let Some(told) = self.opening.take() else {
            self.violation(None, Kind::WatchProtocol, "synced, which is not due");
            return;
        };
        for (shadow, seen) in &mut self.seen {
            if !told.contains(shadow) {
                *seen = Seen::GoneAfter(seen.version());
            }
        }
        // The first opening of a run finds nothing, and nothing was there before.
        if self.connections > 1 || !self.report.resets.is_empty() {
            for shadow in self.truth.keys() {
                self.seen.entry(*shadow).or_insert(Seen::GoneAfter(0));
            }
        }
    }

    fn change(&mut self, shadow: ShadowId, version: u64, change: Change) {
        self.report.events += 1;
        if self.opening.is_some() {
            let text = format!("version {version} before all documents were sent");
            self.violation(Some(shadow), Kind::WatchProtocol, text);
        }
        let seen = self.seen.get(&shadow).copied().unwrap_or(Seen::At(0));
        let last = seen.version();
        if version <= last {
            let text = format!("version {version} after version {last}");
            self.violation(Some(shadow), Kind::WatchRepeat, text);
            return;
        }
        if seen == Seen::At(last) && version > last + 1 {
            let text = format!("version {version} after version {last}");
            self.violation(Some(shadow), Kind::WatchGap, text);
        }
        self.compare(shadow, version, change);
        self.seen.insert(shadow, Seen::At(version));
    }

    fn compare(&mut self, shadow: ShadowId, version: u64, told: Change) {
        let known = self
            .truth
            .get(&shadow)
            .and_then(|changes| changes.get(&version));
        if known.is_some_and(|known| *known != told) {
            let text = format!("version {version} is {known:?}, told was {told:?}");
            self.violation(Some(shadow), Kind::WatchWrong, text);
        }
    }

    fn end(&mut self) {
        let missing: Vec<_> = self
            .expected
            .last
            .iter()
            .filter(|(shadow, last)| match self.seen.get(shadow) {
                Some(Seen::At(version)) => version < last,
                Some(Seen::GoneAfter(_)) => false,
                None => **last > 0,
            })
            .map(|(shadow, last)| (shadow.0, *last, self.seen.get(shadow).copied()))
            .collect();
        if let Some(first) = missing.first() {
            let text = format!(
                "{} shadows are not told to their end; the first as (shadow, last version, told): \
                 {first:?}",
                missing.len()
            );
            self.violation(None, Kind::WatchIncomplete, text);
        }
    }

    fn violation(&mut self, shadow: Option<ShadowId>, kind: Kind, text: impl AsRef<str>) {
        let text = format!("{}: {}", self.name, text.as_ref());
        self.report
            .violations
            .push(Violation { kind, shadow, text });
    }
}
