//! The state store by itself: transactions, snapshots, and installs that are cut anywhere.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::family::Family;
use super::keys::KeyRange;
use super::open::FORMAT;
use super::snapshot::{CHUNK_BYTES_TARGET, Chunk, Decoder, Encoder, SnapshotData};
use super::{
    Key, Position, PositionRow, Progress, StateOptions, StateStore, TABLES, WriteTx,
    finish_ready_installs, install,
};
use crate::config::HostConfig;
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::{HashRange, ReplicaId, ShardId};
use crate::types::{Membership, Node, StoredMembership, log_id};

mod deltas;
mod families;
mod waiting;

const SHARD: ShardId = ShardId(1);
const RANGE: HashRange = HashRange {
    start: 1000,
    end: 1999,
};

fn options(directory: &Path) -> StateOptions {
    let mut config = HostConfig::new(directory, [7; 16]);
    config.create = true;
    StateOptions::new(&config)
}

fn open(directory: &Path) -> Arc<StateStore> {
    StateStore::open(&options(directory), Failure::new()).unwrap()
}

fn position(index: u64) -> Position {
    let nodes = [(1, Node::default()), (2, Node::default())];
    let nodes = std::collections::BTreeMap::from(nodes);
    let membership = Membership::new(vec![[1, 2].into()], nodes).unwrap();
    Position {
        applied: Some(log_id(3, index)),
        membership: StoredMembership::new(Some(log_id(1, 0)), membership),
    }
}

fn progress(position: Position) -> Progress {
    Progress::new(SHARD, ReplicaId(9), RANGE, position)
}

/// Rows of the shard in two tables, and neighbours that nobody may touch.
fn fill(store: &StateStore, value: &str, rows: u32, at: &Position) {
    let mut tx = WriteTx::new(store, SHARD);
    for n in 0..rows {
        let key = Key::ranged(0, 1000 + n % 1000, format!("row {n}").as_bytes());
        tx.put(key, format!("{value} {n}").into_bytes());
    }
    tx.put(Key::sharded(0, SHARD, b"feed"), value.as_bytes().to_vec());
    tx.put(Key::ranged(0, 999, b"left"), b"kept".to_vec());
    tx.put(Key::ranged(0, 2000, b"right"), b"kept".to_vec());
    tx.put(Key::sharded(0, ShardId(2), b"other"), b"kept".to_vec());
    tx.put(Key::position(SHARD), PositionRow::encode(ReplicaId(9), at));
    store.commit(tx).unwrap();
    store.flush().unwrap();
}

/// The last key is one within the bounds, whether there is a row at the end of them or not.
#[test]
fn the_last_key_up_to_a_place_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let key = |n: u8| Key::sharded(0, SHARD, &[n]);
    let mut tx = WriteTx::new(&store, SHARD);
    for n in [2, 4, 6] {
        tx.put(key(n), vec![n]);
    }
    tx.put(Key::sharded(0, ShardId(2), &[1]), vec![1]);
    store.commit(tx).unwrap();
    let mut tx = WriteTx::new(&store, SHARD);
    tx.delete_range(key(6), key(7));
    store.commit(tx).unwrap();
    let view = store.pin(SHARD).unwrap();
    let last = |from, at| view.last_key(&key(from), &key(at)).unwrap();
    let is = |n| Some(key(n).bytes().clone());
    assert_eq!([last(0, 1), last(0, 2), last(0, 3)], [None, is(2), is(2)]);
    assert_eq!([last(3, 3), last(3, 9), last(5, 9)], [None, is(4), None]);
}

/// Everything in the store but its own row, sorted.
fn dump(store: &StateStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let families = Family::ALL.map(|family| rows_in(store, family));
    let mut rows = families.concat();
    rows.sort();
    rows
}

fn rows_in(store: &StateStore, family: Family) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = KeyRange {
        from: Key::ranged(0, 0, b""),
        to: Key::position(ShardId(u32::MAX)).prefix_end(),
    };
    let view = store.pin(SHARD).unwrap();
    let rows = view.rows_in(family, &all).map(|row| {
        let (key, value) = row.unwrap();
        (key.to_vec(), value.to_vec())
    });
    rows.collect()
}

async fn chunks(store: &Arc<StateStore>) -> Vec<Bytes> {
    let opened = SnapshotData::open(Arc::clone(store), SHARD, RANGE).await;
    let (_, mut data) = opened.unwrap().unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = data.next().await {
        chunks.push(chunk.unwrap());
    }
    chunks
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

async fn stage(
    store: &Arc<StateStore>,
    at: &Position,
    chunks: Vec<Bytes>,
) -> Result<install::Staged, Error> {
    let (store, at, data) = (Arc::clone(store), at.clone(), stream(chunks));
    let staging = move || install::stage(&store, &progress(Position::default()), &at, data);
    tokio::task::spawn_blocking(staging).await.unwrap()
}

/// What a crash would leave of an open store. RocksDB deletes what it no longer needs after a flush has
/// returned, by the side: such a file may be listed here and be gone when it is copied.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
            continue;
        }
        match std::fs::copy(entry.path(), target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
}

/// Apply reads what it has just written, before anything reaches the store.
#[test]
fn a_transaction_reads_its_own_writes() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let feed = |n: u8| Key::sharded(0, SHARD, &[n]);
    let mut tx = WriteTx::new(&store, SHARD);
    tx.put(feed(1), b"one".to_vec());
    tx.put(feed(2), b"two".to_vec());
    tx.put(Key::ranged(0, 1, b"k"), b"v".to_vec());
    store.commit(tx).unwrap();

    let mut tx = WriteTx::new(&store, SHARD);
    tx.put(feed(3), b"three".to_vec());
    tx.delete_range(feed(1), feed(4));
    tx.put(feed(2), b"again".to_vec());
    tx.delete(Key::ranged(0, 1, b"k"));
    assert_eq!(tx.get(&feed(1)).unwrap(), None);
    assert_eq!(tx.get(&feed(2)).unwrap().unwrap(), "again");
    assert_eq!(tx.get(&feed(3)).unwrap(), None);
    assert_eq!(tx.get(&Key::ranged(0, 1, b"k")).unwrap(), None);
    assert_eq!(store.get(SHARD, &feed(1)).unwrap().unwrap(), "one");
    store.commit(tx).unwrap();
    assert_eq!(store.get(SHARD, &feed(1)).unwrap(), None);
    assert_eq!(store.get(SHARD, &feed(2)).unwrap().unwrap(), "again");
    assert_eq!(store.get(SHARD, &feed(3)).unwrap(), None);
    assert_eq!(store.get(SHARD, &Key::ranged(0, 1, b"k")).unwrap(), None);
}

/// A pinned view and the index it is said to have never differ.
#[test]
fn a_pinned_view_has_exactly_its_index() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let progress = progress(Position::default());
    let key = Key::ranged(0, 1500, b"n");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=2000_u64 {
                let mut tx = WriteTx::new(&store, SHARD);
                tx.put(key.clone(), n.to_be_bytes().to_vec());
                let write = || store.commit(tx);
                progress.advance(position(n), write).unwrap();
            }
        });
        while !writer.is_finished() {
            let (view, index) = progress.pin(&store).unwrap();
            let value = view.get(&key).unwrap();
            let value = value.map_or(0, |v| u64::from_be_bytes(v[..].try_into().unwrap()));
            assert_eq!(value, index);
            let cached = store.get(SHARD, &key).unwrap();
            let cached = cached.map_or(0, |v| u64::from_be_bytes(v[..].try_into().unwrap()));
            assert!(cached >= index, "the cache is older than what was applied");
        }
    });
}

#[test]
fn positions_round_trip_and_have_golden_bytes() {
    for position in [Position::default(), position(77)] {
        let row = PositionRow::encode(ReplicaId(5), &position);
        let decoded = PositionRow::decode(&row.into()).unwrap();
        assert_eq!(
            (decoded.replica, decoded.position),
            (ReplicaId(5), position)
        );
    }
    let row = PositionRow::encode(ReplicaId(5), &Position::default());
    assert_eq!(row, b"\x61\0\0\0\0\0\0\0\x05\x10\0\0\0");
    assert!(PositionRow::decode(&Bytes::from_static(b"\x60junk")).is_err());
}

/// Stores of another cluster or of a newer format are refused and left as they are.
#[test]
fn foreign_and_newer_and_missing_stores_are_refused() {
    let directory = TempDir::new().unwrap();
    let mut other = options(directory.path());
    other.create = false;
    let code = |options: &StateOptions| {
        let opened = StateStore::open(options, Failure::new());
        opened.map(|_| ()).unwrap_err().code()
    };
    assert_eq!(code(&other), "STORE_MISSING");
    assert!(!directory.path().join("state").exists());
    drop(open(directory.path()));
    other.store_id = [8; 16];
    assert_eq!(code(&other), "WRONG_STORE");
    let store = open(directory.path());
    let mut tx = WriteTx::new(&store, SHARD);
    let mut row = super::open::store_row([7; 16]);
    row[4] += 1;
    tx.put(Key::store(), row);
    store.commit(tx).unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(code(&options(directory.path())), "FORMAT_TOO_NEW");
}

/// Rows come out as they went in, in chunks of bounded length.
#[tokio::test]
async fn snapshot_chunks_carry_exactly_the_rows_of_the_shard() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    fill(&store, &"x".repeat(600), 2000, &position(50));
    let chunks = chunks(&store).await;
    assert!(chunks.len() > 4);
    assert!(chunks.iter().all(|c| c.len() < CHUNK_BYTES_TARGET + 4096));
    let mut decoder = Decoder::default();
    let mut rows = 0;
    for chunk in chunks {
        match decoder.decode(chunk).unwrap() {
            Chunk::Head { shard, range, .. } => assert_eq!((shard, range), (SHARD, RANGE)),
            Chunk::Rows(batch) => rows += batch.len(),
            Chunk::End { rows: told } => assert_eq!(told, rows as u64),
        }
    }
    assert_eq!(rows, 2001);
}

/// A snapshot is what it was when it was opened, whatever is applied while it is sent.
#[tokio::test]
async fn a_snapshot_does_not_see_later_writes() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    fill(&store, "before", 10, &position(50));
    let opened = SnapshotData::open(Arc::clone(&store), SHARD, RANGE).await;
    let (at, mut data) = opened.unwrap().unwrap();
    assert_eq!(at, position(50));
    fill(&store, "after", 20, &position(60));
    let mut rows = Vec::new();
    let mut decoder = Decoder::default();
    while let Some(chunk) = data.next().await {
        if let Chunk::Rows(batch) = decoder.decode(chunk.unwrap()).unwrap() {
            rows.extend(batch);
        }
    }
    assert_eq!(rows.len(), 11);
    assert!(rows.iter().all(|(_, value)| value.starts_with(b"before")));
}

/// Whatever happens to a chunk on its way, the snapshot is refused and nothing has changed.
#[tokio::test]
async fn damaged_snapshots_are_refused_and_change_nothing() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (source, target) = (open(from.path()), open(to.path()));
    fill(&source, &"new".repeat(300), 1000, &position(50));
    fill(&target, "old", 10, &position(20));
    let (before, good) = (dump(&target), chunks(&source).await);
    let at = position(50);
    for n in 0..good.len() {
        for offset in [0, 3, 7, 9, good[n].len() / 2, good[n].len() - 1] {
            let mut bad = good.clone();
            let mut bytes = bad[n].to_vec();
            let last = bytes.len() - 1;
            bytes[offset.min(last)] ^= 0x10;
            bad[n] = bytes.into();
            let refused = stage(&target, &at, bad).await.err().unwrap();
            assert_eq!(
                refused.code(),
                "SNAPSHOT_REFUSED",
                "chunk {n} offset {offset}"
            );
        }
        let mut lost = good.clone();
        lost.remove(n);
        assert!(stage(&target, &at, lost).await.is_err(), "chunk {n} lost");
        let mut twice = good.clone();
        twice.insert(n, good[n].clone());
        assert!(stage(&target, &at, twice).await.is_err(), "chunk {n} twice");
    }
    assert!(stage(&target, &position(51), good.clone()).await.is_err());
    assert_eq!(dump(&target), before);
    finish_ready_installs(&target).unwrap();
    assert_eq!(dump(&target), before);
}

/// A snapshot must not write outside of the shard that it is said to be of.
#[tokio::test]
async fn rows_of_other_shards_are_refused() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let at = position(5);
    for key in [
        Key::ranged(0, 2000, b"x"),
        Key::sharded(0, ShardId(2), b"x"),
        Key::position(SHARD),
        Key::store(),
    ] {
        let mut encoder = Encoder::default();
        let mut chunks = vec![encoder.head(SHARD, RANGE, &at)];
        assert!(encoder.row(key.as_bytes(), b"value").is_none());
        chunks.extend(encoder.end());
        let refused = stage(&store, &at, chunks).await.err().unwrap();
        assert_eq!(refused.code(), "SNAPSHOT_REFUSED");
    }
}

/// A crash after any step of an install ends in exactly the old rows or exactly the new ones, and the
/// rows of neighbours are never touched.
#[tokio::test]
async fn an_install_that_is_cut_after_any_step_is_finished_or_undone() {
    let from = TempDir::new().unwrap();
    let source = open(from.path());
    fill(&source, "new", 3000, &position(50));
    let (wanted, chunks) = (dump(&source), chunks(&source).await);
    for steps in 0..=7 {
        let to = TempDir::new().unwrap();
        let target = open(to.path());
        fill(&target, "old", 500, &position(20));
        let old = dump(&target);
        let staged = stage(&target, &position(50), chunks.clone()).await.unwrap();
        if steps >= 1 {
            install::mark(&staged).unwrap();
        }
        if steps >= 2 {
            install::clear(&target, &staged).unwrap();
        }
        if steps == 3 {
            target.flush().unwrap();
        }
        if steps >= 4 {
            install::ingest_family(&target, &staged, Family::Sharded).unwrap();
        }
        if steps == 5 {
            target.flush().unwrap();
        }
        if steps >= 6 {
            install::ingest(&target, &staged).unwrap();
        }
        if steps >= 7 {
            target.flush().unwrap();
        }
        let crashed = TempDir::new().unwrap();
        copy(to.path(), crashed.path());
        drop(target);
        let reopened = open(crashed.path());
        finish_ready_installs(&reopened).unwrap();
        let expected = if steps == 0 { &old } else { &wanted };
        assert_eq!(&dump(&reopened), expected, "after {steps} steps");
        let staging = crashed.path().join("staging");
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
        drop(reopened);
        assert_eq!(&dump(&open(crashed.path())), expected);
    }
}

/// A READY marker that cannot be read is damage: guessing would lose rows.
#[tokio::test]
async fn a_damaged_marker_stops_the_start() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (source, target) = (open(from.path()), open(to.path()));
    fill(&source, "new", 10, &position(50));
    let staged = stage(&target, &position(50), chunks(&source).await)
        .await
        .unwrap();
    install::mark(&staged).unwrap();
    let mut directories = std::fs::read_dir(to.path().join("staging")).unwrap();
    let marker = directories.next().unwrap().unwrap().path().join("READY");
    let mut bytes = std::fs::read(&marker).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&marker, bytes).unwrap();
    let error = finish_ready_installs(&target).unwrap_err();
    assert_eq!(error.code(), "STATE_DAMAGED");
}

/// The position of an install reaches readers together with its rows, cached ones included.
#[tokio::test]
async fn a_whole_install_replaces_rows_position_and_cache() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (source, target) = (open(from.path()), open(to.path()));
    fill(&source, "new", 10, &position(50));
    fill(&target, "old", 500, &position(20));
    let key = Key::ranged(0, 1003, b"row 3");
    assert_eq!(target.get(SHARD, &key).unwrap().unwrap(), "old 3");
    let (at, progress) = (position(50), progress(position(20)));
    let staged = stage(&target, &at, chunks(&source).await).await.unwrap();
    install::install(&target, &progress, &at, &staged).unwrap();
    assert_eq!(progress.position(), at);
    assert_eq!(target.get(SHARD, &key).unwrap().unwrap(), "new 3");
    assert_eq!(dump(&target), dump(&source));
    assert!(!to.path().join("staging/1").exists());
}
