//! What a command changes: sorted (path, leaf) operations per section, made once by the node that
//! received the JSON and applied by every replica without a tree.

use bytes::Bytes;

use crate::id::Time;
use crate::json::{self, Value};
use crate::leaves::{self, Form, Reader, Shape, Stamp, Writer, path};
use crate::limits::Limits;
use crate::outcome::Rejection;
use crate::render::{self, TimeUnit, TreeWriter};
use crate::stored::{self, DecodeError};

/// One of the two halves of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// What the device should be.
    Desired,
    /// What the device last said it is.
    Reported,
}

impl Section {
    /// Both sections, in the order in which they are stored.
    pub const ALL: [Section; 2] = [Section::Desired, Section::Reported];

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Section::Desired => "desired",
            Section::Reported => "reported",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Section::Desired => 0,
            Section::Reported => 1,
        }
    }
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a caller wants of one section.
#[derive(Debug, Clone, Copy)]
pub enum SectionInput<'a> {
    /// Leave it alone.
    Absent,
    /// Remove everything in it: `"desired": null`.
    Clear,
    /// Merge an object into it; `null` leaves delete.
    Merge(&'a Value),
}

/// The operations for one section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum SectionPatch {
    #[default]
    Absent,
    Clear,
    /// A plain run of leaves; `null` deletes.
    Merge(Bytes),
}

/// A change of one document, by section. Clones share their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patch {
    pub(crate) sections: [SectionPatch; 2],
}

impl Patch {
    /// Turns two JSON values into operations. Refuses sections that are no objects, `null` inside
    /// arrays, and what is deeper or has longer keys than the limits allow.
    pub fn build(
        desired: SectionInput<'_>,
        reported: SectionInput<'_>,
        limits: &Limits,
    ) -> Result<Patch, Rejection> {
        Ok(Patch {
            sections: [
                build_section(Section::Desired, desired, limits)?,
                build_section(Section::Reported, reported, limits)?,
            ],
        })
    }

    /// The same from the texts of the sections that are given, without trees: for objects whose members
    /// stand in key order, each once. `None` when a text is not of this kind, or when there is anything
    /// to say against it: then [`Patch::build`] is asked what.
    pub fn from_sorted(
        desired: Option<&str>,
        reported: Option<&str>,
        limits: &Limits,
    ) -> Option<Patch> {
        let section = |text| match text {
            Some(text) => json::sorted::leaves(text, limits).map(SectionPatch::Merge),
            None => Some(SectionPatch::Absent),
        };
        Some(Patch {
            sections: [section(desired)?, section(reported)?],
        })
    }

    /// The patch that removes everything from both sections: `"state": null`.
    pub fn clear_both() -> Patch {
        Patch {
            sections: [SectionPatch::Clear, SectionPatch::Clear],
        }
    }

    /// Whether neither section is mentioned at all.
    pub fn is_empty(&self) -> bool {
        self.sections
            .iter()
            .all(|section| *section == SectionPatch::Absent)
    }

    /// Whether this section is cleared.
    pub fn clears(&self, section: Section) -> bool {
        *self.section(section) == SectionPatch::Clear
    }

    /// What was sent for a section, deleted leaves as `null`; the text `null` when it was cleared,
    /// `None` when it was not mentioned.
    pub fn section_json(&self, section: Section) -> Option<String> {
        match self.section(section) {
            SectionPatch::Absent => None,
            SectionPatch::Clear => Some("null".to_owned()),
            SectionPatch::Merge(ops) => {
                Some(render::values(ops, Form::Plain, &[]).unwrap_or_else(|| "{}".to_owned()))
            }
        }
    }

    /// The metadata of what was sent: every leaf, deleted ones too, with the time of the change.
    /// A cleared section is a single timestamp.
    pub fn metadata_json(&self, section: Section, time: Time, unit: TimeUnit) -> Option<String> {
        let timestamp = unit.timestamp_json(time);
        match self.section(section) {
            SectionPatch::Absent => None,
            SectionPatch::Clear => Some(timestamp),
            SectionPatch::Merge(ops) => {
                let mut tree = TreeWriter::default();
                let mut reader = Reader::open(ops, Form::Plain).ok()?;
                while reader.live() {
                    let out = tree.begin(reader.path());
                    render::write_metadata(reader.value(), &timestamp, out);
                    reader.advance().ok()?;
                }
                Some(tree.finish().unwrap_or_else(|| "{}".to_owned()))
            }
        }
    }

    /// The stored form, tag included.
    pub fn encode(&self) -> Vec<u8> {
        stored::encode_patch(self)
    }

    /// Reads the stored form and checks it whole.
    pub fn decode(bytes: &[u8]) -> Result<Patch, DecodeError> {
        stored::decode_patch(bytes)
    }

    /// Bytes that the operations take.
    pub fn encoded_bytes(&self) -> usize {
        self.sections
            .iter()
            .map(|section| match section {
                SectionPatch::Merge(ops) => ops.len() + 1,
                _ => 1,
            })
            .sum()
    }

    pub(crate) fn section(&self, section: Section) -> &SectionPatch {
        &self.sections[section.index()]
    }

    /// Checks the operations of a patch that came from outside.
    pub(crate) fn shape(&self) -> Result<Shape, DecodeError> {
        let mut shape = Shape::default();
        for section in &self.sections {
            if let SectionPatch::Merge(ops) = section {
                let found = leaves::check(ops, Form::Plain, false)?;
                shape.depth = shape.depth.max(found.depth);
                shape.key_bytes = shape.key_bytes.max(found.key_bytes);
            }
        }
        Ok(shape)
    }
}

fn build_section(
    section: Section,
    input: SectionInput<'_>,
    limits: &Limits,
) -> Result<SectionPatch, Rejection> {
    let value = match input {
        SectionInput::Absent => return Ok(SectionPatch::Absent),
        SectionInput::Clear | SectionInput::Merge(Value::Null) => return Ok(SectionPatch::Clear),
        SectionInput::Merge(value) => value,
    };
    let Value::Object(members) = value else {
        return Err(Rejection::SectionNotObject { section });
    };
    let mut builder = Builder::new(limits);
    builder.members(members, 1)?;
    Ok(SectionPatch::Merge(Bytes::from(builder.out.finish())))
}

/// The leaves of one value as a plain run: a scalar, array or empty object is a single record with
/// an empty path.
pub(crate) fn leaves_of_value(value: &Value, limits: &Limits) -> Result<Bytes, Rejection> {
    let mut builder = Builder::new(limits);
    builder.value(value, 0)?;
    Ok(Bytes::from(builder.out.finish()))
}

/// Walks a JSON value and writes its leaves; recursion ends at the depth limit.
struct Builder<'a> {
    limits: &'a Limits,
    out: Writer,
    path: Vec<u8>,
    text: String,
}

impl<'a> Builder<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            out: Writer::new(Form::Plain, 256),
            path: Vec::with_capacity(64),
            text: String::new(),
        }
    }

    fn members(&mut self, members: &[(String, Value)], level: usize) -> Result<(), Rejection> {
        for (key, value) in sorted(members) {
            if level > self.limits.depth() {
                return Err(Rejection::TooDeep {
                    max: self.limits.depth() as u32,
                });
            }
            check_key(key, self.limits)?;
            let length = self.path.len();
            path::push(&mut self.path, key);
            self.value(value, level)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, level: usize) -> Result<(), Rejection> {
        match value {
            Value::Object(members) if !members.is_empty() => self.members(members, level + 1),
            _ => {
                self.text.clear();
                write_leaf(value, level, self.limits, &mut self.text)?;
                self.out
                    .put(&self.path, self.text.as_bytes(), Stamp::default());
                Ok(())
            }
        }
    }
}

/// Writes the canonical text of a leaf: members sorted, no `null` inside an array.
fn write_leaf(
    value: &Value,
    level: usize,
    limits: &Limits,
    out: &mut String,
) -> Result<(), Rejection> {
    let item = |value: &Value, out: &mut String| {
        let inside = match value {
            Value::Null => return Err(Rejection::ArrayNull),
            Value::Array(_) | Value::Object(_) => level + 1,
            _ => level,
        };
        if inside > limits.depth() {
            return Err(Rejection::TooDeep {
                max: limits.depth() as u32,
            });
        }
        write_leaf(value, inside, limits, out)
    };
    match value {
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                item(value, out)?;
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Object(members) => {
            for (at, (key, value)) in sorted(members).into_iter().enumerate() {
                check_key(key, limits)?;
                out.push(if at == 0 { '{' } else { ',' });
                json::write_string(key, out);
                out.push(':');
                item(value, out)?;
            }
            out.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        scalar => scalar.write(out),
    }
    Ok(())
}

fn check_key(key: &str, limits: &Limits) -> Result<(), Rejection> {
    if key.len() > limits.key_bytes_max as usize {
        return Err(Rejection::KeyTooLong {
            max: limits.key_bytes_max,
        });
    }
    Ok(())
}

/// Members in key order, of equal keys the last. Parsed values are in order already; values made by
/// hand may not be.
fn sorted(members: &[(String, Value)]) -> Vec<&(String, Value)> {
    let mut refs: Vec<&(String, Value)> = members.iter().collect();
    if !refs.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        refs.sort_by(|left, right| left.0.cmp(&right.0));
        refs.reverse();
        refs.dedup_by(|next, kept| next.0 == kept.0);
        refs.reverse();
    }
    refs
}

#[cfg(test)]
mod tests;
