//! Nodes come, go, drain and die at random while steps are taken at random.

use super::*;

/// What a random cluster is made of.
struct Shape {
    zones: Vec<&'static str>,
    capacity_max: usize,
}

impl Shape {
    fn roll(dice: &mut Dice) -> Shape {
        let names = ["", "a", "b", "c", "d"];
        let zones = dice.below(names.len()) + 1;
        Shape {
            zones: names[..zones].to_vec(),
            capacity_max: dice.pick(&[1, 1, 4, 100]),
        }
    }

    fn node(&self, dice: &mut Dice) -> Node {
        let capacity = dice.below(self.capacity_max) + 1;
        node(dice.pick(&self.zones), capacity as u16)
    }
}

fn rolled(dice: &mut Dice) -> (World, Shape) {
    let shape = Shape::roll(dice);
    let mut world = World::new(dice.below(6) as u32, dice.below(20) as u32 + 1);
    for _ in 0..dice.below(8) {
        world.join(shape.node(dice));
    }
    (world, shape)
}

/// Anything that may happen to nodes, and things that may have happened to replicas.
fn change(world: &mut World, shape: &Shape, dice: &mut Dice) {
    let known: Vec<NodeId> = world.nodes.keys().copied().collect();
    let shards = world.layout.shards.len() as u32;
    match dice.below(8) {
        0 | 1 => {
            world.join(shape.node(dice));
        }
        2..=5 if !known.is_empty() => {
            let standings = [
                Standing::Active,
                Standing::Draining,
                Standing::Leaving,
                Standing::Dead,
            ];
            world.set(dice.pick(&known).0, dice.pick(&standings));
        }
        6 if !known.is_empty() => {
            world.nodes.remove(&dice.pick(&known));
        }
        _ => {
            let mut anywhere: Vec<u64> = (1..world.next_node + 2).collect();
            dice.shuffle(&mut anywhere);
            anywhere.truncate(dice.below(7));
            let preferred = dice.below(world.next_node as usize) as u64;
            world.place(dice.below(shards as usize) as u32, &anywhere, preferred);
            world.layout.replication_factor = dice.below(6) as u32;
        }
    }
}

/// Whatever happens: steps may be taken where they are planned, make nothing worse, and end; then every
/// shard is as well off as it can be.
#[test]
fn every_cluster_comes_to_rest() {
    for seed in 0..2_000 {
        let mut dice = Dice(seed);
        let (mut world, shape) = rolled(&mut dice);
        for _ in 0..6 {
            world.settle();
            world.check_rest();
            change(&mut world, &shape, &mut dice);
        }
    }
}

/// Whoever takes only some of the steps, in any order, gets there too: nothing goes in circles.
#[test]
fn steps_lead_to_rest_in_any_order() {
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let (mut world, shape) = rolled(&mut dice);
        for _ in 0..4 {
            change(&mut world, &shape, &mut dice);
            let mut at_once = world.clone();
            at_once.settle();
            let mut seen = BTreeSet::new();
            let most = world.steps_at_most();
            for taken in 0.. {
                let steps = world.plan();
                if steps.is_empty() {
                    break;
                }
                assert!(taken < most, "seed {seed}: no rest after {taken} steps");
                let replicas: Vec<_> = world.layout.shards.values().cloned().collect();
                let replicas: Vec<_> = replicas
                    .into_iter()
                    .map(|p| (p.replicas, p.preferred))
                    .collect();
                assert!(seen.insert(replicas), "seed {seed}: back where it was");
                world.take(dice.pick(&steps));
            }
            world.check_rest();
            assert_eq!(
                world.built, at_once.built,
                "seed {seed}: the way there is longer"
            );
        }
    }
}

/// The order in which shards and nodes were put in changes nothing.
#[test]
fn order_of_input_changes_nothing() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let (mut world, shape) = rolled(&mut dice);
        world.settle();
        for _ in 0..3 {
            change(&mut world, &shape, &mut dice);
        }
        let mut shards: Vec<_> = world.layout.shards.clone().into_iter().collect();
        let mut nodes: Vec<_> = world.nodes.clone().into_iter().collect();
        dice.shuffle(&mut shards);
        dice.shuffle(&mut nodes);
        let layout = Layout {
            replication_factor: world.layout.replication_factor,
            shards: shards.into_iter().collect(),
        };
        assert_eq!(plan(&layout, &nodes.into_iter().collect()), world.plan());
    }
}
