//! Commands: the only thing written to a shard's log.

use bytes::Bytes;

use crate::conditions::Conditions;
use crate::id::{DeviceKey, RequestId, ShadowName, Time};
use crate::limits::Limits;
use crate::patch::Patch;
use crate::stored::{self, DecodeError};

/// The newest version of the rules that this build applies; it applies all earlier ones too.
///
/// Rules are what `apply` makes of an entry. A change of them, or of the shape of what it writes, gets a new
/// number, and a leader stamps it only once every node that keeps replicas has announced that it knows it
/// ([`ShardPort::rules`](crate::ShardPort::rules)).
///
/// - 1: the first.
/// - 2: records of one entry share rows of the feed, see [`RULES_OF_SHARED_ROWS`].
pub const RULES: u16 = 2;

/// From these rules on the changes of an entry are kept in [`FeedRow`](crate::FeedRow)s; before, each has a row of
/// its own.
pub const RULES_OF_SHARED_ROWS: u16 = 2;

/// The most commands of one device in one entry.
pub const COMMANDS_PER_ENTRY_MAX: usize = 1_024;

/// What a door makes of a request: a command without the leader's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who asks, for the feed.
    pub actor: String,
    /// Makes a retry return the first outcome.
    pub request_id: Option<RequestId>,
    /// When the request with this id was *first* issued, as far as anybody noted it: the caller, or
    /// the door that received it and repeats it by itself. Only with it can a retry be told from a
    /// new request after the id was forgotten, see [`crate::apply`]. Keep it the same in retries.
    pub issued: Option<Time>,
    /// Echoed to observers and never used for anything else.
    pub client_token: Option<String>,
    /// The limits of the tenant at the moment.
    pub limits: Limits,
    /// What to do.
    pub kind: Kind,
}

impl Draft {
    /// A draft without request id and client token, under the default limits.
    pub fn new(actor: impl Into<String>, kind: Kind) -> Self {
        Self {
            actor: actor.into(),
            request_id: None,
            issued: None,
            client_token: None,
            limits: Limits::default(),
            kind,
        }
    }

    /// Adds the leader's time.
    pub fn stamp(self, time: Time) -> Command {
        Command { time, draft: self }
    }
}

/// A draft with the time of the leader that proposes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The leader's clock. A change is never stamped earlier than the one before it.
    pub time: Time,
    /// What was asked for.
    pub draft: Draft,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Merges into one shadow, creating it when it does not exist.
    Update(Update),
    /// Deletes one shadow and leaves a tombstone.
    Delete(Delete),
    /// Several shadows of the device: all are changed or none.
    Batch(Vec<BatchItem>),
}

/// A change of one shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The shadow.
    pub shadow: ShadowName,
    /// What to merge.
    pub patch: Patch,
    /// What must hold.
    pub conditions: Conditions,
}

/// The end of one shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The shadow.
    pub shadow: ShadowName,
    /// What must hold.
    pub conditions: Conditions,
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchItem {
    /// Merges into one shadow.
    Update(Update),
    /// Deletes one shadow.
    Delete(Delete),
}

impl BatchItem {
    /// The shadow that the item is about.
    pub fn shadow(&self) -> &ShadowName {
        match self {
            BatchItem::Update(update) => &update.shadow,
            BatchItem::Delete(delete) => &delete.shadow,
        }
    }
}

/// One entry of a shard's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Commands of one device, in order.
    Device(DeviceEntry),
    /// Forget old feed records.
    TrimFeed(TrimFeed),
}

/// Commands of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// The version of the rules that apply this entry, from 1 on; see [`RULES`].
    pub rules: u16,
    /// The device.
    pub device: DeviceKey,
    /// What to do, in order; each command has its own outcome.
    pub commands: Vec<Command>,
}

impl DeviceEntry {
    /// An entry under the rules of this build.
    pub fn new(device: DeviceKey, commands: Vec<Command>) -> Self {
        Self {
            rules: RULES,
            device,
            commands,
        }
    }
}

/// The feed of the shard loses its records up to an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimFeed {
    /// The last log index whose records go.
    pub upto_index: u64,
}

impl Entry {
    /// The form in the log, tag included.
    pub fn encode(&self) -> Bytes {
        stored::encode_entry(self)
    }

    /// Reads the form in the log and checks it whole. An entry of rules later than [`RULES`] is
    /// [`DecodeError::LaterRules`], whatever it holds: a replica that meets one must stop, because others
    /// apply it.
    pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
        stored::decode_entry(bytes)
    }
}
