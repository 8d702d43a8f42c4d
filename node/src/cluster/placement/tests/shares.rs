//! Every node has its share, counted here in another way: by the level of water.

use super::*;

/// The level at which vessels hold so much, found by halving.
fn level(total: f64, poured: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        match poured(middle) < total {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

/// The fair part of every active node, when no node is draining.
pub(super) fn fair(world: &World) -> BTreeMap<NodeId, f64> {
    let shards = world.layout.shards.len() as f64;
    let mut zones: BTreeMap<&str, Vec<(NodeId, f64)>> = BTreeMap::new();
    let active = world.active();
    for id in &active {
        let node = &world.nodes[id];
        let capacity = node.capacity.get().into();
        zones.entry(&node.zone).or_default().push((*id, capacity));
    }
    let copies = world.copies().min(active.len());
    let (base, extra) = rounds(world, copies);
    // A node has at most one replica of each shard.
    let poured = |nodes: &[(NodeId, f64)], level: f64| -> f64 {
        nodes
            .iter()
            .map(|(_, capacity)| (capacity * level).min(shards))
            .sum()
    };
    let in_zone = |nodes: &[(NodeId, f64)], level: f64| {
        let least = base.min(nodes.len()) as f64 * shards;
        let is_open = extra > 0 && nodes.len() > base;
        let most = if is_open { least + shards } else { least };
        poured(nodes, level).clamp(least, most)
    };
    let total = copies as f64 * shards;
    let common = level(total, |level| {
        zones.values().map(|nodes| in_zone(nodes, level)).sum()
    });
    let mut fair = BTreeMap::new();
    for nodes in zones.values() {
        let own = level(in_zone(nodes, common) - 1e-9, |level| poured(nodes, level));
        for (id, capacity) in nodes {
            fair.insert(*id, (capacity * own).min(shards));
        }
    }
    fair
}

/// How many replicas of a shard every zone has that has the nodes, and how many are left over then.
pub(super) fn rounds(world: &World, copies: usize) -> (usize, usize) {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for id in world.active() {
        *sizes.entry(&world.nodes[&id].zone).or_default() += 1;
    }
    let placed = |base: usize| -> usize { sizes.values().map(|size| base.min(*size)).sum() };
    let base = (0..=copies).rev().find(|base| placed(*base) <= copies);
    let base = base.unwrap_or(0);
    (base, copies - placed(base))
}

/// The least and the most that a node may have.
pub(super) fn bounds(fair: f64) -> (usize, usize) {
    (
        (fair + 1e-6).floor() as usize,
        (fair - 1e-6).ceil().max(0.0) as usize,
    )
}

fn check_shares(world: &World) {
    let loads = world.loads();
    for (id, fair) in fair(world) {
        let (least, most) = bounds(fair);
        let is_fair = (least..=most).contains(&loads[&id]);
        assert!(
            is_fair,
            "node {id} should have {fair}: {loads:?} in {world:?}"
        );
    }
}

fn loads(capacities: &[u16], replication_factor: u32, shards: u32) -> Vec<usize> {
    let mut world = World::new(replication_factor, shards);
    for capacity in capacities {
        world.join(node("", *capacity));
    }
    world.settle();
    world.loads().into_values().collect()
}

/// Nodes have replicas in proportion to their capacity, but never two of a shard.
#[test]
fn replicas_follow_capacity() {
    assert_eq!(loads(&[1, 1, 1, 3], 2, 60), [20, 20, 20, 60]);
    assert_eq!(loads(&[1, 1, 1, 100], 2, 60), [20, 20, 20, 60]);
    assert_eq!(loads(&[1, 2, 3, 4], 1, 100), [10, 20, 30, 40]);
    let loads = loads(&[u16::MAX, 1], 1, 10);
    assert!(loads == [10, 0] || loads == [9, 1], "{loads:?}");
}

/// Equal nodes without zones never differ by more than one replica.
#[test]
fn equal_nodes_differ_by_one_at_most() {
    for (nodes, replication_factor, shards) in [
        (4, 3, 7),
        (5, 3, 100),
        (7, 5, 33),
        (9, 2, 1),
        (50, 3, 1024),
        (6, 3, 4),
    ] {
        let loads = loads(&vec![1; nodes], replication_factor, shards);
        let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
        assert!(most - least <= 1, "{loads:?}");
    }
}

/// Zones and capacities at random: shares are those of the water level.
#[test]
fn shares_are_level() {
    for seed in 0..2_000 {
        let mut dice = Dice(seed);
        let mut world = World::new(dice.below(6) as u32, dice.below(30) as u32 + 1);
        let capacity_max = dice.pick(&[1, 3, 20, 1_000]);
        let zones = dice.below(5) + 1;
        for _ in 0..dice.below(10) + 1 {
            let capacity = dice.below(capacity_max) as u16 + 1;
            let zone = ["a", "b", "c", "d", "e"][dice.below(zones)];
            world.join(node(zone, capacity));
        }
        world.settle();
        check_shares(&world);
    }
}
