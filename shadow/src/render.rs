//! JSON text from sorted leaves: the only way back from the stored form, used by the doors.

use crate::id::Time;
use crate::json;
use crate::leaves::{self, Form, Reader, path, text};
use crate::pointer::Pointer;

/// The unit in which a door prints the times of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Whole seconds, rounded down: the AWS dialect.
    Seconds,
    /// Milliseconds: our own doors.
    Milliseconds,
}

impl TimeUnit {
    /// The time as a number of this unit.
    pub fn of(self, time: Time) -> u64 {
        match self {
            TimeUnit::Seconds => time.seconds(),
            TimeUnit::Milliseconds => time.milliseconds(),
        }
    }

    /// The text of one leaf of metadata: `{"timestamp":t}`.
    pub fn timestamp_json(self, time: Time) -> String {
        format!("{{\"timestamp\":{}}}", self.of(time))
    }
}

/// Builds one JSON object from leaves that come in path order.
#[derive(Debug, Default)]
pub(crate) struct TreeWriter {
    out: Vec<u8>,
    path: Vec<u8>,
    levels: usize,
}

impl TreeWriter {
    /// Opens what lies between the last leaf and this one; the caller then appends the value.
    pub(crate) fn begin(&mut self, next: &[u8]) -> &mut Vec<u8> {
        let shared = path::shared(&self.path, next);
        let kept = path::count(&next[..shared]);
        if self.out.is_empty() {
            self.out.push(b'{');
        } else {
            for _ in kept + 1..self.levels {
                self.out.push(b'}');
            }
            self.out.push(b',');
        }
        let mut levels = kept;
        for key in path::keys(&next[shared..]) {
            if levels > kept {
                self.out.push(b'{');
            }
            write_key(&key, &mut self.out);
            levels += 1;
        }
        self.levels = levels;
        self.path.truncate(shared);
        self.path.extend_from_slice(&next[shared..]);
        &mut self.out
    }

    /// Closes the object; `None` when no leaf came.
    pub(crate) fn finish(mut self) -> Option<String> {
        if self.out.is_empty() {
            return None;
        }
        for _ in 0..self.levels.max(1) {
            self.out.push(b'}');
        }
        // The bytes are UTF-8 because sections are checked when decoded; a text that is not (a
        // defect of ours) is shown with replacement marks instead of stopping the reader.
        Some(match String::from_utf8(self.out) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }
}

fn write_key(key: &[u8], out: &mut Vec<u8>) {
    let plain = key
        .iter()
        .all(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(key);
        out.push(b'"');
    } else {
        let mut quoted = String::with_capacity(key.len() + 8);
        json::write_string(&String::from_utf8_lossy(key), &mut quoted);
        out.extend_from_slice(quoted.as_bytes());
    }
    out.push(b':');
}

/// What to print for a leaf of metadata whose scalars all carry `timestamp`.
pub(crate) fn write_metadata(value: &[u8], timestamp: &str, out: &mut Vec<u8>) {
    if value == leaves::EMPTY_OBJECT || text::is_array(value) {
        text::replace_scalars(value, timestamp.as_bytes(), out);
    } else {
        out.extend_from_slice(timestamp.as_bytes());
    }
}

/// The values of the leaves at or below any of the pointers (no pointers: all).
pub(crate) fn values(bytes: &[u8], form: Form, pointers: &[Pointer]) -> Option<String> {
    write(bytes, form, pointers, |reader, out| {
        out.extend_from_slice(reader.value())
    })
}

/// The metadata of the leaves of a document at or below any of the pointers.
pub(crate) fn metadata(bytes: &[u8], pointers: &[Pointer], unit: TimeUnit) -> Option<String> {
    write(bytes, Form::Stamped, pointers, |reader, out| {
        let timestamp = unit.timestamp_json(Time(reader.stamp().time));
        write_metadata(reader.value(), &timestamp, out);
    })
}

fn write(
    bytes: &[u8],
    form: Form,
    pointers: &[Pointer],
    value: impl Fn(&Reader<'_>, &mut Vec<u8>),
) -> Option<String> {
    let mut tree = TreeWriter::default();
    let mut reader = Reader::open(bytes, form).ok()?;
    while reader.live() {
        if Pointer::any_covers(pointers, reader.path()) {
            value(&reader, tree.begin(reader.path()));
        }
        reader.advance().ok()?;
    }
    tree.finish()
}
