//! Permits, live twins and cached bytes: every bound holds, and idle twins leave nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

use antumbra_shadow::{Failure, TwinsConfig};

use super::fake::{device, eventually, later, shard, version, write};
use super::{read_version, submit};

/// Protects the bounded queue: over the permits the answer is "overloaded", at once.
#[tokio::test]
async fn flood_over_the_permits_is_refused_at_once() {
    let config = TwinsConfig {
        permits: 64,
        permits_per_device: 16,
        ..TwinsConfig::default()
    };
    let (shard, twins) = shard(config);
    shard.set_open(false);
    let mut running = Vec::new();
    for number in 0..64 {
        running.push(submit(&twins, number / 16, r#"{"a":1}"#).await);
    }
    for number in 0..1_000 {
        let refused = twins
            .submit(&device(number), write(r#"{"a":1}"#), later())
            .await;
        assert_eq!(refused, Err(Failure::Overloaded));
    }
    assert_eq!(twins.live(), 4);
    shard.set_open(true);
    for one in running {
        version(one.await.unwrap());
    }
    assert_eq!(
        version(twins.submit(&device(0), write("{}"), later()).await),
        17
    );
    assert_eq!(shard.commands.load(Ordering::SeqCst), 65);
}

/// Protects other devices from one that floods.
#[tokio::test]
async fn one_device_cannot_take_the_permits_of_all() {
    let config = TwinsConfig {
        permits_per_device: 2,
        ..TwinsConfig::default()
    };
    let (shard, twins) = shard(config);
    shard.set_open(false);
    let first = submit(&twins, 0, "{}").await;
    let second = submit(&twins, 0, "{}").await;
    let refused = twins.submit(&device(0), write("{}"), later()).await;
    assert_eq!(refused, Err(Failure::Overloaded));
    let other = submit(&twins, 1, "{}").await;
    shard.set_open(true);
    for one in [first, second, other] {
        version(one.await.unwrap());
    }
}

/// Protects memory: the bytes of waiting commands are bounded as well as their number.
#[tokio::test]
async fn waiting_bytes_are_bounded() {
    let config = TwinsConfig {
        permit_bytes_max: 20_000,
        ..TwinsConfig::default()
    };
    let (shard, twins) = shard(config);
    shard.set_open(false);
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(7_000));
    let first = submit(&twins, 0, &large).await;
    let second = submit(&twins, 1, &large).await;
    let refused = twins.submit(&device(2), write(&large), later()).await;
    assert_eq!(refused, Err(Failure::Overloaded));
    shard.set_open(true);
    for one in [first, second] {
        version(one.await.unwrap());
    }
}

/// Protects memory: twins of devices that went quiet stop, and nothing of them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn idle_twins_stop_and_leave_nothing() {
    let config = TwinsConfig {
        idle_stop: Duration::from_millis(50),
        live_max: 20_000,
        ..TwinsConfig::default()
    };
    let (shard, twins) = shard(config);
    let mut tasks = JoinSet::new();
    for part in 0..100 {
        let twins = twins.clone();
        tasks.spawn(async move {
            for number in part * 1_000..(part + 1) * 1_000 {
                let outcome = twins
                    .submit(&device(number), write(r#"{"a":1}"#), later())
                    .await;
                assert_eq!(version(outcome), 1);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(shard.commands.load(Ordering::SeqCst), 100_000);
    eventually("all twins stop", || twins.live() == 0).await;
    assert_eq!(twins.cached_bytes(), 0);
    assert_eq!(
        version(twins.submit(&device(7), write("{}"), later()).await),
        2
    );
}

/// Protects a busy twin from the idle stop.
#[tokio::test]
async fn twin_with_a_command_is_not_idle() {
    let config = TwinsConfig {
        idle_stop: Duration::from_millis(5),
        ..TwinsConfig::default()
    };
    let (shard, twins) = shard(config);
    shard.set_open(false);
    let busy = submit(&twins, 0, r#"{"a":1}"#).await;
    let quick = Duration::from_millis(60);
    assert!(
        tokio::time::timeout(quick, async {
            eventually("never", || twins.live() == 0).await
        })
        .await
        .is_err()
    );
    shard.set_open(true);
    assert_eq!(version(busy.await.unwrap()), 1);
    eventually("then it stops", || twins.live() == 0).await;
}

/// Protects the bound of live twins: the least recently used idle one goes, busy ones never.
#[tokio::test]
async fn number_of_live_twins_is_bounded() {
    let (shard, twins) = shard(TwinsConfig {
        live_max: 10,
        ..TwinsConfig::default()
    });
    for number in 0..100 {
        version(twins.submit(&device(number), write("{}"), later()).await);
        eventually("the evicted twin stops", || twins.live() <= 10).await;
    }
    assert_eq!(read_version(&twins, 99).await, Some(1));
    assert_eq!(shard.loads.load(Ordering::SeqCst), 0, "the latest lives");
    assert_eq!(read_version(&twins, 0).await, Some(1));
    assert_eq!(shard.loads.load(Ordering::SeqCst), 1, "the first does not");

    shard.set_open(false);
    let mut busy = Vec::new();
    for number in 0..10 {
        busy.push(submit(&twins, number, "{}").await);
    }
    let refused = twins.submit(&device(10), write("{}"), later()).await;
    assert_eq!(refused, Err(Failure::Overloaded));
    shard.set_open(true);
    for one in busy {
        version(one.await.unwrap());
    }
    version(twins.submit(&device(10), write("{}"), later()).await);
    eventually("within the bound", || twins.live() <= 10).await;
}

/// Protects the bound of cached bytes: it is never passed, reads stay right, and room is made.
#[tokio::test]
async fn cached_bytes_are_bounded() {
    let bytes_max = 20_000;
    let config = TwinsConfig {
        live_bytes_max: bytes_max,
        ..TwinsConfig::default()
    };
    let (_shard, twins) = shard(config);
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(4_000));
    for number in 0..30 {
        version(twins.submit(&device(number), write(&large), later()).await);
        assert!(twins.cached_bytes() <= bytes_max);
        assert_eq!(read_version(&twins, number).await, Some(1));
    }
    eventually("twins were evicted for room", || twins.live() < 30).await;
    assert!(twins.cached_bytes() > 0);
}
