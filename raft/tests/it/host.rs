//! A node with several shards: propose, read, stop, crash, start again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use antumbra_raft::{BarrierError, Node, ProposeError, ReplicaId, Role, ShardSpec};
use bytes::Bytes;
use futures::future::join_all;
use tempfile::TempDir;

use crate::host_support::{
    PATIENCE, Three, add, config, copy, dump, feed, leader, open, propose, read, spec, try_open,
};

/// Shards on one node are separate groups on shared stores.
#[tokio::test(flavor = "multi_thread")]
async fn three_shards_propose_read_and_reopen() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    for (n, shard) in three.shards.iter().enumerate() {
        for _ in 0..20 {
            add(shard, "k", n as u64 + 1).await;
        }
        shard.barrier().await.unwrap();
        assert_eq!(read(shard, "k"), Some(20 * (n as u64 + 1)));
    }
    let before: Vec<_> = three.shards.iter().map(dump).collect();
    three.shutdown().await;

    let mut reopen = config(directory.path());
    reopen.create = false;
    let three = Three::start_with(reopen).await;
    for (shard, before) in three.shards.iter().zip(&before) {
        assert_eq!(&dump(shard), before);
    }
    // A clean stop flushed everything: there was nothing to replay.
    assert_eq!(three.machine.entries.load(Ordering::Relaxed), 0);
    assert_eq!(add(&three.shards[0], "k", 1).await, 21);
    three.shutdown().await;
}

/// Acknowledged writes survive a crash without close or flush: the log is replayed, and replaying
/// what was applied before changes nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_and_replay_is_idempotent() {
    let mut from = TempDir::new().unwrap();
    for round in 1..=4_u64 {
        let three = Three::start(from.path()).await;
        for shard in &three.shards {
            assert_eq!(read(shard, "k").unwrap_or(0), (round - 1) * 30);
            for _ in 0..30 {
                add(shard, "k", 1).await;
            }
        }
        if round % 2 == 0 {
            three.host.flush().await.unwrap();
        }
        for shard in &three.shards {
            add(shard, "after", 1).await;
        }
        let before: Vec<_> = three.shards.iter().map(dump).collect();
        let crashed = TempDir::new().unwrap();
        copy(from.path(), crashed.path());
        let again = Three::start(crashed.path()).await;
        for (shard, before) in again.shards.iter().zip(&before) {
            assert_eq!(&dump(shard), before);
            assert_eq!(read(shard, "after"), Some(round));
        }
        again.shutdown().await;
        three.shutdown().await;
        from = crashed;
    }
}

/// A node that starts must serve soon: no scan over what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_voter_leads_soon_after_a_start() {
    let directory = TempDir::new().unwrap();
    Three::start(directory.path()).await.shutdown().await;
    let mut slow = config(directory.path());
    slow.election_min = Duration::from_secs(20);
    slow.election_max = Duration::from_secs(40);
    let started = Instant::now();
    let three = Three::start_with(slow).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    three.shutdown().await;
}

/// A proposal is bound to the term in which its proposer believes to lead.
#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_of_another_term_is_not_applied() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    let term = leader(shard).await;
    for wrong in [term + 1, term - 1] {
        let refused = shard.propose(wrong, Bytes::from_static(b"add k 1")).await;
        assert_eq!(refused, Err(ProposeError::NotLeader));
    }
    shard.barrier().await.unwrap();
    assert_eq!(read(shard, "k"), None);
    assert!(
        shard
            .propose(term, Bytes::from_static(b"add k 1"))
            .await
            .is_ok()
    );
    three.shutdown().await;
}

/// What comes while others are under way shares an entry, and each command gets the reply that is its own.
#[tokio::test]
async fn commands_that_come_together_share_entries() {
    const COMMANDS: u64 = 2_000;
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    let term = leader(shard).await;
    let adding = (0..COMMANDS).map(|n| shard.propose(term, format!("add {} 1", n % 2).into()));
    let mut sums = [Vec::new(), Vec::new()];
    let mut indexes = BTreeSet::new();
    for (n, done) in join_all(adding).await.into_iter().enumerate() {
        let done = done.unwrap();
        sums[n % 2].push(String::from_utf8(done.reply.to_vec()).unwrap());
        indexes.insert(done.index);
    }
    // In the order in which they came.
    let rising: Vec<String> = (1..=COMMANDS / 2).map(|sum| sum.to_string()).collect();
    assert_eq!(sums, [rising.clone(), rising]);
    // A few go at once; the rest wait and go together, as many as an entry takes.
    assert!(indexes.len() <= 10, "{} entries", indexes.len());
    three.shutdown().await;
}

/// Entries get their places in the log in the order in which their commands came, on whichever threads
/// they are carried: who has lost an outcome and goes on does not pass himself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_keep_their_order_across_entries() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = three.shards[0].clone();
    let term = leader(&shard).await;
    // On a worker of the runtime, where what is spawned last runs first.
    let proposing = tokio::spawn(async move {
        for round in 0..50 {
            let adding = (0..8).map(|_| shard.propose(term, Bytes::from_static(b"add k 1")));
            for (n, done) in join_all(adding).await.into_iter().enumerate() {
                let sum = String::from_utf8(done.unwrap().reply.to_vec()).unwrap();
                assert_eq!(sum, (round * 8 + n + 1).to_string());
            }
        }
    });
    proposing.await.unwrap();
    three.shutdown().await;
}

/// The terms of proposals that wait side by side may differ: each is bound to its own.
#[tokio::test]
async fn proposals_of_several_terms_do_not_share_an_entry() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    let term = leader(shard).await;
    let mixed = (0..300).map(|n| {
        let of = term + u64::from(n % 3 == 0);
        let add = Bytes::from_static(b"add k 1");
        async move { (of == term, shard.propose(of, add).await) }
    });
    for (is_present, outcome) in join_all(mixed).await {
        match outcome {
            Ok(_) => assert!(is_present, "another term was taken"),
            Err(error) => assert_eq!((is_present, error), (false, ProposeError::NotLeader)),
        }
    }
    assert_eq!(read(shard, "k"), Some(200));
    three.shutdown().await;
}

/// A read after a barrier sees every write that was acknowledged before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_sees_every_acknowledged_write() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    for n in 1..=200 {
        let done = propose(shard, "add k 1").await.unwrap();
        let index = shard.barrier().await.unwrap();
        assert!(index >= done.index);
        assert!(shard.applied_index() >= done.index);
        assert_eq!(read(shard, "k"), Some(n));
    }
    three.shutdown().await;
}

/// Readers that come together share a round trip to the quorum.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_barriers_share_rounds() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    let before = shard.barrier_rounds();
    let barriers = (0..1000).map(|_| shard.barrier());
    let results = futures::future::join_all(barriers).await;
    assert!(results.iter().all(Result::is_ok));
    let rounds = shard.barrier_rounds() - before;
    assert!((1..=20).contains(&rounds), "{rounds} rounds");
    three.shutdown().await;
}

/// Over its limit the barrier refuses at once instead of queueing.
#[tokio::test(flavor = "current_thread")]
async fn barriers_over_the_limit_are_refused() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    let results = futures::future::join_all((0..40_000).map(|_| shard.barrier())).await;
    let refused = results
        .iter()
        .filter(|r| **r == Err(BarrierError::Overloaded));
    assert!(refused.count() > 0);
    assert!(shard.barrier().await.is_ok());
    three.shutdown().await;
}

/// Over its limit proposals are refused at once, certainly not applied, and nothing else is lost.
#[tokio::test(flavor = "current_thread")]
async fn proposals_over_the_limit_are_refused() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    let term = leader(shard).await;
    let proposals = (0..20_000).map(|_| shard.propose(term, Bytes::from_static(b"add k 1")));
    let results = futures::future::join_all(proposals).await;
    let refused = results
        .iter()
        .filter(|r| **r == Err(ProposeError::Overloaded));
    assert!(refused.count() > 0);
    let applied = results.iter().filter(|r| r.is_ok()).count();
    assert!(applied > 0);
    shard.barrier().await.unwrap();
    assert_eq!(read(shard, "k"), Some(applied as u64));
    three.shutdown().await;
}

/// Observers are told before a barrier or a proposer can see the position.
#[tokio::test(flavor = "multi_thread")]
async fn observers_are_told_before_proposers() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[1];
    for _ in 0..100 {
        let done = propose(shard, "add k 1").await.unwrap();
        let told = three.machine.applied.lock();
        let latest = told.iter().filter(|(id, _)| *id == shard.id());
        assert!(latest.map(|(_, index)| *index).max() >= Some(done.index));
    }
    three.shutdown().await;
}

/// A pinned view has exactly the changes up to its index, while writers go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_view_ends_at_its_index() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = three.shards[0].clone();
    let first = propose(&shard, "add k 1").await.unwrap().index;
    let writer = {
        let shard = shard.clone();
        tokio::spawn(async move {
            let term = leader(&shard).await;
            for _ in 0..50 {
                let adds = (0..10).map(|_| shard.propose(term, Bytes::from_static(b"add k 1")));
                futures::future::join_all(adds).await;
            }
        })
    };
    while !writer.is_finished() {
        {
            let (view, index) = shard.pinned().unwrap();
            let is_there = |index| view.get(&feed(shard.id(), index)).unwrap().is_some();
            assert!(index >= first && is_there(index) && !is_there(index + 1));
        }
        tokio::task::yield_now().await;
    }
    three.shutdown().await;
}

/// Rows that a command deletes by range stay deleted, after a replay too.
#[tokio::test(flavor = "multi_thread")]
async fn range_deletes_survive_a_crash() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[0];
    let mut last = 0;
    for _ in 0..10 {
        last = propose(shard, "add k 1").await.unwrap().index;
    }
    propose(shard, format!("trim {last}")).await.unwrap();
    assert_eq!(dump(shard).len(), 2);
    let crashed = TempDir::new().unwrap();
    copy(directory.path(), crashed.path());
    let again = Three::start(crashed.path()).await;
    assert_eq!(dump(&again.shards[0]), dump(shard));
    again.shutdown().await;
    three.shutdown().await;
}

/// A bug in the machine stops the replica that met it; the others and the node go on, and nobody is
/// told that the command was not applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_apply_stops_that_replica_only() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let [bad, good, _] = &three.shards[..] else {
        unreachable!()
    };
    let lost = propose(bad, "panic").await.unwrap_err();
    assert!(matches!(
        lost,
        ProposeError::Unknown | ProposeError::Stopped
    ));
    let mut role = bad.role();
    let stopped = role.wait_for(|role| *role == Role::Stopped);
    tokio::time::timeout(PATIENCE, stopped)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bad.barrier().await, Err(BarrierError::Stopped));
    assert_eq!(add(good, "k", 5).await, 5);
    assert!(three.host.failed().borrow().is_none());
    three.shutdown().await;
}

/// A shard runs once per node.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_shard_is_not_started_again() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let again = three
        .host
        .start_shard(spec(1), Arc::clone(&three.machine))
        .await;
    assert_eq!(again.unwrap_err().code(), "CONFIG");
    three.shutdown().await;
}

/// Only the first start of a node may create stores; another cluster's directory is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn missing_and_foreign_directories_are_refused() {
    let directory = TempDir::new().unwrap();
    let mut missing = config(directory.path());
    missing.create = false;
    let error = try_open(missing.clone()).await.err().unwrap();
    assert_eq!(error.code(), "STORE_MISSING");
    assert!(!directory.path().join("log").exists());
    assert!(!directory.path().join("state").exists());
    open(directory.path()).await.shutdown().await.unwrap();
    missing.store_id = [4; 16];
    let error = try_open(missing).await.err().unwrap();
    assert_eq!(error.code(), "WRONG_STORE");
}

/// A replica that its node is done with leaves no row and no log behind, and nobody else loses anything;
/// another replica of the shard starts as if there had been none.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_removed_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let [first, second, _] = &three.shards[..] else {
        unreachable!()
    };
    for shard in [first, second] {
        for _ in 0..20 {
            add(shard, "k", 1).await;
        }
    }
    let (gone, kept) = (second.id(), dump(first));
    let range = second.range();
    let later = ReplicaId(second.replica().0 + 1);
    let running = three.host.remove_replica(gone, range, later).await;
    assert_eq!(running.unwrap_err().code(), "CONFIG", "it runs");
    assert_eq!(read(second, "k"), Some(20));

    three.host.stop_shard(gone).await.unwrap();
    assert!(!dump(second).is_empty());
    assert!(three.host.remove_replica(gone, range, later).await.unwrap());
    assert!(dump(second).is_empty());
    assert_eq!(dump(first), kept);
    assert!(three.host.remove_replica(gone, range, later).await.unwrap());

    let next = successor(gone.0);
    let machine = Arc::clone(&three.machine);
    let anew = three.host.start_shard(next, machine).await.unwrap();
    leader(&anew).await;
    assert_eq!(read(&anew, "k"), None);
    assert_eq!(add(&anew, "k", 1).await, 1);
    drop(anew);
    three.shutdown().await;
}

/// The spec of a replica that comes after the one that [`spec`] names.
fn successor(shard: u32) -> ShardSpec {
    let mut next = spec(shard);
    next.replica = ReplicaId(next.replica.0 + 1);
    next.members = BTreeMap::from([(next.replica, Node::default())]);
    next
}

/// Who knows nothing of a replica, because what it knows of the shard is older, can neither remove what that
/// replica left nor give it to an earlier one.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_replica_left_is_kept() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let first = &three.shards[0];
    let (shard, range) = (first.id(), first.range());
    three.host.stop_shard(shard).await.unwrap();
    let next = successor(shard.0);
    let later = next.replica;
    let machine = Arc::clone(&three.machine);
    let anew = three.host.start_shard(next, machine).await.unwrap();
    leader(&anew).await;
    add(&anew, "k", 7).await;
    three.host.stop_shard(shard).await.unwrap();
    let kept = dump(&anew);

    assert!(
        !three
            .host
            .remove_replica(shard, range, later)
            .await
            .unwrap()
    );
    let machine = Arc::clone(&three.machine);
    let earlier = three.host.start_shard(spec(shard.0), machine).await;
    assert_eq!(earlier.err().unwrap().code(), "STATE_DAMAGED");
    assert_eq!(dump(&anew), kept);

    let machine = Arc::clone(&three.machine);
    let again = three.host.start_shard(successor(shard.0), machine).await;
    let again = again.unwrap();
    leader(&again).await;
    assert_eq!(read(&again, "k"), Some(7));
    drop((anew, again));
    three.shutdown().await;
}
