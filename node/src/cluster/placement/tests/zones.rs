//! Every shard is spread over the zones as evenly as they allow.

use super::super::zones::Demand;
use super::*;

/// Counts per zone of one shard, sorted.
fn spread(world: &World, shard: u32) -> Vec<usize> {
    let mut counts: Vec<usize> = world.zones(ShardId(shard)).into_values().collect();
    counts.sort();
    counts
}

/// No zone has two replicas more of a shard than another one with a node to spare.
fn check_even(world: &World) {
    for shard in world.layout.shards.keys() {
        let counts = world.zones(*shard);
        let most = counts.values().max().copied().unwrap_or(0);
        for node in world.active() {
            let zone = &world.nodes[&node].zone[..];
            let has = counts.get(zone).copied().unwrap_or(0);
            let is_spare = !world.layout.shards[shard].replicas.contains(&node);
            assert!(!is_spare || has + 2 > most, "shard {shard} of {world:?}");
        }
    }
}

/// The number of replicas that each zone gets is settled by hand-made examples.
#[test]
fn demand_is_even_over_the_zones() {
    let demand = |wanted, fixed: &[i64], nodes: &[i64]| {
        let demand = Demand::of(wanted, fixed, nodes);
        (demand.base, demand.extra, demand.open)
    };
    assert_eq!(
        demand(3, &[0, 0], &[4, 4]),
        (vec![1, 1], 1, vec![true, true])
    );
    assert_eq!(
        demand(3, &[0, 0], &[1, 4]),
        (vec![1, 2], 0, vec![false, true])
    );
    assert_eq!(demand(3, &[0, 0, 0], &[2, 2, 2]).0, vec![1, 1, 1]);
    assert_eq!(demand(3, &[0, 0, 0], &[2, 2, 2]).1, 0);
    assert_eq!(
        demand(5, &[0, 0], &[1, 9]),
        (vec![1, 4], 0, vec![false, true])
    );
    assert_eq!(demand(2, &[1, 0, 0], &[3, 3, 3]).0, vec![0, 1, 1]);
    assert_eq!(
        demand(1, &[2, 0, 0], &[3, 3, 3]),
        (vec![0; 3], 1, vec![false, true, true])
    );
    assert_eq!(demand(0, &[], &[]), (vec![], 0, vec![]));
    assert_eq!(demand(2, &[0, 3], &[2, 0]).0, vec![2, 0]);
}

/// Three zones have one replica each, two have two and one.
#[test]
fn zones_share_every_shard() {
    let three = World::settled(3, 50, &["a", "a", "a", "b", "b", "b", "c", "c", "c"]);
    let two = World::settled(3, 50, &["a", "a", "a", "b", "b", "b"]);
    for shard in 0..50 {
        assert_eq!(spread(&three, shard), [1, 1, 1]);
        assert_eq!(spread(&two, shard), [1, 2]);
    }
    for world in [three, two] {
        let loads: BTreeSet<usize> = world.loads().into_values().collect();
        assert!(
            loads.last().unwrap() - loads.first().unwrap() <= 1,
            "{loads:?}"
        );
    }
}

/// A shard with five replicas keeps a majority when any one of three zones is lost.
#[test]
fn loss_of_a_zone_leaves_a_majority() {
    let world = World::settled(5, 40, &["a", "b", "c", "c", "c", "c", "a", "b"]);
    for shard in 0..40 {
        assert_eq!(spread(&world, shard), [1, 2, 2]);
    }
}

/// Zones come before balance: the only node of a zone has a replica of every shard.
#[test]
fn small_zones_have_every_shard() {
    let world = World::settled(3, 40, &["a", "b", "c", "c", "c", "c"]);
    let loads: Vec<usize> = world.loads().into_values().collect();
    assert_eq!(loads, [40, 40, 10, 10, 10, 10]);
}

/// A third zone gets a replica of every shard, and only that is built.
#[test]
fn new_zone_gets_one_replica_of_each_shard() {
    let mut world = World::settled(3, 60, &["a", "a", "a", "b", "b", "b"]);
    world.built = 0;
    for _ in 0..3 {
        world.join(node("c", 1));
    }
    world.settle();
    assert_eq!(world.built, 60);
    for shard in 0..60 {
        assert_eq!(spread(&world, shard), [1, 1, 1]);
    }
}

/// Zones of any size: even at rest, and still even after nodes have gone and come.
#[test]
fn zones_stay_even_whatever_changes() {
    for seed in 0..1_500 {
        let mut dice = Dice(seed);
        let mut world = World::new(dice.below(6) as u32, dice.below(16) as u32 + 1);
        for _ in 0..dice.below(7) + 2 {
            world.join(node(dice.pick(&["a", "b", "c", "d"]), 1));
        }
        for _ in 0..3 {
            world.settle();
            world.check_rest();
            check_even(&world);
            let gone = NodeId(dice.below(world.next_node as usize) as u64);
            world.nodes.remove(&gone);
            world.join(node(dice.pick(&["a", "b", "c", "d", "e"]), 1));
        }
    }
}
