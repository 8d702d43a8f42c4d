//! Nodes are drained, resumed and decommissioned.

use super::*;

fn who(number: u64) -> Who {
    node(number).who()
}

fn refused(state: &ClusterState, command: MetaCommand) -> String {
    let (after, reply) = apply(state, command.clone());
    assert_eq!(
        &after, state,
        "{command:?} was refused and changed something"
    );
    match reply {
        MetaReply::Refused(why) => why,
        reply => panic!("{command:?} gave {reply:?}"),
    }
}

fn done(state: &ClusterState, command: MetaCommand) -> ClusterState {
    let (after, reply) = apply(state, command.clone());
    let version = after.version;
    assert_eq!(reply, MetaReply::Done { version }, "{command:?}");
    after
}

/// Four nodes, the shards settled.
fn four() -> ClusterState {
    let mut state = founded(3, 3);
    for shard in 0..=3 {
        state = settled(&state, shard);
    }
    apply(&state, MetaCommand::Join(node(4))).0
}

fn settled(state: &ClusterState, shard: u32) -> ClusterState {
    let replicas = state.shards[&shard]
        .voters()
        .keys()
        .map(|id| id.0)
        .collect();
    let command = MetaCommand::Settled { shard, replicas };
    apply(state, command).0
}

fn moved(state: &ClusterState, shard: u32, from: u64, to: u64) -> ClusterState {
    let place = MetaCommand::Place {
        shard,
        seen: state.shards[&shard].replicas.keys().copied().collect(),
        change: Change::Move {
            from: NodeId(from),
            to: NodeId(to),
        },
    };
    settled(&done(state, place), shard)
}

/// Nobody is drained or sent away who is not there, is somebody else by now, or keeps nothing.
#[test]
fn stranger_ghost_and_gateway_get_no_maintenance() {
    let gateway = NodeInfo {
        name: "gateway-1".into(),
        storage: false,
        ..node(9)
    };
    let (state, _) = apply(&four(), MetaCommand::Join(gateway.clone()));
    let ghost = Who {
        incarnation: Uuid::from_u128(99),
        ..who(2)
    };
    for bad in [who(8), ghost.clone(), gateway.who()] {
        refused(&state, MetaCommand::Drain(bad.clone()));
        refused(&state, MetaCommand::Decommission(bad));
    }
    refused(&state, MetaCommand::Resume(who(8)));
    refused(&state, MetaCommand::Resume(ghost));
    done(&state, MetaCommand::Resume(who(2)));
}

/// The replicas of a node that goes must have somewhere to be.
#[test]
fn last_nodes_cannot_leave() {
    let state = founded(3, 3);
    let why = refused(&state, MetaCommand::Decommission(who(1)));
    assert!(why.contains("2 nodes would be left"), "{why}");
    let leaving = done(&four(), MetaCommand::Decommission(who(1)));
    assert_eq!(leaving.life(NodeId(1)), Life::Leaving);
    refused(&leaving, MetaCommand::Drain(who(1)));
}

/// One node at a time, whichever way it is in maintenance; the slot is given back.
#[test]
fn one_maintenance_at_a_time() {
    let drained = done(&four(), MetaCommand::Drain(who(1)));
    assert_eq!(drained.in_maintenance(), Some(NodeId(1)));
    let why = refused(&drained, MetaCommand::Drain(who(2)));
    assert!(why.contains("node-1 is in maintenance"), "{why}");
    refused(&drained, MetaCommand::Decommission(who(2)));
    let again = done(&drained, MetaCommand::Drain(who(1)));
    assert_eq!(again.version, drained.version, "asked twice is asked once");
    let gone = done(&drained, MetaCommand::Decommission(who(1)));
    assert_eq!(gone.life(NodeId(1)), Life::Leaving);
    let back = done(&gone, MetaCommand::Resume(who(1)));
    assert_eq!(back.life(NodeId(1)), Life::Active);
    assert_eq!((back.maintenance, back.lives.len()), (None, 0));
    done(&back, MetaCommand::Drain(who(2)));
}

/// The incarnation that held the slot is gone with its data: it must not keep others from it, and the new
/// one is not in maintenance.
#[test]
fn ghost_does_not_hold_the_slot() {
    let drained = done(&four(), MetaCommand::Drain(who(1)));
    let wiped = NodeInfo {
        incarnation: Uuid::from_u128(99),
        ..node(1)
    };
    let (state, _) = apply(&drained, MetaCommand::Join(wiped));
    assert_eq!(state.in_maintenance(), None);
    assert_eq!(state.life(NodeId(1)), Life::Active);
    let other = done(&state, MetaCommand::Drain(who(2)));
    assert_eq!(other.in_maintenance(), Some(NodeId(2)));
}

/// Once the last replica has gone there is no way back: not for the number, not for the directory.
#[test]
fn node_has_left_when_its_last_replica_has() {
    let mut state = done(&four(), MetaCommand::Decommission(who(2)));
    for shard in 0..=3 {
        assert_eq!(state.life(NodeId(2)), Life::Leaving, "shard {shard}");
        done(&state, MetaCommand::Resume(who(2)));
        state = moved(&state, shard, 2, 4);
    }
    assert!(!state.nodes.contains_key(&NodeId(2)));
    assert_eq!(state.left[&NodeId(2)].name, "node-2");
    assert!(state.has_left(node(2).incarnation));
    assert_eq!((state.maintenance, state.lives.len()), (None, 0));
    refused(&state, MetaCommand::Resume(who(2)));
    refused(&state, MetaCommand::Moved(node(2)));
    let why = refused(&state, MetaCommand::Join(node(2)));
    assert!(why.contains("has left"), "{why}");
    let renamed = NodeInfo {
        name: "node-7".into(),
        ..node(2)
    };
    refused(&state, MetaCommand::Join(renamed));
    let anew = NodeInfo {
        incarnation: Uuid::from_u128(99),
        ..node(2)
    };
    let (back, reply) = apply(&state, MetaCommand::Join(anew));
    let MetaReply::Joined { node, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(node, NodeId(5), "its number is not used again");
    assert_eq!(ClusterState::decode(&back.encode()), Some(back));
}

/// A node that was never given a replica has left at once.
#[test]
fn node_without_replicas_leaves_at_once() {
    let state = done(&four(), MetaCommand::Decommission(who(4)));
    assert!(state.has_left(node(4).incarnation));
    done(&state, MetaCommand::Drain(who(1)));
}

/// Invariant 12: the cluster agrees on what every node with replicas knows, and lets nobody in who knows less.
#[test]
fn rules_are_those_that_every_node_with_replicas_has_announced() {
    let knows = |number, rules| NodeInfo {
        rules,
        ..node(number)
    };
    let gateway = NodeInfo {
        storage: false,
        ..node(9)
    };
    let mut state = apply(&founded(3, 3), MetaCommand::Join(gateway.clone())).0;
    assert_eq!(state.agreed_rules(), 1);
    for number in 1..=3 {
        assert_eq!(
            state.agreed_rules(),
            1,
            "node {number} has announced nothing"
        );
        state = done(&state, MetaCommand::Moved(knows(number, 2)));
    }
    assert_eq!(state.agreed_rules(), 2, "a gateway applies nothing");
    assert_eq!(ClusterState::decode(&state.encode()).as_ref(), Some(&state));

    // One that was exchanged for an older version, one that lost its data, and a new one.
    let back = MetaCommand::Moved(knows(2, 1));
    let wiped = MetaCommand::Join(NodeInfo {
        incarnation: Uuid::from_u128(77),
        ..knows(2, 1)
    });
    for command in [back, wiped, MetaCommand::Join(knows(4, 1))] {
        let why = refused(&state, command);
        assert!(why.contains("newer version"), "{why}");
    }
    let with_new = apply(&state, MetaCommand::Join(knows(4, 3))).0;
    assert_eq!(with_new.agreed_rules(), 2);
    done(&state, MetaCommand::Moved(gateway));
}

/// What nodes said of themselves before rules had a number.
#[test]
fn node_that_names_no_rules_knows_the_first() {
    let stored = serde_json::to_string(&node(1)).unwrap();
    assert!(!stored.contains("rules"), "{stored}");
    assert_eq!(serde_json::from_str::<NodeInfo>(&stored).unwrap(), node(1));
}
