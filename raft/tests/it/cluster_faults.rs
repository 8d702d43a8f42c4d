//! Lost leaders, cut ways, lost connections: nothing acknowledged is lost, nothing else is claimed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antumbra_raft::{BarrierError, ProposeError};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::cluster_support::{Cluster, replica, term, until};
use crate::host_support::{copy, read};

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

/// Writes that never stop must not keep a replica from being ready that was started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_recovers_while_writes_go_on() {
    let mut cluster = Cluster::start().await;
    for n in 0..50 {
        cluster.add(&format!("key-{n}")).await;
    }
    let away = cluster.followers().await[0].name.clone();
    cluster.close(&away).await;
    cluster.open(&away, replica(&away), BTreeMap::new()).await;
    let stop = AtomicBool::new(false);
    let writer = async |n: usize| {
        while !stop.load(Ordering::Relaxed) {
            let _ = cluster.propose(&format!("add load-{n} 1")).await;
        }
    };
    let writers = futures::future::join_all((0..64).map(writer));
    let recovery = async {
        sleep(Duration::from_millis(100)).await;
        let recovered = cluster
            .member(&away)
            .shard
            .recovered(Duration::from_secs(20));
        let recovered = recovered.await;
        stop.store(true, Ordering::Relaxed);
        recovered
    };
    let (_, recovered) = tokio::join!(writers, recovery);
    recovered.unwrap();
    cluster.converge().await;
    cluster.shutdown().await;
}

/// A disk that was set back has lost entries that its replica had reported durable, and perhaps votes: the
/// node stops, and neither votes nor is quietly filled up again.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lost_acknowledged_entries_stops() {
    let mut cluster = Cluster::start().await;
    for n in 0..50 {
        cluster.add(&format!("key-{n}")).await;
    }
    cluster.converge().await;
    let victim = cluster.followers().await[0].name.clone();
    cluster.close(&victim).await;
    let old = TempDir::new().unwrap();
    copy(cluster.directory(&victim), old.path());
    cluster
        .open(&victim, replica(&victim), BTreeMap::new())
        .await;
    for n in 0..50 {
        cluster.add(&format!("later-{n}")).await;
    }
    cluster.converge().await;
    cluster.close(&victim).await;
    cluster.set_back(&victim, old);
    cluster
        .open(&victim, replica(&victim), BTreeMap::new())
        .await;
    let failed = cluster.member(&victim).host.failed();
    until(async || failed.borrow().is_some()).await;
    let code = failed.borrow().as_ref().map(|error| error.code());
    assert_eq!(code, Some("LOG_DAMAGED"));
    // The others go on without it.
    cluster.network.remove(&victim);
    cluster.add("k").await;
}

/// Large commands that wait for a quorum that is away are bounded by their bytes, not only by their number.
#[tokio::test(flavor = "multi_thread")]
async fn proposals_are_bounded_by_bytes() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let at = term(&leader.shard).unwrap();
    cluster.network.isolate(&leader.name);
    let large = Bytes::from(vec![b' '; antumbra_raft::COMMAND_BYTES_MAX]);
    let proposals = (0..24).map(|_| leader.shard.propose(at, large.clone()));
    let patience = Duration::from_millis(200);
    let ended = proposals.map(|one| tokio::time::timeout(patience, one));
    let ended = futures::future::join_all(ended).await;
    let overloaded = |end: &&Result<_, _>| matches!(end, Ok(Err(ProposeError::Overloaded)));
    let refused = ended.iter().filter(overloaded).count();
    assert_eq!(refused, 8, "16 of 4 MiB are taken: {ended:?}");
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
