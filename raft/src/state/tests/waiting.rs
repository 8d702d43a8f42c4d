//! Rows that wait in front of RocksDB: seen by everybody, handed over whole.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn document(n: u32) -> Key {
    Key::ranged(0, 1000 + n, b"document")
}

fn record(n: u64) -> Key {
    Key::sharded(0, SHARD, &n.to_be_bytes())
}

/// One entry of the log: some documents have its index then, there is a record of it, and the position.
fn apply(store: &StateStore, progress: &Progress, index: u64) {
    let at = position(index);
    let mut tx = WriteTx::new(store, SHARD);
    for n in 0..8 {
        tx.put(document(n), index.to_be_bytes().to_vec());
    }
    tx.put(record(index), index.to_be_bytes().to_vec());
    tx.put(Key::position(SHARD), PositionRow::encode(ReplicaId(9), &at));
    progress.advance(at, || store.commit(tx)).unwrap();
}

fn number(value: Option<Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

/// A store in which reads find nothing in the cache.
fn without_cache(directory: &Path) -> Arc<StateStore> {
    let mut options = options(directory);
    options.cache_bytes = 0;
    StateStore::open(&options, Failure::new()).unwrap()
}

/// A row is what was last written to it, wherever it is at the moment.
#[test]
fn rows_that_wait_are_seen() {
    let directory = TempDir::new().unwrap();
    for store in [
        open(directory.path()),
        without_cache(&directory.path().join("2")),
    ] {
        let (kept, changed, deleted) = (document(1), document(2), record(3));
        let check = |expected: [Option<&'static str>; 3]| {
            let tx = &mut WriteTx::new(&store, SHARD);
            for (key, expected) in [&kept, &changed, &deleted].into_iter().zip(expected) {
                let expected = expected.map(Bytes::from);
                assert_eq!(store.get(SHARD, key).unwrap(), expected);
                assert_eq!(store.get_at(SHARD, key, ()).unwrap(), expected);
                assert_eq!(tx.get(key).unwrap(), expected);
            }
        };
        check([None, None, None]);
        let mut tx = WriteTx::new(&store, SHARD);
        for key in [&kept, &changed, &deleted] {
            tx.put(key.clone(), b"first".to_vec());
        }
        store.commit(tx).unwrap();
        check([Some("first"); 3]);
        for handed_over in [false, true] {
            if handed_over {
                store.pin(SHARD).unwrap();
            }
            let mut tx = WriteTx::new(&store, SHARD);
            tx.put(changed.clone(), b"second".to_vec());
            tx.delete(deleted.clone());
            store.commit(tx).unwrap();
            check([Some("first"), Some("second"), None]);
        }
        let view = store.pin(SHARD).unwrap();
        assert_eq!(view.get(&changed).unwrap().unwrap(), "second");
        assert_eq!(view.get(&deleted).unwrap(), None);
        // What is deleted by a range may wait or not.
        let mut tx = WriteTx::new(&store, SHARD);
        tx.put(record(4), b"waits".to_vec());
        store.commit(tx).unwrap();
        let mut tx = WriteTx::new(&store, SHARD);
        tx.delete_range(record(0), record(9));
        store.commit(tx).unwrap();
        assert_eq!(store.get(SHARD, &record(4)).unwrap(), None);
        let view = store.pin(SHARD).unwrap();
        assert_eq!(view.get(&record(4)).unwrap(), None);
    }
}

/// However RocksDB comes to flush, a crash finds a whole state at one position, never later rows beside it.
#[test]
fn a_crash_finds_rows_and_position_of_one_hand_over() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let progress = progress(Position::default());
    for index in 1..=20 {
        apply(&store, &progress, index);
        if index == 12 {
            store.pin(SHARD).unwrap();
        }
    }
    store.flush_handed_over().unwrap();
    let crashed = TempDir::new().unwrap();
    copy(directory.path(), crashed.path());
    let found = open(crashed.path());
    let view = found.pin(SHARD).unwrap();
    assert_eq!(view.position(SHARD).unwrap(), Some(position(12)));
    assert_eq!(number(view.get(&document(3)).unwrap()), 12);
    assert_eq!(view.scan(&record(0), &record(99), 99).unwrap().len(), 12);
    drop(view);
    drop(found);
    store.flush().unwrap();
    let crashed = TempDir::new().unwrap();
    copy(directory.path(), crashed.path());
    let found = open(crashed.path());
    let view = found.pin(SHARD).unwrap();
    assert_eq!(view.position(SHARD).unwrap(), Some(position(20)));
    assert_eq!(view.scan(&record(0), &record(99), 99).unwrap().len(), 20);
}

/// Rows are handed over while they are written and read: every read sees exactly the index that it is said to be
/// of, and no frozen view has a part of an entry.
#[test]
fn reads_and_hand_overs_beside_writes_see_whole_entries() {
    let directory = TempDir::new().unwrap();
    write_and_read(&without_cache(&directory.path().join("1")));
    write_and_read(&open(&directory.path().join("2")));
}

fn write_and_read(store: &StateStore) {
    let progress = progress(Position::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                store.flush().unwrap();
            }
        });
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for n in 0..8 {
                    let (index, value) = progress.read(store, &document(n)).unwrap();
                    assert_eq!(number(value), index);
                }
            }
        });
        let viewer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (view, index) = progress.pin(store).unwrap();
                let position = view.position(SHARD).unwrap();
                assert_eq!(position.map_or(0, |at| at.index()), index);
                assert_eq!(number(view.get(&document(7)).unwrap()), index);
                let last = view.last_key(&record(0), &record(u64::MAX)).unwrap();
                assert_eq!(last, (index > 0).then(|| record(index).bytes().clone()));
            }
        });
        for index in 1..=3000 {
            apply(store, &progress, index);
            let mut tx = WriteTx::new(store, SHARD);
            assert_eq!(number(tx.get(&document(5)).unwrap()), index);
            assert_eq!(number(tx.get(&record(index)).unwrap()), index);
        }
        stop.store(true, Ordering::Relaxed);
        for thread in [flusher, reader, viewer] {
            thread.join().unwrap();
        }
    });
    assert_eq!(number(store.get(SHARD, &document(0)).unwrap()), 3000);
}

/// What waits is bounded, whoever writes: beyond the bound every commit hands its shard over.
#[test]
fn what_waits_is_bounded() {
    let directory = TempDir::new().unwrap();
    let mut options = options(directory.path());
    options.memtable_bytes = 256 << 10;
    let store = StateStore::open(&options, Failure::new()).unwrap();
    for n in 0..500 {
        for shard in [SHARD, ShardId(2)] {
            let mut tx = WriteTx::new(&store, shard);
            tx.put(
                Key::sharded(0, shard, &[n as u8, (n >> 8) as u8]),
                vec![7; 4096],
            );
            store.commit(tx).unwrap();
            let waiting = store.waiting_bytes();
            assert!(waiting <= options.memtable_bytes + 8192, "{waiting}");
        }
    }
    store.flush().unwrap();
    assert_eq!(store.waiting_bytes(), 0);
}
