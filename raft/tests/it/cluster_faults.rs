//! Lost leaders, cut ways, lost connections: nothing acknowledged is lost, nothing else is claimed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antumbra_raft::{BarrierError, ProposeError};
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::cluster_support::{Cluster, replica, term, until};
use crate::host_support::read;

/// A leader that is cut off acknowledges nothing and serves no barrier; the others go on, and when it is
/// back all agree. What it was asked meanwhile was refused, or its outcome was said to be unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_leader_neither_acknowledges_nor_reads() {
    let cluster = Cluster::start().await;
    cluster.add("k").await;
    let old = cluster.leader().await;
    let old_term = term(&old.shard).unwrap();
    cluster.network.isolate(&old.name);
    let cut_off = Instant::now();
    let add = |key: &str| Bytes::from(format!("add {key} 1"));
    // Still within its lease: it takes the entry, and can never tell.
    let early = old.shard.propose(old_term, add("early"));
    let late = async {
        sleep(Duration::from_millis(1200)).await;
        old.shard.propose(old_term, add("late")).await
    };
    let read_there = async {
        sleep(Duration::from_millis(100)).await;
        old.shard.barrier().await
    };
    let others: Vec<_> = cluster.names();
    let others: Vec<_> = others
        .into_iter()
        .filter(|name| *name != old.name)
        .collect();
    let elsewhere = async {
        let new = cluster.leader_of(&others).await;
        let took = cut_off.elapsed();
        let new_term = term(&new.shard).unwrap();
        assert!(new_term > old_term);
        until(async || new.shard.propose(new_term, add("k")).await.is_ok()).await;
        until(async || new.shard.barrier().await.is_ok()).await;
        cluster.network.heal();
        took
    };
    let (early, late, read_there, took) = tokio::join!(early, late, read_there, elsewhere);
    println!("a new leader after {took:?}");
    assert_eq!(early, Err(ProposeError::Unknown));
    assert_eq!(late, Err(ProposeError::NotLeader));
    assert!(
        matches!(
            read_there,
            Err(BarrierError::Unavailable | BarrierError::NotLeader)
        ),
        "{read_there:?}"
    );
    cluster.converge().await;
    assert!(read(&old.shard, "k") >= Some(2));
    assert_eq!(read(&old.shard, "late"), None);
    assert_eq!(read(&old.shard, "early"), None);
    cluster.shutdown().await;
}

/// A leader goes away under load: another one takes over, and everything acknowledged is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_loses_nothing() {
    let mut cluster = Cluster::start().await;
    let old = cluster.leader().await.name.clone();
    let stop = AtomicBool::new(false);
    let load = async {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            let key = format!("key-{n}");
            let command = format!("add {key} 1");
            // What the lost leader has taken last is never decided.
            let patience = Duration::from_secs(1);
            match tokio::time::timeout(patience, cluster.propose(&command)).await {
                Ok(Ok(_)) => acknowledged.push(key),
                Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(5)).await,
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        acknowledged
    };
    let fault = async {
        sleep(Duration::from_millis(200)).await;
        cluster.network.remove(&old);
        let others: Vec<_> = cluster.names();
        let others: Vec<_> = others.into_iter().filter(|name| *name != old).collect();
        let new = cluster.leader_of(&others).await;
        until(async || {
            new.shard
                .propose(
                    term(&new.shard).unwrap_or(0),
                    Bytes::from_static(b"add new 1"),
                )
                .await
                .is_ok()
        })
        .await;
        stop.store(true, Ordering::Relaxed);
    };
    let (acknowledged, ()) = tokio::join!(load, fault);
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    cluster.close(&old).await;
    let leader = cluster.leader().await;
    until(async || leader.shard.barrier().await.is_ok()).await;
    for key in &acknowledged {
        assert_eq!(read(&leader.shard, key), Some(1), "{key}");
    }
    cluster.open(&old, replica(&old), BTreeMap::new()).await;
    cluster.converge().await;
    cluster.shutdown().await;
}

/// A follower that hears nothing asks before it campaigns: when it is back, the leader still leads in
/// the same term. One that is heard by nobody does no harm either.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_follower_does_not_depose_the_leader() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let before = term(&leader.shard).unwrap();
    let follower = &cluster.followers().await[0].name;
    for (from, to) in [(&leader.name, follower), (follower, &leader.name)] {
        cluster.network.cut(from, to);
        let until_then = Instant::now() + Duration::from_millis(1800);
        while Instant::now() < until_then {
            cluster.add("k").await;
            sleep(Duration::from_millis(10)).await;
        }
        cluster.network.heal();
        cluster.converge().await;
        assert_eq!(term(&leader.shard), Some(before));
    }
    cluster.shutdown().await;
}

/// Connections break all the time: everything is acknowledged in the end, once each.
#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_are_opened_again() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await.name.clone();
    let before = term(&cluster.member(&leader).shard);
    for n in 0..40 {
        for other in cluster.names() {
            if n % 4 == 0 && other != leader {
                cluster.network.drop_links(&leader, &other);
            }
        }
        assert!(cluster.propose("add k 1").await.is_ok());
    }
    assert_eq!(term(&cluster.member(&leader).shard), before);
    cluster.converge().await;
    assert_eq!(read(&cluster.member(&leader).shard, "k"), Some(40));
    cluster.shutdown().await;
}
