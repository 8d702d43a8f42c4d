//! Terms, step-down, reset and shutdown.

use std::sync::atomic::Ordering;

use antumbra_shadow::{Failure, TwinsConfig};

use super::fake::{device, eventually, later, shard, version, write};
use super::{read_version, submit};

/// Protects the term: a step-down stops all twins, what was queued is refused, what was in flight
/// is unknown, and nothing more of that term is applied.
#[tokio::test]
async fn step_down_fences_the_term() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_open(false);
    let in_flight = submit(&twins, 0, r#"{"a":1}"#).await;
    eventually("an entry is in flight", || shard.proposals_waiting() == 1).await;
    let queued = submit(&twins, 0, r#"{"a":2}"#).await;
    twins.step_down();
    assert_eq!(in_flight.await.unwrap(), Err(Failure::Unknown));
    assert_eq!(queued.await.unwrap(), Err(Failure::NotLeader));
    let refused = twins.submit(&device(0), write("{}"), later()).await;
    assert_eq!(refused, Err(Failure::NotLeader));
    eventually("all twins stop", || twins.live() == 0).await;

    shard.set_open(true);
    shard.term.store(2, Ordering::SeqCst);
    twins.lead(2);
    assert_eq!(
        version(twins.submit(&device(0), write("{}"), later()).await),
        1
    );
    twins.lead(1);
    assert_eq!(
        version(twins.submit(&device(0), write("{}"), later()).await),
        2
    );
}

/// Protects a new term from the twins of the old one, when no step-down was seen between.
#[tokio::test]
async fn new_term_stops_the_twins_of_the_old_one() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_open(false);
    let old = submit(&twins, 0, r#"{"a":1}"#).await;
    eventually("an entry is in flight", || shard.proposals_waiting() == 1).await;
    shard.term.store(2, Ordering::SeqCst);
    twins.lead(2);
    assert_eq!(old.await.unwrap(), Err(Failure::Unknown));
    shard.set_open(true);
    assert_eq!(
        version(twins.submit(&device(0), write("{}"), later()).await),
        1
    );
}

/// Protects the twins after a snapshot: nothing that was cached is used again.
#[tokio::test]
async fn reset_drops_what_is_cached() {
    let (shard, twins) = shard(TwinsConfig::default());
    version(twins.submit(&device(0), write("{}"), later()).await);
    assert_eq!(read_version(&twins, 0).await, Some(1));
    twins.reset();
    assert_eq!(read_version(&twins, 0).await, Some(1));
    assert_eq!(shard.loads.load(Ordering::SeqCst), 1);
    eventually("old twins stop", || twins.live() == 0).await;
    assert_eq!(twins.cached_bytes(), 0);
    assert_eq!(
        version(twins.submit(&device(0), write("{}"), later()).await),
        2
    );
}

/// Protects the shutdown: it waits until every twin is gone, and none comes after.
#[tokio::test]
async fn stop_ends_all_twins_for_good() {
    let (_shard, twins) = shard(TwinsConfig::default());
    for number in 0..50 {
        version(twins.submit(&device(number), write("{}"), later()).await);
    }
    twins.stop().await;
    assert_eq!(twins.live(), 0);
    twins.lead(2);
    let refused = twins.submit(&device(0), write("{}"), later()).await;
    assert_eq!(refused, Err(Failure::NotLeader));
    twins.stop().await;
}
