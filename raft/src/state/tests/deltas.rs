//! Rows that were handed over as what differs from the row before.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use rocksdb::{DB, Options, WriteBatch};

use super::super::tx::{RowForm, batch_of};
use super::*;

fn document(n: u32) -> Key {
    Key::ranged(0, 1000 + n, b"document")
}

/// Text that nothing compresses much.
fn random_row(random: &mut SmallRng, bytes: RangeInclusive<usize>) -> Vec<u8> {
    let mut row = vec![0; random.random_range(bytes)];
    random.fill_bytes(&mut row);
    row
}

/// The row with other bytes, and one more or less, in one place.
fn changed(random: &mut SmallRng, row: &[u8]) -> Vec<u8> {
    let at = random.random_range(0..row.len() - 8);
    let mut changed = row.to_vec();
    let length = random.random_range(7..=9);
    let mut new = vec![0; length];
    random.fill_bytes(&mut new);
    changed.splice(at..at + 8, new);
    changed
}

fn put(store: &StateStore, key: &Key, row: &[u8]) {
    let mut tx = WriteTx::new(store, SHARD);
    tx.put(key.clone(), row.to_vec());
    store.commit(tx).unwrap();
}

/// The row as RocksDB gives it, whatever waits or is in the cache.
fn found(store: &StateStore, key: &Key) -> Option<Bytes> {
    store.frozen().get(key).unwrap()
}

fn merge_files(store: &StateStore) {
    let family = store.family(Family::Main);
    let all = (None::<&[u8]>, None::<&[u8]>);
    store.db.compact_range_cf(family, all.0, all.1);
}

/// A small change of a row takes little of a flushed file, and is read whole everywhere, before and after files
/// are merged and the store is opened again.
#[test]
fn a_small_change_is_flushed_small_and_read_whole() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let random = &mut SmallRng::seed_from_u64(1);
    let mut rows: Vec<Vec<u8>> = (0..200).map(|_| random_row(random, 2000..=2000)).collect();
    let write = |rows: &[Vec<u8>]| {
        for (n, row) in (0..).zip(rows) {
            put(&store, &document(n), row);
        }
        let before = store.vitals().live_files_bytes;
        store.flush().unwrap();
        store.vitals().live_files_bytes - before
    };
    let check = |store: &StateStore, rows: &[Vec<u8>]| {
        let scanned = store.pin(SHARD).unwrap();
        let scanned = scanned.scan(&document(0), &document(200), 1000).unwrap();
        let scanned: Vec<Bytes> = scanned.into_iter().map(|(_, row)| row).collect();
        assert!(scanned == rows, "rows of a scan");
        for (n, row) in (0..).zip(rows) {
            assert!(found(store, &document(n)).unwrap() == *row, "row {n}");
            assert!(store.get(SHARD, &document(n)).unwrap().unwrap() == *row);
        }
    };
    let whole = write(&rows);
    for _ in 0..3 {
        rows = rows.iter().map(|row| changed(random, row)).collect();
        let small = write(&rows);
        assert!(small * 4 < whole, "{small} of {whole} bytes flushed");
        check(&store, &rows);
    }
    drop(store);
    let store = open(directory.path());
    check(&store, &rows);
    merge_files(&store);
    check(&store, &rows);
}

/// Random lives of rows, with and without what makes differences, beside a map.
#[test]
fn rows_are_what_was_written_whatever_happens() {
    for seed in 0..12 {
        let directory = TempDir::new().unwrap();
        let mut options = options(directory.path());
        // With a small cache some rows are known when they are handed over, and some are not.
        options.cache_bytes = [0, 200 << 10, 64 << 20][seed as usize % 3];
        let mut store = StateStore::open(&options, Failure::new()).unwrap();
        let random = &mut SmallRng::seed_from_u64(seed);
        let mut rows: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
        for _ in 0..1_500 {
            let key = document(random.random_range(0..40));
            let before = store.get(SHARD, &key).unwrap();
            assert!(
                before.as_deref() == rows.get(&key).map(Vec::as_slice),
                "{seed}"
            );
            match (random.random_range(0..100), before) {
                (0..70, Some(before)) if before.len() > 8 => {
                    let row = changed(random, &before);
                    put(&store, &key, &row);
                    rows.insert(key, row);
                }
                (0..85, _) => {
                    let row = random_row(random, 0..=1500);
                    put(&store, &key, &row);
                    rows.insert(key, row);
                }
                (85..90, _) => {
                    let mut tx = WriteTx::new(&store, SHARD);
                    tx.delete(key.clone());
                    store.commit(tx).unwrap();
                    rows.remove(&key);
                }
                (90..95, _) => drop(store.pin(SHARD).unwrap()),
                (95..98, _) => store.flush().unwrap(),
                (98, _) => merge_files(&store),
                _ => {
                    store.flush().unwrap();
                    drop(store);
                    store = StateStore::open(&options, Failure::new()).unwrap();
                }
            }
        }
        let expected: Vec<_> = rows
            .into_iter()
            .map(|(key, row)| (key.as_bytes().to_vec(), row))
            .collect();
        let mut kept = rows_in(&store, Family::Main);
        kept.retain(|(key, _)| Key::store().as_bytes() != key);
        assert!(kept == expected, "seed {seed}");
    }
}

/// When a hand-over failed nobody knows whether RocksDB has it. The next one is right either way.
#[test]
fn a_hand_over_after_a_failed_one_does_not_depend_on_how_far_it_came() {
    let random = &mut SmallRng::seed_from_u64(3);
    for came in [false, true] {
        let directory = TempDir::new().unwrap();
        let store = open(directory.path());
        let mut rows: Vec<Vec<u8>> = (0..50).map(|_| random_row(random, 2000..=2000)).collect();
        let write = |rows: &[Vec<u8>]| {
            for (n, row) in (0..).zip(rows) {
                put(&store, &document(n), row);
            }
        };
        write(&rows);
        store.flush().unwrap();
        for _ in 0..2 {
            rows = rows.iter().map(|row| changed(random, row)).collect();
            write(&rows);
            let pending = store.pending.of(SHARD);
            let turn = pending.turn();
            if !turn.is_left_over() {
                let waiting = turn.begin();
                if came {
                    store
                        .write(batch_of(&store, &waiting, RowForm::Shortest))
                        .unwrap();
                }
            }
        }
        store.flush().unwrap();
        for (n, row) in (0..).zip(&rows) {
            assert!(found(&store, &document(n)).unwrap() == *row, "row {n}");
        }
    }
}

/// What was made for another row is damage, and stops the node.
#[test]
fn a_difference_without_its_row_is_damage() {
    let random = &mut SmallRng::seed_from_u64(4);
    for before in [None, Some(random_row(random, 2000..=2000))] {
        let directory = TempDir::new().unwrap();
        let failure = Failure::new();
        let store = StateStore::open(&options(directory.path()), failure.clone()).unwrap();
        let mut made = None;
        while made.is_none() {
            let row = random_row(random, 2000..=2000);
            made = super::super::delta::between(&row, &changed(random, &row));
        }
        let mut batch = WriteBatch::default();
        let key = document(1);
        if let Some(before) = before {
            batch.put(key.as_bytes(), before);
        }
        batch.merge(key.as_bytes(), made.unwrap());
        store.write(batch).unwrap();
        let error = store.get(SHARD, &key).unwrap_err();
        assert_eq!(error.code(), "STATE_DAMAGED");
        assert!(failure.first().is_some(), "the node goes on");
    }
}

/// A store of the format before, in which every row is whole, is taken over as it is; from then on a program of that
/// format refuses it.
#[test]
fn a_store_of_whole_rows_is_taken_over() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    fill(&store, "old", 500, &position(20));
    let rows = dump(&store);
    drop(store);
    let path = directory.path().join("state");
    let families = Family::ALL.map(Family::name);
    let db = DB::open_cf(&Options::default(), &path, families).unwrap();
    let mut identity = super::super::open::store_row([7; 16]);
    identity[4] = 2;
    db.put(Key::store().as_bytes(), identity).unwrap();
    db.flush().unwrap();
    drop(db);
    let store = open(directory.path());
    assert!(dump(&store) == rows);
    assert_eq!(
        store.get(SHARD, &Key::store()).unwrap().unwrap()[4],
        FORMAT as u8
    );
}
