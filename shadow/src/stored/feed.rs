//! The stored form of a feed record.

use bincode::{BorrowDecode, Encode};

use crate::change::Change;
use crate::feed::FeedRecord;
use crate::id::{DeviceId, DeviceKey, Position, ShadowName, Tenant, Time};

use super::patch::PatchV1;
use super::{DecodeError, Tag, malformed};

#[derive(Encode, BorrowDecode)]
struct FeedRecordV1<'a> {
    tenant: &'a str,
    device: &'a str,
    shadow: &'a str,
    version: u64,
    time: u64,
    actor: &'a str,
    client_token: Option<&'a str>,
    deleted: bool,
    patch: PatchV1<'a>,
    undo: PatchV1<'a>,
    previous: Option<(u64, u32)>,
}

pub(crate) fn encode_feed_record(record: &FeedRecord) -> Vec<u8> {
    let shape = FeedRecordV1 {
        tenant: record.device.tenant.as_str(),
        device: record.device.device.as_str(),
        shadow: record.shadow.as_str(),
        version: record.version,
        time: record.time.0,
        actor: &record.actor,
        client_token: record.client_token.as_deref(),
        deleted: record.deleted,
        patch: PatchV1::from(&record.patch),
        undo: PatchV1::from(&record.undo),
        previous: record.previous_position.map(previous),
    };
    let capacity = 128 + record.patch.encoded_bytes() + record.undo.encoded_bytes();
    super::encode(Tag::FeedRecordV1, &shape, capacity)
}

/// The stored record of a change, without making a record of it first.
pub(crate) fn encode_change(change: &Change) -> Vec<u8> {
    let capacity = 128 + change.patch.encoded_bytes() + change.undo.encoded_bytes();
    super::encode(Tag::FeedRecordV1, &FeedRecordV1::from(change), capacity)
}

/// What every record in a row has before it: how long it is, little end first.
type Length = u32;

/// A row without records, with room for so many bytes.
pub(crate) fn begin_feed_row(capacity: usize) -> Vec<u8> {
    let mut row = Vec::with_capacity(capacity);
    row.push(Tag::FeedRowV1 as u8);
    row
}

/// Adds the record of a change to a row.
pub(crate) fn push_change(row: &mut Vec<u8>, change: &Change) {
    let at = row.len();
    row.extend(Length::MIN.to_le_bytes());
    let from = row.len();
    super::append(Tag::FeedRecordV1, &FeedRecordV1::from(change), row);
    let length = (row.len() - from) as Length;
    row[at..from].copy_from_slice(&length.to_le_bytes());
}

/// The stored records of a row, in order. A record that has a row of its own is one.
pub(crate) fn split_feed_row(row: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let mut rest = match row.split_first() {
        Some((tag, rest)) if *tag == Tag::FeedRowV1 as u8 => rest,
        Some((tag, _)) if *tag == Tag::FeedRecordV1 as u8 => return Ok(vec![row]),
        first => {
            let found = first.map(|(tag, _)| *tag);
            return Err(DecodeError::UnknownTag { found });
        }
    };
    let mut records = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = Length::from_le_bytes(*length) as usize;
        let (record, behind) = behind
            .split_at_checked(length)
            .ok_or(DecodeError::Malformed)?;
        records.push(record);
        rest = behind;
    }
    match (rest, records.as_slice()) {
        ([], [_, ..]) => Ok(records),
        _ => Err(DecodeError::Malformed),
    }
}

impl<'a> From<&'a Change> for FeedRecordV1<'a> {
    fn from(change: &'a Change) -> Self {
        FeedRecordV1 {
            tenant: change.device.tenant.as_str(),
            device: change.device.device.as_str(),
            shadow: change.shadow.as_str(),
            version: change.version,
            time: change.time.0,
            actor: &change.actor,
            client_token: change.client_token.as_deref(),
            deleted: change.deleted,
            patch: PatchV1::from(&change.patch),
            undo: PatchV1::from(&change.undo),
            previous: change.previous_position.map(previous),
        }
    }
}

fn previous(position: Position) -> (u64, u32) {
    (position.index, position.sequence)
}

pub(crate) fn decode_feed_record(bytes: &[u8]) -> Result<FeedRecord, DecodeError> {
    let shape: FeedRecordV1<'_> = super::decode(Tag::FeedRecordV1, bytes)?;
    let record = FeedRecord {
        device: DeviceKey {
            tenant: Tenant::parse(shape.tenant).map_err(malformed)?,
            device: DeviceId::parse(shape.device).map_err(malformed)?,
        },
        shadow: ShadowName::parse(shape.shadow).map_err(malformed)?,
        version: shape.version,
        time: Time(shape.time),
        actor: shape.actor.to_owned(),
        client_token: shape.client_token.map(str::to_owned),
        deleted: shape.deleted,
        patch: shape.patch.to_patch(),
        undo: shape.undo.to_patch(),
        previous_position: shape
            .previous
            .map(|(index, sequence)| Position { index, sequence }),
    };
    record.patch.shape()?;
    record.undo.shape()?;
    Ok(record)
}
