//! What the meta shard holds: nodes, shards and where their replicas are. A pure value with pure
//! commands; [`super::machine`] keeps it in the state store.
//!
//! Replica ids are drawn here at each add and never reused: a replica that lost its log has lost its
//! votes too, so it must come back as another one.

mod founding;
mod moves;
mod nodes;

use std::collections::{BTreeMap, BTreeSet};

use antumbra_raft::{HashRange, ReplicaId, ShardId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use founding::Founding;
pub use moves::Change;
pub use nodes::{Life, NodeId, NodeInfo, Tombstone, Who};

/// The shard of the cluster's own data.
pub const META_SHARD: ShardId = ShardId(0);

/// Shape of the stored bytes; part of the format, never reused.
const TAG_STATE_V1: u8 = 0x70;
const TAG_COMMAND_V1: u8 = 0x71;
const TAG_REPLY_V1: u8 = 0x72;

/// How far the creation of a shard has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardPhase {
    /// Its group may still have to be created, by the node that `preferred` names and by no other.
    Creating,
    /// It has led once: a blank replica of it is never initialised again.
    Active,
}

/// One shard and its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// First hash that it owns.
    pub first_hash: u32,
    /// Last hash that it owns.
    pub last_hash: u32,
    /// How far its creation has come.
    pub phase: ShardPhase,
    /// Every replica and the node that has it, those that are on their way in or out included.
    pub replicas: BTreeMap<u64, NodeId>,
    /// Replicas that must leave the group; their data are lost or their node goes.
    pub retiring: BTreeSet<u64>,
    /// Replicas on their way in, for balance or instead of dead ones.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub arriving: BTreeSet<u64>,
    /// The node that should lead it, so that leaderships are spread evenly.
    pub preferred: NodeId,
}

impl ShardRecord {
    /// The hashes that it owns.
    pub fn range(&self) -> HashRange {
        HashRange {
            start: self.first_hash,
            end: self.last_hash,
        }
    }

    /// The replicas that should vote.
    pub fn voters(&self) -> BTreeMap<ReplicaId, NodeId> {
        let staying = |id: &u64| !self.retiring.contains(id);
        self.replicas
            .iter()
            .filter(|(id, _)| staying(id))
            .map(|(id, node)| (ReplicaId(*id), *node))
            .collect()
    }

    /// The replica that a node has, or is to have.
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        let voters = self.voters();
        let mut mine = voters.iter().filter(|(_, on)| **on == node);
        mine.next_back().map(|(id, _)| *id)
    }

    /// The replica that a node keeps running: one that retires is of use until the group does without it,
    /// unless it has a successor on the same node.
    pub fn runs_on(&self, node: NodeId) -> Option<ReplicaId> {
        let mut mine = self.replicas.iter().filter(|(_, on)| **on == node);
        mine.next_back().map(|(id, _)| ReplicaId(*id))
    }

    /// Whether its group exists and nothing of it is being changed.
    pub fn is_settled(&self) -> bool {
        self.phase == ShardPhase::Active && self.retiring.is_empty() && self.arriving.is_empty()
    }
}

/// Everything that the cluster knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Grows with every change.
    pub version: u64,
    /// Drawn when the cluster was created.
    pub cluster_id: Uuid,
    /// Replicas that every shard should have.
    pub replication_factor: u32,
    /// All nodes that belong to it.
    pub nodes: BTreeMap<NodeId, NodeInfo>,
    /// Where those are in their life that are not simply active.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lives: BTreeMap<NodeId, Life>,
    /// The incarnation that has the slot for maintenance. One that does not exist any more has it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Uuid>,
    /// Those that have left for good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<NodeId, Tombstone>,
    /// All shards, the meta shard included.
    pub shards: BTreeMap<u32, ShardRecord>,
    /// The next node id.
    pub next_node: u64,
    /// The next replica id.
    pub next_replica: u64,
}

/// A change of the cluster's own data.
///
/// Every version reads all that earlier ones wrote. What only a later version can read, a command or a part of
/// the state, must not be proposed before [`ClusterState::agreed_rules`] says that all know it: replicas that do
/// not would refuse the one, and lose the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaCommand {
    /// The first one: nothing else is accepted before it.
    Create(Founding),
    /// A node comes, comes back, or comes back without its data.
    Join(NodeInfo),
    /// A node is reached elsewhere now. Refused unless it is the present one under its name.
    Moved(NodeInfo),
    /// A gateway goes. Refused for a node that has replicas, or that is another one by now.
    Left {
        /// Its name.
        name: String,
        /// Which one under that name.
        incarnation: Uuid,
    },
    /// The group of a shard is as it should be: its creation is over, and these replicas are its only ones.
    Settled {
        /// Which shard.
        shard: u32,
        /// The replicas of its group.
        replicas: BTreeSet<u64>,
    },
    /// A node will be stopped for a while. Refused while another one is in maintenance.
    Drain(Who),
    /// A node stays after all.
    Resume(Who),
    /// A node goes for good. Refused while another one is in maintenance, or when too few would be left.
    Decommission(Who),
    /// A shard is changed, if nothing else happens to it and its replicas are those that were seen.
    Place {
        /// Which shard.
        shard: u32,
        /// All its replicas, as whoever asks has seen them.
        seen: BTreeSet<u64>,
        /// What becomes of it.
        change: Change,
    },
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaReply {
    /// Done; the state has this version.
    Done {
        /// Version of the state afterwards.
        version: u64,
    },
    /// The node belongs to the cluster under this number.
    Joined {
        /// Its number.
        node: NodeId,
        /// Version of the state afterwards.
        version: u64,
    },
    /// Nothing was changed.
    Refused(String),
}

impl ClusterState {
    /// Applies a command to the state there is, if any. Pure and total.
    pub fn apply(
        state: Option<ClusterState>,
        command: MetaCommand,
    ) -> (Option<ClusterState>, MetaReply) {
        let before = state.clone();
        match (state, command) {
            (None, MetaCommand::Create(founding)) if !founding.is_valid() => {
                (None, MetaReply::Refused("not a cluster".into()))
            }
            (None, MetaCommand::Create(founding)) => {
                let state = founding.state();
                let version = state.version;
                (Some(state), MetaReply::Done { version })
            }
            (None, _) => (
                None,
                MetaReply::Refused("the cluster is not created".into()),
            ),
            (Some(mut state), command) => {
                let reply = match state.change(command) {
                    Ok(joined) => {
                        state.count(before.as_ref());
                        let version = state.version;
                        match joined {
                            Some(node) => MetaReply::Joined { node, version },
                            None => MetaReply::Done { version },
                        }
                    }
                    Err(why) => MetaReply::Refused(why),
                };
                (Some(state), reply)
            }
        }
    }

    /// Changes a state that exists. Who is refused has changed nothing.
    fn change(&mut self, command: MetaCommand) -> Result<Option<NodeId>, String> {
        match command {
            MetaCommand::Create(founding) if founding.cluster_id != self.cluster_id => {
                Err("another cluster was created".into())
            }
            MetaCommand::Create(_) => Ok(None),
            MetaCommand::Join(node) => self.join(node).map(Some),
            MetaCommand::Moved(node) => self.moved(node).map(|()| None),
            MetaCommand::Left { name, incarnation } => {
                self.leave(&name, incarnation).map(|()| None)
            }
            MetaCommand::Settled { shard, replicas } => {
                self.settle(shard, &replicas);
                Ok(None)
            }
            MetaCommand::Drain(who) => self.drain(&who).map(|()| None),
            MetaCommand::Resume(who) => self.resume(&who).map(|()| None),
            MetaCommand::Decommission(who) => self.decommission(&who).map(|()| None),
            MetaCommand::Place {
                shard,
                seen,
                change,
            } => self.place(shard, &seen, change).map(|()| None),
        }
    }

    /// The number of the node with this name.
    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        let mut named = self.nodes.iter().filter(|(_, node)| node.name == name);
        named.next().map(|(id, _)| *id)
    }

    /// Where every node is reached by its peers.
    pub fn peer_addresses(&self) -> BTreeMap<String, String> {
        let nodes = self.nodes.values();
        nodes
            .map(|node| (node.name.clone(), node.peer.clone()))
            .collect()
    }

    /// The engine's name for a node.
    pub fn engine_node(&self, id: NodeId) -> Option<antumbra_raft::Node> {
        let node = self.nodes.get(&id)?;
        Some(antumbra_raft::Node {
            name: node.name.clone(),
            address: node.peer.clone(),
        })
    }

    /// Encodes the state for the store.
    pub fn encode(&self) -> Vec<u8> {
        encode(TAG_STATE_V1, self)
    }

    /// Reads a stored state.
    pub fn decode(bytes: &[u8]) -> Option<ClusterState> {
        decode(TAG_STATE_V1, bytes)
    }

    fn count(&mut self, before: Option<&ClusterState>) {
        if before != Some(self) {
            self.version += 1;
        }
    }
}

impl MetaCommand {
    /// Encodes the command for the log.
    pub fn encode(&self) -> Vec<u8> {
        encode(TAG_COMMAND_V1, self)
    }

    /// Reads a command.
    pub fn decode(bytes: &[u8]) -> Option<MetaCommand> {
        decode(TAG_COMMAND_V1, bytes)
    }
}

impl MetaReply {
    /// Encodes the reply for the proposer.
    pub fn encode(&self) -> Vec<u8> {
        encode(TAG_REPLY_V1, self)
    }

    /// Reads a reply.
    pub fn decode(bytes: &[u8]) -> Option<MetaReply> {
        decode(TAG_REPLY_V1, bytes)
    }
}

fn encode<T: Serialize>(tag: u8, value: &T) -> Vec<u8> {
    let mut bytes = vec![tag];
    // Maps with number keys, strings and numbers always are JSON.
    let written = serde_json::to_writer(&mut bytes, value);
    debug_assert!(written.is_ok());
    bytes
}

fn decode<T: for<'de> Deserialize<'de>>(tag: u8, bytes: &[u8]) -> Option<T> {
    let (found, body) = bytes.split_first()?;
    (*found == tag).then(|| serde_json::from_slice(body).ok())?
}

#[cfg(test)]
mod tests;
