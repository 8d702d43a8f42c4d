//! No more is moved than must be.

use super::shares::{bounds, fair, rounds};
use super::*;

/// What the nodes of a family of clusters are like.
#[derive(Clone, Copy)]
enum Family {
    Equal,
    Weighted,
    Zoned,
}

impl Family {
    fn node(self, dice: &mut Dice) -> Node {
        match self {
            Family::Equal => node("", 1),
            Family::Weighted => node("", dice.below(4) as u16 + 1),
            Family::Zoned => node(dice.pick(&["a", "b", "c"]), 1),
        }
    }
}

/// A bound below what any planner has to build, from what is seen before it starts. The largest of
/// three: what single shards miss (in number, and in zones); what nodes have too much, besides what
/// shards miss; what nodes have too little.
fn least_built(world: &World) -> usize {
    let active = world.active();
    let copies = world.copies().min(active.len());
    let loads = world.loads();
    let (mut missing, mut missing_by_zone) = (0, 0);
    for places in world.layout.shards.values() {
        let mut kept = places.replicas.clone();
        kept.retain(|id| active.contains(id));
        missing += copies - kept.len();
        missing_by_zone += copies - keepable(world, &kept, copies);
    }
    let (mut over, mut under) = (0, 0);
    for (id, fair) in fair(world) {
        let (least, most) = bounds(fair);
        over += loads[&id].saturating_sub(most);
        under += least.saturating_sub(loads[&id]);
    }
    missing_by_zone.max(missing + over).max(under)
}

/// How many of these replicas of a shard can stay, as far as the zones are concerned.
fn keepable(world: &World, kept: &BTreeSet<NodeId>, copies: usize) -> usize {
    let (base, extra) = rounds(world, copies);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for id in kept {
        *counts.entry(&world.nodes[id].zone).or_default() += 1;
    }
    let certain: usize = counts.values().map(|count| base.min(*count)).sum();
    let more = counts.values().filter(|count| **count > base).count();
    certain + more.min(extra)
}

/// One node comes, leaves, or dies.
fn change(world: &mut World, family: Family, dice: &mut Dice) {
    let active = world.active();
    let standing = match dice.below(3) {
        _ if active.len() < 3 => None,
        0 => None,
        1 => Some(Standing::Leaving),
        _ => Some(Standing::Dead),
    };
    match standing {
        None => {
            world.join(family.node(dice));
        }
        Some(standing) => world.set(dice.pick(&active).0, standing),
    }
}

/// Forgets nodes that are gone and empty.
fn sweep(world: &mut World) {
    let loads = world.loads();
    let is_used = |id: &NodeId, node: &Node| node.standing == Standing::Active || loads[id] > 0;
    world.nodes.retain(|id, node| is_used(id, node));
}

/// Over 10,000 random sequences of nodes that join, leave and die, at most a tenth more is built than
/// the bound says.
#[test]
fn placement_moves_little_more_than_the_bound() {
    let families = [
        ("equal nodes", Family::Equal, 4_000),
        ("weighted nodes", Family::Weighted, 3_000),
        ("nodes in zones", Family::Zoned, 3_000),
    ];
    let mut seed = 0;
    for (name, family, sequences) in families {
        let (mut built, mut least, mut changes, mut led, mut exact) = (0, 0, 0, 0, 0);
        for _ in 0..sequences {
            seed += 1;
            let mut dice = Dice(seed);
            let mut world = World::new(dice.pick(&[1, 2, 3, 3, 3, 5]), dice.below(20) as u32 + 1);
            for _ in 0..dice.below(6) + 2 {
                world.join(family.node(&mut dice));
            }
            world.settle();
            for _ in 0..5 {
                change(&mut world, family, &mut dice);
                let bound = least_built(&world);
                (world.built, world.led) = (0, 0);
                world.settle();
                assert!(world.built >= bound, "the bound is none: {world:?}");
                changes += 1;
                exact += usize::from(world.built == bound);
                built += world.built;
                least += bound;
                led += world.led;
                sweep(&mut world);
            }
        }
        let percent = 100.0 * (built as f64 / least as f64 - 1.0);
        println!(
            "{name}: {sequences} sequences, {changes} changes, {built} replicas built, \
             bound {least} (+{percent:.2} %), exactly the bound in {exact}; {led} leaders changed"
        );
        assert!(
            built * 10 <= least * 11,
            "{name}: {built} built, bound {least}"
        );
    }
}

/// All sets of so many nodes with which a shard is spread evenly over the zones.
fn even_sets(world: &World, copies: usize) -> Vec<BTreeSet<NodeId>> {
    let active = world.active();
    let all = 0..1_usize << active.len();
    let sets = all
        .filter(|bits| bits.count_ones() as usize == copies)
        .map(|bits| {
            let is_in = |place: &usize| bits & (1 << place) != 0;
            (0..active.len())
                .filter(is_in)
                .map(|place| active[place])
                .collect()
        });
    sets.filter(|set| keepable(world, set, copies) == copies)
        .collect()
}

/// The least that has to be built to get to any layout that is even over the zones and within the
/// shares: all of them are tried.
fn least_by_trying(world: &World) -> usize {
    let copies = world.copies().min(world.active().len());
    let sets = even_sets(world, copies);
    let shares: BTreeMap<NodeId, (usize, usize)> = fair(world)
        .into_iter()
        .map(|(id, fair)| (id, bounds(fair)))
        .collect();
    let shards: Vec<&Places> = world.layout.shards.values().collect();
    let mut best = usize::MAX;
    let mut open = vec![(0, 0, BTreeMap::<NodeId, usize>::new())];
    while let Some((shard, built, loads)) = open.pop() {
        let Some(places) = shards.get(shard) else {
            let is_fair = |(id, (least, most)): (&NodeId, &(usize, usize))| {
                (least..=most).contains(&&loads.get(id).copied().unwrap_or(0))
            };
            if shares.iter().all(is_fair) {
                best = best.min(built);
            }
            continue;
        };
        for set in &sets {
            let mut loads = loads.clone();
            set.iter()
                .for_each(|id| *loads.entry(*id).or_default() += 1);
            let built = built + set.difference(&places.replicas).count();
            let is_over = loads.iter().any(|(id, load)| *load > shares[id].1);
            if !is_over && built < best {
                open.push((shard + 1, built, loads));
            }
        }
    }
    best
}

/// In small clusters, where everything can be tried, exactly the least is built.
#[test]
fn movement_is_the_least_there_is() {
    for seed in 0..1_000 {
        let mut dice = Dice(seed);
        let family = dice.pick(&[Family::Equal, Family::Weighted, Family::Zoned]);
        let mut world = World::new(dice.below(3) as u32 + 1, dice.below(4) as u32 + 1);
        for _ in 0..dice.below(4) + 1 {
            world.join(family.node(&mut dice));
        }
        for shard in 0..world.layout.shards.len() {
            let mut anywhere: Vec<u64> = (1..world.next_node + 1).collect();
            dice.shuffle(&mut anywhere);
            anywhere.truncate(world.copies());
            world.place(shard as u32, &anywhere, 1);
        }
        let least = least_by_trying(&world);
        world.settle();
        assert_eq!(world.built, least, "seed {seed}: {world:?}");
    }
}

/// Of two shards the lighter one is moved.
#[test]
fn light_shards_are_moved() {
    let mut world = World::settled(1, 4, &["", ""]);
    for (shard, weight) in [(0, 10), (1, 5), (2, 30), (3, 20)] {
        world.place(shard, &[1], 1);
        world.layout.shards.get_mut(&ShardId(shard)).unwrap().weight = weight;
    }
    world.settle();
    assert_eq!(*world.replicas(0), ids(&[2]));
    assert_eq!(*world.replicas(1), ids(&[2]));
    assert_eq!(*world.replicas(2), ids(&[1]));
    assert_eq!(*world.replicas(3), ids(&[1]));
}
