//! What `desired` has and `reported` lacks or has differently.
//!
//! Objects are compared member by member; arrays as a whole; numbers by value. What is only in
//! `reported` never appears. An explicit `{}` in `desired` is met by any object in `reported`.

use crate::id::Time;
use crate::leaves::{EMPTY_OBJECT, Form, Reader, text};
use crate::pointer::Pointer;
use crate::render::{TimeUnit, TreeWriter, write_metadata};
use crate::stored::DecodeError;

/// Calls `each` for every leaf of `desired` that differs from `reported`, in order.
fn differences(
    desired: &[u8],
    reported: &[u8],
    mut each: impl FnMut(&Reader<'_>),
) -> Result<(), DecodeError> {
    let mut desired = Reader::open(desired, Form::Stamped)?;
    let mut reported = Reader::open(reported, Form::Stamped)?;
    while desired.live() {
        while reported.live() && reported.path() < desired.path() {
            reported.advance()?;
        }
        let exact = reported.live() && reported.path() == desired.path();
        let met = if exact {
            text::equal(desired.value(), reported.value())
        } else {
            desired.value() == EMPTY_OBJECT
                && reported.live()
                && reported.path().starts_with(desired.path())
        };
        if !met {
            each(&desired);
        }
        desired.advance()?;
    }
    Ok(())
}

/// The differing leaves as JSON; `None` when there are none.
pub(crate) fn values(desired: &[u8], reported: &[u8], pointers: &[Pointer]) -> Option<String> {
    let mut tree = TreeWriter::default();
    let walked = differences(desired, reported, |leaf| {
        if Pointer::any_covers(pointers, leaf.path()) {
            tree.begin(leaf.path()).extend_from_slice(leaf.value());
        }
    });
    walked.ok().and_then(|()| tree.finish())
}

/// The times of the differing leaves: those of `desired`.
pub(crate) fn metadata(desired: &[u8], reported: &[u8], unit: TimeUnit) -> Option<String> {
    let mut tree = TreeWriter::default();
    let walked = differences(desired, reported, |leaf| {
        let timestamp = unit.timestamp_json(Time(leaf.stamp().time));
        write_metadata(leaf.value(), &timestamp, tree.begin(leaf.path()));
    });
    walked.ok().and_then(|()| tree.finish())
}

/// Whether anything differs.
pub(crate) fn is_empty(desired: &[u8], reported: &[u8]) -> bool {
    let mut empty = true;
    let walked = differences(desired, reported, |_| empty = false);
    walked.is_ok() && empty
}

#[cfg(test)]
mod tests;
