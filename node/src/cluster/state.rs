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
                let node = state.join(node);
                state.count(before.as_ref());
                let version = state.version;
                (Some(state), MetaReply::Joined { node, version })
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
    /// it gets all its replicas anew.
    fn join(&mut self, node: NodeInfo) -> NodeId {
        let Some(id) = self.node_named(&node.name) else {
            let id = NodeId(self.next_node);
            self.next_node += 1;
            self.nodes.insert(id, node);
            return id;
        };
        let known = self.nodes.insert(id, node.clone());
        if known.is_some_and(|known| known.incarnation != node.incarnation) {
            self.replace_replicas(id);
        }
        id
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn node(number: u64) -> NodeInfo {
        NodeInfo {
            name: format!("node-{number}"),
            incarnation: Uuid::from_u128(number.into()),
            peer: format!("127.0.0.1:{}", 7301 + 100 * number),
            grpc: format!("127.0.0.1:{}", 7300 + 100 * number),
            http: format!("127.0.0.1:{}", 7380 + 100 * number),
        }
    }

    fn founded(nodes: u64, shards: u32) -> ClusterState {
        let founding = Founding {
            cluster_id: Uuid::from_u128(7),
            replication_factor: 3,
            shards,
            members: (1..=nodes).map(node).collect(),
        };
        let (state, reply) = ClusterState::apply(None, MetaCommand::Create(founding));
        assert_eq!(reply, MetaReply::Done { version: 1 });
        state.unwrap()
    }

    fn apply(state: &ClusterState, command: MetaCommand) -> (ClusterState, MetaReply) {
        let (state, reply) = ClusterState::apply(Some(state.clone()), command);
        (state.unwrap(), reply)
    }

    fn ids(state: &ClusterState) -> Vec<u64> {
        let shards = state.shards.values();
        shards.flat_map(|s| s.replicas.keys().copied()).collect()
    }

    #[test]
    fn founding_spreads_replicas_and_leaders_evenly() {
        for (nodes, copies) in [(1, 1), (2, 2), (3, 3), (5, 3)] {
            let state = founded(nodes, 5 * nodes as u32);
            let (mut on, mut led) = (BTreeMap::new(), BTreeMap::new());
            for (shard, record) in &state.shards {
                assert_eq!(record.replicas.len(), copies, "shard {shard}");
                let distinct: BTreeSet<_> = record.replicas.values().collect();
                assert_eq!(distinct.len(), copies, "one node has it twice");
                for node in record.replicas.values() {
                    *on.entry(*node).or_insert(0) += 1;
                }
                if *shard != META_SHARD.0 {
                    *led.entry(record.preferred).or_insert(0) += 1;
                }
            }
            let spread = |counts: &BTreeMap<NodeId, u32>| {
                counts.values().max().unwrap() - counts.values().min().unwrap()
            };
            assert!(spread(&on) <= 1, "{on:?}");
            assert_eq!(spread(&led), 0, "{led:?}");
            let all = ids(&state);
            let distinct: BTreeSet<_> = all.iter().collect();
            assert_eq!(distinct.len(), all.len(), "a replica id was used twice");
        }
    }

    #[test]
    fn returning_node_keeps_everything_and_may_move() {
        let state = founded(3, 3);
        let moved = NodeInfo {
            peer: "10.0.0.9:7401".into(),
            ..node(2)
        };
        let (after, reply) = apply(&state, MetaCommand::Join(moved));
        assert_eq!(
            reply,
            MetaReply::Joined {
                node: NodeId(2),
                version: 2
            }
        );
        assert_eq!(ids(&after), ids(&state));
        assert_eq!(after.nodes[&NodeId(2)].peer, "10.0.0.9:7401");
        let (again, _) = apply(&after, MetaCommand::Join(after.nodes[&NodeId(2)].clone()));
        assert_eq!(again.version, after.version, "nothing changed");
    }

    /// An old directory that comes back must not take its name from the one that replaced it.
    #[test]
    fn only_the_present_incarnation_can_move() {
        let state = founded(3, 3);
        let moved = NodeInfo {
            peer: "10.0.0.9:7401".into(),
            ..node(2)
        };
        let (after, reply) = apply(&state, MetaCommand::Moved(moved.clone()));
        assert_eq!(reply, MetaReply::Done { version: 2 });
        assert_eq!(after.nodes[&NodeId(2)].peer, "10.0.0.9:7401");
        let old = NodeInfo {
            incarnation: Uuid::from_u128(99),
            ..moved
        };
        for stranger in [old, node(9)] {
            let (unchanged, reply) = apply(&after, MetaCommand::Moved(stranger));
            assert!(matches!(reply, MetaReply::Refused(_)));
            assert_eq!(unchanged, after);
        }
    }

    /// A founding comes over the network; what makes no sense must neither be promised nor applied.
    #[test]
    fn founding_that_makes_no_sense_is_refused() {
        let good = Founding {
            cluster_id: Uuid::from_u128(7),
            replication_factor: 3,
            shards: 3,
            members: vec![node(1), node(2)],
        };
        assert!(good.is_valid());
        let bad = [
            Founding {
                shards: 0,
                ..good.clone()
            },
            Founding {
                shards: 1025,
                ..good.clone()
            },
            Founding {
                members: Vec::new(),
                ..good.clone()
            },
            Founding {
                members: vec![node(1), node(1)],
                ..good.clone()
            },
            Founding {
                replication_factor: 0,
                ..good
            },
        ];
        for founding in bad {
            assert!(!founding.is_valid(), "{founding:?}");
            let (none, reply) = ClusterState::apply(None, MetaCommand::Create(founding));
            assert!(none.is_none() && matches!(reply, MetaReply::Refused(_)));
        }
    }

    /// Its replicas get new ids, which were never used; the old ones leave once the group says so.
    #[test]
    fn wiped_node_gets_new_replica_ids() {
        let state = founded(3, 3);
        let wiped = NodeInfo {
            incarnation: Uuid::from_u128(99),
            ..node(2)
        };
        let (after, _) = apply(&state, MetaCommand::Join(wiped));
        for (shard, record) in &after.shards {
            assert_eq!(record.retiring.len(), 1, "shard {shard}");
            assert_eq!(record.voters().len(), 3);
            let new = record.replica_on(NodeId(2)).unwrap();
            assert!(!ids(&state).contains(&new.0), "{new} was used before");
        }
        let voters: BTreeSet<u64> = after.shards[&1].voters().keys().map(|id| id.0).collect();
        let stale = MetaCommand::Settled {
            shard: 1,
            replicas: state.shards[&1].replicas.keys().copied().collect(),
        };
        let (unchanged, _) = apply(&after, stale);
        assert_eq!(unchanged, after, "a stale report settles nothing");
        let (settled, _) = apply(
            &after,
            MetaCommand::Settled {
                shard: 1,
                replicas: voters.clone(),
            },
        );
        let record = &settled.shards[&1];
        assert!(record.retiring.is_empty());
        assert_eq!(
            record.replicas.keys().copied().collect::<BTreeSet<_>>(),
            voters
        );
        assert_eq!(record.phase, ShardPhase::Active);
    }

    #[test]
    fn newcomer_gets_a_new_number_and_no_replica() {
        let state = founded(3, 3);
        let (after, reply) = apply(&state, MetaCommand::Join(node(4)));
        assert!(matches!(
            reply,
            MetaReply::Joined {
                node: NodeId(4),
                ..
            }
        ));
        assert_eq!(ids(&after), ids(&state));
    }

    #[test]
    fn nothing_happens_before_the_creation_and_no_second_one() {
        let (none, reply) = ClusterState::apply(None, MetaCommand::Join(node(1)));
        assert!(none.is_none() && matches!(reply, MetaReply::Refused(_)));
        let state = founded(3, 3);
        let other = Founding {
            cluster_id: Uuid::from_u128(8),
            replication_factor: 3,
            shards: 1,
            members: vec![node(1)],
        };
        let (after, reply) = apply(&state, MetaCommand::Create(other));
        assert!(matches!(reply, MetaReply::Refused(_)));
        assert_eq!(after, state);
    }

    /// Stored bytes are readable for ever, and foreign bytes are refused.
    #[test]
    fn encodings_are_frozen() {
        let state = founded(1, 1);
        let bytes = state.encode();
        assert_eq!(ClusterState::decode(&bytes), Some(state));
        assert!(bytes.starts_with(b"\x70{\"version\":1,\"cluster_id\":\"00000000-0000"));
        let command = MetaCommand::Settled {
            shard: 3,
            replicas: [4, 5].into(),
        };
        let golden = b"\x71{\"Settled\":{\"shard\":3,\"replicas\":[4,5]}}";
        assert_eq!(command.encode(), golden);
        assert_eq!(MetaCommand::decode(golden), Some(command));
        assert_eq!(ClusterState::decode(golden), None);
        assert_eq!(MetaCommand::decode(b""), None);
    }
}
