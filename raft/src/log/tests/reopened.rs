//! What was acknowledged is there again.

use futures::StreamExt;
use openraft::storage::RaftLogReader;

use super::*;
use crate::types::Vote;

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_and_after_a_close() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let mut shard = log.shard(SHARD).await.unwrap();
    assert!(shard.is_blank());
    shard.save_vote(&Vote::new(2, 5)).await.unwrap();
    append(&mut shard, 2, 0..50).await;
    shard.save_committed(Some(log_id(2, 40))).await.unwrap();
    append(&mut shard, 2, 50..60).await;
    drop((shard, log));

    for close in [false, true, false] {
        let log = reopen(directory.path());
        let mut shard = log.shard(SHARD).await.unwrap();
        assert_eq!(shard.read_vote().await.unwrap(), Some(Vote::new(2, 5)));
        assert_eq!(shard.read_committed().await.unwrap(), Some(log_id(2, 40)));
        let entries = shard.try_get_log_entries(0..100).await.unwrap();
        let expected: Vec<_> = (0..60).map(|index| entry(2, index)).collect();
        assert_eq!(entries, expected);
        assert!(log.shard(ShardId(8)).await.unwrap().is_blank());
        if close {
            log.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn truncation_and_purge_are_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let mut shard = log.shard(SHARD).await.unwrap();
    append(&mut shard, 1, 0..100).await;
    shard.truncate_after(Some(log_id(1, 79))).await.unwrap();
    append(&mut shard, 3, 80..90).await;
    log.set_purge_gate(SHARD, 19);
    assert!(shard.purge(log_id(1, 20)).await.is_err());
    shard.purge(log_id(1, 19)).await.unwrap();
    append(&mut shard, 3, 90..91).await;
    drop((shard, log));

    let log = reopen(directory.path());
    let mut shard = log.shard(SHARD).await.unwrap();
    let state = shard.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 19)));
    assert_eq!(state.last_log_id, Some(log_id(3, 90)));
    let entries = shard.try_get_log_entries(..).await.unwrap();
    let expected: Vec<_> = (20..80)
        .map(|index| entry(1, index))
        .chain((80..91).map(|index| entry(3, index)))
        .collect();
    assert_eq!(entries, expected);
    // A gate belongs to a run: after a restart the state store has to raise it again.
    assert!(shard.purge(log_id(1, 25)).await.is_err());
}

/// Entries that have left the memory are read from the store and joined with the rest.
#[tokio::test]
async fn reads_join_the_store_and_the_memory() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let mut shard = log.shard(SHARD).await.unwrap();
    append(&mut shard, 1, 0..200).await;
    assert!(shard.tail.held().0 < 20);
    for range in [0..200, 0..5, 150..200, 199..200, 0..190] {
        let entries = shard.try_get_log_entries(range.clone()).await.unwrap();
        let expected: Vec<_> = range.map(|index| entry(1, index)).collect();
        assert_eq!(entries, expected);
    }
    let stream = shard.entries_stream(3..=198).await;
    let streamed: Vec<_> = stream
        .map(|entry| entry.unwrap().log_id.index)
        .collect()
        .await;
    assert_eq!(streamed, (3..199).collect::<Vec<_>>());
}

/// A limited read may stop early, but never before the first entry.
#[tokio::test]
async fn limited_reads_are_bounded_in_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let mut shard = log.shard(SHARD).await.unwrap();
    let large = |index| Entry {
        log_id: log_id(1, index),
        payload: Payload::Normal(Command::one(Bytes::from(vec![1; 700_000]))),
    };
    for index in 0..4 {
        let (flushed, done) = TypeConfig::oneshot();
        shard
            .append([large(index)], IOFlushed::signal(flushed))
            .await
            .unwrap();
        done.await.unwrap().unwrap();
    }
    let limited = shard.limited_get_log_entries(0, 4).await.unwrap();
    assert!((1..=2).contains(&limited.len()));
    let limited = shard.limited_get_log_entries(3, 4).await.unwrap();
    assert_eq!(limited.len(), 1);
    assert_eq!(shard.try_get_log_entries(0..4).await.unwrap().len(), 4);
}

/// A new replica of a shard starts from nothing: the votes of the former one are not its own.
#[tokio::test]
async fn clear_leaves_nothing_of_the_former_replica() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let mut shard = log.shard(SHARD).await.unwrap();
    let mut other = log.shard(ShardId(8)).await.unwrap();
    shard.save_vote(&Vote::new(2, 5)).await.unwrap();
    append(&mut shard, 1, 0..10).await;
    append(&mut other, 1, 0..3).await;
    shard.clear().await.unwrap();
    assert!(shard.is_blank());
    append(&mut shard, 4, 0..2).await;
    drop((shard, other, log));
    let log = reopen(directory.path());
    let mut shard = log.shard(SHARD).await.unwrap();
    assert_eq!(shard.read_vote().await.unwrap(), None);
    assert_eq!(
        shard.try_get_log_entries(..).await.unwrap(),
        [entry(4, 0), entry(4, 1)]
    );
    let mut other = log.shard(ShardId(8)).await.unwrap();
    assert_eq!(other.try_get_log_entries(..).await.unwrap().len(), 3);
}

/// Continuous purge keeps the directory bounded, whatever was written in total.
#[tokio::test]
async fn disk_stays_bounded_with_continuous_purge() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), true);
    config.log_buffer_bytes = 1 << 20;
    let log = Log::open(&config, Failure::new()).unwrap();
    let mut shard = log.shard(SHARD).await.unwrap();
    let random: Vec<u8> = (0..200_000_u32)
        .map(|n| crc32fast::hash(&n.to_be_bytes()) as u8)
        .collect();
    let mut largest = 0;
    for index in 0..400_u64 {
        let entry = Entry {
            log_id: log_id(1, index),
            payload: Payload::Normal(Command::one(Bytes::from(random.clone()))),
        };
        let (flushed, done) = TypeConfig::oneshot();
        shard
            .append([entry], IOFlushed::signal(flushed))
            .await
            .unwrap();
        done.await.unwrap().unwrap();
        if index % 10 == 9 {
            log.set_purge_gate(SHARD, index - 5);
            shard.purge(log_id(1, index - 5)).await.unwrap();
            largest = largest.max(bytes_in(&directory.path().join("log")));
        }
    }
    // 80 MB were written.
    assert!(largest < 30_000_000, "{largest} bytes");
}

fn bytes_in(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .filter_map(|file| file.ok()?.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}
