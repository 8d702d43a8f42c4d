#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use antumbra_proto::cluster::v1::{ReplicaRole, ReplicaStanding};
use uuid::Uuid;

use crate::cluster::{ClusterState, MetaCommand};

use super::super::survey::tests::{follower, leader, state, survey};
use super::*;

fn one_is_down() -> Survey {
    survey([
        Some(follower(6, 93)),
        Some(leader(4, 3, &[(4, 100), (5, 60), (6, 93)])),
        None,
    ])
}

#[test]
fn shard_shows_its_replicas_as_they_are() {
    let survey = one_is_down();
    let shards = shards(&survey);
    assert_eq!(
        shards.iter().map(|s| s.shard).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let shard = &shards[1];
    assert_eq!((shard.leader.as_str(), shard.term), ("node-2", 3));
    assert!(shard.has_quorum);
    let seen: Vec<_> = shard
        .replicas
        .iter()
        .map(|r| (r.replica, r.node.as_str(), r.role(), r.lag))
        .collect();
    assert_eq!(
        seen,
        [
            (4, "node-2", ReplicaRole::Leader, Some(0)),
            (5, "node-3", ReplicaRole::Unreachable, Some(40)),
            (6, "node-1", ReplicaRole::Follower, Some(7)),
        ]
    );
    assert_eq!(shard.replicas[2].applied_index, 93);
    assert_eq!((shard.first_hash, shards[2].last_hash), (0, u32::MAX));
    assert_eq!(shard.last_hash + 1, shards[2].first_hash);
    // Nobody reported them.
    assert_eq!((shards[0].first_hash, shards[0].last_hash), (0, 0));
    assert_eq!(shards[0].replicas[0].role(), ReplicaRole::Absent);
    assert_eq!(shards[0].replicas[0].lag, None);
}

#[test]
fn nodes_say_whether_they_answer_and_what_they_lead() {
    let nodes = nodes(&one_is_down());
    let seen: Vec<_> = nodes
        .iter()
        .map(|n| (n.name.as_str(), n.number, n.reachable, n.leaderships))
        .collect();
    assert_eq!(
        seen,
        [
            ("node-1", 1, true, 0),
            ("node-2", 2, true, 1),
            ("node-3", 3, false, 0)
        ]
    );
    assert!(nodes.iter().all(|node| node.replicas == 3));
    assert_eq!(nodes[2].reason, "connection refused");
    assert_eq!(nodes[0].grpc_address, "127.0.0.1:7400");
}

/// The sentences are what an operator reads first: each thing that is wrong is in one of them.
#[test]
fn concerns_name_what_is_wrong() {
    let text = concerns(&one_is_down()).join("\n");
    for part in [
        "node-3 does not answer: connection refused",
        "shards 1: a quorum is up, and not every replica",
        "shard 0 (the cluster's own state) has no leader",
        "shard 2 has no quorum: 0 of 3 voters are up",
        "shards 0, 1, 2: not reported since it was placed",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(!text.contains("shard 1 has no leader"), "{text}");
}

/// A node that lost its data has two replicas in the state: the lost one and its successor.
#[test]
fn lost_replica_is_retiring() {
    let mut wiped = state().nodes[&NodeId(1)].clone();
    wiped.incarnation = Uuid::from_u128(99);
    let (after, _) = ClusterState::apply(Some(state()), MetaCommand::Join(wiped));
    let survey = Survey::of(after.unwrap(), BTreeMap::new());
    let shard = &shards(&survey)[1];
    let on_node_1: Vec<_> = shard
        .replicas
        .iter()
        .filter(|replica| replica.node == "node-1")
        .map(|replica| replica.standing())
        .collect();
    assert_eq!(
        on_node_1,
        [ReplicaStanding::Retiring, ReplicaStanding::Arriving]
    );
    let text = concerns(&survey).join("\n");
    assert!(
        text.contains("replica 6 of node-1 is on its way out of shard 1"),
        "{text}"
    );
}
