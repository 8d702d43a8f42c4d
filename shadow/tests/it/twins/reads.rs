//! Linearizable reads with and without a live twin.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use antumbra_shadow::{Failure, ShadowName, TwinsConfig};

use super::fake::{classic, device, later, shard, version, write, write_to};
use super::read_version;

/// Protects linearizable reads: after a write is acknowledged every read sees it, whether the twin
/// knows the document, has to be taught it, or does not live.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn read_sees_every_write_before_it() {
    let config = TwinsConfig {
        idle_stop: Duration::from_millis(3),
        ..TwinsConfig::default()
    };
    let (_shard, twins) = shard(config);
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let twins = twins.clone();
        tasks.spawn(async move {
            for round in 1..=300 {
                let text = format!(r#"{{"round":{round}}}"#);
                let written = version(twins.submit(&device(number), write(&text), later()).await);
                assert_eq!(written, round);
                assert_eq!(read_version(&twins, number).await, Some(round));
                if round % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    // Readers of the same devices, who teach and are answered at any moment.
    for number in 0..4 {
        let twins = twins.clone();
        tasks.spawn(async move {
            let mut seen = Some(0);
            while seen < Some(300) {
                let now = read_version(&twins, number).await;
                assert!(
                    now >= seen || now.is_none() && seen == Some(0),
                    "{now:?} after {seen:?}"
                );
                seen = now.or(seen);
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
}

/// Protects memory: reads never start a twin.
#[tokio::test]
async fn reads_start_nothing() {
    let (shard, twins) = shard(TwinsConfig::default());
    for number in 0..100 {
        assert_eq!(read_version(&twins, number).await, None);
    }
    assert_eq!(twins.live(), 0);
    assert_eq!(shard.barriers.load(Ordering::SeqCst), 100);
    assert_eq!(shard.loads.load(Ordering::SeqCst), 100);
}

/// Protects reads from waiting past their deadline.
#[tokio::test]
async fn read_keeps_its_deadline() {
    let (shard, twins) = shard(TwinsConfig::default());
    shard.set_barriers_open(false);
    let soon = Instant::now() + Duration::from_millis(10);
    let late = twins.read(&device(0), &classic(), soon).await;
    assert_eq!(late, Err(Failure::Deadline));
    shard.set_barriers_open(true);
    assert_eq!(read_version(&twins, 0).await, None);
}

/// Protects the cache from old news: a change at or below what the twin contains is dropped.
#[tokio::test]
async fn stale_changes_are_dropped() {
    let (shard, twins) = shard(TwinsConfig::default());
    version(twins.submit(&device(0), write(r#"{"a":1}"#), later()).await);
    version(twins.submit(&device(0), write(r#"{"a":2}"#), later()).await);
    let old = shard.changes()[0].clone();
    twins.applied(old.position.index, std::slice::from_ref(&old));
    assert_eq!(read_version(&twins, 0).await, Some(2));

    // The same below a loaded position: a fresh twin that was taught by a read.
    twins.reset();
    let other: ShadowName = "other".parse().unwrap();
    version(
        twins
            .submit(&device(0), write_to(other, "{}"), later())
            .await,
    );
    assert_eq!(read_version(&twins, 0).await, Some(2));
    twins.applied(old.position.index, &[old]);
    assert_eq!(read_version(&twins, 0).await, Some(2));
    assert_eq!(shard.loads.load(Ordering::SeqCst), 1);
}
