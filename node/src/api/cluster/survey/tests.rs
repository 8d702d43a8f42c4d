#![allow(clippy::unwrap_used)]

use uuid::Uuid;

use crate::cluster::{Founding, MetaCommand, NodeInfo};

use super::*;

/// A cluster of three nodes with the meta shard and two data shards. The replicas of shard 1 are 4 on
/// node 2, 5 on node 3 and 6 on node 1.
pub(in crate::api::cluster) fn state() -> ClusterState {
    let member = |number: u64| NodeInfo {
        name: format!("node-{number}"),
        incarnation: Uuid::from_u128(number.into()),
        peer: format!("127.0.0.1:{}", 7301 + 100 * number),
        grpc: format!("127.0.0.1:{}", 7300 + 100 * number),
        http: format!("127.0.0.1:{}", 7380 + 100 * number),
        storage: true,
        zone: String::new(),
        capacity: std::num::NonZeroU16::MIN,
        rules: 1,
    };
    let founding = Founding {
        cluster_id: Uuid::from_u128(7),
        replication_factor: 3,
        shards: 2,
        members: (1..=3).map(member).collect(),
    };
    let (state, _) = ClusterState::apply(None, MetaCommand::Create(founding));
    state.unwrap()
}

/// A follower that has applied this index.
pub(in crate::api::cluster) fn follower(replica: u64, applied: u64) -> ReplicaReport {
    ReplicaReport {
        replica,
        role: "follower".to_owned(),
        leader: Some("node-2".to_owned()),
        term: 3,
        last_log: applied,
        committed: applied,
        applied,
        matched: BTreeMap::new(),
    }
}

/// A leader at index 100 that knows these matches.
pub(in crate::api::cluster) fn leader(
    replica: u64,
    term: u64,
    matched: &[(u64, u64)],
) -> ReplicaReport {
    ReplicaReport {
        role: "leader".to_owned(),
        term,
        matched: matched.iter().copied().collect(),
        ..follower(replica, 100)
    }
}

/// What nodes 1 to 3 say of shard 1 alone.
pub(in crate::api::cluster) fn survey(said: [Option<ReplicaReport>; 3]) -> Survey {
    let heard = (1..).map(NodeId).zip(said.map(|report| match report {
        Some(report) => Heard::Replicas([(1, report)].into()),
        None => Heard::Silence("connection refused".to_owned()),
    }));
    Survey::of(state(), heard.collect())
}

/// A former leader that was cut off does not know that it leads no more.
#[test]
fn leader_of_the_highest_term_counts() {
    let survey = survey([
        Some(leader(6, 2, &[])),
        Some(leader(4, 3, &[])),
        Some(follower(5, 100)),
    ]);
    let leader = survey.leader(1).unwrap();
    assert_eq!((leader.node, leader.replica), (NodeId(2), 4));
    assert_eq!(survey.leader(2), None);
    assert_eq!(survey.leader(9), None);
}

/// The report of another replica, from before or after the node lost its data, is none of this one.
#[test]
fn replica_of_another_id_is_absent() {
    let survey = survey([Some(leader(99, 3, &[])), Some(follower(4, 7)), None]);
    assert_eq!(survey.seen(1, 6, NodeId(1)), Seen::Absent);
    assert!(matches!(survey.seen(1, 4, NodeId(2)), Seen::Running(_)));
    assert_eq!(survey.seen(1, 5, NodeId(3)), Seen::Unreachable);
    assert_eq!(survey.leader(1), None);
}

#[test]
fn lag_is_what_the_leader_has_and_the_replica_has_not() {
    let survey = survey([
        Some(follower(6, 93)),
        Some(leader(4, 3, &[(4, 100), (5, 60), (6, 93)])),
        None,
    ]);
    assert_eq!(survey.lag(1, 4, NodeId(2)), Some(0));
    assert_eq!(survey.lag(1, 6, NodeId(1)), Some(7));
    assert_eq!(survey.lag(1, 5, NodeId(3)), Some(40), "as the leader knows");
    assert_eq!(survey.lag(2, 7, NodeId(3)), None, "without a leader");
}

#[test]
fn shard_serves_with_a_leader_and_a_quorum() {
    let two = [Some(follower(6, 1)), Some(leader(4, 3, &[])), None];
    assert!(survey(two).serves(1));
    let one = [None, Some(leader(4, 3, &[])), None];
    assert!(!survey(one).serves(1), "a leader without a quorum");
    let headless = [Some(follower(6, 1)), None, Some(follower(5, 1))];
    assert!(
        !survey(headless.clone()).serves(1),
        "a quorum without a leader"
    );
    assert_eq!(survey(headless).voters(1), Voters { up: 2, all: 3 });
    let mut starting = follower(6, 1);
    starting.role = "starting".to_owned();
    let recovering = [Some(starting), Some(leader(4, 3, &[])), None];
    assert!(!survey(recovering).serves(1), "a replica that recovers");
}
