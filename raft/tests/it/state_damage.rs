//! Damage of the state store: a coded error or the same data, never other data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use antumbra_raft::{Error, Key, ShardId};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::host_support::{
    Counters, PATIENCE, Three, add, config, copy, dump, propose_now, range, read, spec, try_open,
    wait_purged,
};

fn files(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| wanted(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    files.sort();
    files
}

fn flip(path: &Path, offset: usize, bit: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}

/// Opens the host, starts the first shard and reads all of its rows.
async fn open_and_scan(directory: &Path) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let mut config = config(directory);
    config.create = false;
    let host = try_open(config).await?;
    let started = host
        .start_shard(spec(1), Arc::new(Counters::default()))
        .await;
    let rows = match started {
        Ok(shard) => match shard.recovered(PATIENCE).await {
            Ok(()) => scan(&shard),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    // A damaged store may refuse its last flush as well.
    let _ = host.shutdown().await;
    rows
}

fn scan(shard: &antumbra_raft::Shard) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let range = range(ShardId(1));
    let (view, _) = shard.pinned().unwrap();
    let mut rows = view.scan(
        &Key::ranged(0, range.start, b""),
        &Key::ranged_end(0, range.end),
        usize::MAX,
    )?;
    rows.extend(view.scan(
        &Key::sharded(0, ShardId(1), b""),
        &Key::sharded_end(0, ShardId(1)),
        usize::MAX,
    )?);
    Ok(rows)
}

/// Bits flip anywhere in the files of the store: what is read is what was written, or there is a
/// coded error.
#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_in_the_store_give_a_coded_error_or_the_same_data() {
    let seed = 20_261_122;
    let mut random = SmallRng::seed_from_u64(seed);
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    for n in 0..300 {
        add(&three.shards[0], &format!("key-{}", n % 40), n).await;
        if n % 100 == 99 {
            three.host.flush().await.unwrap();
        }
    }
    let expected = dump(&three.shards[0]);
    three.shutdown().await;
    let (mut refused, mut same) = (0, 0);
    for _ in 0..60 {
        let damaged = TempDir::new().unwrap();
        copy(directory.path(), damaged.path());
        let state = damaged.path().join("state");
        let files = files(&state, |name| {
            name.ends_with(".sst") || name.starts_with("MANIFEST") || name == "CURRENT"
        });
        let file = &files[random.random_range(0..files.len())];
        let length = std::fs::metadata(file).unwrap().len() as usize;
        let (offset, bit) = (random.random_range(0..length), random.random_range(0..8));
        flip(file, offset, bit);
        match open_and_scan(damaged.path()).await {
            Ok(rows) => {
                same += 1;
                assert!(
                    rows == expected,
                    "seed {seed}: {file:?} at {offset} gave other rows"
                );
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.code(), "STATE_DAMAGED", "{error}");
            }
        }
    }
    println!("{refused} refused, {same} with the same data");
    assert!(refused > 0);
}

/// A damaged row met while running stops the node with its code, and is never served.
#[tokio::test(flavor = "multi_thread")]
async fn damage_met_while_running_is_reported() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    for n in 0..50 {
        add(&three.shards[0], &format!("key-{n}"), n).await;
    }
    three.shutdown().await;
    // The first block of every file: rows. Footers and indexes stay whole, so that the store opens.
    for file in files(&directory.path().join("state"), |name| {
        name.ends_with(".sst")
    }) {
        flip(&file, 30, 3);
    }
    let error = open_and_scan(directory.path()).await.unwrap_err();
    assert_eq!(error.code(), "STATE_DAMAGED");
}

/// Rows whose file is gone must not look like rows that were never written.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_of_rows_is_damage() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    add(&three.shards[0], "k", 1).await;
    three.shutdown().await;
    let tables = files(&directory.path().join("state"), |name| {
        name.ends_with(".sst")
    });
    assert!(!tables.is_empty());
    for file in tables {
        std::fs::remove_file(file).unwrap();
    }
    let error = open_and_scan(directory.path()).await.unwrap_err();
    assert_eq!(error.code(), "STATE_DAMAGED");
}

/// An apply that reads a damaged row stops the node: it must neither skip the row nor make one up.
#[tokio::test(flavor = "multi_thread")]
async fn apply_over_a_damaged_row_stops_the_node() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    for n in 0..50 {
        add(&three.shards[0], &format!("key-{n}"), n).await;
    }
    three.shutdown().await;
    let three = Three::start(directory.path()).await;
    for file in files(&directory.path().join("state"), |name| {
        name.ends_with(".sst")
    }) {
        flip(&file, 30, 3);
    }
    let mut failed = three.host.failed();
    let mut lost = false;
    for n in 0..50 {
        let command = format!("add key-{n} 1");
        if propose_now(&three.shards[0], command).await.is_err() {
            lost = true;
            break;
        }
    }
    if lost {
        let first = failed.wait_for(Option::is_some);
        let first = tokio::time::timeout(PATIENCE, first).await;
        let first = first.unwrap().unwrap().clone().unwrap();
        assert_eq!(first.code(), "STATE_DAMAGED");
    } else {
        // Every block was in memory already: then every sum is right.
        for n in 0..50 {
            assert_eq!(read(&three.shards[0], &format!("key-{n}")), Some(n + 1));
        }
    }
    drop(three.shards);
    let _ = three.host.shutdown().await;
}

/// A state store that went back behind what the log still has cannot be made whole: the rows
/// between are gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_older_than_the_purged_log_is_damage() {
    let directory = TempDir::new().unwrap();
    let mut config = config(directory.path());
    config.log_entries_kept = 0;
    let three = Three::start_with(config.clone()).await;
    for _ in 0..20 {
        add(&three.shards[0], "k", 1).await;
    }
    three.host.flush().await.unwrap();
    let old = TempDir::new().unwrap();
    copy(&directory.path().join("state"), &old.path().join("state"));
    for _ in 0..20 {
        add(&three.shards[0], "k", 1).await;
    }
    three.host.flush().await.unwrap();
    let flushed = three.shards[0].flushed_index();
    wait_purged(&three.shards[0], flushed).await;
    three.shutdown().await;
    std::fs::remove_dir_all(directory.path().join("state")).unwrap();
    copy(&old.path().join("state"), &directory.path().join("state"));
    let error = open_and_scan(directory.path()).await.unwrap_err();
    assert_eq!(error.code(), "STATE_DAMAGED");
}

/// A log that was replaced by an empty one has lost votes: the replica must not vote again.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log_is_refused() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    add(&three.shards[0], "k", 1).await;
    three.shutdown().await;
    std::fs::remove_dir_all(directory.path().join("log")).unwrap();
    let error = open_and_scan(directory.path()).await.unwrap_err();
    assert!(
        ["STORE_MISSING", "LOG_DAMAGED"].contains(&error.code()),
        "{error}"
    );
}

/// A state store that is gone altogether is not an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_state_is_refused() {
    let directory = TempDir::new().unwrap();
    let three = Three::start(directory.path()).await;
    add(&three.shards[0], "k", 1).await;
    three.shutdown().await;
    std::fs::remove_dir_all(directory.path().join("state")).unwrap();
    let error = open_and_scan(directory.path()).await.unwrap_err();
    assert_eq!(error.code(), "STORE_MISSING");
}
