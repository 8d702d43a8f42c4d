//! What was read of the StatefulSet, and how sure that makes us. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::kubernetes::StatefulSet;

/// An ordinal must have been too high in so many consecutive reads: a stale answer once made others send away
/// what had just been added.
pub(super) const READS_MIN: usize = 3;
/// And for so long, from the first of these reads to the last.
pub(super) const READS_SPAN: Duration = Duration::from_secs(15);
/// Reads that are further apart are not consecutive: nobody knows what was in between.
pub(super) const READS_GAP_MAX: Duration = Duration::from_secs(30);
/// What was read longer ago says nothing about now.
pub(super) const READ_AGE_MAX: Duration = Duration::from_secs(10);
/// As many reads are remembered.
const READS_KEPT: usize = 64;

/// What a read gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The StatefulSet.
    Set(StatefulSet),
    /// There is none.
    Missing,
    /// Nobody knows, and why.
    Unknown(String),
}

/// The latest reads by one leader, by the time since it began, which never goes back.
#[derive(Debug, Clone, Default)]
pub(super) struct Reads {
    kept: VecDeque<(Duration, Found)>,
}

impl Reads {
    /// Adds what was asked for at this time.
    pub(super) fn note(&mut self, asked_at: Duration, found: Found) {
        // A clock that goes back says nothing about what was before.
        if self.kept.back().is_some_and(|(last, _)| *last > asked_at) {
            self.kept.clear();
        }
        if self.kept.len() == READS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((asked_at, found));
    }

    /// The last read, if it still counts.
    pub(super) fn latest(&self, now: Duration) -> Option<&Found> {
        let (at, found) = self.kept.back()?;
        let age = now.checked_sub(*at)?;
        (age <= READ_AGE_MAX).then_some(found)
    }

    /// Whether the same StatefulSet has had no pod with this ordinal for long enough.
    pub(super) fn confirm(&self, ordinal: u32) -> bool {
        let Some((newest, Found::Set(set))) = self.kept.back() else {
            return false;
        };
        let (mut count, mut oldest) = (0, *newest);
        for (at, found) in self.kept.iter().rev() {
            let is_same = matches!(
                found,
                Found::Set(one) if one.uid == set.uid && !one.is_being_deleted && ordinal >= one.end()
            );
            if !is_same || oldest.saturating_sub(*at) > READS_GAP_MAX {
                break;
            }
            (count, oldest) = (count + 1, *at);
        }
        count >= READS_MIN && newest.saturating_sub(oldest) >= READS_SPAN
    }
}
