//! The sorted form of a JSON object: a run of records, one per leaf, ordered by path.
//!
//! A *leaf* is a scalar, a whole array, or an explicit empty object; its value is compact JSON text.
//! A *path* is the keys from the root, each ended by a zero byte, with `0x00` and `0x01` inside a
//! key escaped, so that byte order of paths is the order of the tree and a path is a byte prefix of
//! exactly its descendants. Records repeat only the components that differ from the record before.
//!
//! Two kinds of runs share the form: *plain* ones (patches: `null` deletes) and *stamped* ones
//! (documents: every leaf with the time and version of its last write).

use crate::stored::DecodeError;

pub(crate) mod path;
pub(crate) mod text;

/// Whether records carry the time and version of their last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Stamped,
}

/// When a leaf was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) time: u64,
    pub(crate) version: u64,
}

/// The text that deletes a leaf in a patch.
pub(crate) const NULL: &[u8] = b"null";
/// The text of an explicit empty object.
pub(crate) const EMPTY_OBJECT: &[u8] = b"{}";

/// Reads a run record by record. The current path is rebuilt in one buffer.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    form: Form,
    path: Vec<u8>,
    /// The bytes of the current record.
    record: &'a [u8],
    /// How much of the path before the current record repeats.
    shared: usize,
    suffix: &'a [u8],
    /// How many bytes of the suffix the path before has too.
    repeated: usize,
    /// Everything behind the path of the current record.
    body: &'a [u8],
    value: &'a [u8],
    stamp: Stamp,
    /// Whether no integer of the current record is written longer than it need be.
    short: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Live,
    Ended,
}

impl<'a> Reader<'a> {
    /// A reader that stands on the first record, if there is one.
    pub(crate) fn open(bytes: &'a [u8], form: Form) -> Result<Self, DecodeError> {
        let mut reader = Self {
            rest: bytes,
            form,
            path: Vec::with_capacity(64),
            record: &[],
            shared: 0,
            suffix: &[],
            repeated: 0,
            body: &[],
            value: &[],
            stamp: Stamp::default(),
            short: true,
            state: State::First,
        };
        reader.advance()?;
        Ok(reader)
    }

    /// Whether the reader stands on a record; false at the end.
    pub(crate) fn live(&self) -> bool {
        self.state == State::Live
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(crate) fn value(&self) -> &'a [u8] {
        self.value
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The part of the path that the current record writes out.
    pub(crate) fn suffix(&self) -> &'a [u8] {
        self.suffix
    }

    /// What of the run is behind the path of the current record.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// What of the run is behind the current record.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether a [`Writer`] that wrote the leaf before would write this one as it stands: nothing
    /// is spelled out that could repeat, and no integer is longer than it need be.
    pub(crate) fn is_canonical(&self) -> bool {
        self.short && !self.suffix[..self.repeated].contains(&path::END)
    }

    /// Steps to the next record, or to the end. A record that is out of order, lies below the one
    /// before, or divides a key is malformed.
    pub(crate) fn advance(&mut self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            self.state = State::Ended;
            return Ok(());
        }
        let record = self.rest;
        self.short = true;
        self.shared = self.varint()? as usize;
        self.suffix = self.slice()?;
        self.body = self.rest;
        let tail = self.path.get(self.shared..).ok_or(DecodeError::Malformed)?;
        self.repeated = path::common_prefix(tail, self.suffix);
        let follows = match (tail.get(self.repeated), self.suffix.get(self.repeated)) {
            (Some(before), Some(byte)) => before < byte,
            // One lies above the other, or they are the same.
            _ => self.state == State::First,
        };
        if !follows || (self.shared > 0 && self.path[self.shared - 1] != path::END) {
            return Err(DecodeError::Malformed);
        }
        self.path.truncate(self.shared);
        self.path.extend_from_slice(self.suffix);
        if self.form == Form::Stamped {
            self.stamp = Stamp {
                time: self.varint()?,
                version: self.varint()?,
            };
        }
        self.value = self.slice()?;
        self.record = &record[..record.len() - self.rest.len()];
        self.state = State::Live;
        Ok(())
    }

    // Called up to five times for each record, where a call costs more than the work.
    #[inline(always)]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value: u64 = 0;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at as u32);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                // Nothing in the last byte, or more than 64 bits hold, is not how it is written.
                self.short &= byte > 0 && (at < 9 || byte == 1);
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed)
    }

    #[inline(always)]
    fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Malformed)?;
        let (head, tail) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::Malformed)?;
        self.rest = tail;
        Ok(head)
    }
}

/// Writes a run, records in order, and counts the compact JSON that a stamped one stands for.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    last: Vec<u8>,
    json_bytes: usize,
    form: Form,
}

impl Writer {
    pub(crate) fn new(form: Form, capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            last: Vec::new(),
            json_bytes: 0,
            form,
        }
    }

    /// Appends a leaf. Paths must come in order.
    pub(crate) fn put(&mut self, path: &[u8], value: &[u8], stamp: Stamp) {
        let shared = path::shared(&self.last, path);
        let suffix = &path[shared..];
        self.count(shared, suffix, value);
        put_varint(&mut self.bytes, shared as u64);
        put_slice(&mut self.bytes, suffix);
        if self.form == Form::Stamped {
            put_stamp(&mut self.bytes, stamp);
        }
        put_slice(&mut self.bytes, value);
    }

    /// Appends the record a reader of the same form stands on, as it is. The last leaf written must
    /// be the one that the reader stood on before.
    pub(crate) fn copy(&mut self, reader: &Reader<'_>) {
        self.count(reader.shared, reader.suffix, reader.value);
        self.bytes.extend_from_slice(reader.record);
    }

    fn count(&mut self, shared: usize, suffix: &[u8], value: &[u8]) {
        // Nobody asks for the size of a patch.
        if self.form == Form::Stamped {
            self.json_bytes += json_bytes(self.bytes.is_empty(), suffix, value);
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(suffix);
    }

    /// The path of the last leaf written; `None` before the first.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        (!self.bytes.is_empty()).then_some(self.last.as_slice())
    }

    /// Bytes of the section as compact JSON; 0 for an empty run and for a plain one.
    pub(crate) fn json_bytes(&self) -> usize {
        self.json_bytes
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes that one leaf adds to the compact JSON of its section.
pub(crate) fn json_bytes(first: bool, suffix: &[u8], value: &[u8]) -> usize {
    // The braces of the root, or the comma before the next member.
    let marks = if first { 2 } else { 1 };
    marks + path::json_bytes(suffix) + value.len()
}

/// Appends a stamp as it stands in a record.
pub(crate) fn put_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    put_varint(out, stamp.time);
    put_varint(out, stamp.version);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends bytes behind their length.
pub(crate) fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What a run was found to hold by [`check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// Deepest level of names, containers inside arrays included.
    pub(crate) depth: usize,
    /// Longest key, in bytes as stored.
    pub(crate) key_bytes: usize,
}

/// Checks a run from outside: order, no leaf above another, whole components, UTF-8 texts.
/// `root` allows the single record with an empty path that stands for a value by itself.
pub(crate) fn check(bytes: &[u8], form: Form, root: bool) -> Result<Shape, DecodeError> {
    let mut shape = Shape::default();
    let mut first = true;
    // In a run of nothing but ASCII no text needs a look at its encoding; most patches are such.
    let ascii = bytes.is_ascii();
    let is_text = |bytes: &[u8]| ascii || std::str::from_utf8(bytes).is_ok();
    let mut reader = Reader::open(bytes, form)?;
    while reader.live() {
        // The reader has checked the order and where keys end; what repeats was checked before.
        let (suffix, value) = (reader.suffix, reader.value);
        let named = !suffix.is_empty() || (root && first);
        if !named || value.is_empty() || !is_text(suffix) || !is_text(value) {
            return Err(DecodeError::Malformed);
        }
        let keys = path::measure(suffix).ok_or(DecodeError::Malformed)?;
        let levels = path::count(&reader.path[..reader.shared]) + keys.count + text::depth(value);
        shape.depth = shape.depth.max(levels);
        shape.key_bytes = shape.key_bytes.max(keys.longest);
        first = false;
        reader.advance()?;
    }
    Ok(shape)
}
