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
