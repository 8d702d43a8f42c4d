//! What was lost is noticed; nothing is repaired or deleted.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::log::seal::Seal;
use crate::types::Vote;

/// A log with several synced batches, left as a crash leaves it, and sealed.
async fn crashed_log(directory: &Path) {
    let log = create(directory);
    let mut shard = log.shard(SHARD).await.unwrap();
    shard.save_vote(&Vote::new(1, 5)).await.unwrap();
    for first in (0..100).step_by(10) {
        append(&mut shard, 1, first..first + 10).await;
    }
    // 1 vote and 10 appends.
    wait_for_seal(directory, 11).await;
}

/// A log that was closed, whose data are in tables, and that was written to again.
async fn crashed_log_with_tables(directory: &Path) {
    crashed_log(directory).await;
    reopen(directory).close().await.unwrap();
    let log = reopen(directory);
    let mut shard = log.shard(SHARD).await.unwrap();
    append(&mut shard, 1, 100..110).await;
    wait_for_seal(directory, 12).await;
}

async fn wait_for_seal(directory: &Path, batch: u64) {
    for _ in 0..500 {
        if Seal::open(directory, STORE_ID).unwrap().sealed().batch >= batch {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("batch {batch} was never sealed");
}

fn files(directory: &Path, suffix_or_prefix: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory.join("log"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(suffix_or_prefix) || name.starts_with(suffix_or_prefix)
        })
        .collect();
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A copy of the directory to damage.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("log")).unwrap();
    fs::copy(from.join("seal"), to.path().join("seal")).unwrap();
    for file in fs::read_dir(from.join("log")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join("log").join(file.file_name())).unwrap();
    }
    to
}

/// A record in the middle is unreadable although a later one is whole: synced data are lost.
#[tokio::test]
async fn valid_record_after_a_bad_one_refuses_the_node() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log(directory.path()).await;
    let wal = files(directory.path(), ".log").pop().unwrap();
    let length = fs::metadata(&wal).unwrap().len() as usize;
    for at in [0, 5, 6, 200, length / 2, length - 4000] {
        let copy = copy(directory.path());
        flip(&copy.path().join("log").join(wal.file_name().unwrap()), at);
        let before = files(copy.path(), "").len();
        let refused = open(copy.path()).err().unwrap();
        assert_eq!(refused.code(), "LOG_DAMAGED");
        assert!(refused.to_string().contains("a complete record follows"));
        assert_eq!(files(copy.path(), "").len(), before);
    }
}

/// In the last record no later one gives the loss away; the seal does.
#[tokio::test]
async fn a_flip_in_the_last_sealed_record_refuses_the_node() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log(directory.path()).await;
    let wal = files(directory.path(), ".log").pop().unwrap();
    let length = fs::metadata(&wal).unwrap().len() as usize;
    for back in [1, 100, 1000] {
        let copy = copy(directory.path());
        let wal = copy.path().join("log").join(wal.file_name().unwrap());
        flip(&wal, length - back);
        assert_eq!(refusal(copy.path()).await, Some("LOG_DAMAGED"));
    }
}

/// A record that was being written when the power went was never acknowledged.
#[tokio::test]
async fn a_torn_tail_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log(directory.path()).await;
    let wal = files(directory.path(), ".log").pop().unwrap();
    let mut bytes = fs::read(&wal).unwrap();
    let mut torn = bytes[..900].to_vec();
    torn[7] = 0xff;
    bytes.extend_from_slice(&torn[..600]);
    // A header that promises more than there is.
    let at = bytes.len() - 600;
    bytes[at + 4..at + 7].copy_from_slice(&[0xff, 0x7f, 1]);
    fs::write(&wal, bytes).unwrap();
    let log = reopen(directory.path());
    let shard = log.shard(SHARD).await.unwrap();
    assert_eq!(shard.last(), Some(log_id(1, 99)));
}

#[tokio::test]
async fn a_lost_file_refuses_the_node() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log_with_tables(directory.path()).await;
    for name in [".log", ".sst", "MANIFEST", "CURRENT"] {
        let copy = copy(directory.path());
        for file in files(copy.path(), name) {
            fs::remove_file(file).unwrap();
        }
        assert_eq!(refusal(copy.path()).await, Some("LOG_DAMAGED"), "{name}");
    }
    let copied = copy(directory.path());
    fs::remove_file(copied.path().join("seal")).unwrap();
    assert_eq!(refusal(copied.path()).await, Some("LOG_DAMAGED"));
    let copied = copy(directory.path());
    fs::remove_dir_all(copied.path().join("log")).unwrap();
    assert_eq!(refusal(copied.path()).await, Some("STORE_MISSING"));
    // Not even a first start makes a new store where there was one.
    let again = Log::open(&config(copied.path(), true), Failure::new());
    assert_eq!(again.err().unwrap().code(), "STORE_MISSING");
}

/// Wherever a byte flips: the data are all there, or the node is refused.
#[tokio::test]
async fn every_flip_is_harmless_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log_with_tables(directory.path()).await;
    let mut refused = 0;
    for name in [".log", ".sst", "MANIFEST", "CURRENT"] {
        for file in files(directory.path(), name) {
            let length = fs::metadata(&file).unwrap().len() as usize;
            let name = file.file_name().unwrap();
            for at in (0..length).step_by((length / 23).max(1)) {
                let copy = copy(directory.path());
                flip(&copy.path().join("log").join(name), at);
                if refusal(copy.path()).await.is_some() {
                    refused += 1;
                    continue;
                }
                assert_all_there(copy.path(), &format!("{name:?} at {at}")).await;
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

async fn assert_all_there(directory: &Path, flipped: &str) {
    use openraft::storage::RaftLogReader;
    let log = reopen(directory);
    let mut shard = log.shard(SHARD).await.unwrap();
    let vote = shard.read_vote().await.unwrap();
    assert_eq!(vote, Some(Vote::new(1, 5)), "{flipped}");
    let entries = shard.try_get_log_entries(..).await.unwrap();
    let expected: Vec<_> = (0..110).map(|index| entry(1, index)).collect();
    assert!(entries == expected, "{flipped}");
}

/// The length of the last record of a manifest is not covered by a later record.
#[tokio::test]
async fn a_cut_manifest_refuses_the_node() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log_with_tables(directory.path()).await;
    let manifest = files(directory.path(), "MANIFEST").pop().unwrap();
    let bytes = fs::read(&manifest).unwrap();
    fs::write(&manifest, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(refusal(directory.path()).await, Some("LOG_DAMAGED"));
}

/// An older copy of the whole store, with today's seal.
#[tokio::test]
async fn a_stale_store_refuses_the_node() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log(directory.path()).await;
    let old = copy(directory.path());
    reopen(directory.path()).close().await.unwrap();
    fs::copy(directory.path().join("seal"), old.path().join("seal")).unwrap();
    assert_eq!(refusal(old.path()).await, Some("LOG_DAMAGED"));
}

#[tokio::test]
async fn another_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    crashed_log(directory.path()).await;
    let before = files(directory.path(), "");
    let mut config = config(directory.path(), true);
    config.store_id = [4; 16];
    let refused = Log::open(&config, Failure::new()).err().unwrap();
    assert_eq!(refused.code(), "WRONG_STORE");
    assert_eq!(files(directory.path(), ""), before);
    let missing = tempfile::tempdir().unwrap();
    assert_eq!(refusal(missing.path()).await, Some("STORE_MISSING"));
    assert!(fs::read_dir(missing.path()).unwrap().next().is_none());
}
