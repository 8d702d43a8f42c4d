//! What the meta shard holds: nodes, shards and where their replicas are. A pure value with pure
//! commands; [`super::machine`] keeps it in the state store.
//!
//! Replica ids are drawn here at each add and never reused: a replica that lost its log has lost its
//! votes too, so it must come back as another one.

use std::collections::{BTreeMap, BTreeSet};

use antumbra_raft::{HashRange, ReplicaId, ShardId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::shadows::{SHARDS_MAX, ShardMap};

/// The shard of the cluster's own data.
pub const META_SHARD: ShardId = ShardId(0);

/// Shape of the stored bytes; part of the format, never reused.
const TAG_STATE_V1: u8 = 0x70;
const TAG_COMMAND_V1: u8 = 0x71;
const TAG_REPLY_V1: u8 = 0x72;

/// Number of a node in its cluster: given at join, never reused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a node says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Drawn for every data directory: a wiped node is another incarnation.
    pub incarnation: Uuid,
    /// Where its peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach its gRPC door.
    pub grpc: String,
    /// Where clients reach its HTTP door.
    pub http: String,
    /// Whether it keeps replicas; a gateway does not.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub storage: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

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
    /// All nodes that ever joined.
    pub nodes: BTreeMap<NodeId, NodeInfo>,
    /// All shards, the meta shard included.
    pub shards: BTreeMap<u32, ShardRecord>,
    /// The next node id.
    pub next_node: u64,
    /// The next replica id.
    pub next_replica: u64,
}

/// What a new cluster is made of: agreed upon by its first nodes before anything is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// Drawn by the node that proposes it.
    pub cluster_id: Uuid,
    /// Replicas that every shard should have.
    pub replication_factor: u32,
    /// Data shards.
    pub shards: u32,
    /// The first nodes, in the order of their names.
    pub members: Vec<NodeInfo>,
}

impl Founding {
    /// Whether a cluster can be made of it: it comes from another node.
    pub fn is_valid(&self) -> bool {
        let names: BTreeSet<&str> = self.members.iter().map(|node| node.name.as_str()).collect();
        let shards = 1..=SHARDS_MAX;
        !names.is_empty()
            && names.len() == self.members.len()
            && self.members.iter().all(|node| node.storage)
            && shards.contains(&self.shards)
            && self.replication_factor > 0
    }

    /// The first state of the cluster. The same founding gives the same state on every node.
    pub fn state(&self) -> ClusterState {
        let nodes: BTreeMap<NodeId, NodeInfo> = (1..)
            .map(NodeId)
            .zip(self.members.iter().cloned())
            .collect();
        let ids: Vec<NodeId> = nodes.keys().copied().collect();
        let mut state = ClusterState {
            version: 1,
            cluster_id: self.cluster_id,
            replication_factor: self.replication_factor,
            next_node: ids.len() as u64 + 1,
            nodes,
            shards: BTreeMap::new(),
            next_replica: 1,
        };
        let meta = HashRange::EMPTY;
        let data = ShardMap::even(self.shards);
        let places = data.places().iter().map(|place| (place.shard, place.range));
        for (shard, range) in std::iter::once((META_SHARD, meta)).chain(places) {
            state.place(shard, range, &ids);
        }
        state
    }

    /// The replica of the meta shard on a node, and all of them.
    pub fn meta_replicas(&self) -> BTreeMap<ReplicaId, String> {
        let state = self.state();
        let Some(meta) = state.shards.get(&META_SHARD.0) else {
            return BTreeMap::new();
        };
        let named = meta.replicas.iter().filter_map(|(id, node)| {
            let node = state.nodes.get(node)?;
            Some((ReplicaId(*id), node.name.clone()))
        });
        named.collect()
    }
}

/// A change of the cluster's own data.
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
            (Some(state), MetaCommand::Create(founding)) => {
                let reply = match founding.cluster_id == state.cluster_id {
                    true => MetaReply::Done {
                        version: state.version,
                    },
                    false => MetaReply::Refused("another cluster was created".into()),
                };
                (Some(state), reply)
            }
            (Some(mut state), MetaCommand::Join(node)) => {
                let reply = match state.join(node) {
                    Ok(node) => {
                        state.count(before.as_ref());
                        let version = state.version;
                        MetaReply::Joined { node, version }
                    }
                    Err(why) => MetaReply::Refused(why),
                };
                (Some(state), reply)
            }
            (Some(mut state), MetaCommand::Left { name, incarnation }) => {
                let reply = match state.leave(&name, incarnation) {
                    Ok(()) => {
                        state.count(before.as_ref());
                        let version = state.version;
                        MetaReply::Done { version }
                    }
                    Err(why) => MetaReply::Refused(why),
                };
                (Some(state), reply)
            }
            (Some(mut state), MetaCommand::Moved(node)) => {
                let reply = match state.moved(node) {
                    true => {
                        state.count(before.as_ref());
                        let version = state.version;
                        MetaReply::Done { version }
                    }
                    false => MetaReply::Refused("another one has taken its name".into()),
                };
                (Some(state), reply)
            }
            (Some(mut state), MetaCommand::Settled { shard, replicas }) => {
                state.settle(shard, &replicas);
                state.count(before.as_ref());
                let version = state.version;
                (Some(state), MetaReply::Done { version })
            }
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

    fn place(&mut self, shard: ShardId, range: HashRange, nodes: &[NodeId]) {
        let copies = (self.replication_factor as usize).clamp(1, nodes.len().max(1));
        let first = shard.0 as usize;
        let mut record = ShardRecord {
            first_hash: range.start,
            last_hash: range.end,
            phase: ShardPhase::Creating,
            replicas: BTreeMap::new(),
            retiring: BTreeSet::new(),
            preferred: NodeId::default(),
        };
        for nth in 0..copies {
            let node = nodes[(first + nth) % nodes.len()];
            if nth == 0 {
                record.preferred = node;
            }
            record.replicas.insert(self.next_replica, node);
            self.next_replica += 1;
        }
        self.shards.insert(shard.0, record);
    }

    /// A known name with its incarnation keeps everything; with another one its data are gone, and
    /// it gets all its replicas anew. What has replicas cannot become a gateway.
    fn join(&mut self, node: NodeInfo) -> Result<NodeId, String> {
        let Some(id) = self.node_named(&node.name) else {
            let id = NodeId(self.next_node);
            self.next_node += 1;
            self.nodes.insert(id, node);
            return Ok(id);
        };
        if !node.storage && self.has_replicas(id) {
            return Err(format!("{} is a node that has replicas", node.name));
        }
        let known = self.nodes.insert(id, node.clone());
        if known.is_some_and(|known| known.incarnation != node.incarnation) {
            self.replace_replicas(id);
        }
        Ok(id)
    }

    /// Forgets a node that keeps nothing. One that is not known is gone already.
    fn leave(&mut self, name: &str, incarnation: Uuid) -> Result<(), String> {
        let Some(id) = self.node_named(name) else {
            return Ok(());
        };
        if self.nodes.get(&id).map(|node| node.incarnation) != Some(incarnation) {
            return Err("another one has taken its name".into());
        }
        if self.has_replicas(id) {
            return Err(format!("{name} has replicas"));
        }
        self.nodes.remove(&id);
        Ok(())
    }

    fn has_replicas(&self, node: NodeId) -> bool {
        let mut shards = self.shards.values();
        shards.any(|record| record.replicas.values().any(|on| *on == node))
    }

    /// False when the node is not known, or is another incarnation.
    fn moved(&mut self, node: NodeInfo) -> bool {
        let id = self.node_named(&node.name);
        let known = id.and_then(|id| self.nodes.get_mut(&id));
        match known.filter(|known| known.incarnation == node.incarnation) {
            Some(known) => {
                *known = node;
                true
            }
            None => false,
        }
    }

    fn replace_replicas(&mut self, node: NodeId) {
        for record in self.shards.values_mut() {
            let lost: Vec<u64> = record
                .replicas
                .iter()
                .filter(|(id, on)| **on == node && !record.retiring.contains(id))
                .map(|(id, _)| *id)
                .collect();
            for id in lost {
                record.retiring.insert(id);
                record.replicas.insert(self.next_replica, node);
                self.next_replica += 1;
            }
        }
    }

    fn settle(&mut self, shard: u32, replicas: &BTreeSet<u64>) {
        let Some(record) = self.shards.get_mut(&shard) else {
            return;
        };
        let wanted: BTreeSet<u64> = record.voters().keys().map(|id| id.0).collect();
        // A report from before the last change says nothing about it.
        if wanted != *replicas {
            return;
        }
        record.phase = ShardPhase::Active;
        let retiring = std::mem::take(&mut record.retiring);
        record.replicas.retain(|id, _| !retiring.contains(id));
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
