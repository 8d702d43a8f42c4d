//! What the first nodes agree on, and the state that it gives.

use std::collections::{BTreeMap, BTreeSet};

use antumbra_raft::{HashRange, ReplicaId, ShardId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::shadows::{SHARDS_MAX, ShardMap};

use super::{ClusterState, META_SHARD, NodeId, NodeInfo, ShardPhase, ShardRecord};

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
            lives: BTreeMap::new(),
            maintenance: None,
            left: BTreeMap::new(),
            shards: BTreeMap::new(),
            next_replica: 1,
        };
        let meta = HashRange::EMPTY;
        let data = ShardMap::even(self.shards);
        let places = data.places().iter().map(|place| (place.shard, place.range));
        for (shard, range) in std::iter::once((META_SHARD, meta)).chain(places) {
            state.found_shard(shard, range, &ids);
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

impl ClusterState {
    fn found_shard(&mut self, shard: ShardId, range: HashRange, nodes: &[NodeId]) {
        let copies = (self.replication_factor as usize).clamp(1, nodes.len().max(1));
        let first = shard.0 as usize;
        let mut record = ShardRecord {
            first_hash: range.start,
            last_hash: range.end,
            phase: ShardPhase::Creating,
            replicas: BTreeMap::new(),
            retiring: BTreeSet::new(),
            arriving: BTreeSet::new(),
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
}
