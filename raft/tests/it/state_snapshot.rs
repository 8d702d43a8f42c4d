//! Snapshots from one host to another.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use antumbra_raft::types::{SnapshotMeta, Vote};
use antumbra_raft::{HashRange, Host, ReplicaId, Shard, ShardId, ShardSpec, SnapshotData};
use bytes::Bytes;
use tempfile::TempDir;

use crate::host_support::{Counters, Three, add, copy, dump, open, range, read};

/// A replica that waits for its leader, on a host of its own.
struct Target {
    host: Host,
    shard: Shard,
    machine: Arc<Counters>,
}

impl Target {
    async fn start(directory: &TempDir) -> Target {
        let host = open(directory.path()).await;
        let machine = Arc::new(Counters::default());
        let spec = ShardSpec {
            shard: ShardId(1),
            replica: ReplicaId(99),
            range: range(ShardId(1)),
            members: Default::default(),
            create: false,
        };
        let shard = host.start_shard(spec, Arc::clone(&machine)).await.unwrap();
        Target {
            host,
            shard,
            machine,
        }
    }

    async fn shutdown(self) {
        drop(self.shard);
        self.host.shutdown().await.unwrap();
    }
}

async fn collect(shard: &Shard) -> (SnapshotMeta, Vec<Bytes>) {
    let (meta, mut data) = shard.snapshot().await.unwrap().unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = data.next().await {
        chunks.push(chunk.unwrap());
    }
    (meta, chunks)
}

fn stream(chunks: Vec<Bytes>) -> SnapshotData {
    let (feeder, data) = SnapshotData::channel();
    tokio::spawn(async move {
        for chunk in chunks {
            if !feeder.send(Ok(chunk)).await {
                return;
            }
        }
    });
    data
}

fn leader_vote(meta: &SnapshotMeta) -> Vote {
    let term = meta.last_log_id.unwrap().leader_id.term;
    let mut vote = Vote::new(term, 11);
    vote.committed = true;
    vote
}

/// Chunks of one host make another host equal; what the other had before is gone, and a
/// restart and a crash of the target keep it.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_makes_another_host_equal() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = Three::start(from.path()).await;
    for n in 0..200 {
        add(&source.shards[0], &format!("key {n}").replace(' ', "-"), n).await;
        add(&source.shards[1], "neighbour", 1).await;
    }
    let target = Target::start(&to).await;
    for _ in 0..2 {
        let (meta, chunks) = collect(&source.shards[0]).await;
        let vote = leader_vote(&meta);
        let installed = target
            .shard
            .install_snapshot(vote, meta.clone(), stream(chunks))
            .await;
        installed.unwrap();
        let index = meta.last_log_id.unwrap().index;
        assert_eq!(target.shard.applied_index(), index);
        assert_eq!(target.shard.flushed_index(), index);
        assert_eq!(dump(&target.shard), dump(&source.shards[0]));
        for n in 0..50 {
            add(&source.shards[0], &format!("key-{n}"), 1).await;
        }
    }
    assert_eq!(target.machine.resets.load(Ordering::Relaxed), 2);
    let expected = dump(&target.shard);
    let crashed = TempDir::new().unwrap();
    copy(to.path(), crashed.path());
    target.shutdown().await;
    for directory in [&to, &crashed] {
        let again = Target::start(directory).await;
        assert_eq!(dump(&again.shard), expected);
        again.shutdown().await;
    }
    source.shutdown().await;
}

/// A snapshot that arrives damaged is refused without a trace, and the next one is installed.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_chunk_is_refused_and_the_replica_goes_on() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = Three::start(from.path()).await;
    for n in 0..100 {
        add(&source.shards[0], &format!("key-{n}"), n).await;
    }
    let target = Target::start(&to).await;
    let (meta, chunks) = collect(&source.shards[0]).await;
    let vote = leader_vote(&meta);
    for n in 0..chunks.len() {
        let mut bad = chunks.clone();
        let mut bytes = bad[n].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bad[n] = bytes.into();
        let refused = target
            .shard
            .install_snapshot(vote, meta.clone(), stream(bad))
            .await;
        assert_eq!(refused.unwrap_err().code(), "SNAPSHOT_REFUSED");
        assert!(dump(&target.shard).is_empty());
    }
    assert!(target.host.failed().borrow().is_none());
    let installed = target
        .shard
        .install_snapshot(vote, meta, stream(chunks))
        .await;
    installed.unwrap();
    assert_eq!(read(&target.shard, "key-7"), Some(7));
    target.shutdown().await;
    source.shutdown().await;
}

/// A replica under a new id starts from nothing, whatever a former one left in its ranges.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_clears_its_ranges_first() {
    let directory = TempDir::new().unwrap();
    let host = open(directory.path()).await;
    let machine = Arc::new(Counters::default());
    let spec = |shard: u32, replica: u64| ShardSpec {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
        range: HashRange {
            start: 1_000_000,
            end: 1_999_999,
        },
        members: [(ReplicaId(replica), Default::default())].into(),
        create: true,
    };
    // Two groups over one range, one after the other: the second must not see rows of the first.
    let first = host
        .start_shard(spec(1, 11), Arc::clone(&machine))
        .await
        .unwrap();
    add(&first, "left", 1).await;
    drop(first);
    host.shutdown().await.unwrap();
    drop(host);
    let host = open(directory.path()).await;
    let second = host.start_shard(spec(4, 41), machine).await.unwrap();
    assert!(dump(&second).is_empty());
    drop(second);
    host.shutdown().await.unwrap();
}
