//! The bytes that the engine stores and sends: the only place that knows bincode.
//!
//! Every stored or sent byte string starts with a [`Tag`]; tags are never reused. Shapes are frozen: to
//! change one, add the next version beside it and keep reading the old one. Decoding is limited in
//! size and fails on bytes that are left over.
//!
//! The entry is laid out by hand, so that its command can be cut out of what RocksDB returned
//! without a copy.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::types::{Entry, LogId, Membership, Node, Payload, Vote, log_id, term_of};

/// No stored value that goes through bincode is longer.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Tag, term, index and kind in front of the payload of an entry.
const ENTRY_HEAD_BYTES: usize = 1 + 8 + 8 + 1;

/// First byte of everything that the engine stores or sends. Part of the format: never change or reuse
/// one. Further tags: `0x51..=0x53` chunks of snapshots, `0x60..=0x63` rows and markers of the state
/// store, `0x70..=0x71` frames and messages between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// A log entry.
    EntryV1 = 0x01,
    /// A vote.
    VoteV1 = 0x02,
    /// A log id.
    LogIdV1 = 0x03,
    /// The number of a writer batch.
    BatchV1 = 0x04,
    /// Identity and format of the log store.
    LogStoreV1 = 0x05,
    /// A slot of the seal.
    SealV1 = 0x06,
    /// The applied position of a shard.
    PositionV1 = 0x10,
    /// What stands before the entries of an append.
    AppendV1 = 0x20,
    /// A request for a vote or a pre-vote.
    VoteRequestV1 = 0x21,
    /// The answer to it.
    VotedV1 = 0x22,
    /// A leader hands over.
    TransferV1 = 0x23,
    /// The answer to it.
    TransferredV1 = 0x24,
    /// A read index.
    ReadAtV1 = 0x25,
    /// The begin of a snapshot.
    SnapshotV1 = 0x26,
    /// A snapshot was taken in, or a higher vote is known.
    InstalledV1 = 0x27,
    /// The answer to an append.
    AppendedV1 = 0x28,
    /// A request was refused.
    RefusedV1 = 0x29,
}

/// Why stored bytes could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("empty")]
    Empty,
    /// Written as something else, or by a newer version.
    #[error("tag {found:#04x} instead of {expected:#04x}")]
    WrongTag {
        /// What was asked for.
        expected: u8,
        /// What is there.
        found: u8,
    },
    /// Longer than anything this version writes.
    #[error("{0} bytes are over the limit")]
    TooLong(usize),
    /// The content does not fit the shape.
    #[error("content: {0}")]
    Content(#[from] bincode::error::DecodeError),
    /// The content is of the right shape and cannot be true.
    #[error("{0}")]
    Impossible(&'static str),
}

/// Encodes a value behind its tag. The shape of `T` is part of the format.
pub fn encode<T: Serialize>(tag: Tag, value: &T) -> Vec<u8> {
    let mut bytes = vec![tag as u8];
    bytes.append(&mut encode_body(value));
    bytes
}

/// Decodes what [`encode`] made under the same tag.
pub fn decode<T: DeserializeOwned>(tag: Tag, bytes: &[u8]) -> Result<T, DecodeError> {
    decode_body(untag(tag, bytes)?)
}

/// The frozen shape of a log id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdV1 {
    term: u64,
    index: u64,
}

impl From<&LogId> for LogIdV1 {
    fn from(id: &LogId) -> LogIdV1 {
        LogIdV1 {
            term: term_of(id),
            index: id.index,
        }
    }
}

impl From<LogIdV1> for LogId {
    fn from(id: LogIdV1) -> LogId {
        log_id(id.term, id.index)
    }
}

/// The frozen shape of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteV1 {
    term: u64,
    voted_for: u64,
    committed: bool,
}

impl From<&Vote> for VoteV1 {
    fn from(vote: &Vote) -> VoteV1 {
        VoteV1 {
            term: vote.leader_id.term,
            voted_for: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<VoteV1> for Vote {
    fn from(stored: VoteV1) -> Vote {
        let mut vote = Vote::new(stored.term, stored.voted_for);
        vote.committed = stored.committed;
        vote
    }
}

/// The frozen shape of a membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipV1 {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, NodeV1>,
}

/// The frozen shape of a node in a membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NodeV1 {
    name: String,
    address: String,
}

impl From<&Membership> for MembershipV1 {
    fn from(membership: &Membership) -> MembershipV1 {
        let node = |(id, node): (&u64, &Node)| {
            let node = NodeV1 {
                name: node.name.clone(),
                address: node.address.clone(),
            };
            (*id, node)
        };
        MembershipV1 {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(node).collect(),
        }
    }
}

impl TryFrom<MembershipV1> for Membership {
    type Error = DecodeError;

    fn try_from(stored: MembershipV1) -> Result<Membership, DecodeError> {
        let node = |(id, node): (u64, NodeV1)| {
            let node = Node {
                name: node.name,
                address: node.address,
            };
            (id, node)
        };
        let nodes: BTreeMap<u64, Node> = stored.nodes.into_iter().map(node).collect();
        Membership::new(stored.configs, nodes)
            .map_err(|_| DecodeError::Impossible("a membership that no shard can have"))
    }
}

/// Encodes a vote.
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    encode(Tag::VoteV1, &VoteV1::from(vote))
}

/// Decodes a vote.
pub fn decode_vote(bytes: &[u8]) -> Result<Vote, DecodeError> {
    decode::<VoteV1>(Tag::VoteV1, bytes).map(Vote::from)
}

/// Encodes a log id.
pub fn encode_log_id(id: &LogId) -> Vec<u8> {
    encode(Tag::LogIdV1, &LogIdV1::from(id))
}

/// Decodes a log id.
pub fn decode_log_id(bytes: &[u8]) -> Result<LogId, DecodeError> {
    decode::<LogIdV1>(Tag::LogIdV1, bytes).map(LogId::from)
}

/// Encodes a log entry.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_entry(&mut bytes, entry);
    bytes
}

/// Adds an encoded log entry to `bytes`.
pub(crate) fn put_entry(bytes: &mut Vec<u8>, entry: &Entry) {
    let membership;
    let (kind, payload) = match &entry.payload {
        Payload::Blank => (EntryKind::Blank, &[][..]),
        Payload::Normal(command) => match command.parts() {
            (false, bytes) => (EntryKind::Command, &bytes[..]),
            (true, bytes) => (EntryKind::Group, &bytes[..]),
        },
        Payload::Membership(m) => {
            membership = encode_body(&MembershipV1::from(m));
            (EntryKind::Membership, &membership[..])
        }
    };
    bytes.reserve(ENTRY_HEAD_BYTES + payload.len());
    bytes.put_u8(Tag::EntryV1 as u8);
    bytes.put_u64(term_of(&entry.log_id));
    bytes.put_u64(entry.log_id.index);
    bytes.put_u8(kind as u8);
    bytes.put_slice(payload);
}

/// Decodes a log entry; its command shares the given bytes.
pub fn decode_entry(mut bytes: Bytes) -> Result<Entry, DecodeError> {
    untag(Tag::EntryV1, &bytes)?;
    if bytes.len() < ENTRY_HEAD_BYTES {
        return Err(DecodeError::Impossible("the entry is cut"));
    }
    bytes.advance(1);
    let log_id = log_id(bytes.get_u64(), bytes.get_u64());
    let payload = match bytes.get_u8() {
        kind if kind == EntryKind::Blank as u8 && bytes.is_empty() => Payload::Blank,
        kind if kind == EntryKind::Command as u8 => Payload::Normal(Command::one(bytes)),
        kind if kind == EntryKind::Group as u8 => {
            let group = Command::group_of(bytes);
            Payload::Normal(group.ok_or(DecodeError::Impossible("the group is cut"))?)
        }
        kind if kind == EntryKind::Membership as u8 => {
            Payload::Membership(decode_body::<MembershipV1>(&bytes)?.try_into()?)
        }
        _ => return Err(DecodeError::Impossible("the entry has an unknown kind")),
    };
    Ok(Entry { log_id, payload })
}

/// What an entry carries. Part of the format.
#[derive(Clone, Copy)]
#[repr(u8)]
enum EntryKind {
    Blank = 0,
    Command = 1,
    Membership = 2,
    /// Several commands, each behind its length (4 bytes, big endian).
    Group = 3,
}

fn untag(tag: Tag, bytes: &[u8]) -> Result<&[u8], DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((found, body)) if *found == tag as u8 => Ok(body),
        Some((found, _)) => Err(DecodeError::WrongTag {
            expected: tag as u8,
            found: *found,
        }),
    }
}

fn encode_body<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("frozen shapes have lengths and a vector takes any number of bytes")
}

fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    if body.len() > VALUE_BYTES_MAX {
        return Err(DecodeError::TooLong(body.len()));
    }
    let config = bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(body, config)?;
    if used != body.len() {
        return Err(DecodeError::Impossible("bytes are left over"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
