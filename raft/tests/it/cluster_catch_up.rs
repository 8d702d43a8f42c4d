//! Followers that lag or were away: the log where it is there, one snapshot where it is not.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use antumbra_raft::HostConfig;
use tokio::time::{Instant, sleep};

use crate::cluster_support::{Cluster, Member, replica, until};
use crate::host_support::{PATIENCE, purged};

/// Long enough for a heartbeat to be late on a loaded machine.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// A node that is away is soon waited for no more, and one that lags a little needs the held log.
fn impatient(config: &mut HostConfig) {
    config.log_entries_kept = 0;
    config.log_held_silence_max = SILENCE_MAX;
}

/// As [`impatient`], and a snapshot takes seconds. A follower that is back is heard with the next heartbeat: what is
/// written until then must be kept.
fn impatient_and_slow(config: &mut HostConfig) {
    impatient(config);
    config.log_entries_kept = 500;
    config.snapshot_bytes_per_second = 256 << 10;
}

/// As [`impatient_and_slow`], and hardly anything is held.
fn forgetful_and_slow(config: &mut HostConfig) {
    impatient_and_slow(config);
    config.log_held_bytes_max = 1;
}

/// Flushes until the log is purged up to an entry.
async fn purge(leader: &Member, upto: u64) {
    until(async || {
        leader.host.flush().await.unwrap();
        purged(&leader.shard).await >= Some(upto)
    })
    .await;
}

/// How many snapshots a node has installed since it was opened.
fn installed(cluster: &Cluster, name: &str) -> u64 {
    let machine = &cluster.member(name).machine;
    machine.resets.load(Ordering::Relaxed)
}

/// A follower that was away gets the log, or a snapshot where the log is purged.
#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_follower_catches_up_by_log_and_by_snapshot() {
    let mut cluster = Cluster::start_with(impatient).await;
    let away = cluster.followers().await[0].name.clone();
    cluster.network.isolate(&away);
    for _ in 0..50 {
        cluster.add("k").await;
    }
    cluster.network.heal();
    cluster.converge().await;
    assert_eq!(installed(&cluster, &away), 0);

    cluster.close(&away).await;
    for n in 0..300 {
        cluster.add(&format!("key-{n}")).await;
    }
    let leader = cluster.leader().await;
    let flushed = leader.shard.applied_index();
    purge(leader, flushed).await;
    cluster.open(&away, replica(&away), BTreeMap::new()).await;
    cluster.converge().await;
    assert_eq!(installed(&cluster, &away), 1);
    assert!(cluster.member(&away).shard.flushed_index() >= flushed);
    for _ in 0..10 {
        cluster.add("k").await;
    }
    cluster.converge().await;
    cluster.shutdown().await;
}

/// A node that is restarted needs no snapshot, however much was flushed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_briefly_gets_the_log() {
    let mut cluster = Cluster::start_with(|config| config.log_entries_kept = 0).await;
    let away = cluster.followers().await[0].name.clone();
    cluster.close(&away).await;
    for n in 0..100 {
        cluster.add(&format!("key-{n}")).await;
    }
    let leader = cluster.leader().await;
    for _ in 0..5 {
        leader.host.flush().await.unwrap();
    }
    cluster.open(&away, replica(&away), BTreeMap::new()).await;
    cluster.converge().await;
    assert_eq!(installed(&cluster, &away), 0);
    let leader = cluster.leader().await;
    purge(leader, leader.shard.applied_index()).await;
    cluster.shutdown().await;
}

/// Writes and flushes go on while a snapshot is on its way for seconds: the entries behind it are still there
/// when it is installed.
#[tokio::test(flavor = "multi_thread")]
async fn one_snapshot_is_enough_under_steady_writes() {
    let found = snapshots_under_steady_writes(impatient_and_slow).await;
    assert_eq!(found, 1);
}

/// What is held is bounded: then the log is purged all the same, and another snapshot follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_not_held_beyond_its_bound() {
    let found = snapshots_under_steady_writes(forgetful_and_slow).await;
    assert!(found > 1, "{found}");
}

/// Snapshots that a follower gets that comes back while writes and flushes go on, until it has caught up or got two:
/// then they end, so that it catches up in any case.
async fn snapshots_under_steady_writes(settings: fn(&mut HostConfig)) -> u64 {
    let mut cluster = Cluster::start_with(settings).await;
    let away = cluster.followers().await[0].name.clone();
    cluster.close(&away).await;
    // More than a MiB with their feed: about four seconds, in which a slow machine too writes more than is kept.
    for n in 0..150 {
        cluster.add(&format!("{n:04096}")).await;
    }
    let leader = cluster.leader().await;
    let needed = leader.shard.applied_index();
    for _ in 0..600 {
        cluster.add("k").await;
    }
    purge(leader, needed).await;
    cluster.open(&away, replica(&away), BTreeMap::new()).await;
    let (leader, follower) = (cluster.leader().await, cluster.member(&away));
    let installed_count = || follower.machine.resets.load(Ordering::Relaxed);
    let lags = || follower.shard.applied_index() + 40 < leader.shard.applied_index();
    let (opened, mut written) = (Instant::now(), 0);
    while installed_count() == 0 || (installed_count() == 1 && lags()) {
        assert!(opened.elapsed() < PATIENCE, "no end of catching up");
        for _ in 0..20 {
            cluster.add("k").await;
        }
        written += 20;
        leader.host.flush().await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    assert!(
        written >= 800,
        "the snapshot was too fast: {written} writes"
    );
    cluster.converge().await;
    let found = installed(&cluster, &away);
    cluster.shutdown().await;
    found
}
