//! What nodes ask each other beside Raft: who are you, found a cluster, let me in, what is the state.
//!
//! Small requests with one answer, as tagged JSON: they are rare, and a log or a capture of them can
//! be read. An unknown request is an error for the asker and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::state::{ClusterState, Founding, MetaCommand, MetaReply, NodeId, NodeInfo};

const TAG_REQUEST_V1: u8 = 0x73;
const TAG_ANSWER_V1: u8 = 0x74;

/// What a node is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you, and do you belong to a cluster already?
    Hello {
        /// Name of the asker's cluster; another one is refused.
        cluster: String,
    },
    /// Promise to belong to this cluster.
    Pledge(Founding),
    /// Let this node in.
    Join(NodeInfo),
    /// Carry this out on the meta shard, if you lead it.
    Propose(MetaCommand),
    /// The state, if it is newer than this version.
    State {
        /// What the asker has; 0 for nothing.
        version: u64,
    },
    /// When you last reached the leader of shard 0.
    Heard,
    /// What your replicas are doing.
    Replicas,
    /// Hand the leadership of a shard to a node, if you have it.
    Transfer {
        /// Which shard.
        shard: u32,
        /// The node that is to lead.
        to: NodeId,
    },
    /// The checksum of a pinned state.
    Checksum {
        /// Which shard.
        shard: u32,
        /// Which pin.
        pin: u64,
    },
    /// Have the state of a shard pinned at one index on all its replicas, if you lead it.
    Pin {
        /// Which shard.
        shard: u32,
        /// Number of the pin.
        pin: u64,
    },
    /// Where a device is and what its twin is doing, if you lead its shard.
    Twin {
        /// Its tenant.
        tenant: String,
        /// Its id.
        device: String,
    },
    /// Log by this filter; an empty one changes nothing.
    LogFilter {
        /// The filter.
        filter: String,
    },
    /// Why no node is sent away although one is not needed, if you lead the meta shard.
    ScaleIn,
}

/// How far a node has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has no data and belongs to nobody.
    Blank,
    /// It has promised to belong to a cluster that may not exist yet.
    Pledged(Founding),
    /// It belongs to a cluster.
    Member {
        /// Which one.
        cluster_id: Uuid,
        /// Its number there.
        node: NodeId,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Hello`.
    Hello {
        /// Who it is.
        node: NodeInfo,
        /// How far it has come.
        standing: Standing,
    },
    /// To `Pledge`: it is on its disk.
    Pledged,
    /// To `Join`.
    Joined {
        /// The number of the node.
        node: NodeId,
        /// The state that it is in.
        state: ClusterState,
    },
    /// To `Propose`.
    Meta(MetaReply),
    /// To `State`; nothing when there is nothing newer.
    State(Option<ClusterState>),
    /// To `Heard`: so many milliseconds ago; nothing when it never was.
    Heard(Option<u64>),
    /// To `Replicas`.
    Replicas(BTreeMap<u32, ReplicaReport>),
    /// To `Checksum`; nothing when the pin is not (or no longer) there.
    Checksum(Option<ChecksumReport>),
    /// To `Twin`.
    Twin(TwinReport),
    /// To `LogFilter`.
    LogFilter {
        /// The filter in force.
        filter: String,
        /// The finest level that is compiled in.
        finest_level: String,
    },
    /// To `ScaleIn`; nothing when nothing is waited for.
    ScaleIn(Option<String>),
    /// Done.
    Done,
    /// The asked node does not lead the shard in question; this one may.
    NotLeader(Option<String>),
    /// Nothing was done, and why.
    Refused(String),
}

/// What one replica is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Its id in the group.
    pub replica: u64,
    /// `leader`, `follower`, `starting` or `stopped`.
    pub role: String,
    /// The node that leads, as far as it knows.
    pub leader: Option<String>,
    /// Term.
    pub term: u64,
    /// Last index in its log.
    pub last_log: u64,
    /// Last index known to be committed.
    pub committed: u64,
    /// Last index applied.
    pub applied: u64,
    /// On the leader: how far every replica's log is known to match.
    pub matched: BTreeMap<u64, u64>,
}

/// The checksum of one replica's state at one index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksumReport {
    /// The index.
    pub index: u64,
    /// Rows that it covers.
    pub rows: u64,
    /// The checksum.
    pub sum: u64,
}

/// A device on the leader of its shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinReport {
    /// Whether a twin is alive.
    pub live: bool,
    /// Versions of its shadows, by name; the classic one is empty.
    pub versions: BTreeMap<String, u64>,
}

impl Request {
    /// Encodes the request.
    pub fn encode(&self) -> Bytes {
        encode(TAG_REQUEST_V1, self)
    }

    /// Reads a request.
    pub fn decode(bytes: &[u8]) -> Option<Request> {
        decode(TAG_REQUEST_V1, bytes)
    }
}

impl Answer {
    /// Encodes the answer.
    pub fn encode(&self) -> Bytes {
        encode(TAG_ANSWER_V1, self)
    }

    /// Reads an answer.
    pub fn decode(bytes: &[u8]) -> Option<Answer> {
        decode(TAG_ANSWER_V1, bytes)
    }
}

fn encode<T: Serialize>(tag: u8, value: &T) -> Bytes {
    let mut bytes = vec![tag];
    // Maps with number keys, strings and numbers always are JSON.
    let written = serde_json::to_writer(&mut bytes, value);
    debug_assert!(written.is_ok());
    bytes.into()
}

fn decode<T: for<'de> Deserialize<'de>>(tag: u8, bytes: &[u8]) -> Option<T> {
    let (found, body) = bytes.split_first()?;
    (*found == tag).then(|| serde_json::from_slice(body).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of two versions talk to each other: the bytes are frozen.
    #[test]
    fn requests_and_answers_are_frozen() {
        let request = Request::State { version: 3 };
        assert_eq!(&request.encode()[..], b"\x73{\"State\":{\"version\":3}}");
        assert_eq!(Request::decode(&request.encode()), Some(request));
        let answer = Answer::NotLeader(Some("node-2".into()));
        assert_eq!(&answer.encode()[..], b"\x74{\"NotLeader\":\"node-2\"}");
        assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        assert_eq!(&Request::ScaleIn.encode()[..], b"\x73\"ScaleIn\"");
        let answer = Answer::ScaleIn(Some("x".into()));
        assert_eq!(&answer.encode()[..], b"\x74{\"ScaleIn\":\"x\"}");
        assert_eq!(Request::decode(b"\x73{\"Explode\":{}}"), None);
        assert_eq!(Request::decode(b"\x74\"Replicas\""), None);
    }
}
