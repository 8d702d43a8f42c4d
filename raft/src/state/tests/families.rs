//! Rows in two column families: crashes between the two, and stores of the format that had one.

use std::fs;
use std::time::{Duration, Instant};

use rocksdb::{DB, Options, SstFileWriter};

use super::*;

/// More than one batch of a move.
const ROWS: u32 = 3000;

/// What a program of format 1 had in its one family.
fn rows_of_format_1(value: &str, at: &Position) -> Vec<(Vec<u8>, Vec<u8>)> {
    let row = |key: Key, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let mut rows = Vec::new();
    for n in 0..ROWS {
        let value = format!("{value} {n} {}", "x".repeat(500));
        rows.push(row(
            Key::ranged(0, 1000 + n % 1000, &n.to_be_bytes()),
            &value,
        ));
        rows.push(row(Key::sharded(0, SHARD, &n.to_be_bytes()), &value));
    }
    rows.push(row(Key::sharded(TABLES - 1, SHARD, b"last table"), value));
    let position = PositionRow::encode(ReplicaId(9), at);
    rows.push((Key::position(SHARD).as_bytes().to_vec(), position));
    rows.sort();
    rows
}

fn rows_of_neighbours() -> Vec<(Vec<u8>, Vec<u8>)> {
    let row = |key: Key| (key.as_bytes().to_vec(), b"kept".to_vec());
    vec![
        row(Key::ranged(0, 999, b"left")),
        row(Key::sharded(0, ShardId(2), b"other")),
    ]
}

/// A store as a program of format 1 left it.
fn write_format_1(directory: &Path, rows: &[(Vec<u8>, Vec<u8>)]) {
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, directory.join("state")).unwrap();
    let mut identity = super::super::open::store_row([7; 16]);
    identity[4] = 1;
    db.put(Key::store().as_bytes(), identity).unwrap();
    for (key, value) in rows {
        db.put(key, value).unwrap();
    }
    db.flush().unwrap();
}

/// Every row is there, and in its family.
#[track_caller]
fn assert_separated(store: &StateStore, mut rows: Vec<(Vec<u8>, Vec<u8>)>) {
    rows.sort();
    for family in Family::ALL {
        let mut expected = rows.clone();
        expected.retain(|(key, _)| Family::with(key) == family);
        assert!(rows_in(store, family) == expected, "rows of {family:?}");
    }
    let identity = store.get(SHARD, &Key::store()).unwrap().unwrap();
    assert_eq!(identity[4], FORMAT as u8);
}

/// Whoever comes from format 1 keeps everything, and it stays after the next start.
#[test]
fn a_store_of_one_family_is_separated_when_it_is_opened() {
    let directory = TempDir::new().unwrap();
    let rows = [rows_of_format_1("old", &position(20)), rows_of_neighbours()].concat();
    write_format_1(directory.path(), &rows);
    let store = open(directory.path());
    assert_separated(&store, rows.clone());
    // What is deleted afterwards must not come back from where it was.
    let first = Key::sharded(0, SHARD, &0_u32.to_be_bytes());
    let mut tx = WriteTx::new(&store, SHARD);
    tx.delete(first.clone());
    store.commit(tx).unwrap();
    store.flush().unwrap();
    drop(store);
    let mut rows = rows;
    rows.retain(|(key, _)| *key != first.as_bytes());
    assert_separated(&open(directory.path()), rows);
}

/// A crash while rows are moved leaves some of them in both families.
#[test]
fn a_separation_that_was_cut_is_done_again() {
    let directory = TempDir::new().unwrap();
    let rows = [rows_of_format_1("old", &position(20)), rows_of_neighbours()].concat();
    write_format_1(directory.path(), &rows);
    let path = directory.path().join("state");
    let mut options = Options::default();
    options.create_missing_column_families(true);
    let db = DB::open_cf(&options, &path, Family::ALL.map(Family::name)).unwrap();
    let sharded = rows
        .iter()
        .filter(|(key, _)| Family::with(key) == Family::Sharded);
    for (key, value) in sharded.take(1000) {
        db.put_cf(Family::Sharded.of(&db), key, value).unwrap();
    }
    drop(db);
    assert_separated(&open(directory.path()), rows);
}

/// A node may be stopped in the middle of an install and started with the next version.
#[test]
fn an_install_that_format_1_began_is_finished() {
    let directory = TempDir::new().unwrap();
    let old = rows_of_format_1("old", &position(20));
    write_format_1(directory.path(), &[old, rows_of_neighbours()].concat());
    let new = rows_of_format_1("new", &position(50));
    let staging = directory.path().join("staging/1-9");
    fs::create_dir_all(&staging).unwrap();
    let options = Family::Main.file_options();
    let mut writer = SstFileWriter::create(&options);
    writer.open(staging.join("000000.sst")).unwrap();
    for (key, value) in &new {
        writer.put(key, value).unwrap();
    }
    writer.finish().unwrap();
    let mut marker = vec![0x62];
    for number in [SHARD.0, RANGE.start, RANGE.end, 1] {
        marker.extend_from_slice(&number.to_be_bytes());
    }
    marker.extend_from_slice(&crc32fast::hash(&marker).to_be_bytes());
    fs::write(staging.join("READY"), marker).unwrap();

    let store = open(directory.path());
    finish_ready_installs(&store).unwrap();
    assert!(!staging.exists());
    assert_separated(&store, [new, rows_of_neighbours()].concat());
}

/// A store of format 2 or later without one of its families has lost rows.
#[test]
fn a_store_without_one_of_its_families_is_damaged() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()));
    let path = directory.path().join("state");
    let families = Family::ALL.map(Family::name);
    let mut db = DB::open_cf(&Options::default(), &path, families).unwrap();
    db.drop_cf(Family::Sharded.name()).unwrap();
    drop(db);
    let opened = StateStore::open(&options(directory.path()), Failure::new());
    assert_eq!(opened.map(|_| ()).unwrap_err().code(), "STATE_DAMAGED");
}

/// A later version may have more families: its store is refused for its format, and not called damaged.
#[test]
fn a_store_with_a_family_of_a_later_format_is_refused() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()));
    let path = directory.path().join("state");
    let families = Family::ALL.map(Family::name);
    let mut db = DB::open_cf(&Options::default(), &path, families).unwrap();
    db.create_cf("later", &Options::default()).unwrap();
    let mut identity = super::super::open::store_row([7; 16]);
    identity[4] += 1;
    db.put(Key::store().as_bytes(), identity).unwrap();
    drop(db);
    let opened = StateStore::open(&options(directory.path()), Failure::new());
    assert_eq!(opened.map(|_| ()).unwrap_err().code(), "FORMAT_TOO_NEW");
    let families = DB::list_cf(&Options::default(), &path).unwrap();
    assert!(families.iter().any(|name| name == "later"));
}

/// What the metrics say of the store is of all its families.
#[test]
fn vitals_count_rows_of_sharded_tables() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let empty = store.vitals();
    let mut tx = WriteTx::new(&store, SHARD);
    tx.put(Key::sharded(0, SHARD, b"record"), vec![7; 1 << 20]);
    store.commit(tx).unwrap();
    assert!(store.vitals().memtable_bytes >= empty.memtable_bytes + (1 << 20));
    store.flush().unwrap();
    assert!(store.vitals().live_files_bytes > empty.live_files_bytes);
}

/// Whichever family fills up, in RocksDB or in front of it, it is told before RocksDB flushes by itself.
#[test]
fn a_store_that_fills_up_says_so_in_time() {
    let keys: [fn(u64) -> Key; 2] = [
        |n| Key::ranged(0, 1500, &n.to_be_bytes()),
        |n| Key::sharded(0, SHARD, &n.to_be_bytes()),
    ];
    let full = 1 << 20;
    for (key, hand_over) in keys.into_iter().flat_map(|key| [(key, false), (key, true)]) {
        let directory = TempDir::new().unwrap();
        let mut options = options(directory.path());
        options.memtable_bytes = full;
        let store = StateStore::open(&options, Failure::new()).unwrap();
        assert!(!store.is_filling_up());
        let mut written = 0;
        while !store.is_filling_up() {
            assert!(written < full, "it would have been flushed");
            let mut tx = WriteTx::new(&store, SHARD);
            tx.put(key(written as u64), vec![7; 4096]);
            store.commit(tx).unwrap();
            written += 4096;
            if hand_over {
                store.pin(SHARD).unwrap();
            }
        }
        assert!(written >= full / 2, "{written} of {full}");
        // Not the size of the files: RocksDB may rewrite a file it has, at a time of its own.
        let held = store.vitals().memtable_bytes;
        assert!(held >= written as u64, "{held} of {written} not flushed");
        store.flush().unwrap();
        assert!(!store.is_filling_up());
    }
}

/// RocksDB flushes by itself when a memtable is full: a crash after that must find both families at the
/// same position, although the other's memtable was nearly empty.
#[test]
fn a_flush_that_rocksdb_decides_on_takes_both_families() {
    let directory = TempDir::new().unwrap();
    let mut options = options(directory.path());
    options.memtable_bytes = 64 << 10;
    let store = StateStore::open(&options, Failure::new()).unwrap();
    let written = 200_u64;
    for n in 1..=written {
        let mut tx = WriteTx::new(&store, SHARD);
        tx.put(Key::ranged(0, 1500, &n.to_be_bytes()), vec![0; 2048]);
        tx.put(Key::sharded(0, SHARD, &n.to_be_bytes()), b"record".to_vec());
        let row = PositionRow::encode(ReplicaId(9), &position(n));
        tx.put(Key::position(SHARD), row);
        store.commit(tx).unwrap();
        store.pin(SHARD).unwrap();
    }
    let began = Instant::now();
    let found = loop {
        let crashed = TempDir::new().unwrap();
        copy(directory.path(), crashed.path());
        let store = open(crashed.path());
        if let Some(found) = store.pin(SHARD).unwrap().position(SHARD).unwrap() {
            let records = rows_in(&store, Family::Sharded).len();
            break (found.index(), records as u64);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no flush");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(found.0, found.1, "position and records");
    assert!(found.0 > 0);
}
