//! What callers are told when results are lost, refused or late, and when a twin panics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use antumbra_shadow::metrics as names;
use antumbra_shadow::{Failure, ShadowName, TwinsConfig};

use super::counts::Counts;
use super::fake::{Fault, device, eventually, later, shard, version, write, write_to};
use super::{read_version, submit, submit_until};

/// Protects honest outcomes: a lost result is "unknown", and later versions are right although the
/// entry was never applied.
#[tokio::test]
async fn lost_result_of_an_entry_that_was_not_applied() {
    lost_result(Fault::LostBefore, 2).await;
}

/// The same when it was applied.
#[tokio::test]
async fn lost_result_of_an_entry_that_was_applied() {
    lost_result(Fault::LostAfter, 3).await;
}

/// The same when the reply cannot be read.
#[tokio::test]
async fn reply_that_cannot_be_read_is_unknown() {
    lost_result(Fault::Garbled, 2).await;
}

/// The same when the code that proposes panics.
#[tokio::test]
async fn panic_while_proposing_is_unknown() {
    lost_result(Fault::Panics, 2).await;
}

async fn lost_result(fault: Fault, next_version: u64) {
    let (shard, twins) = shard(TwinsConfig::default());
    assert_eq!(
        version(twins.submit(&device(0), write(r#"{"a":1}"#), later()).await),
        1
    );
    assert_eq!(read_version(&twins, 0).await, Some(1));
    assert_eq!(
        shard.loads.load(Ordering::SeqCst),
        0,
        "the twin knows what it wrote"
    );

    shard.fail_next(fault);
    let lost = twins.submit(&device(0), write(r#"{"a":2}"#), later()).await;
    assert_eq!(lost, Err(Failure::Unknown));
    eventually("the twin stops", || twins.live() == 0).await;

    assert_eq!(read_version(&twins, 0).await, Some(next_version - 1));
    assert_eq!(
        shard.loads.load(Ordering::SeqCst),
        1,
        "nothing cached survives"
    );
    let next = twins.submit(&device(0), write(r#"{"a":3}"#), later()).await;
    assert_eq!(version(next), next_version);
    assert_eq!(read_version(&twins, 0).await, Some(next_version));
}

/// Protects the fresh twin from a lost entry that is applied after all: its change arrives above
/// the position that was loaded and is taken up.
#[tokio::test]
async fn lost_entry_that_is_applied_late_reaches_the_fresh_twin() {
    let (shard, twins) = shard(TwinsConfig::default());
    version(twins.submit(&device(0), write(r#"{"a":1}"#), later()).await);
    shard.fail_next(Fault::LostUntilLater);
    let lost = twins.submit(&device(0), write(r#"{"a":2}"#), later()).await;
    assert_eq!(lost, Err(Failure::Unknown));
    let other: ShadowName = "other".parse().unwrap();
    let fresh = twins
        .submit(&device(0), write_to(other, r#"{"b":1}"#), later())
        .await;
    version(fresh);
    assert_eq!(read_version(&twins, 0).await, Some(1));
    assert_eq!(read_version(&twins, 0).await, Some(1));
    assert_eq!(
        shard.loads.load(Ordering::SeqCst),
        1,
        "the second read asks the fresh twin"
    );
    shard.apply_late();
    assert_eq!(read_version(&twins, 0).await, Some(2));
    assert_eq!(shard.loads.load(Ordering::SeqCst), 1);
}

/// Protects honest outcomes of the queue: what was not sent when a result was lost never will be.
#[tokio::test]
async fn commands_queued_behind_a_lost_entry_are_certainly_not_applied() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_open(false);
    shard.fail_next(Fault::LostAfter);
    let lost = submit(&twins, 0, r#"{"a":1}"#).await;
    eventually("an entry is in flight", || shard.proposals_waiting() == 1).await;
    let queued = submit(&twins, 0, r#"{"a":2}"#).await;
    shard.set_open(true);
    assert_eq!(lost.await.unwrap(), Err(Failure::Unknown));
    assert!(matches!(
        queued.await.unwrap(),
        Err(Failure::Unavailable(_))
    ));
    assert_eq!(read_version(&twins, 0).await, Some(1));
    assert_eq!(shard.commands.load(Ordering::SeqCst), 1);
}

/// Protects certain failures: they are passed on, and the twin goes on.
#[tokio::test]
async fn certain_refusal_is_passed_on_and_the_twin_lives() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.fail_next(Fault::Refused(Failure::Overloaded));
    let refused = twins.submit(&device(0), write("{}"), later()).await;
    assert_eq!(refused, Err(Failure::Overloaded));
    assert_eq!(
        version(twins.submit(&device(0), write("{}"), later()).await),
        1
    );
    assert_eq!(twins.live(), 1);
}

/// Protects the caller's certainty: a deadline that passes in the queue takes the command out.
#[tokio::test]
async fn deadline_before_sending_cancels() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_open(false);
    let sent = submit_until(
        &twins,
        0,
        r#"{"a":1}"#,
        Instant::now() + Duration::from_millis(300),
    );
    let sent = sent.await;
    eventually("an entry is in flight", || shard.proposals_waiting() == 1).await;
    let queued = submit_until(
        &twins,
        0,
        r#"{"a":2}"#,
        Instant::now() + Duration::from_millis(300),
    );
    let queued = queued.await;
    let dropped = submit(&twins, 0, r#"{"a":3}"#).await;
    dropped.abort();
    assert!(dropped.await.is_err());
    assert_eq!(sent.await.unwrap(), Err(Failure::Deadline));
    assert!(matches!(
        queued.await.unwrap(),
        Err(Failure::Unavailable(_))
    ));
    let past = twins.submit(&device(0), write("{}"), Instant::now()).await;
    assert!(matches!(past, Err(Failure::Unavailable(_))));

    shard.set_open(true);
    let next = twins.submit(&device(0), write(r#"{"a":4}"#), later()).await;
    assert_eq!(
        version(next),
        2,
        "only the command that was sent came before"
    );
    assert_eq!(shard.commands.load(Ordering::SeqCst), 2);
}

/// Protects the rest of the node: a panic in a twin ends that twin only.
#[tokio::test]
async fn panic_stops_only_that_twin() {
    let (shard, twins) = shard(TwinsConfig::default());
    for number in 0..3 {
        version(twins.submit(&device(number), write("{}"), later()).await);
    }
    shard.clock_panics.store(true, Ordering::SeqCst);
    let lost = twins.submit(&device(0), write("{}"), later()).await;
    assert_eq!(lost, Err(Failure::Unknown));
    eventually("it is gone", || twins.live() == 2).await;
    assert_eq!(
        version(twins.submit(&device(0), write("{}"), later()).await),
        2
    );
    assert_eq!(
        version(twins.submit(&device(1), write("{}"), later()).await),
        2
    );
    assert_eq!(twins.live(), 3);
}

/// Protects the operator's view: live twins, panics and lost outcomes are counted.
#[tokio::test]
async fn metrics_count_what_happens_to_twins() {
    let recorder = Counts::default();
    let (shard, twins) = metrics::with_local_recorder(&recorder, || shard(TwinsConfig::default()));
    for number in 0..5 {
        version(twins.submit(&device(number), write("{}"), later()).await);
    }
    assert_eq!(recorder.gauge(names::TWINS_LIVE), 5.0);
    shard.clock_panics.store(true, Ordering::SeqCst);
    let lost = twins.submit(&device(0), write("{}"), later()).await;
    assert_eq!(lost, Err(Failure::Unknown));
    shard.fail_next(Fault::LostBefore);
    let lost = twins.submit(&device(1), write("{}"), later()).await;
    assert_eq!(lost, Err(Failure::Unknown));
    eventually("both are gone", || twins.live() == 3).await;
    assert_eq!(recorder.counter(names::TWIN_PANICS_TOTAL), 1);
    assert_eq!(recorder.counter(names::TWIN_UNKNOWN_TOTAL), 1);
    assert_eq!(recorder.counter(names::TWIN_STARTS_TOTAL), 5);
    assert_eq!(recorder.counter(names::TWIN_COMMANDS_TOTAL), 6);
    twins.stop().await;
    assert_eq!(recorder.gauge(names::TWINS_LIVE), 0.0);
}
