//! Replicas are moved, and what becomes of that when something happens on the way.

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const D: NodeId = NodeId(4);
const E: NodeId = NodeId(5);

/// Five nodes, the first three with everything.
fn five() -> ClusterState {
    let mut state = founded(3, 3);
    for number in [4, 5] {
        state = apply(&state, MetaCommand::Join(node(number))).0;
    }
    for shard in 0..=3 {
        state = settle(&state, shard);
    }
    state
}

fn settle(state: &ClusterState, shard: u32) -> ClusterState {
    let replicas = state.shards[&shard]
        .voters()
        .keys()
        .map(|id| id.0)
        .collect();
    apply(state, MetaCommand::Settled { shard, replicas }).0
}

fn place(state: &ClusterState, change: Change) -> (ClusterState, MetaReply) {
    let command = MetaCommand::Place {
        shard: 1,
        seen: state.shards[&1].replicas.keys().copied().collect(),
        change,
    };
    apply(state, command)
}

fn done(state: &ClusterState, change: Change) -> ClusterState {
    let (after, reply) = place(state, change);
    assert!(
        matches!(reply, MetaReply::Done { .. }),
        "{change:?}: {reply:?}"
    );
    after
}

fn refused(state: &ClusterState, change: Change) {
    let (after, reply) = place(state, change);
    assert!(
        matches!(reply, MetaReply::Refused(_)),
        "{change:?}: {reply:?}"
    );
    assert_eq!(&after, state);
}

/// A step that cannot be meant changes nothing: the planner may have seen an older state.
#[test]
fn step_that_does_not_fit_is_refused() {
    let state = five();
    let nobody = NodeId(77);
    for (from, to) in [(A, B), (A, A), (D, E), (nobody, D), (A, nobody)] {
        refused(&state, Change::Move { from, to });
    }
    for node in [A, nobody] {
        refused(&state, Change::Add { node });
    }
    // Three are not one too many.
    for node in [A, D, nobody] {
        refused(&state, Change::Remove { node });
    }
    let from = state.shards[&1].preferred;
    for (from, to) in [(from, D), (D, A), (from, nobody)] {
        refused(&state, Change::Lead { from, to });
    }
    let unknown = MetaCommand::Place {
        shard: 9,
        seen: BTreeSet::new(),
        change: Change::Add { node: D },
    };
    assert!(matches!(apply(&state, unknown).1, MetaReply::Refused(_)));
    let stale = MetaCommand::Place {
        shard: 1,
        seen: [1].into(),
        change: Change::Move { from: A, to: D },
    };
    assert!(matches!(apply(&state, stale).1, MetaReply::Refused(_)));
}

/// A group that may not exist yet is left alone: whom `preferred` names creates it.
#[test]
fn shard_that_is_being_created_is_not_changed() {
    let state = apply(&founded(3, 3), MetaCommand::Join(node(4))).0;
    refused(&state, Change::Move { from: A, to: D });
    let from = state.shards[&1].preferred;
    let to = if from == A { B } else { A };
    refused(&state, Change::Lead { from, to });
}

#[test]
fn nothing_new_comes_to_a_node_in_maintenance() {
    let (state, _) = apply(&five(), MetaCommand::Drain(node(4).who()));
    refused(&state, Change::Move { from: A, to: D });
    refused(&state, Change::Add { node: D });
    done(&state, Change::Move { from: A, to: E });
}

/// The former replica belongs to the shard, and runs, until the group does without it.
#[test]
fn move_keeps_the_former_replica_until_it_is_over() {
    let state = five();
    let former = state.shards[&1].replica_on(A).unwrap();
    let next = state.next_replica;
    let moving = done(&state, Change::Move { from: A, to: D });
    let record = &moving.shards[&1];
    assert_eq!((record.voters().len(), record.replicas.len()), (3, 4));
    assert_eq!(record.runs_on(A), Some(former));
    assert_eq!(record.replica_on(A), None);
    assert_eq!(record.replica_on(D), Some(ReplicaId(next)));
    assert!(record.is_arriving(D) && record.is_retiring(A) && !record.is_settled());
    assert_ne!(record.preferred, A, "who goes should not lead");
    // One change at a time.
    refused(&moving, Change::Move { from: B, to: E });
    refused(&moving, Change::Add { node: E });
    let over = settle(&moving, 1);
    assert!(over.shards[&1].is_settled());
    assert_eq!(over.shards[&1].runs_on(A), None);
    assert_eq!(over.shards[&1].replicas.len(), 3);
}

/// Where it was to go has died: it goes elsewhere, or stays where it was under its old id.
#[test]
fn replica_that_never_arrives_goes_elsewhere_or_back() {
    let state = five();
    let former = state.shards[&1].replica_on(A);
    let moving = done(&state, Change::Move { from: A, to: D });
    let elsewhere = done(&moving, Change::Move { from: D, to: E });
    let record = &elsewhere.shards[&1];
    assert_eq!(record.voters().len(), 3);
    assert!(record.is_arriving(E) && record.is_retiring(A) && record.is_retiring(D));
    let back = done(&moving, Change::Move { from: D, to: A });
    assert_eq!(back.shards[&1].replica_on(A), former);
    assert_eq!(back.next_replica, moving.next_replica);
    let over = settle(&back, 1);
    assert_eq!(over.shards[&1].replicas, state.shards[&1].replicas);
}

/// The votes of a replica that was about to go are lost with its data: it must never run again.
#[test]
fn wiped_node_does_not_run_what_it_had_again() {
    let moving = done(&five(), Change::Move { from: A, to: D });
    let former = moving.shards[&1].runs_on(A).unwrap();
    let wiped = NodeInfo {
        incarnation: Uuid::from_u128(99),
        ..node(1)
    };
    let (state, _) = apply(&moving, MetaCommand::Join(wiped));
    let record = &state.shards[&1];
    assert_eq!(record.runs_on(A), None);
    assert!(
        record.retiring.contains(&former.0),
        "the group still has it"
    );
    assert!(!record.is_settled());
    let back = done(&state, Change::Move { from: D, to: A });
    assert_ne!(back.shards[&1].replica_on(A), Some(former));
    assert!(settle(&back, 1).shards[&1].is_settled());
}

#[test]
fn shard_grows_and_shrinks_down_to_its_factor() {
    let grown = settle(&done(&five(), Change::Add { node: D }), 1);
    assert_eq!(grown.shards[&1].voters().len(), 4);
    let shrunk = done(&grown, Change::Remove { node: A });
    assert_eq!(shrunk.shards[&1].voters().len(), 3);
    let shrunk = settle(&shrunk, 1);
    assert_eq!(shrunk.shards[&1].runs_on(A), None);
    refused(&shrunk, Change::Remove { node: B });
}

#[test]
fn lead_goes_to_who_has_a_replica() {
    let state = five();
    let from = state.shards[&1].preferred;
    let to = if from == A { B } else { A };
    let led = done(&state, Change::Lead { from, to });
    assert_eq!(led.shards[&1].preferred, to);
    assert_eq!(led.shards[&1].replicas, state.shards[&1].replicas);
    let (drained, _) = apply(&state, MetaCommand::Drain(node(to.0).who()));
    refused(&drained, Change::Lead { from, to });
}
