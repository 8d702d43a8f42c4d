//! A shadow as it is stored: both sections as sorted leaves, each with the time and version of its
//! last write, and the counters around them.

use std::ops::Range;

use bytes::Bytes;

use crate::id::{Position, Time};
use crate::leaves::{Form, Reader};
use crate::patch::Section;
use crate::pointer::Pointer;
use crate::render::{self, TimeUnit};
use crate::stored::{self, DecodeError};
use crate::{delta, leaves};

/// A stored shadow or the tombstone of a deleted one. Clones share the bytes. Nothing here changes
/// a document: that is what [`crate::apply`] alone does.
#[derive(Debug, Clone)]
pub struct Document {
    pub(crate) encoded: Bytes,
    pub(crate) head: Head,
    pub(crate) sections: [Range<usize>; 2],
}

/// The counters of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) deleted: bool,
    pub(crate) version: u64,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    /// Version of the last change that touched each section.
    pub(crate) section_versions: [u64; 2],
    /// The last version a client proposed by itself.
    pub(crate) proposed_version: Option<u64>,
    /// Place of the last change in the feed.
    pub(crate) position: Position,
    /// Bytes of each section as compact JSON.
    pub(crate) json_bytes: [u32; 2],
}

impl Document {
    /// Reads the stored form and checks it whole.
    pub fn decode(encoded: Bytes) -> Result<Self, DecodeError> {
        let document = stored::decode_document(encoded)?;
        for section in Section::ALL {
            leaves::check(document.leaves(section), Form::Stamped, false)?;
        }
        Ok(document)
    }

    /// The stored form, tag included.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Number of accepted changes so far, deletes included.
    pub fn version(&self) -> u64 {
        self.head.version
    }

    /// When the shadow was created, or created again after its last delete.
    pub fn created(&self) -> Time {
        self.head.created
    }

    /// Time of the last accepted change.
    pub fn updated(&self) -> Time {
        self.head.updated
    }

    /// Version of the last change that touched the section; 0 when none did since the creation.
    pub fn section_version(&self, section: Section) -> u64 {
        self.head.section_versions[section.index()]
    }

    /// The last version that a client proposed by itself, as some clouds' devices do.
    pub fn proposed_version(&self) -> Option<u64> {
        self.head.proposed_version
    }

    /// Whether this is the tombstone of a deleted shadow.
    pub fn is_deleted(&self) -> bool {
        self.head.deleted
    }

    /// Place of the last accepted change in the feed of the shard.
    pub fn feed_position(&self) -> Position {
        self.head.position
    }

    /// Bytes of `desired` plus `reported` as compact JSON: what the size limit counts.
    pub fn state_bytes(&self) -> usize {
        self.head
            .json_bytes
            .iter()
            .map(|&bytes| bytes as usize)
            .sum()
    }

    /// A section as compact JSON, cut to what the pointers cover (none: everything). `None` when
    /// nothing is there: an empty section is not shown.
    pub fn state_json(&self, section: Section, paths: &[Pointer]) -> Option<String> {
        render::values(self.leaves(section), Form::Stamped, paths)
    }

    /// The times of the leaves of a section, in its shape: `{"timestamp":t}` for every scalar.
    pub fn metadata_json(
        &self,
        section: Section,
        paths: &[Pointer],
        unit: TimeUnit,
    ) -> Option<String> {
        render::metadata(self.leaves(section), paths, unit)
    }

    /// What `desired` has and `reported` lacks or has differently; `None` when they agree.
    pub fn delta_json(&self, paths: &[Pointer]) -> Option<String> {
        delta::values(
            self.leaves(Section::Desired),
            self.leaves(Section::Reported),
            paths,
        )
    }

    /// The times of the leaves of the delta, which are those of `desired`.
    pub fn delta_metadata_json(&self, unit: TimeUnit) -> Option<String> {
        delta::metadata(
            self.leaves(Section::Desired),
            self.leaves(Section::Reported),
            unit,
        )
    }

    /// Whether `desired` asks for anything that `reported` does not show.
    pub fn has_delta(&self) -> bool {
        !delta::is_empty(
            self.leaves(Section::Desired),
            self.leaves(Section::Reported),
        )
    }

    /// The greatest version among the leaves at or below a pointer; `None` when there are none.
    pub fn leaf_version(&self, section: Section, pointer: &Pointer) -> Option<u64> {
        let mut found = None;
        let mut reader = Reader::open(self.leaves(section), Form::Stamped).ok()?;
        while reader.live() {
            if reader.path().starts_with(pointer.path()) {
                found = found.max(Some(reader.stamp().version));
            }
            reader.advance().ok()?;
        }
        found
    }

    pub(crate) fn leaves(&self, section: Section) -> &[u8] {
        &self.encoded[self.sections[section.index()].clone()]
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl Eq for Document {}
