//! Nodes that drain, leave, die or were never there.

use super::*;

const THREE: [&str; 3] = ["", "", ""];
const FOUR: [&str; 4] = ["", "", "", ""];

/// A draining node keeps its replicas, gets none, and nothing happens when it is back.
#[test]
fn draining_node_keeps_its_replicas() {
    let mut world = World::settled(3, 20, &["", "", "", "", ""]);
    let before = world.clone();
    world.set(2, Standing::Draining);
    world.settle();
    world.check_rest();
    for (shard, places) in &world.layout.shards {
        assert_eq!(places.replicas, before.layout.shards[shard].replicas);
    }
    world.set(2, Standing::Active);
    world.settle();
    for (shard, places) in &world.layout.shards {
        assert_eq!(places.replicas, before.layout.shards[shard].replicas);
    }

    // A node dies meanwhile: its replicas go to the others, and back to fair afterwards.
    world.set(2, Standing::Draining);
    world.set(3, Standing::Dead);
    world.settle();
    world.check_rest();
    assert_eq!(world.loads()[&NodeId(2)], 12);
    let loads: Vec<usize> = [1, 4, 5].map(|id| world.loads()[&NodeId(id)]).to_vec();
    assert_eq!(loads, [16, 16, 16]);
}

/// While nodes drain, the others share what is left evenly, and the lead too.
#[test]
fn others_stay_even_while_nodes_drain() {
    for seed in 0..500 {
        let mut dice = Dice(seed);
        let mut world = World::settled(3, dice.below(30) as u32 + 1, &vec![""; dice.below(5) + 4]);
        for _ in 0..4 {
            let known: Vec<NodeId> = world.nodes.keys().copied().collect();
            match dice.below(3) {
                0 => world.set(dice.pick(&known).0, Standing::Draining),
                1 => world.set(dice.pick(&known).0, Standing::Active),
                _ => {
                    world.join(node("", 1));
                }
            }
            world.settle();
            world.check_rest();
            let loads = world.loads();
            let loads: Vec<usize> = world.active().iter().map(|id| loads[id]).collect();
            let (most, least) = (loads.iter().max(), loads.iter().min());
            let even = most.unwrap_or(&0) - least.unwrap_or(&0) <= 1;
            assert!(even, "seed {seed}: {loads:?} in {world:?}");
        }
    }
}

/// A leaving node is emptied; what it had is spread over the others, and nothing else moves.
#[test]
fn leaving_node_is_emptied() {
    let mut world = World::settled(3, 20, &["", "", "", "", ""]);
    world.built = 0;
    world.set(2, Standing::Leaving);
    world.settle();
    world.check_rest();
    assert_eq!(world.loads()[&NodeId(2)], 0);
    assert_eq!(world.built, 12);
}

/// A leaving node that has to stay gives nothing up: three replicas on three nodes.
#[test]
fn leaving_node_stays_while_nobody_can_replace_it() {
    let mut world = World::settled(3, 10, &THREE);
    world.set(1, Standing::Leaving);
    world.settle();
    assert_eq!(world.loads()[&NodeId(1)], 10);
    assert_eq!(world.leads().into_values().collect::<Vec<_>>(), [5, 5]);
    world.join(node("", 1));
    world.settle();
    assert_eq!(world.loads()[&NodeId(1)], 0);
}

/// Replicas on dead and on unknown nodes are replaced, when there is a node for them.
#[test]
fn dead_replicas_are_replaced() {
    let mut world = World::settled(3, 12, &FOUR);
    world.built = 0;
    world.set(3, Standing::Dead);
    world.nodes.remove(&NodeId(4));
    world.settle();
    assert_eq!(
        world.built,
        12 * 2 - (12 * 3 - 18),
        "what two nodes can still take"
    );
    let before = world.clone();
    // The dead replicas that nobody could replace are of use again when their node is back.
    world.set(3, Standing::Active);
    world.settle();
    world.check_rest();
    let kept = before.loads()[&NodeId(3)];
    assert!(world.built - before.built <= 12 - kept, "{world:?}");
}

/// What is missing or dead comes first, the shard with the fewest live replicas before all.
#[test]
fn repairs_come_first() {
    let mut world = World::settled(3, 4, &FOUR);
    world.place(0, &[1, 2, 3], 1);
    world.place(1, &[1, 2], 2);
    world.place(2, &[1], 1);
    world.place(3, &[1, 2, 9], 1);
    let repairs: Vec<u32> = world
        .plan()
        .into_iter()
        .filter_map(|step| match step {
            Step::Add { shard, .. } => Some(shard.0),
            Step::Move {
                shard,
                from: NodeId(9),
                ..
            } => Some(shard.0),
            _ => None,
        })
        .collect();
    assert_eq!(repairs[0], 2);
    let rest: BTreeSet<u32> = repairs[1..].iter().copied().collect();
    assert!(!rest.contains(&0));
}

/// A shard with too many replicas gives up the dead one, then what is too much for its node.
#[test]
fn surplus_is_removed() {
    let mut world = World::settled(3, 1, &FOUR);
    world.set(4, Standing::Dead);
    world.place(0, &[1, 2, 3, 4], 1);
    let (shard, node) = (ShardId(0), NodeId(4));
    assert_eq!(world.plan(), [Step::Remove { shard, node }]);
    world.set(4, Standing::Active);
    world.settle();
    assert_eq!(world.replicas(0).len(), 3);
    assert_eq!(world.built, 3, "nothing was built for it");
}

/// With fewer nodes than replicas every node has one, and a further node gets one.
#[test]
fn fewer_nodes_than_replicas() {
    let mut world = World::settled(3, 5, &["", ""]);
    assert_eq!(world.loads().into_values().collect::<Vec<_>>(), [5, 5]);
    world.join(node("", 1));
    world.settle();
    assert_eq!(world.loads().into_values().collect::<Vec<_>>(), [5, 5, 5]);
}

/// One node has and leads everything.
#[test]
fn one_node_has_everything() {
    let world = World::settled(3, 5, &[""]);
    assert_eq!(world.loads().into_values().collect::<Vec<_>>(), [5]);
    assert_eq!(world.leads().into_values().collect::<Vec<_>>(), [5]);
}

/// Without a node that can be used nothing is done, whatever there is.
#[test]
fn no_usable_node_no_steps() {
    assert_eq!(World::new(3, 5).plan(), []);
    assert_eq!(World::new(3, 0).plan(), []);
    for standing in [Standing::Dead, Standing::Leaving] {
        let mut world = World::settled(3, 5, &THREE);
        for id in 1..=3 {
            world.set(id, standing);
        }
        assert_eq!(world.plan(), []);
        world.layout.replication_factor = 1;
        assert_eq!(world.plan(), [], "not even what is too much");
    }
    let mut world = World::settled(3, 5, &THREE);
    (1..=3).for_each(|id| world.set(id, Standing::Draining));
    assert_eq!(world.plan(), []);
    world.nodes.clear();
    assert_eq!(world.plan(), []);
}

/// A factor of zero is taken for one: nothing is ever left without a replica.
#[test]
fn factor_of_zero_keeps_a_replica() {
    let mut world = World::settled(3, 6, &THREE);
    world.layout.replication_factor = 0;
    world.settle();
    assert_eq!(world.loads().into_values().collect::<Vec<_>>(), [2, 2, 2]);
    world.layout.replication_factor = u32::MAX;
    world.settle();
    assert_eq!(world.loads().into_values().collect::<Vec<_>>(), [6, 6, 6]);
}
