//! Leaders that hand over, members that come and go, replicas that stop and start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{BarrierError, MembershipError, ReplicaId, Role};
use tempfile::TempDir;

use crate::cluster_support::{Cluster, SHARD, node, replica, spec, until};
use crate::host_support::{
    Counters, PATIENCE, Three, add, config, copy, dump, open, read, try_open,
};

const SOON: Duration = Duration::from_secs(10);

/// A leader hands over to the voter that was named, quickly, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let cluster = Cluster::start().await;
    cluster.add("k").await;
    for _ in 0..2 {
        let old = cluster.leader().await;
        let to = cluster.followers().await[0];
        let wrong = to.shard.transfer_leadership(to.shard.replica(), SOON).await;
        assert_eq!(wrong, Err(MembershipError::NotLeader));
        let nobody = old.shard.transfer_leadership(ReplicaId(99), SOON).await;
        assert_eq!(nobody, Err(MembershipError::NotMember));
        let begun = std::time::Instant::now();
        old.shard
            .transfer_leadership(to.shard.replica(), SOON)
            .await
            .unwrap();
        let new = cluster.leader().await;
        println!("handed over after {:?}", begun.elapsed());
        assert_eq!(new.name, to.name);
        cluster.add("k").await;
    }
    cluster.converge().await;
    assert!(read(&cluster.members[0].shard, "k") >= Some(3));
    cluster.shutdown().await;
}

/// A lead is not given to a voter that is away: openraft would take no more writes until somebody else
/// was elected.
#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_is_away_does_not_get_the_lead() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let away = cluster.followers().await[0];
    cluster.network.isolate(&away.name);
    // Longer than a lease: before that nobody can know.
    let silent = std::time::Instant::now() + Duration::from_millis(1500);
    while std::time::Instant::now() < silent {
        cluster.add("k").await;
    }
    let moved = leader.shard.transfer_leadership(away.shard.replica(), SOON);
    assert_eq!(moved.await, Err(MembershipError::Unreachable));
    let begun = std::time::Instant::now();
    cluster.add("k").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "writes stopped");
    cluster.network.heal();
    cluster.converge().await;
    cluster.shutdown().await;
}

/// A node that lost its disk comes back under a new replica id: learner, then one membership change that
/// drops the old id. Asking again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_replica_is_replaced_under_a_new_id() {
    let mut cluster = Cluster::start().await;
    for n in 0..100 {
        cluster.add(&format!("key-{n}")).await;
    }
    let wiped = cluster.followers().await[0].name.clone();
    cluster.close(&wiped).await;
    cluster.wipe(&wiped);
    let new = ReplicaId(33);
    cluster.open(&wiped, new, BTreeMap::new()).await;
    let leader = cluster.leader().await;
    let others = cluster.members.iter().filter(|member| member.name != wiped);
    let mut voters: BTreeSet<ReplicaId> = others.map(|m| m.shard.replica()).collect();
    voters.insert(new);
    let unknown = leader.shard.change_voters(voters.clone(), SOON).await;
    assert_eq!(unknown, Err(MembershipError::NotMember));
    for _ in 0..2 {
        let added = leader.shard.add_learner(new, node(&wiped), SOON).await;
        added.unwrap();
        let learner = &cluster.member(&wiped).shard;
        until(async || read(learner, "key-99") == Some(1)).await;
        leader
            .shard
            .change_voters(voters.clone(), SOON)
            .await
            .unwrap();
    }
    cluster.converge().await;
    for member in &cluster.members {
        until(async || {
            let members = member.shard.members();
            let ids: BTreeSet<_> = members.iter().map(|m| m.replica).collect();
            ids == voters && members.iter().all(|m| m.voter)
        })
        .await;
    }
    let status = leader.shard.status();
    assert!(matches!(status.role, Role::Leader { term } if term == status.term));
    assert!(status.matched.contains_key(&new));
    assert!(!status.matched.contains_key(&replica(&wiped)));
    assert_eq!(status.applied_index, status.committed_index);
    // The new one counts for a quorum.
    let away = cluster.followers().await;
    let away = away.iter().find(|m| m.name != wiped).unwrap();
    cluster.network.isolate(&away.name);
    cluster.add("k").await;
    cluster.network.heal();
    cluster.converge().await;
    cluster.shutdown().await;
}

/// Members that no quorum has agreed on are not said to be the members: others may still count on those who
/// are about to leave.
#[tokio::test(flavor = "multi_thread")]
async fn members_count_once_they_are_committed() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let voters: BTreeSet<ReplicaId> = leader.shard.members().iter().map(|m| m.replica).collect();
    until(async || leader.shard.has_committed(&voters)).await;
    let nobody = leader
        .shard
        .add_learner(ReplicaId(33), node("n-9"), Duration::from_secs(1));
    assert_eq!(nobody.await, Err(MembershipError::Timeout));
    assert!(!leader.shard.has_committed(&voters));

    cluster.network.isolate(&leader.name);
    let alone = leader
        .shard
        .change_voters(voters.clone(), Duration::from_secs(1));
    assert_eq!(alone.await, Err(MembershipError::Timeout));
    let effective: BTreeSet<ReplicaId> = leader.shard.members().iter().map(|m| m.replica).collect();
    assert_eq!(effective, voters, "the change is in the log");
    assert!(!leader.shard.has_committed(&voters), "nobody has agreed");

    cluster.network.heal();
    until(async || {
        let leader = cluster.leader().await;
        let changed = leader.shard.change_voters(voters.clone(), SOON).await;
        changed.is_ok() && leader.shard.has_committed(&voters)
    })
    .await;
    cluster.converge().await;
    cluster.shutdown().await;
}

/// A replica that stops lets go of its data, which are there when it starts again; its neighbours on the
/// node go on, and handles of the stopped one say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_stops_and_starts_again() {
    let directory = TempDir::new().unwrap();
    let mut three = Three::start(directory.path()).await;
    for _ in 0..20 {
        add(&three.shards[0], "k", 1).await;
    }
    let before = dump(&three.shards[0]);
    let stopped = three.shards.remove(0);
    three.host.stop_shard(SHARD).await.unwrap();
    assert_eq!(*stopped.role().borrow(), Role::Stopped);
    assert_eq!(stopped.barrier().await, Err(BarrierError::Stopped));
    assert!(three.host.shard(SHARD).is_none());
    assert!(three.host.stop_shard(SHARD).await.is_err());
    add(&three.shards[0], "k", 1).await;

    let voters = BTreeMap::from([(ReplicaId(11), node("n-1"))]);
    let start = || {
        let machine = Arc::new(Counters::default());
        three
            .host
            .start_shard(spec(ReplicaId(11), voters.clone()), machine)
    };
    let again = start().await.unwrap();
    assert!(start().await.is_err());
    again.recovered(PATIENCE).await.unwrap();
    assert_eq!(dump(&again), before);
    assert_eq!(add(&again, "k", 1).await, 21);
    drop(again);

    // Another replica of the shard begins with nothing.
    three.host.stop_shard(SHARD).await.unwrap();
    let voters = BTreeMap::from([(ReplicaId(12), node("n-1"))]);
    let machine = Arc::new(Counters::default());
    let other = three.host.start_shard(spec(ReplicaId(12), voters), machine);
    let other = other.await.unwrap();
    assert!(dump(&other).is_empty());
    assert_eq!(add(&other, "k", 1).await, 1);
    drop(other);
    three.shutdown().await;
}

/// The log knows whose it is before anything is flushed: another replica never takes over entries or
/// votes of a former one.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_clears_a_log_that_was_never_flushed() {
    let (directory, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let three = Three::start(directory.path()).await;
    for _ in 0..20 {
        add(&three.shards[0], "k", 1).await;
    }
    assert_eq!(three.shards[0].flushed_index(), 0);
    copy(directory.path(), crashed.path());
    three.shutdown().await;
    let host = open(crashed.path()).await;
    let machine = Arc::new(Counters::default());
    let voters = BTreeMap::from([(ReplicaId(99), node("n-1"))]);
    let shard = host.start_shard(spec(ReplicaId(99), voters), machine);
    let shard = shard.await.unwrap();
    assert!(dump(&shard).is_empty());
    assert_eq!(add(&shard, "k", 1).await, 1);
    // Its first leader ever: the votes of the former one are gone too.
    assert_eq!(shard.status().term, 1);
    drop(shard);
    host.shutdown().await.unwrap();
}

/// A log whose owner nobody knows is damage: it is neither used nor deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_an_owner_is_refused() {
    let (directory, blank) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let three = Three::start(directory.path()).await;
    add(&three.shards[0], "k", 1).await;
    three.shutdown().await;
    open(blank.path()).await.shutdown().await.unwrap();
    std::fs::remove_dir_all(directory.path().join("state")).unwrap();
    copy(&blank.path().join("state"), &directory.path().join("state"));
    for _ in 0..2 {
        let host = try_open(config(directory.path())).await.unwrap();
        let machine = Arc::new(Counters::default());
        let voters = BTreeMap::from([(ReplicaId(11), node("n-1"))]);
        let started = host.start_shard(spec(ReplicaId(11), voters), machine).await;
        assert_eq!(started.unwrap_err().code(), "STATE_DAMAGED");
        host.shutdown().await.unwrap();
    }
}
