//! The record of a change in the feed: enough to catch a watcher up and to walk history back.

use crate::change::Change;
use crate::id::{DeviceKey, Position, ShadowName, Time};
use crate::patch::Patch;
use crate::stored::{self, DecodeError};

/// One accepted change as the feed keeps it. Its own place is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRecord {
    /// The device.
    pub device: DeviceKey,
    /// The shadow.
    pub shadow: ShadowName,
    /// The version that the change made.
    pub version: u64,
    /// When.
    pub time: Time,
    /// Who asked for it.
    pub actor: String,
    /// The caller's token.
    pub client_token: Option<String>,
    /// Whether the shadow was deleted.
    pub deleted: bool,
    /// What was merged.
    pub patch: Patch,
    /// What would bring the state before back.
    pub undo: Patch,
    /// The place of the record before of the same shadow.
    pub previous_position: Option<Position>,
}

impl FeedRecord {
    /// The stored form, tag included.
    pub fn encode(&self) -> Vec<u8> {
        stored::encode_feed_record(self)
    }

    /// Reads the stored form and checks it whole.
    pub fn decode(bytes: &[u8]) -> Result<FeedRecord, DecodeError> {
        stored::decode_feed_record(bytes)
    }
}

/// A row of the feed: the records of changes that follow each other within an entry. Its key is the place of the
/// first.
///
/// Part of the rules of apply, as every replica must make the same rows.
#[derive(Debug)]
pub struct FeedRow {
    bytes: Vec<u8>,
}

/// A row takes no more records once it has so many bytes.
const ROW_BYTES: usize = 16 << 10;

impl FeedRow {
    /// A row without records.
    pub fn new() -> FeedRow {
        FeedRow {
            bytes: stored::begin_feed_row(1 << 10),
        }
    }

    /// Adds the record of the next change.
    pub fn push(&mut self, change: &Change) {
        stored::push_change(&mut self.bytes, change);
    }

    /// Whether the next record belongs into another row.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= ROW_BYTES
    }

    /// The stored form, tag included.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Parts a stored row into the stored forms of its records ([`FeedRecord::decode`]), in order. A record in a
    /// row of its own, as rules before [`RULES_OF_SHARED_ROWS`](crate::RULES_OF_SHARED_ROWS) wrote it, is such a
    /// row.
    pub fn split(row: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
        stored::split_feed_row(row)
    }
}

impl Default for FeedRow {
    fn default() -> Self {
        FeedRow::new()
    }
}

impl From<&Change> for FeedRecord {
    fn from(change: &Change) -> Self {
        Self {
            device: change.device.clone(),
            shadow: change.shadow.clone(),
            version: change.version,
            time: change.time,
            actor: change.actor.clone(),
            client_token: change.client_token.clone(),
            deleted: change.deleted,
            patch: change.patch.clone(),
            undo: change.undo.clone(),
            previous_position: change.previous_position,
        }
    }
}
