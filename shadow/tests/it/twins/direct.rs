//! Commands that need no twin: the same outcomes and bounds, and a twin that is busy is not passed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use antumbra_shadow::metrics as names;
use antumbra_shadow::{Failure, Outcome, Rejection, Twins, TwinsConfig};
use tokio::time::Instant;

use super::counts::Counts;
use super::fake::{FakeShard, Fault, device, eventually, later, shard, version, write};
use super::{Running, read_version, submit};

/// A role that changed is taken up long before this.
const SOON: Duration = Duration::from_secs(10);

/// Carries a command out in the background.
fn carry_out(twins: &Twins<FakeShard>, number: usize) -> Running {
    let twins = twins.clone();
    tokio::spawn(async move {
        let (device, draft) = (device(number), write(r#"{"a":1}"#));
        twins.carry_out(&device, draft, later()).await
    })
}

/// A command without a twin starts none, and is told to one that starts while it is in flight.
#[tokio::test]
async fn command_without_a_twin_starts_none_and_is_told_to_a_live_one() {
    let (shard, twins) = shard(TwinsConfig::default());
    assert_eq!(version(carry_out(&twins, 0).await.unwrap()), 1);
    assert_eq!(twins.live(), 0);
    assert_eq!(read_version(&twins, 0).await, Some(1));
    shard.set_open(false);
    let second = carry_out(&twins, 0);
    eventually("an entry is in flight", || shard.proposals_waiting() == 1).await;
    let third = submit(&twins, 0, r#"{"a":2}"#).await;
    // From now on the twin answers from what it knows.
    assert_eq!(read_version(&twins, 0).await, Some(1));
    shard.set_open(true);
    let mut versions = [second.await, third.await].map(|outcome| version(outcome.unwrap()));
    versions.sort_unstable();
    assert_eq!(versions, [2, 3]);
    assert_eq!(read_version(&twins, 0).await, Some(3));
}

/// Invariant 12: an entry is stamped with the rules that the shard names, with a twin and without. No build has
/// rules 0, so what is stamped with them is refused.
#[tokio::test]
async fn entries_are_stamped_with_the_rules_that_every_node_knows() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.rules.store(0, Ordering::SeqCst);
    let refused = Outcome::Rejected(Rejection::UnknownRules { rules: 0 });
    assert_eq!(carry_out(&twins, 0).await.unwrap(), Ok(refused.clone()));
    let through_a_twin = submit(&twins, 1, r#"{"a":1}"#).await;
    assert_eq!(through_a_twin.await.unwrap(), Ok(refused));
}

/// Protects the order of one device: what waits in its twin is not passed by a command that needs none.
#[tokio::test]
async fn command_that_needs_no_twin_goes_through_a_busy_one() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_open(false);
    let first = submit(&twins, 0, r#"{"a":1}"#).await;
    let second = carry_out(&twins, 0);
    eventually("both are taken", || twins.waiting() == 2).await;
    eventually("one is in flight", || shard.proposals_waiting() == 1).await;
    shard.set_open(true);
    assert_eq!(version(first.await.unwrap()), 1);
    assert_eq!(version(second.await.unwrap()), 2);
    assert_eq!(shard.in_flight_max.load(Ordering::SeqCst), 1);
}

/// An idle twin has nothing that could be passed: the command goes without it, and it hears of the change.
#[tokio::test]
async fn command_that_needs_no_twin_passes_an_idle_one() {
    let (shard, twins) = shard(TwinsConfig::default());
    let first = submit(&twins, 0, r#"{"a":1}"#).await;
    assert_eq!(version(first.await.unwrap()), 1);
    assert_eq!(read_version(&twins, 0).await, Some(1));
    shard.set_open(false);
    let second = carry_out(&twins, 0);
    eventually("it is in flight", || shard.proposals_waiting() == 1).await;
    let third = submit(&twins, 0, r#"{"a":2}"#).await;
    eventually("the twin is free", || shard.proposals_waiting() == 2).await;
    shard.set_open(true);
    let mut versions = [second.await, third.await].map(|outcome| version(outcome.unwrap()));
    versions.sort_unstable();
    assert_eq!(versions, [2, 3]);
    assert!(twins.is_live(&device(0)));
    assert_eq!(read_version(&twins, 0).await, Some(3));
}

/// Protects honest outcomes: what may have been applied is unknown, what was not is certain.
#[tokio::test]
async fn outcome_without_a_twin_is_honest() {
    let (shard, twins) = shard(TwinsConfig {
        permits: 1,
        ..TwinsConfig::default()
    });
    let (one, other) = (device(0), device(1));
    for (fault, expected) in [
        (Fault::LostBefore, Failure::Unknown),
        (Fault::LostAfter, Failure::Unknown),
        (Fault::Garbled, Failure::Unknown),
        (Fault::Refused(Failure::NotLeader), Failure::NotLeader),
    ] {
        shard.fail_next(fault);
        let failed = twins.carry_out(&one, write(r#"{"a":1}"#), later());
        assert_eq!(failed.await, Err(expected));
    }
    let late = twins.carry_out(&one, write(r#"{"a":1}"#), Instant::now());
    assert!(late.await.unwrap_err().is_certain());
    shard.set_open(false);
    let soon = Instant::now() + Duration::from_millis(20);
    let (held, refused) = tokio::join!(
        twins.carry_out(&one, write(r#"{"a":1}"#), soon),
        twins.carry_out(&other, write(r#"{"a":1}"#), later()),
    );
    assert_eq!(held, Err(Failure::Deadline));
    assert_eq!(refused, Err(Failure::Overloaded));
    shard.set_open(true);
    let after = twins.carry_out(&other, write(r#"{"a":1}"#), later());
    assert!(matches!(after.await, Ok(Outcome::Accepted(_))));
    twins.step_down();
    let refused = twins.carry_out(&other, write("{}"), later());
    assert_eq!(refused.await, Err(Failure::NotLeader));
}

/// Protects honest outcomes and the failover: what is in flight when the role changes is unknown soon
/// and not at the deadline, and its permit is free again.
#[tokio::test]
async fn step_down_makes_a_command_without_a_twin_unknown_soon() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_open(false);
    let begun = Instant::now();
    let old = carry_out(&twins, 0);
    eventually("an entry is in flight", || shard.proposals_waiting() == 1).await;
    twins.step_down();
    // Of the new term, so what ended the old one does not end it.
    shard.term.store(2, Ordering::SeqCst);
    twins.lead(2);
    let fresh = carry_out(&twins, 1);
    eventually("both are in flight", || shard.proposals_waiting() == 2).await;
    assert_eq!(old.await.unwrap(), Err(Failure::Unknown));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(twins.waiting(), 1);
    assert!(!fresh.is_finished());
    shard.set_open(true);
    assert_eq!(version(fresh.await.unwrap()), 1);
    assert_eq!(
        read_version(&twins, 0).await,
        None,
        "of a term that is over"
    );
}

/// Protects the failover: a leader that hands over still commits what it took, and says so.
#[tokio::test]
async fn outcome_that_comes_shortly_after_a_step_down_is_told() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_open(false);
    let running = carry_out(&twins, 0);
    eventually("an entry is in flight", || shard.proposals_waiting() == 1).await;
    twins.step_down();
    shard.set_open(true);
    assert_eq!(version(running.await.unwrap()), 1);
}

/// Protects memory: however many come without a twin, no more than the permits are under way.
#[tokio::test]
async fn commands_without_a_twin_are_bounded_by_the_permits() {
    let (shard, twins) = shard(TwinsConfig {
        permits: 16,
        ..TwinsConfig::default()
    });
    shard.set_open(false);
    let held: Vec<Running> = (0..16).map(|number| carry_out(&twins, number)).collect();
    eventually("all are in flight", || shard.proposals_waiting() == 16).await;
    for number in 0..100 {
        let device = device(number);
        let refused = twins.carry_out(&device, write("{}"), later());
        assert_eq!(refused.await, Err(Failure::Overloaded));
    }
    assert_eq!((shard.proposals_waiting(), twins.waiting()), (16, 16));
    shard.set_open(true);
    for one in held {
        assert_eq!(version(one.await.unwrap()), 1);
    }
    assert_eq!(twins.waiting(), 0);
    assert_eq!(shard.commands.load(Ordering::SeqCst), 16);
}

/// Protects the operator's view: entries count whichever way they go.
#[tokio::test]
async fn metrics_count_commands_without_a_twin() {
    let recorder = Counts::default();
    let (shard, twins) = metrics::with_local_recorder(&recorder, || shard(TwinsConfig::default()));
    for fault in [None, Some(Fault::LostBefore), Some(Fault::Garbled)] {
        fault.into_iter().for_each(|fault| shard.fail_next(fault));
        let _ = twins.carry_out(&device(0), write("{}"), later()).await;
    }
    assert_eq!(recorder.counter(names::TWIN_ENTRIES_TOTAL), 3);
    assert_eq!(recorder.counter(names::TWIN_COMMANDS_TOTAL), 3);
    assert_eq!(recorder.counter(names::TWIN_UNKNOWN_TOTAL), 2);
    assert_eq!(recorder.counter(names::TWIN_STARTS_TOTAL), 0);
}
