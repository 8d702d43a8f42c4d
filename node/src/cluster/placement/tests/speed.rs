//! Planning takes no time to speak of. The limit is ten times what it should be: it finds what hangs, on
//! a busy machine too.

use std::time::{Duration, Instant};

use super::*;

const LIMIT: Duration = Duration::from_millis(500);

/// Plans three times, because the machine may be doing something else; says how long the quickest took.
fn check_time(what: &str, world: &World) {
    let plans = (0..3).map(|_| {
        let begin = Instant::now();
        let steps = world.plan().len();
        (begin.elapsed(), steps)
    });
    let (took, steps) = plans.min().unwrap();
    println!("{what}: {steps} steps in {took:?}");
    assert!(took < LIMIT, "{what} took {took:?}");
}

fn check_times(kind: &str, zones: usize) {
    let mut world = World::new(3, 1024);
    for number in 0..50 {
        world.join(node(&format!("zone-{}", number % zones), 1));
    }
    check_time(&format!("{kind}, from nothing"), &world);
    world.settle();
    check_time(&format!("{kind}, at rest"), &world);
    let mut more = world.clone();
    more.join(node("zone-0", 1));
    check_time(&format!("{kind}, one more"), &more);
    let mut fewer = world.clone();
    fewer.set(7, Standing::Dead);
    (20..25).for_each(|id| fewer.set(id, Standing::Leaving));
    check_time(&format!("{kind}, six fewer"), &fewer);
    let mut draining = world.clone();
    (1..=25).for_each(|id| draining.set(id, Standing::Draining));
    draining.join(node("zone-1", 1));
    check_time(
        &format!("{kind}, half of them draining, one more"),
        &draining,
    );
    let mut weighted = world;
    for (place, node) in weighted.nodes.values_mut().enumerate() {
        node.capacity = NonZeroU16::new(place as u16 * 37 % 11 + 1).unwrap();
    }
    check_time(&format!("{kind}, all weighted anew"), &weighted);
}

/// 1,024 shards on 50 nodes, in one zone, in three, and each in its own.
#[test]
fn placement_of_a_thousand_shards_is_quick() {
    check_times("one zone", 1);
    check_times("three zones", 3);
    check_times("fifty zones", 50);
}
