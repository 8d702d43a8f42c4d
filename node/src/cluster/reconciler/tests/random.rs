//! Random lives of clusters: whatever happens, every group keeps its replicas, and in the end all is even.

use super::*;

/// A small generator of its own, so that a run can be repeated from its seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        (!list.is_empty()).then(|| list[self.below(list.len())].clone())
    }
}

/// What happened in all of them.
#[derive(Debug, Default)]
struct Counts {
    joins: u64,
    drains: u64,
    leaves: u64,
    deaths: u64,
    wipes: u64,
    left: u64,
    steps: u64,
    built: u64,
}

/// One thing happens. No group may lose more than one member at a time: that is what three replicas are for.
fn happen(world: &mut World, dice: &mut Dice, next_node: &mut u64, counts: &mut Counts) {
    let nodes: Vec<NodeInfo> = world.state.nodes.values().cloned().collect();
    let Some(one) = dice.pick(&nodes) else { return };
    let id = world.state.node_named(&one.name).unwrap();
    match dice.below(12) {
        0 | 1 if nodes.len() < 8 => {
            *next_node += 1;
            world.apply(MetaCommand::Join(info(*next_node, *next_node)));
            counts.joins += 1;
        }
        2 => {
            world.apply(MetaCommand::Drain(one.who()));
            counts.drains += 1;
        }
        3 => {
            world.apply(MetaCommand::Resume(one.who()));
        }
        4 => {
            world.apply(MetaCommand::Decommission(one.who()));
            counts.leaves += 1;
        }
        5 if world.dead.is_empty() && all_whole(world) => {
            world.dead.insert(id);
            counts.deaths += 1;
        }
        6 => world.dead.clear(),
        7 if world.dead.is_empty() && all_whole(world) => {
            *next_node += 1;
            let wiped = NodeInfo {
                incarnation: Uuid::from_u128((*next_node).into()),
                ..one
            };
            world.apply(MetaCommand::Join(wiped));
            counts.wipes += 1;
        }
        8 | 9 => {
            let shards: Vec<u32> = world.state.shards.keys().copied().collect();
            let shard = dice.pick(&shards).unwrap();
            world.settle(shard);
        }
        _ => counts.steps += world.look(1 + dice.below(3)).len() as u64,
    }
}

/// Whether every group is what the state says, and all of it is there.
fn all_whole(world: &World) -> bool {
    let mut shards = world.state.shards.iter();
    shards.all(|(shard, record)| {
        let wanted: BTreeSet<u64> = record.voters().keys().map(|id| id.0).collect();
        record.is_settled() && world.groups[shard] == wanted
    })
}

/// Never below the factor ([`World::check`] after every step), and even in the end.
#[test]
fn random_lives_come_to_rest() {
    let mut counts = Counts::default();
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let nodes = 3 + dice.below(3) as u64;
        let mut world = World::new(nodes, 1 + dice.below(6) as u32);
        let mut next_node = 100;
        for _ in 0..60 {
            happen(&mut world, &mut dice, &mut next_node, &mut counts);
        }
        world.dead.clear();
        let nodes: Vec<NodeInfo> = world.state.nodes.values().cloned().collect();
        for node in nodes {
            let id = world.state.node_named(&node.name).unwrap();
            if world.state.life(id) == Life::Draining {
                world.apply(MetaCommand::Resume(node.who()));
            }
        }
        assert!(world.rest(2), "seed {seed} does not come to rest");
        assert!(world.is_even(), "seed {seed}: {:?}", world.state.shards);
        assert!(
            world.state.lives.is_empty(),
            "seed {seed}: somebody cannot leave"
        );
        counts.left += world.state.left.len() as u64;
        counts.built += world.built;
    }
    println!("400 lives: {counts:?}");
    let Counts {
        joins,
        deaths,
        wipes,
        left,
        ..
    } = counts;
    for (what, count) in [
        ("joins", joins),
        ("deaths", deaths),
        ("wipes", wipes),
        ("left", left),
    ] {
        assert!(count >= 100, "{what}: {count}");
    }
}
