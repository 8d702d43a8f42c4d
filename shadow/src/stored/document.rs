//! The stored form of a document.

use bincode::{BorrowDecode, Encode};
use bytes::Bytes;

use crate::document::{Document, Head};
use crate::id::{Position, Time};

use super::{DecodeError, Tag};

#[derive(Encode, BorrowDecode)]
struct DocumentV1<'a> {
    deleted: bool,
    version: u64,
    created: u64,
    updated: u64,
    desired_version: u64,
    reported_version: u64,
    proposed_version: Option<u64>,
    feed_index: u64,
    feed_sequence: u32,
    desired_json_bytes: u32,
    reported_json_bytes: u32,
    desired: &'a [u8],
    reported: &'a [u8],
}

/// Bytes that everything but the leaves takes at most.
const HEAD_BYTES_MAX: usize = 1 + 1 + 7 * 9 + 1 + 3 * 5 + 2 * 9;

/// Makes a document of its counters and sorted leaves.
pub(crate) fn encode_document(head: Head, desired: &[u8], reported: &[u8]) -> Document {
    let shape = DocumentV1 {
        deleted: head.deleted,
        version: head.version,
        created: head.created.0,
        updated: head.updated.0,
        desired_version: head.section_versions[0],
        reported_version: head.section_versions[1],
        proposed_version: head.proposed_version,
        feed_index: head.position.index,
        feed_sequence: head.position.sequence,
        desired_json_bytes: head.json_bytes[0],
        reported_json_bytes: head.json_bytes[1],
        desired,
        reported,
    };
    let capacity = HEAD_BYTES_MAX + desired.len() + reported.len();
    let encoded = super::encode(Tag::DocumentV1, &shape, capacity);
    let total = encoded.len();
    // The leaves come last, each run behind its length.
    let desired_end = total - reported.len() - length_bytes(reported.len());
    Document {
        encoded: Bytes::from(encoded),
        head,
        sections: [
            desired_end - desired.len()..desired_end,
            total - reported.len()..total,
        ],
    }
}

/// Bytes of a length before a run: the codec's variable-size integer.
fn length_bytes(length: usize) -> usize {
    match length {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Reads counters and finds the leaves; the leaves themselves are not looked at.
pub(crate) fn decode_document(encoded: Bytes) -> Result<Document, DecodeError> {
    let shape: DocumentV1<'_> = super::decode(Tag::DocumentV1, &encoded)?;
    let head = Head {
        deleted: shape.deleted,
        version: shape.version,
        created: Time(shape.created),
        updated: Time(shape.updated),
        section_versions: [shape.desired_version, shape.reported_version],
        proposed_version: shape.proposed_version,
        position: Position {
            index: shape.feed_index,
            sequence: shape.feed_sequence,
        },
        json_bytes: [shape.desired_json_bytes, shape.reported_json_bytes],
    };
    let (desired, reported) = (shape.desired.len(), shape.reported.len());
    let total = encoded.len();
    let desired_end = (total - reported)
        .checked_sub(length_bytes(reported))
        .filter(|&end| end >= desired)
        .ok_or(DecodeError::Malformed)?;
    let sections = [desired_end - desired..desired_end, total - reported..total];
    // A length that is written longer than it need be would shift the first run.
    if encoded[sections[0].clone()] != *shape.desired {
        return Err(DecodeError::Malformed);
    }
    Ok(Document {
        head,
        sections,
        encoded,
    })
}
