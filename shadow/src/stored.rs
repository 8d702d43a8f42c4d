//! Frozen stored shapes: every byte string that is kept or sent starts with one of these tags.
//!
//! Shapes never change. A new one is added beside the old with a tag of its own, a conversion and
//! golden bytes. This module is the only one that knows the codec.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Encode};

pub use self::detached::detach;
pub use self::device::DeviceRow;
pub(crate) use self::device::{OrderRow, RequestRow};
pub(crate) use self::document::{decode_document, encode_document};
pub(crate) use self::entry::{command_hash, decode_entry, encode_entry};
pub(crate) use self::feed::{
    begin_feed_row, decode_feed_record, encode_change, encode_feed_record, push_change,
    split_feed_row,
};
pub(crate) use self::outcome::{decode_outcomes, encode_outcomes};
pub(crate) use self::patch::{decode_patch, encode_patch};

mod detached;
mod device;
mod document;
mod entry;
mod feed;
mod outcome;
mod patch;
#[cfg(test)]
mod tests;

/// The longest byte string that is decoded, and the most that a decoder allocates for one.
pub const DECODE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first byte of each stored shape. Tags are never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    DocumentV1 = 0x11,
    PatchV1 = 0x12,
    EntryV1 = 0x13,
    OutcomesV1 = 0x14,
    FeedRecordV1 = 0x15,
    RequestV1 = 0x16,
    OrderV1 = 0x17,
    DeviceV1 = 0x18,
    FeedRowV1 = 0x19,
}

/// Why stored bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte is not the tag that is known here: another shape, or a newer one.
    #[error("format tag {found:?} is not known here")]
    UnknownTag {
        /// The first byte; `None` when there are no bytes.
        found: Option<u8>,
    },
    /// An entry of rules that this build does not have yet.
    #[error("rules {rules} are later than those that are known here")]
    LaterRules {
        /// The rules of the entry.
        rules: u16,
    },
    /// The bytes are not what the tag promises.
    #[error("the bytes do not hold what their format tag promises")]
    Malformed,
}

type Codec = Configuration<LittleEndian, Varint, Limit<DECODE_BYTES_MAX>>;

const CODEC: Codec = bincode::config::standard()
    .with_variable_int_encoding()
    .with_limit::<DECODE_BYTES_MAX>();

/// Writes tag and shape.
fn encode<T: Encode>(tag: Tag, shape: &T, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    append(tag, shape, &mut bytes);
    bytes
}

/// Writes tag and shape behind what is there.
fn append<T: Encode>(tag: Tag, shape: &T, bytes: &mut Vec<u8>) {
    bytes.push(tag as u8);
    bincode::encode_into_std_write(shape, bytes, CODEC)
        .expect("writing to memory cannot fail, and the shapes have no failing parts");
}

/// Reads a shape behind its tag; nothing may follow it.
fn decode<'a, T: BorrowDecode<'a, ()>>(tag: Tag, bytes: &'a [u8]) -> Result<T, DecodeError> {
    match decode_prefix(tag, bytes)? {
        (shape, []) => Ok(shape),
        _ => Err(DecodeError::Malformed),
    }
}

/// Reads a shape behind its tag, and gives what follows it.
fn decode_prefix<'a, T: BorrowDecode<'a, ()>>(
    tag: Tag,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), DecodeError> {
    let (&found, body) = bytes
        .split_first()
        .ok_or(DecodeError::UnknownTag { found: None })?;
    if found != tag as u8 {
        return Err(DecodeError::UnknownTag { found: Some(found) });
    }
    let (shape, read) = bincode::borrow_decode_from_slice(body, CODEC)
        .map_err(|_: bincode::error::DecodeError| DecodeError::Malformed)?;
    Ok((shape, &body[read..]))
}

/// A name or other checked value that does not pass its check any more.
fn malformed<E>(_: E) -> DecodeError {
    DecodeError::Malformed
}
