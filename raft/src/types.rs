//! The types that openraft is instantiated with.
//!
//! Leader ids are the *standard* ones: at most one leader in a term. Twins, session epochs and
//! proposals (`with_leader`) are bound to a term alone, so a term must name one leader. The advanced
//! ids of openraft allow several leaders in one term and would break that.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::command::Command;

/// What applying one entry gave: the reply to each of its commands, opaque to this crate. Empty for
/// entries that are not commands.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reply(#[serde(with = "list_of_bytes")] pub Vec<Bytes>);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({} commands)", self.0.len())
    }
}

/// Where a replica lives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Node {
    /// Name of the node.
    pub name: String,
    /// Peer address, `host:port`.
    pub address: String,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.address)
    }
}

openraft::declare_raft_types!(
    /// The one instantiation of openraft in the program.
    pub TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

/// Place and leader of an entry.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// An entry of a shard's log.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// What an entry carries.
pub type Payload = openraft::type_config::alias::PayloadOf<TypeConfig>;
/// A vote, given or committed.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// Voters and learners of a shard.
pub type Membership = openraft::Membership<u64, Node>;
/// A membership with the place where it was written.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// What openraft knows about a snapshot.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// The log id of `index`, written by the leader of `term`.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}

/// The term of the leader that wrote an entry.
pub fn term_of(log_id: &LogId) -> u64 {
    log_id.leader_id.term
}

/// Byte strings, for serde.
mod list_of_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(list: &[Bytes], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| &bytes[..]))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Bytes>, D::Error> {
        let list = Vec::<Vec<u8>>::deserialize(from)?;
        Ok(list.into_iter().map(Bytes::from).collect())
    }
}
