//! Commands that need no twin: the same outcomes and bounds, and a twin that lives hears of them.

use antumbra_shadow::{Failure, Outcome, TwinsConfig};
use tokio::time::Instant;

use super::fake::{Fault, device, later, shard, version, write};
use super::read_version;

/// A command of a twin between two without one: versions go on, and the twin's cache follows.
#[tokio::test]
async fn command_without_a_twin_starts_none_and_is_told_to_a_live_one() {
    let (_shard, twins) = shard(TwinsConfig::default());
    let device = device(0);
    let first = twins.carry_out(&device, write(r#"{"a":1}"#), later());
    assert_eq!(version(first.await), 1);
    assert_eq!(twins.live(), 0);
    assert_eq!(read_version(&twins, 0).await, Some(1));
    let second = twins.submit(&device, write(r#"{"a":2}"#), later());
    assert_eq!(version(second.await), 2);
    let third = twins.carry_out(&device, write(r#"{"a":3}"#), later());
    assert_eq!(version(third.await), 3);
    assert_eq!(read_version(&twins, 0).await, Some(3));
    let fourth = twins.submit(&device, write(r#"{"a":4}"#), later());
    assert_eq!(version(fourth.await), 4);
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
    let soon = Instant::now() + std::time::Duration::from_millis(20);
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
