//! Leaders are spread evenly over active nodes, and change as little as may be.

use super::*;

fn spread(world: &World) -> usize {
    let leads = world.leads();
    leads.values().max().unwrap() - leads.values().min().unwrap()
}

/// Equal nodes lead equally many shards.
#[test]
fn leaders_are_even() {
    for (nodes, replication_factor, shards) in [
        (1, 3, 5),
        (3, 3, 3),
        (3, 3, 100),
        (5, 3, 7),
        (7, 1, 30),
        (9, 2, 50),
        (50, 3, 1024),
    ] {
        let world = World::settled(replication_factor, shards, &vec![""; nodes]);
        assert!(spread(&world) <= 1, "{:?}", world.leads());
    }
}

/// After any change all active nodes lead equally many, give or take one.
#[test]
fn leaders_stay_even_whatever_changes() {
    for seed in 0..1_500 {
        let mut dice = Dice(seed);
        let mut world = World::settled(3, dice.below(40) as u32 + 1, &vec![""; dice.below(5) + 3]);
        for _ in 0..4 {
            let active = world.active();
            match dice.below(2) {
                0 if active.len() > 3 => {
                    let standing = dice.pick(&[Standing::Leaving, Standing::Dead]);
                    world.set(dice.pick(&active).0, standing);
                }
                _ => {
                    world.join(node("", 1));
                }
            }
            world.settle();
            world.check_rest();
            let even = world.layout.shards.len() / world.active().len();
            for (id, leads) in world.leads() {
                assert!(
                    (even..=even + 1).contains(&leads),
                    "seed {seed}, node {id}: {world:?}"
                );
            }
        }
    }
}

/// A new node gets its part of the leaders, and no other lead changes.
#[test]
fn only_the_new_node_gets_leaders() {
    let mut world = World::settled(3, 60, &["", "", ""]);
    world.led = 0;
    let new = world.join(node("", 1));
    world.settle();
    assert_eq!(world.leads()[&new], 15);
    assert_eq!(world.led, 15);
}

/// The lead is given on before its replica goes.
#[test]
fn lead_goes_before_the_replica() {
    let mut world = World::settled(3, 8, &["", "", "", ""]);
    world.set(2, Standing::Leaving);
    let led: Vec<ShardId> = world
        .layout
        .shards
        .iter()
        .filter(|(_, places)| places.preferred == NodeId(2))
        .map(|(shard, _)| *shard)
        .collect();
    assert_eq!(led.len(), 2);
    let steps = world.plan();
    for step in &steps {
        if let Step::Move { shard, .. } = step {
            assert!(!led.contains(shard), "{steps:?}");
        }
    }
    let leads: Vec<ShardId> = steps
        .iter()
        .map_while(|step| match step {
            Step::Lead { shard, .. } => Some(*shard),
            _ => None,
        })
        .collect();
    for shard in led {
        assert!(leads.contains(&shard), "{steps:?}");
    }
}

/// Whom the lead cannot be given to does not get it: a node without a replica, a draining one.
#[test]
fn leader_has_a_replica_and_may_lead() {
    let mut world = World::settled(1, 4, &["", "", "", ""]);
    world.set(1, Standing::Draining);
    let alone: Vec<ShardId> = world
        .layout
        .shards
        .iter()
        .filter(|(_, places)| places.preferred == NodeId(1))
        .map(|(shard, _)| *shard)
        .collect();
    assert_eq!(alone.len(), 1);
    assert_eq!(
        world.plan(),
        [],
        "its only replica stays, and so does the lead"
    );

    let mut world = World::settled(2, 8, &["", "", ""]);
    world.set(1, Standing::Draining);
    world.settle();
    assert!(!world.leads().contains_key(&NodeId(1)));
    assert_eq!(world.leads().into_values().collect::<Vec<_>>(), [4, 4]);
}
