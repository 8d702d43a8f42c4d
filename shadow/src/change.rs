//! An accepted change, as everybody who observes a shadow gets it.

use crate::document::Document;
use crate::id::{DeviceKey, Position, ShadowName, Time};
use crate::patch::Patch;
use crate::stored;

/// One accepted change of one shadow. Clouds differ in what they push, so it carries the patch and
/// both documents; the delta is computed from `current` by whoever needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The device.
    pub device: DeviceKey,
    /// The shadow.
    pub shadow: ShadowName,
    /// The version that this change made.
    pub version: u64,
    /// When, by the leader's clock; never earlier than the change before.
    pub time: Time,
    /// Who asked for it.
    pub actor: String,
    /// The caller's token, echoed.
    pub client_token: Option<String>,
    /// Its place in the feed.
    pub position: Position,
    /// Whether the shadow was deleted.
    pub deleted: bool,
    /// What was merged; for a delete, both sections cleared.
    pub patch: Patch,
    /// What would bring the state before back.
    pub undo: Patch,
    /// The document before; `None` when the shadow did not exist (or was deleted).
    pub previous: Option<Document>,
    /// The place of the change before in the feed, tombstones included.
    pub previous_position: Option<Position>,
    /// The document now; a tombstone when it was deleted.
    pub current: Document,
}

impl Change {
    /// The stored form of the record in the feed: the bytes of [`crate::FeedRecord`] made of this
    /// change, without a clone of all its parts.
    pub fn encode_record(&self) -> Vec<u8> {
        stored::encode_change(self)
    }
}
