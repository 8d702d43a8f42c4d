//! The common patch: all that it does is to give values to leaves that are there.
//!
//! Such a patch neither adds nor removes a record. So what it does not mention is copied in spans as
//! it stands, and of a record that it does mention everything up to the path. The merge in the
//! module above stays the rule: where the bytes could differ from what it writes, this one steps
//! back, because other replicas may know that one only.

use std::cmp::Ordering;

use crate::leaves::{self, Form, NULL, Reader, Stamp, Writer};
use crate::stored::DecodeError;

use super::{Merged, undo_of};

/// Merges operations into stamped leaves. `None` when they do more than replace, or when the merge
/// would write a leaf in another form than it is stored in.
pub(super) fn replace(
    leaves: &[u8],
    ops: &[u8],
    stamp: Stamp,
) -> Result<Option<Merged>, DecodeError> {
    let mut out = Output::new(leaves, ops, stamp);
    let mut old = Reader::open(leaves, Form::Stamped)?;
    let mut ops = Reader::open(ops, Form::Plain)?;
    let mut after_hit = false;
    while old.live() {
        let order = if ops.live() {
            old.path().cmp(ops.path())
        } else {
            Ordering::Less
        };
        let hit = order == Ordering::Equal;
        // What is replaced, and what follows it, is not copied by the merge but written anew.
        let written_anew = hit || after_hit;
        if order == Ordering::Greater || (written_anew && !old.is_canonical()) {
            return Ok(None);
        }
        if hit && ops.value() == NULL {
            return Ok(None);
        }
        if hit {
            out.replace(&old, ops.value());
            ops.advance()?;
        } else {
            out.keep(&old);
        }
        after_hit = hit;
        old.advance()?;
    }
    // An operation that is left adds a leaf at the end.
    Ok((!ops.live()).then(|| out.finish()))
}

/// The new leaves and the undo while they are made.
struct Output<'a> {
    /// The old leaves.
    leaves: &'a [u8],
    /// How many bytes of the old leaves are done.
    done: usize,
    bytes: Vec<u8>,
    json_bytes: usize,
    undo: Writer,
    /// The stamp as it stands in a record.
    stamp: Vec<u8>,
}

impl<'a> Output<'a> {
    fn new(leaves: &'a [u8], ops: &[u8], stamp: Stamp) -> Self {
        let mut stamp_bytes = Vec::with_capacity(20);
        leaves::put_stamp(&mut stamp_bytes, stamp);
        Self {
            leaves,
            done: 0,
            bytes: Vec::with_capacity(leaves.len() + ops.len()),
            json_bytes: 0,
            undo: Writer::new(Form::Plain, ops.len()),
            stamp: stamp_bytes,
        }
    }

    /// Leaves the record to the next span that is copied.
    fn keep(&mut self, old: &Reader<'_>) {
        self.count(old, old.value());
    }

    fn replace(&mut self, old: &Reader<'_>, value: &[u8]) {
        self.count(old, value);
        let path_end = self.leaves.len() - old.body().len();
        self.bytes
            .extend_from_slice(&self.leaves[self.done..path_end]);
        self.bytes.extend_from_slice(&self.stamp);
        leaves::put_slice(&mut self.bytes, value);
        self.done = self.leaves.len() - old.rest().len();
        if old.value() != value {
            self.undo.put(old.path(), old.value(), Stamp::default());
        }
    }

    /// Counted anew, not carried on from the document: the sum must be right whatever is stored.
    fn count(&mut self, old: &Reader<'_>, value: &[u8]) {
        let first = self.json_bytes == 0;
        self.json_bytes += leaves::json_bytes(first, old.suffix(), value);
    }

    fn finish(mut self) -> Merged {
        self.bytes.extend_from_slice(&self.leaves[self.done..]);
        Merged {
            leaves: self.bytes,
            json_bytes: self.json_bytes,
            undo: undo_of(self.undo),
        }
    }
}

#[cfg(test)]
mod tests;
