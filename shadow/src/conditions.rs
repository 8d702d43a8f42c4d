//! What must hold before a change. Checked where the change is applied, never before.

use bytes::Bytes;

use crate::document::Document;
use crate::json::Value;
use crate::leaves::{Form, Reader, text};
use crate::limits::Limits;
use crate::outcome::{FailedCondition, Rejection};
use crate::patch::{self, Section};
use crate::pointer::Pointer;
use crate::stored::DecodeError;

/// The conditions of one change; `Default` is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Exact version; 0 means that the shadow must not exist.
    pub expected_version: Option<u64>,
    /// Must be greater than the last version proposed this way for the shadow, and takes its place
    /// when the change is accepted.
    pub proposed_version_greater: Option<u64>,
    /// Exact version of the last change of `desired`.
    pub expected_desired_version: Option<u64>,
    /// Exact version of the last change of `reported`.
    pub expected_reported_version: Option<u64>,
    /// Tests of single places.
    pub paths: Vec<PathCondition>,
}

/// A test of one place in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathCondition {
    /// The section that the pointer starts from.
    pub section: Section,
    /// The place.
    pub pointer: Pointer,
    /// What must hold there.
    pub test: PathTest,
}

/// What must hold at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathTest {
    /// Something is there.
    Exists,
    /// Nothing is there.
    Absent,
    /// This value is there; numbers are compared by decimal value.
    Equals(Expected),
    /// The newest leaf at or below the place was written by this version.
    LeafVersion(u64),
}

/// A JSON value in the form in which documents store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(pub(crate) Bytes);

impl PathTest {
    /// A test for a JSON value; `null` means absent.
    pub fn equals(value: &Value, limits: &Limits) -> Result<PathTest, Rejection> {
        match value {
            Value::Null => Ok(PathTest::Absent),
            value => Ok(PathTest::Equals(Expected(patch::leaves_of_value(
                value, limits,
            )?))),
        }
    }
}

impl Conditions {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Conditions::default()
    }

    /// Checks everything against a document that exists, or `None`.
    pub(crate) fn check(&self, document: Option<&Document>) -> Result<(), Rejection> {
        let current = document.map_or(0, Document::version);
        if self
            .expected_version
            .is_some_and(|expected| expected != current)
        {
            return Err(Rejection::VersionConflict { current });
        }
        self.check_counters(document)
            .and_then(|()| self.check_paths(document))
            .map_err(|condition| Rejection::ConditionFailed { condition })
    }

    fn check_counters(&self, document: Option<&Document>) -> Result<(), FailedCondition> {
        let proposed = document.and_then(Document::proposed_version);
        if let (Some(wanted), Some(current)) = (self.proposed_version_greater, proposed)
            && wanted <= current
        {
            return Err(FailedCondition::ProposedVersion { current });
        }
        let expected = [
            (Section::Desired, self.expected_desired_version),
            (Section::Reported, self.expected_reported_version),
        ];
        for (section, expected) in expected {
            let current = document.map_or(0, |document| document.section_version(section));
            if expected.is_some_and(|expected| expected != current) {
                return Err(FailedCondition::SectionVersion { section, current });
            }
        }
        Ok(())
    }

    fn check_paths(&self, document: Option<&Document>) -> Result<(), FailedCondition> {
        for (index, condition) in self.paths.iter().enumerate() {
            let leaves = document.map_or(&[][..], |document| document.leaves(condition.section));
            // A section that cannot be read meets no condition.
            if !condition.holds(leaves).unwrap_or(false) {
                return Err(FailedCondition::Path {
                    index: index as u32,
                });
            }
        }
        Ok(())
    }
}

impl PathCondition {
    fn holds(&self, leaves: &[u8]) -> Result<bool, DecodeError> {
        let mut reader = Reader::open(leaves, Form::Stamped)?;
        while reader.live() && reader.path() < self.pointer.path() {
            reader.advance()?;
        }
        let found = reader.live() && reader.path().starts_with(self.pointer.path());
        match &self.test {
            PathTest::Exists => Ok(found),
            PathTest::Absent => Ok(!found),
            PathTest::Equals(expected) => equals(reader, self.pointer.path(), expected),
            PathTest::LeafVersion(version) => {
                let mut newest = None;
                while reader.live() && reader.path().starts_with(self.pointer.path()) {
                    newest = newest.max(Some(reader.stamp().version));
                    reader.advance()?;
                }
                Ok(newest == Some(*version))
            }
        }
    }
}

/// Compares the leaves below `base`, at which the reader stands, with those of a value.
fn equals(mut reader: Reader<'_>, base: &[u8], expected: &Expected) -> Result<bool, DecodeError> {
    let mut wanted = Reader::open(&expected.0, Form::Plain)?;
    while wanted.live() {
        let same = reader.live()
            && reader.path().strip_prefix(base) == Some(wanted.path())
            && text::equal(reader.value(), wanted.value());
        if !same {
            return Ok(false);
        }
        reader.advance()?;
        wanted.advance()?;
    }
    Ok(!(reader.live() && reader.path().starts_with(base)))
}
