//! The stored form of a patch.

use bincode::{BorrowDecode, Encode};
use bytes::Bytes;

use crate::patch::{Patch, SectionPatch};

use super::{DecodeError, Tag};

#[derive(Encode, BorrowDecode)]
pub(super) struct PatchV1<'a> {
    desired: SectionPatchV1<'a>,
    reported: SectionPatchV1<'a>,
}

#[derive(Encode, BorrowDecode)]
enum SectionPatchV1<'a> {
    Absent,
    Clear,
    Merge(&'a [u8]),
}

impl<'a> From<&'a Patch> for PatchV1<'a> {
    fn from(patch: &'a Patch) -> Self {
        let section = |at: usize| match &patch.sections[at] {
            SectionPatch::Absent => SectionPatchV1::Absent,
            SectionPatch::Clear => SectionPatchV1::Clear,
            SectionPatch::Merge(ops) => SectionPatchV1::Merge(ops),
        };
        PatchV1 {
            desired: section(0),
            reported: section(1),
        }
    }
}

impl PatchV1<'_> {
    /// The patch; its operations are not looked at.
    pub(super) fn to_patch(&self) -> Patch {
        let section = |section: &SectionPatchV1<'_>| match section {
            SectionPatchV1::Absent => SectionPatch::Absent,
            SectionPatchV1::Clear => SectionPatch::Clear,
            SectionPatchV1::Merge(ops) => SectionPatch::Merge(Bytes::copy_from_slice(ops)),
        };
        Patch {
            sections: [section(&self.desired), section(&self.reported)],
        }
    }
}

pub(crate) fn encode_patch(patch: &Patch) -> Vec<u8> {
    super::encode(
        Tag::PatchV1,
        &PatchV1::from(patch),
        patch.encoded_bytes() + 16,
    )
}

pub(crate) fn decode_patch(bytes: &[u8]) -> Result<Patch, DecodeError> {
    let shape: PatchV1<'_> = super::decode(Tag::PatchV1, bytes)?;
    let patch = shape.to_patch();
    patch.shape()?;
    Ok(patch)
}
