//! One linear merge of the sorted leaves of a section with the sorted operations of a patch.
//!
//! Rules (AWS, `update`): objects merge; a scalar, an array or an object of another kind replaces
//! what was there; `null` deletes, and is a no-op for what is absent, so a new subtree of nothing but
//! nulls leaves nothing; an object whose last member is deleted stays as `{}`, except the root of
//! the section; `{}` merges nothing into an object. Every leaf that was sent takes the stamp of the
//! change, also when its value stays the same.
//!
//! Alongside, the merge writes the undo: the operations that turn the new state back into the old.
//!
//! Most patches do nothing but give new values to leaves that are there. For them `replace` makes the
//! same bytes with less work.

use bytes::Bytes;

use crate::leaves::{EMPTY_OBJECT, Form, NULL, Reader, Stamp, Writer, path};
use crate::patch::SectionPatch;
use crate::stored::DecodeError;

mod replace;

/// What merging one section gave.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The new leaves, stamped.
    pub(crate) leaves: Vec<u8>,
    /// Bytes of the new section as compact JSON.
    pub(crate) json_bytes: usize,
    /// What brings the old state back.
    pub(crate) undo: SectionPatch,
}

/// Merges a patch into the stamped leaves of a section. `None` when the patch does not mention the
/// section, which then stays as it is.
pub(crate) fn merge(
    leaves: &[u8],
    patch: &SectionPatch,
    stamp: Stamp,
) -> Result<Option<Merged>, DecodeError> {
    match patch {
        SectionPatch::Absent => Ok(None),
        SectionPatch::Clear => clear(leaves).map(Some),
        SectionPatch::Merge(ops) => match replace::replace(leaves, ops, stamp)? {
            Some(replaced) => Ok(Some(replaced)),
            None => Merge::open(leaves, ops, stamp)?.run().map(Some),
        },
    }
}

fn clear(leaves: &[u8]) -> Result<Merged, DecodeError> {
    let mut undo = Writer::new(Form::Plain, leaves.len());
    let mut old = Reader::open(leaves, Form::Stamped)?;
    while old.live() {
        undo.put(old.path(), old.value(), Stamp::default());
        old.advance()?;
    }
    Ok(Merged {
        leaves: Vec::new(),
        json_bytes: 0,
        undo: undo_of(undo),
    })
}

fn undo_of(undo: Writer) -> SectionPatch {
    match undo.last() {
        None => SectionPatch::Absent,
        Some(_) => SectionPatch::Merge(Bytes::from(undo.finish())),
    }
}

struct Merge<'a> {
    old: Reader<'a>,
    ops: Reader<'a>,
    out: Writer,
    undo: Writer,
    stamp: Stamp,
    /// Whether the last leaf written is the old leaf before the one `old` stands on.
    in_step: bool,
    /// Path of the last old leaf that was passed.
    passed: Vec<u8>,
    /// An object that lost a member and has none so far: it stays as `{}` unless a member follows.
    emptied: Option<Vec<u8>>,
    /// A replaced scalar: putting it back undoes everything below it.
    replaced: Option<Vec<u8>>,
}

impl<'a> Merge<'a> {
    fn open(leaves: &'a [u8], ops: &'a [u8], stamp: Stamp) -> Result<Self, DecodeError> {
        Ok(Self {
            old: Reader::open(leaves, Form::Stamped)?,
            ops: Reader::open(ops, Form::Plain)?,
            out: Writer::new(Form::Stamped, leaves.len() + ops.len() + ops.len() / 2),
            undo: Writer::new(Form::Plain, ops.len()),
            stamp,
            in_step: true,
            passed: Vec::with_capacity(64),
            emptied: None,
            replaced: None,
        })
    }

    fn run(mut self) -> Result<Merged, DecodeError> {
        while self.ops.live() {
            if !self.old.live() {
                self.add()?;
            } else if self.old.path().starts_with(self.ops.path()) {
                self.hit()?;
            } else if self.ops.path().starts_with(self.old.path()) {
                self.descend()?;
            } else if self.old.path() < self.ops.path() {
                self.keep()?;
            } else {
                self.add()?;
            }
        }
        while self.old.live() {
            self.keep()?;
        }
        self.flush_emptied(&[]);
        let json_bytes = self.out.json_bytes();
        Ok(Merged {
            leaves: self.out.finish(),
            json_bytes,
            undo: undo_of(self.undo),
        })
    }

    /// The old leaf is untouched.
    fn keep(&mut self) -> Result<(), DecodeError> {
        if self.emptied.is_some() {
            let path = self.old.path().to_vec();
            self.flush_emptied(&path);
        }
        if self.in_step {
            self.out.copy(&self.old);
        } else {
            self.out
                .put(self.old.path(), self.old.value(), self.old.stamp());
        }
        self.pass()?;
        self.in_step = true;
        Ok(())
    }

    /// Nothing is at, above or below the path of the operation.
    fn add(&mut self) -> Result<(), DecodeError> {
        if self.ops.value() != NULL {
            self.write_op();
            self.undo_add();
        }
        self.ops.advance()
    }

    /// Old leaves are at or below the path of the operation.
    fn hit(&mut self) -> Result<(), DecodeError> {
        let value = self.ops.value();
        let exact = self.old.path() == self.ops.path();
        if value == EMPTY_OBJECT && (!exact || self.old.value() == EMPTY_OBJECT) {
            // An object is there already: nothing is merged into it.
            if exact {
                self.write_op();
                self.pass()?;
            }
            return self.ops.advance();
        }
        while self.old.live() && self.old.path().starts_with(self.ops.path()) {
            if !(exact && self.old.value() == value) {
                self.undo
                    .put(self.old.path(), self.old.value(), Stamp::default());
            }
            self.pass()?;
        }
        if value == NULL {
            self.mark_emptied();
        } else {
            self.write_op();
        }
        self.ops.advance()
    }

    /// The old leaf is above the path of the operation: a scalar, an array or an empty object.
    fn descend(&mut self) -> Result<(), DecodeError> {
        let mut ahead = self.ops.clone();
        let mut writes = false;
        while ahead.live() && ahead.path().starts_with(self.old.path()) && !writes {
            writes = ahead.value() != NULL;
            ahead.advance()?;
        }
        if !writes {
            // Deleting below a leaf deletes nothing.
            self.ops = ahead;
            return Ok(());
        }
        if self.old.value() != EMPTY_OBJECT {
            self.undo
                .put(self.old.path(), self.old.value(), Stamp::default());
            self.replaced = Some(self.old.path().to_vec());
        }
        self.pass()
    }

    fn pass(&mut self) -> Result<(), DecodeError> {
        self.passed.clear();
        self.passed.extend_from_slice(self.old.path());
        self.in_step = false;
        self.old.advance()
    }

    fn write_op(&mut self) {
        if self.emptied.is_some() {
            let path = self.ops.path().to_vec();
            self.flush_emptied(&path);
        }
        self.out.put(self.ops.path(), self.ops.value(), self.stamp);
        self.in_step = false;
    }

    /// The undo of an added leaf deletes the highest object that did not exist before.
    fn undo_add(&mut self) {
        let path = self.ops.path();
        if self
            .replaced
            .as_deref()
            .is_some_and(|replaced| path.starts_with(replaced))
        {
            return;
        }
        let mut existed = path::shared(&self.passed, path);
        if self.old.live() {
            existed = existed.max(path::shared(self.old.path(), path));
        }
        let added = path::through_next(path, existed);
        if self.undo.last() != Some(added) {
            self.undo.put(added, NULL, Stamp::default());
        }
    }

    /// The object around a deleted member stays, as `{}` when nothing else is in it.
    fn mark_emptied(&mut self) {
        let Some(object) = path::parent(self.ops.path()) else {
            return;
        };
        let object = object.to_vec();
        // A marker further up gives way: something below it remains either way.
        self.flush_emptied(&object);
        if !self
            .out
            .last()
            .is_some_and(|last| last.starts_with(&object))
        {
            self.emptied = Some(object);
        }
    }

    /// Writes the waiting `{}` unless what comes next lies inside it.
    fn flush_emptied(&mut self, next: &[u8]) {
        if let Some(object) = self.emptied.take()
            && !next.starts_with(&object)
        {
            self.out.put(&object, EMPTY_OBJECT, self.stamp);
            self.in_step = false;
        }
    }
}

#[cfg(test)]
mod tests;
