//! The cluster as the decision needs it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::control::ReplicaReport;
use crate::cluster::state::{ClusterState, Life, NodeId};
use crate::kubernetes::PodName;

/// What a node said of its replicas, by shard; nothing from one that does not answer.
pub(super) type Reports = BTreeMap<NodeId, BTreeMap<u32, ReplicaReport>>;

/// The nodes that keep data, and the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Replicas that every shard should have.
    pub(super) replication_factor: u32,
    /// The node for which the cluster is kept whole.
    pub(super) in_maintenance: Option<NodeId>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) shards: BTreeMap<u32, Shard>,
}

/// A node that keeps data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// Which pod of the StatefulSet it is, if it is one.
    pub(super) ordinal: Option<u32>,
    pub(super) life: Life,
    /// Whether it answers, from the data directory that is meant.
    pub(super) answers: bool,
    /// Whether any replica is on it, or on its way.
    pub(super) has_replicas: bool,
}

/// How a shard is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shard {
    /// Whether its group exists and nothing of it is being changed.
    pub(super) is_settled: bool,
    pub(super) has_leader: bool,
    /// Nodes whose replica of it cannot vote now.
    pub(super) down: BTreeSet<NodeId>,
}

impl View {
    /// The view of whoever has heard these reports. `set` is the StatefulSet.
    pub(super) fn of(state: &ClusterState, set: &str, reports: &Reports) -> View {
        let keepers = state.nodes.iter().filter(|(_, info)| info.storage);
        let nodes = keepers.map(|(id, info)| {
            let pod = PodName::parse(&info.name).filter(|pod| pod.set == set);
            let node = Node {
                name: info.name.clone(),
                ordinal: pod.map(|pod| pod.ordinal),
                life: state.life(*id),
                answers: reports.contains_key(id),
                has_replicas: state.has_replicas(*id),
            };
            (*id, node)
        });
        let shards = state.shards.keys();
        View {
            replication_factor: state.replication_factor,
            in_maintenance: state.in_maintenance(),
            nodes: nodes.collect(),
            shards: shards.map(|id| (*id, shard(state, *id, reports))).collect(),
        }
    }

    /// What a node is called.
    pub(super) fn name(&self, node: NodeId) -> String {
        let known = self.nodes.get(&node);
        known.map_or_else(|| format!("node number {node}"), |node| node.name.clone())
    }
}

fn shard(state: &ClusterState, id: u32, reports: &Reports) -> Shard {
    let Some(record) = state.shards.get(&id) else {
        return Shard::default();
    };
    let report = |replica: u64, node: NodeId| {
        let report = reports.get(&node)?.get(&id)?;
        (report.replica == replica).then_some(report)
    };
    let leads = |(replica, node): (&u64, &NodeId)| {
        report(*replica, *node).is_some_and(|report| report.role == "leader")
    };
    let votes = |replica: u64, node: NodeId| {
        let report = report(replica, node);
        report.is_some_and(|report| ["leader", "follower"].contains(&report.role.as_str()))
    };
    let voters = record.voters().into_iter();
    let down = voters.filter(|(replica, node)| !votes(replica.0, *node));
    Shard {
        is_settled: record.is_settled(),
        has_leader: record.replicas.iter().any(leads),
        down: down.map(|(_, node)| node).collect(),
    }
}
