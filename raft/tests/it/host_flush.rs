//! Flushes, and what they let the log forget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use antumbra_raft::HostConfig;
use tempfile::TempDir;

use crate::host_support::{
    PATIENCE, Three, add, config, copy, dump, purged, read, spec, wait_purged,
};

/// A log entry is needed until the rows that it made are on disk: no flush, no purge.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_purged_only_up_to_a_flush() {
    let directory = TempDir::new().unwrap();
    let mut config = config(directory.path());
    config.log_entries_kept = 10;
    let three = Three::start_with(config).await;
    let shard = &three.shards[0];
    for _ in 0..100 {
        add(shard, "k", 1).await;
    }
    assert_eq!(shard.flushed_index(), 0);
    assert_eq!(purged(shard).await, None);
    three.host.flush().await.unwrap();
    let flushed = shard.flushed_index();
    assert!(flushed >= 100);
    wait_purged(shard, flushed - 10).await;
    for _ in 0..50 {
        add(shard, "k", 1).await;
    }
    assert_eq!(purged(shard).await, Some(flushed - 10));
    three.shutdown().await;
}

/// After a purge the flushed rows and the rest of the log still make the whole state.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_purge_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let mut config = config(directory.path());
    config.log_entries_kept = 0;
    let three = Three::start_with(config.clone()).await;
    for shard in &three.shards {
        for _ in 0..60 {
            add(shard, "k", 1).await;
        }
    }
    three.host.flush().await.unwrap();
    for shard in &three.shards {
        wait_purged(shard, shard.flushed_index()).await;
        add(shard, "k", 1).await;
    }
    let crashed = TempDir::new().unwrap();
    copy(directory.path(), crashed.path());
    config.directory = crashed.path().to_owned();
    config.create = false;
    let again = Three::start_with(config).await;
    for (shard, before) in again.shards.iter().zip(&three.shards) {
        assert_eq!(read(shard, "k"), Some(61));
        assert_eq!(dump(shard), dump(before));
        assert_eq!(add(shard, "k", 1).await, 62);
    }
    again.shutdown().await;
    three.shutdown().await;
}

/// Rows and position come back together or not at all, wherever the store was flushed.
#[tokio::test(flavor = "multi_thread")]
async fn changes_and_position_are_one_write_batch() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    let shard = &three.shards[2];
    for n in 0..20_u64 {
        add(shard, "k", 1).await;
        if n % 3 == 0 {
            three.host.flush().await.unwrap();
        }
        // Replay adds to the counter: with a position that is older than the rows it would add twice,
        // with one that is newer it would add too little.
        if n % 4 == 0 {
            let crashed = TempDir::new().unwrap();
            copy(directory.path(), crashed.path());
            let again = Three::start(crashed.path()).await;
            assert_eq!(read(&again.shards[2], "k"), Some(n + 1));
            again.shutdown().await;
        }
    }
    three.shutdown().await;
}

/// What a replica has applied when it is stopped need not be on disk; when it is started again it counts as
/// flushed, so from then on it must be.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_started_again_counts_nothing_as_flushed_that_is_not() {
    let directory = TempDir::new().unwrap();
    let mut three = Three::start(directory.path()).await;
    for _ in 0..20 {
        add(&three.shards[0], "k", 1).await;
    }
    let stopped = three.shards.remove(0);
    let applied = stopped.applied_index();
    three.host.stop_shard(stopped.id()).await.unwrap();
    drop(stopped);
    let machine = Arc::clone(&three.machine);
    let shard = three.host.start_shard(spec(1), machine).await.unwrap();
    assert!(shard.flushed_index() >= applied);
    let crashed = TempDir::new().unwrap();
    copy(directory.path(), crashed.path());
    let again = Three::start(crashed.path()).await;
    assert_eq!(again.machine.entries.load(Ordering::Relaxed), 0);
    assert_eq!(read(&again.shards[0], "k"), Some(20));
    again.shutdown().await;
    drop(shard);
    three.shutdown().await;
}

/// The flusher runs by itself: by time, by the bytes of the log, and before RocksDB does so unasked.
#[tokio::test(flavor = "multi_thread")]
async fn the_flusher_runs_by_time_by_log_and_by_memtable() {
    type Set = fn(&mut HostConfig);
    let cases: [(usize, Set); 3] = [
        (1, |config| {
            config.flush_interval = Duration::from_millis(100)
        }),
        (1, |config| config.flush_log_bytes = 1000),
        (32 << 10, |config| {
            (config.memtable_bytes, config.flush_log_bytes) = (1 << 20, u64::MAX);
        }),
    ];
    for (key_bytes, set) in cases {
        let directory = TempDir::new().unwrap();
        let mut config = config(directory.path());
        set(&mut config);
        let three = Three::start_with(config).await;
        let (shard, key) = (&three.shards[0], "k".repeat(key_bytes));
        let flushed = async {
            while shard.flushed_index() < 30 {
                add(shard, &key, 1).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, flushed).await.unwrap();
        three.shutdown().await;
    }
}

/// A power cut may leave the rows ahead of the log, since rows of entries that a quorum had synced are
/// flushed on their own: the log goes on behind them.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_ahead_of_its_log_is_not_damage() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    for _ in 0..20 {
        add(&three.shards[0], "k", 1).await;
    }
    let cut = TempDir::new().unwrap();
    copy(directory.path(), cut.path());
    for _ in 0..20 {
        add(&three.shards[0], "k", 1).await;
    }
    let expected = dump(&three.shards[0]);
    three.shutdown().await;
    std::fs::remove_dir_all(cut.path().join("state")).unwrap();
    copy(&directory.path().join("state"), &cut.path().join("state"));
    let again = Three::start(cut.path()).await;
    assert_eq!(dump(&again.shards[0]), expected);
    assert_eq!(add(&again.shards[0], "k", 1).await, 41);
    again.shutdown().await;
    let again = Three::start(cut.path()).await;
    assert_eq!(read(&again.shards[0], "k"), Some(41));
    again.shutdown().await;
}
