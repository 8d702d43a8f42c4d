//! Three replicas agree: replication, barriers, checksums.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cluster_support::{Cluster, until};
use crate::host_support::read;

/// What was acknowledged is seen after a barrier on every replica, also when it comes right after the
/// write; concurrent readers of a follower share rounds.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_barrier_sees_every_acknowledged_write() {
    let cluster = Cluster::start().await;
    for n in 1..=100 {
        cluster.add("k").await;
        let reader = &cluster.members[n as usize % 3].shard;
        until(async || reader.barrier().await.is_ok()).await;
        assert!(read(reader, "k") >= Some(n));
    }
    let follower = &cluster.followers().await[0].shard;
    let before = follower.barrier_rounds();
    let readers = (0..500).map(|_| follower.barrier());
    let read = futures::future::join_all(readers).await;
    assert!(read.iter().all(Result::is_ok));
    let rounds = follower.barrier_rounds() - before;
    assert!(rounds <= 3, "{rounds} rounds for 500 readers");
    cluster.converge().await;
    cluster.shutdown().await;
}

/// Replies are asked for where their proposer waits, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn replies_are_asked_for_where_they_are_awaited() {
    let cluster = Cluster::start().await;
    for _ in 0..20 {
        cluster.add("k").await;
    }
    cluster.converge().await;
    let machines = cluster.members.iter().map(|member| &member.machine);
    let awaited: u64 = machines
        .map(|one| one.awaited.load(Ordering::Relaxed))
        .sum();
    for member in &cluster.members {
        let entries = member.machine.entries.load(Ordering::Relaxed);
        assert!((20..=entries).contains(&awaited), "{awaited} of {entries}");
    }
    cluster.shutdown().await;
}

/// Replicas that are whole have the same checksum at the same index; later writes are not in it.
#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_pinned_states_are_equal() {
    let cluster = Cluster::start().await;
    for n in 0..50 {
        cluster.add(&format!("key-{n}")).await;
    }
    let index = cluster.propose("pin 7").await.unwrap();
    for _ in 0..20 {
        cluster.add("later").await;
    }
    cluster.converge().await;
    let mut found = Vec::new();
    for member in &cluster.members {
        let checksum = member.shard.checksum(7).await.unwrap().unwrap();
        // 50 counters and 50 feed rows.
        assert_eq!((checksum.index, checksum.rows), (index, 100));
        assert_eq!(member.shard.checksum(7).await.unwrap(), Some(checksum));
        assert_eq!(member.shard.checksum(8).await.unwrap(), None);
        found.push(checksum);
    }
    assert!(
        found.iter().all(|checksum| *checksum == found[0]),
        "{found:?}"
    );
    for number in 8..=11 {
        cluster.propose(&format!("pin {number}")).await.unwrap();
    }
    let leader = &cluster.leader().await.shard;
    assert_eq!(leader.checksum(7).await.unwrap(), None);
    let other = leader.checksum(11).await.unwrap().unwrap();
    assert_ne!(other.hash, found[0].hash);
    cluster.shutdown().await;
}

/// A leader does not wait for one message before it sends the next.
#[tokio::test(flavor = "multi_thread")]
async fn appends_are_pipelined() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await.name.clone();
    for other in cluster.names() {
        if other != leader {
            let far = Duration::from_millis(30);
            cluster.network.delay(&leader, &other, far);
            cluster.network.delay(&other, &leader, far);
        }
    }
    // On a busy machine what should come apart may come at once, and travel together: more than once.
    let mut most = 0;
    for _ in 0..20 {
        let writes = (0..60).map(|n| {
            let cluster = &cluster;
            async move {
                tokio::time::sleep(Duration::from_millis(n)).await;
                cluster.add("k").await;
            }
        });
        futures::future::join_all(writes).await;
        most = cluster.network.under_way_max();
        if most > 3 {
            break;
        }
    }
    assert!(most > 3, "only {most} frames were under way");
    cluster.converge().await;
    cluster.shutdown().await;
}
