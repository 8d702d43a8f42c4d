//! Rows that were applied and are not in RocksDB yet.
//!
//! The state store has no write-ahead log: whatever is not flushed is made again from the log of its shard, so it need
//! not be in a memtable either. Here a row that is written many times between two flushes takes one place in a
//! hash table, and RocksDB gets it once, in order with the others, when somebody wants to see rows in order or
//! to flush them.
//!
//! What RocksDB has of a shard is always its whole state at one position: all that waits of a shard is handed
//! over as one write batch, the position row among it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::ids::ShardId;

use super::keys::Key;

/// What a row costs beside its bytes: a place in the table, and two counted pointers.
const ROW_OVERHEAD_BYTES: usize = 128;

/// New values of rows; `None` for a row that is deleted.
pub(super) type Rows = HashMap<Key, Option<Bytes>>;

/// The rows of all shards that wait.
#[derive(Default)]
pub(super) struct Pending {
    shards: RwLock<BTreeMap<ShardId, Arc<ShardPending>>>,
    bytes: Arc<AtomicUsize>,
}

/// The rows of one shard that wait.
pub(crate) struct ShardPending {
    waiting: Mutex<Waiting>,
    /// One hand-over at a time.
    turn: Mutex<()>,
    /// Of all shards together.
    bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Waiting {
    /// Written since the last hand-over began.
    new: Rows,
    new_bytes: usize,
    /// On their way into RocksDB, older than `new`. They stay here when that fails.
    leaving: Arc<Rows>,
    leaving_bytes: usize,
}

/// The right to hand over rows of a shard.
pub(super) struct Turn<'a> {
    pending: &'a ShardPending,
    _guard: MutexGuard<'a, ()>,
}

impl Pending {
    /// The rows of one shard.
    pub(super) fn of(&self, shard: ShardId) -> Arc<ShardPending> {
        if let Some(known) = self.shards.read().get(&shard) {
            return Arc::clone(known);
        }
        let mut shards = self.shards.write();
        let pending = shards.entry(shard).or_insert_with(|| {
            Arc::new(ShardPending {
                waiting: Mutex::default(),
                turn: Mutex::default(),
                bytes: Arc::clone(&self.bytes),
            })
        });
        Arc::clone(pending)
    }

    pub(super) fn all(&self) -> Vec<Arc<ShardPending>> {
        self.shards.read().values().cloned().collect()
    }

    /// What all rows that wait weigh.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl ShardPending {
    /// Adds rows that were written together: they are handed over together.
    pub(super) fn add(&self, rows: impl IntoIterator<Item = (Key, Option<Bytes>)>) {
        let mut waiting = self.waiting.lock();
        let (mut added, mut replaced) = (0, 0);
        for (key, value) in rows {
            let key_bytes = key.as_bytes().len();
            added += weight(key_bytes, &value);
            if let Some(old) = waiting.new.insert(key, value) {
                replaced += weight(key_bytes, &old);
            }
        }
        waiting.new_bytes = waiting.new_bytes + added - replaced;
        // Under the lock: these rows must not be taken off before they were counted.
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.bytes.fetch_sub(replaced, Ordering::Relaxed);
    }

    /// The value of a row that waits, `Some(None)` where it is deleted. Whoever gets `None` finds the row in
    /// RocksDB as it was at the time of the call, or newer.
    pub(super) fn get(&self, key: &Key) -> Option<Option<Bytes>> {
        let waiting = self.waiting.lock();
        let found = waiting.new.get(key).or_else(|| waiting.leaving.get(key));
        found.cloned()
    }

    /// Waits until nobody else hands over rows of the shard.
    pub(super) fn turn(&self) -> Turn<'_> {
        Turn {
            pending: self,
            _guard: self.turn.lock(),
        }
    }
}

impl Turn<'_> {
    /// Whether a hand-over failed before.
    pub(super) fn is_left_over(&self) -> bool {
        !self.pending.waiting.lock().leaving.is_empty()
    }

    /// What is to be handed over next: what could not be before, or else all that waits. It can still be read.
    pub(super) fn begin(&self) -> Arc<Rows> {
        let mut waiting = self.pending.waiting.lock();
        if waiting.leaving.is_empty() {
            waiting.leaving = Arc::new(std::mem::take(&mut waiting.new));
            waiting.leaving_bytes = std::mem::take(&mut waiting.new_bytes);
        }
        Arc::clone(&waiting.leaving)
    }

    /// RocksDB has what was begun.
    pub(super) fn end(&self) {
        let mut waiting = self.pending.waiting.lock();
        let left = std::mem::take(&mut waiting.leaving);
        let bytes = std::mem::take(&mut waiting.leaving_bytes);
        drop(waiting);
        self.pending.bytes.fetch_sub(bytes, Ordering::Relaxed);
        drop(left);
    }
}

fn weight(key_bytes: usize, value: &Option<Bytes>) -> usize {
    key_bytes + value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn row(value: &'static str) -> [(Key, Option<Bytes>); 1] {
        [(Key::sharded(0, SHARD, b"row"), Some(Bytes::from(value)))]
    }

    /// A hand-over that failed is made first the next time, and newer rows stay newer.
    #[test]
    fn a_failed_hand_over_is_repeated_before_the_next() {
        let all = Pending::default();
        let pending = all.of(SHARD);
        let key = &row("")[0].0;
        let found = || pending.get(key).flatten();
        pending.add(row("first"));
        let turn = pending.turn();
        assert!(!turn.is_left_over());
        assert_eq!(turn.begin()[key], Some("first".into()));
        drop(turn);
        assert_eq!(found(), Some("first".into()));
        pending.add(row("second"));
        assert_eq!(found(), Some("second".into()));
        let turn = pending.turn();
        assert!(turn.is_left_over());
        for expected in ["first", "second"] {
            assert_eq!(turn.begin()[key], Some(expected.into()));
            assert_eq!(found(), Some("second".into()));
            turn.end();
        }
        assert_eq!((found(), all.bytes()), (None, 0));
    }

    /// What waits is counted while others take it away: never less than nothing.
    #[test]
    fn bytes_are_counted_before_they_are_taken_off() {
        let all = Pending::default();
        let pending = all.of(SHARD);
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| (0..200_000).for_each(|_| pending.add(row("value"))));
            while !adding.is_finished() {
                let turn = pending.turn();
                turn.begin();
                turn.end();
                assert!(all.bytes() < 1 << 20, "{}", all.bytes());
            }
        });
        let turn = pending.turn();
        turn.begin();
        turn.end();
        assert_eq!(all.bytes(), 0);
    }
}
