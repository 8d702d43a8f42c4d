//! One entry in flight, and what goes into the next.

use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use antumbra_shadow::{Outcome, TwinsConfig};

use super::fake::{device, eventually, later, shard, version, write};
use super::{read_version, submit};

/// Protects the rule of one entry in flight per twin, and versions that grow by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousand_concurrent_writes_give_each_version_once() {
    let (shard, twins) = shard(TwinsConfig::default());
    let mut tasks = JoinSet::new();
    for number in 0..1_000 {
        let twins = twins.clone();
        tasks.spawn(async move {
            let text = format!(r#"{{"writer":{number}}}"#);
            version(twins.submit(&device(0), write(&text), later()).await)
        });
    }
    let mut versions = tasks.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=1_000).collect::<Vec<u64>>());
    assert_eq!(shard.in_flight_max.load(Ordering::SeqCst), 1);
    assert_eq!(shard.commands.load(Ordering::SeqCst), 1_000);
    assert_eq!(read_version(&twins, 0).await, Some(1_000));
}

/// Protects grouping: what queues up behind an entry goes together, within the bound.
#[tokio::test]
async fn queued_commands_share_the_next_entries() {
    let config = TwinsConfig {
        group_max: 10,
        ..TwinsConfig::default()
    };
    let (shard, twins) = shard(config);
    shard.set_open(false);
    let mut running = Vec::new();
    for _ in 0..26 {
        running.push(submit(&twins, 0, r#"{"a":1}"#).await);
    }
    eventually("first entry in flight", || shard.proposals_waiting() == 1).await;
    shard.set_open(true);
    for one in running {
        version(one.await.unwrap());
    }
    // The first command alone or with those that came before its twin ran, then groups of ten.
    let entries = shard.entries.load(Ordering::SeqCst);
    assert!((3..=4).contains(&entries), "{entries} entries");
}

/// Protects the bound of an entry in bytes: a group never grows over it, a large command goes alone.
#[tokio::test]
async fn entry_is_bounded_in_bytes() {
    let config = TwinsConfig {
        group_bytes_max: 1,
        ..TwinsConfig::default()
    };
    let (shard, twins) = shard(config);
    shard.set_open(false);
    let mut running = Vec::new();
    for _ in 0..5 {
        running.push(submit(&twins, 0, r#"{"a":1}"#).await);
    }
    shard.set_open(true);
    for one in running {
        version(one.await.unwrap());
    }
    assert_eq!(shard.entries.load(Ordering::SeqCst), 5);
}

/// Protects the order in which one caller's commands are applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_of_one_caller_keep_their_order() {
    let (shard, twins) = shard(TwinsConfig {
        group_max: 7,
        ..TwinsConfig::default()
    });
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let twins = twins.clone();
        callers.spawn(async move {
            let mut pipelined = Vec::new();
            for number in 0..50 {
                let text = format!(r#"{{"c{caller}":{number}}}"#);
                pipelined.push(submit(&twins, 0, &text).await);
            }
            let mut versions = Vec::new();
            for one in pipelined {
                versions.push(version(one.await.unwrap()));
            }
            versions
        });
    }
    for versions in callers.join_all().await {
        assert!(versions.is_sorted(), "{versions:?}");
    }
    assert_eq!(shard.in_flight_max.load(Ordering::SeqCst), 1);
}

/// Protects stamped times: they never go back within a twin, even if the clock does.
#[tokio::test]
async fn time_of_a_device_never_goes_back() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.clock.store(5_000, Ordering::SeqCst);
    version(twins.submit(&device(0), write(r#"{"a":1}"#), later()).await);
    shard.clock.store(1_000, Ordering::SeqCst);
    version(twins.submit(&device(0), write(r#"{"a":2}"#), later()).await);
    let times: Vec<u64> = shard.changes().iter().map(|change| change.time.0).collect();
    assert_eq!(times, [5_000, 5_000]);
}

/// Protects the log: what apply would refuse whatever the document is never gets there.
#[tokio::test]
async fn command_over_a_limit_is_rejected_before_the_log() {
    let (shard, twins) = shard(TwinsConfig::default());
    let mut draft = write("{}");
    draft.client_token = Some("t".repeat(65));
    let outcome = twins.submit(&device(0), draft, later()).await;
    assert!(matches!(outcome, Ok(Outcome::Rejected(_))));
    assert_eq!((twins.live(), shard.entries.load(Ordering::SeqCst)), (0, 0));
}
