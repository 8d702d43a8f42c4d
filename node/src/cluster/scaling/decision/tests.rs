//! Every rule by itself, and all of them against what may be read and what may happen to the nodes.

#![allow(clippy::unwrap_used)]

mod lives;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::cluster::scaling::reads::{READ_AGE_MAX, READS_GAP_MAX, READS_MIN, READS_SPAN};
use crate::cluster::scaling::view::Shard;

const SECOND: Duration = Duration::from_secs(1);

fn set(replicas: u32) -> StatefulSet {
    StatefulSet {
        uid: "first".into(),
        replicas,
        start: 0,
        is_being_deleted: false,
    }
}

/// Reads five seconds apart, the last one at 100 s.
fn reads(found: impl IntoIterator<Item = Found>) -> Reads {
    let found: Vec<Found> = found.into_iter().collect();
    let begun = 100 * SECOND - 5 * SECOND * (found.len() as u32 - 1);
    let mut reads = Reads::default();
    for (nth, found) in (0..).zip(found) {
        reads.note(begun + nth * 5 * SECOND, found);
    }
    reads
}

/// Read for long enough.
fn always(set: StatefulSet) -> Reads {
    reads(std::iter::repeat_n(Found::Set(set), 4))
}

/// So many nodes called antumbra-0 and so on, numbered from 1, which are all well; three shards.
fn view(nodes: u64) -> View {
    let nodes = (0..nodes).map(|ordinal| {
        let node = Node {
            name: format!("antumbra-{ordinal}"),
            ordinal: Some(ordinal as u32),
            life: Life::Active,
            answers: true,
            has_replicas: true,
        };
        (NodeId(ordinal + 1), node)
    });
    let shard = Shard {
        is_settled: true,
        has_leader: true,
        down: [].into(),
    };
    View {
        replication_factor: 3,
        in_maintenance: None,
        nodes: nodes.collect(),
        shards: (0..3).map(|id| (id, shard.clone())).collect(),
    }
}

fn node(view: &mut View, ordinal: u64) -> &mut Node {
    view.nodes.get_mut(&NodeId(ordinal + 1)).unwrap()
}

fn now(reads: &Reads, view: &View) -> Decision {
    decide(100 * SECOND, reads, view)
}

fn waits(reads: &Reads, view: &View, text: &str) {
    match now(reads, view) {
        Decision::Wait(why) => assert!(why.to_string().contains(text), "{why}, not {text}"),
        other => panic!("{other:?}, not {text}"),
    }
}

#[test]
fn nothing_happens_while_every_node_is_needed() {
    for replicas in [5, 6, 100] {
        assert_eq!(now(&always(set(replicas)), &view(5)), Decision::Nothing);
    }
}

/// The last one goes first, and the next one when it has left.
#[test]
fn the_highest_ordinal_goes_first_and_one_at_a_time() {
    let reads = always(set(3));
    let mut view = view(5);
    assert_eq!(now(&reads, &view), Decision::SendAway(NodeId(5)));
    node(&mut view, 4).life = Life::Leaving;
    assert_eq!(now(&reads, &view), Decision::Nothing);
    view.nodes.remove(&NodeId(5));
    assert_eq!(now(&reads, &view), Decision::SendAway(NodeId(4)));
    view.nodes.remove(&NodeId(4));
    assert_eq!(now(&reads, &view), Decision::Nothing);
}

/// A node that an operator sends away, which is no pod, counts as the one at a time.
#[test]
fn a_node_that_leaves_by_command_is_waited_for() {
    let mut view = view(5);
    node(&mut view, 0).ordinal = None;
    node(&mut view, 0).life = Life::Leaving;
    assert_eq!(now(&always(set(4)), &view), Decision::Nothing);
}

/// Rule 1: whoever deletes a StatefulSet wants to keep what is on the volumes.
#[test]
fn a_set_that_is_missing_or_being_deleted_decides_nothing() {
    let mut view = view(5);
    for life in [Life::Active, Life::Leaving] {
        node(&mut view, 4).life = life;
        let deleted = StatefulSet {
            is_being_deleted: true,
            ..set(4)
        };
        waits(&always(deleted), &view, "is being deleted");
        let mut gone = vec![Found::Set(set(4)); 4];
        gone.push(Found::Missing);
        waits(&reads(gone), &view, "does not exist");
    }
}

#[test]
fn what_is_not_known_decides_nothing() {
    let view = view(5);
    waits(&Reads::default(), &view, "has not been read");
    let mut found = vec![Found::Set(set(4)); 4];
    found.push(Found::Unknown("answers 403".into()));
    waits(&reads(found), &view, "answers 403");
    let old = always(set(4));
    let later = |seconds: u32| decide((100 + seconds) * SECOND, &old, &view);
    assert_eq!(later(10), Decision::SendAway(NodeId(5)));
    assert_eq!(later(11), Decision::Wait(Why::NotRead));
    assert_eq!(
        decide(99 * SECOND, &old, &view),
        Decision::Wait(Why::NotRead)
    );
}

/// Rule 2: fewer replicas than a shard has send nobody away, and call back who was leaving.
#[test]
fn a_parked_cluster_keeps_every_node() {
    for replicas in 0..3 {
        let (reads, mut view) = (always(set(replicas)), view(5));
        waits(&reads, &view, "parked");
        node(&mut view, 3).life = Life::Leaving;
        assert_eq!(now(&reads, &view), Decision::TakeBack(NodeId(4)));
    }
    assert_eq!(
        now(&always(set(2)), &view(2)),
        Decision::Nothing,
        "it is that small"
    );
}

/// Rule 3: three reads in a row, and fifteen seconds.
#[test]
fn three_reads_over_fifteen_seconds_are_needed() {
    let (view, unconfirmed) = (view(5), "once that is certain");
    let good = Found::Set(set(4));
    waits(&reads(vec![good.clone(); 3]), &view, unconfirmed);
    let mut quick = Reads::default();
    for ms in 0..64 {
        quick.note(90 * SECOND + ms * Duration::from_millis(100), good.clone());
    }
    waits(&quick, &view, unconfirmed);
    let mut two = Reads::default();
    two.note(80 * SECOND, good.clone());
    two.note(100 * SECOND, good.clone());
    waits(&two, &view, unconfirmed);
    let mut apart = Reads::default();
    for at in [20, 60, 100] {
        apart.note(at * SECOND, good.clone());
    }
    waits(&apart, &view, unconfirmed);
    let mut three = Reads::default();
    for at in [85, 90, 100] {
        three.note(at * SECOND, good.clone());
    }
    assert_eq!(now(&three, &view), Decision::SendAway(NodeId(5)));
}

/// One read that says something else begins it anew: a flap, a failure, another StatefulSet of the same name.
#[test]
fn a_read_that_differs_begins_anew() {
    let view = view(5);
    let good = || Found::Set(set(4));
    let other = StatefulSet {
        uid: "second".into(),
        ..set(4)
    };
    for odd in [
        Found::Set(set(5)),
        Found::Missing,
        Found::Unknown(String::new()),
        Found::Set(other),
    ] {
        let found = [
            good(),
            good(),
            good(),
            good(),
            odd.clone(),
            good(),
            good(),
            good(),
        ];
        waits(&reads(found.clone()), &view, "once that is certain");
        let longer = found.into_iter().chain([good()]);
        assert_eq!(
            now(&reads(longer), &view),
            Decision::SendAway(NodeId(5)),
            "{odd:?}"
        );
    }
    // Fewer and fewer replicas never needed the last one.
    let fewer = [4, 4, 3, 3].map(|replicas| Found::Set(set(replicas)));
    assert_eq!(now(&reads(fewer), &view), Decision::SendAway(NodeId(5)));
}

/// Rule 3: a clock that goes back counts nothing from before.
#[test]
fn a_clock_that_goes_back_begins_anew() {
    let mut reads = always(set(4));
    reads.note(95 * SECOND, Found::Set(set(4)));
    let decided = decide(96 * SECOND, &reads, &view(5));
    assert!(
        matches!(decided, Decision::Wait(Why::Unconfirmed { .. })),
        "{decided:?}"
    );
}

/// Rule 3: nobody goes while somebody else is missed.
#[test]
fn every_other_node_and_replica_must_be_there() {
    let reads = always(set(4));
    let with = |change: &dyn Fn(&mut View)| {
        let mut view = view(5);
        change(&mut view);
        view
    };
    let shard = |view: &mut View, change: &dyn Fn(&mut Shard)| {
        change(view.shards.get_mut(&2).unwrap());
    };
    let down = with(&|view| node(view, 1).answers = false);
    waits(&reads, &down, "when antumbra-1 answers");
    let empty = with(&|view| {
        node(view, 1).answers = false;
        node(view, 1).has_replicas = false;
    });
    waits(&reads, &empty, "when antumbra-1 answers");
    let maintenance = with(&|view| view.in_maintenance = Some(NodeId(1)));
    waits(&reads, &maintenance, "antumbra-0 has come back");
    let changing = with(&|view| shard(view, &|shard| shard.is_settled = false));
    waits(&reads, &changing, "shard 2 is not being changed");
    let leaderless = with(&|view| shard(view, &|shard| shard.has_leader = false));
    waits(&reads, &leaderless, "shard 2 has a leader");
    let thin = with(&|view| shard(view, &|shard| shard.down = [NodeId(1)].into()));
    waits(&reads, &thin, "shard 2 on antumbra-0");
}

/// The one that goes need not be there: its pod may have been killed before it was sent away.
#[test]
fn a_node_that_is_gone_already_is_sent_away() {
    let mut view = view(5);
    node(&mut view, 4).answers = false;
    view.in_maintenance = Some(NodeId(5));
    for shard in view.shards.values_mut() {
        shard.down = [NodeId(5)].into();
    }
    assert_eq!(now(&always(set(4)), &view), Decision::SendAway(NodeId(5)));
}

/// Two pods that were killed together: they go once the others have what they had.
#[test]
fn nodes_that_are_gone_already_do_not_wait_for_each_other() {
    let mut view = view(5);
    for ordinal in [3, 4] {
        node(&mut view, ordinal).answers = false;
    }
    waits(&always(set(3)), &view, "when antumbra-3 answers");
    for ordinal in [3, 4] {
        node(&mut view, ordinal).has_replicas = false;
    }
    assert_eq!(now(&always(set(3)), &view), Decision::SendAway(NodeId(5)));
}

/// Rule 4: one read is enough to keep what has not moved yet.
#[test]
fn a_node_that_is_needed_again_is_taken_back_at_once() {
    let mut view = view(5);
    node(&mut view, 4).life = Life::Leaving;
    node(&mut view, 4).answers = false;
    let mut found = vec![Found::Set(set(4)); 4];
    found.push(Found::Set(set(5)));
    assert_eq!(now(&reads(found), &view), Decision::TakeBack(NodeId(5)));
    assert_eq!(now(&always(set(4)), &view), Decision::Nothing);
    node(&mut view, 4).life = Life::Draining;
    assert_eq!(
        now(&always(set(5)), &view),
        Decision::Nothing,
        "maintenance is not ours"
    );
}

/// Rule 5: pods below the first ordinal and nodes that are no pods are left alone.
#[test]
fn nodes_that_are_not_ours_are_left_alone() {
    let moved = StatefulSet { start: 2, ..set(3) };
    let mut view = view(5);
    assert_eq!(now(&always(moved.clone()), &view), Decision::Nothing);
    node(&mut view, 0).life = Life::Leaving;
    assert_eq!(now(&always(moved), &view), Decision::Nothing);
    node(&mut view, 0).life = Life::Active;
    node(&mut view, 4).ordinal = None;
    assert_eq!(now(&always(set(4)), &view), Decision::Nothing);
}

/// One of the things that a read gives.
fn any_found() -> impl Strategy<Value = Found> {
    let sets = (0..7_u32, 0..2_u32, 0..8_u32, 0..8_u32);
    let sets = sets.prop_map(|(replicas, start, uid, deleted)| {
        Found::Set(StatefulSet {
            uid: if uid == 0 { "second" } else { "first" }.into(),
            replicas,
            start,
            is_being_deleted: deleted == 0,
        })
    });
    // Mostly the same, so that something is confirmed now and then.
    prop_oneof![
        12 => Just(Found::Set(set(4))),
        4 => sets,
        1 => Just(Found::Missing),
        1 => Just(Found::Unknown("no answer".into())),
    ]
}

fn any_life() -> impl Strategy<Value = Life> {
    prop_oneof![8 => Just(Life::Active), 1 => Just(Life::Draining), 1 => Just(Life::Leaving)]
}

/// Six nodes, mostly well; one of them may be no pod.
fn any_view() -> impl Strategy<Value = View> {
    let well = || prop_oneof![12 => Just(true), 1 => Just(false)];
    let nodes = prop::collection::vec((any_life(), well(), well()), 6);
    let shard = (well(), well(), prop::option::weighted(0.1, 1..7_u64));
    let shards = prop::collection::vec(shard, 3);
    let maintenance = prop::option::weighted(0.1, 1..7_u64);
    (nodes, shards, maintenance, 0..20_u64).prop_map(|(nodes, shards, maintenance, no_pod)| {
        let mut view = view(6);
        for (ordinal, (life, answers, has_replicas)) in (0..).zip(nodes) {
            let node = node(&mut view, ordinal);
            (node.life, node.answers, node.has_replicas) = (life, answers, has_replicas);
            if ordinal == no_pod {
                node.ordinal = None;
            }
        }
        for (id, (is_settled, has_leader, down)) in (0..).zip(shards) {
            let down = down.map(NodeId).into_iter().collect();
            let shard = Shard {
                is_settled,
                has_leader,
                down,
            };
            view.shards.insert(id, shard);
        }
        view.in_maintenance = maintenance.map(NodeId);
        view
    })
}

/// Times in milliseconds since the one before; now and then the clock stands still or leaps.
fn any_gap() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 4_000..6_000_u64, 1 => Just(0), 1 => 8_000..90_000_u64]
}

type History = Vec<(Duration, Found)>;

fn any_history() -> impl Strategy<Value = History> {
    let steps = prop::collection::vec((any_gap(), any_found()), 0..12);
    steps.prop_map(|steps| {
        let mut at = Duration::ZERO;
        let timed = steps.into_iter().map(|(gap, found)| {
            at += Duration::from_millis(gap);
            (at, found)
        });
        timed.collect()
    })
}

/// Whether the end of a history proves that an ordinal is not needed, as the rule says it.
fn is_proven(history: &History, ordinal: u32) -> bool {
    (READS_MIN..=history.len()).any(|count| {
        let tail = &history[history.len() - count..];
        let sets: Vec<&StatefulSet> = tail
            .iter()
            .filter_map(|(_, found)| match found {
                Found::Set(set) => Some(set),
                Found::Missing | Found::Unknown(_) => None,
            })
            .collect();
        let span = tail[count - 1].0 - tail[0].0;
        let dense = tail
            .windows(2)
            .all(|two| two[1].0 - two[0].0 <= READS_GAP_MAX);
        let same = sets.iter().all(|set| {
            set.uid == sets[0].uid && !set.is_being_deleted && ordinal >= set.start + set.replicas
        });
        sets.len() == count && same && dense && span >= READS_SPAN
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// What is decided keeps every rule, and what no rule forbids is decided.
    #[test]
    fn decisions_keep_every_rule(
        history in any_history(),
        view in any_view(),
        age_ms in prop_oneof![9 => 0..5_000_u64, 1 => 5_000..20_000_u64],
    ) {
        let mut reads = Reads::default();
        for (at, found) in &history {
            reads.note(*at, found.clone());
        }
        let age = Duration::from_millis(age_ms);
        let now = history.last().map_or(Duration::ZERO, |(at, _)| *at) + age;
        let decision = decide(now, &reads, &view);

        let last = history.last().filter(|_| age <= READ_AGE_MAX);
        let set = match last {
            Some((_, Found::Set(set))) if !set.is_being_deleted => set,
            _ => {
                prop_assert!(matches!(decision, Decision::Wait(_)), "rule 1: {:?}", decision);
                return Ok(());
            }
        };
        let end = set.start + set.replicas;
        let is_parked = set.replicas < 3;
        let in_vain = |node: &Node| {
            let ours = node.ordinal.filter(|ordinal| *ordinal >= set.start);
            node.life == Life::Leaving && ours.is_some_and(|ordinal| is_parked || ordinal < end)
        };
        if view.nodes.values().any(in_vain) {
            let taken = match decision {
                Decision::TakeBack(node) => node,
                other => panic!("rule 4: {other:?}"),
            };
            prop_assert!(in_vain(&view.nodes[&taken]));
            return Ok(());
        }
        let surplus: BTreeMap<u32, NodeId> = view
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((node.ordinal.filter(|o| *o >= end)?, *id)))
            .collect();
        let highest = surplus.last_key_value();
        let Some((ordinal, goes)) = highest.filter(|_| !is_parked) else {
            prop_assert!(matches!(decision, Decision::Nothing | Decision::Wait(_)), "rule 2");
            return Ok(());
        };
        let leaving = view.nodes.values().any(|node| node.life == Life::Leaving);
        let others = || view.nodes.iter().filter(|(id, _)| *id != goes);
        let all_there = others().all(|(id, node)| {
            node.answers || (surplus.values().any(|one| one == id) && !node.has_replicas)
        });
        let whole = view.shards.values().all(|shard| {
            let others = shard.down.iter().filter(|id| *id != goes);
            shard.is_settled && shard.has_leader && others.count() == 0
        });
        let free = view.in_maintenance.is_none_or(|holder| holder == *goes);
        let may = !leaving && all_there && whole && free && is_proven(&history, *ordinal);
        let expected = may.then_some(*goes);
        let sent = match decision {
            Decision::SendAway(node) => Some(node),
            Decision::TakeBack(node) => panic!("{node} is not needed"),
            Decision::Nothing | Decision::Wait(_) => None,
        };
        prop_assert_eq!(sent, expected, "rule 3");
    }
}
