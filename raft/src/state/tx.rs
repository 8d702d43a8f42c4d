//! The writes of one apply batch, readable before they are written.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::WriteBatch;

use crate::error::Error;
use crate::ids::ShardId;

use super::StateStore;
use super::delta;
use super::family::Family;
use super::keys::{Key, KeyRange};
use super::pending::{Rows, ShardPending};

/// What a row costs in a batch beside its bytes; keeps batches of tiny rows bounded too.
const ROW_OVERHEAD_BYTES: usize = 32;

/// A transaction of the single writer of a shard: reads see its own writes, and nothing is visible
/// to others before the engine has written the whole batch together with the applied position.
pub struct WriteTx<'a> {
    store: &'a StateStore,
    /// What was written before and is not in RocksDB yet.
    pending: Arc<ShardPending>,
    /// Rows written since the last covering range delete.
    rows: BTreeMap<Key, Option<Bytes>>,
    /// Deleted before any of `rows` is written.
    ranges: Vec<KeyRange>,
    bytes: usize,
}

impl<'a> WriteTx<'a> {
    pub(crate) fn new(store: &'a StateStore, shard: ShardId) -> WriteTx<'a> {
        WriteTx {
            store,
            pending: store.pending.of(shard),
            rows: BTreeMap::new(),
            ranges: Vec::new(),
            bytes: 0,
        }
    }

    /// The value as of now, own writes included.
    pub fn get(&mut self, key: &Key) -> Result<Option<Bytes>, Error> {
        if let Some(value) = self.rows.get(key) {
            return Ok(value.clone());
        }
        if self.ranges.iter().any(|r| r.contains(key.as_bytes())) {
            return Ok(None);
        }
        self.store.get_with(&self.pending, key)
    }

    /// Writes a row.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        let value = value.into();
        self.bytes += key.as_bytes().len() + value.len() + ROW_OVERHEAD_BYTES;
        self.rows.insert(key, Some(value));
    }

    /// Deletes a row; no matter whether it exists.
    pub fn delete(&mut self, key: Key) {
        self.bytes += key.as_bytes().len() + ROW_OVERHEAD_BYTES;
        self.rows.insert(key, None);
    }

    /// Deletes all rows of a sharded table from `from` up to, not including, `to`. An empty or
    /// reversed range deletes nothing.
    ///
    /// # Panics
    /// When a bound belongs to a ranged table: their rows are cached one by one.
    pub fn delete_range(&mut self, from: Key, to: Key) {
        assert!(
            !from.is_ranged() && !to.is_ranged(),
            "range deletes are for sharded tables"
        );
        if from >= to {
            return;
        }
        let covered: Vec<Key> = self
            .rows
            .range((Bound::Included(&from), Bound::Excluded(&to)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in covered {
            self.rows.remove(&key);
        }
        self.bytes += from.as_bytes().len() + to.as_bytes().len() + ROW_OVERHEAD_BYTES;
        self.ranges.push(KeyRange { from, to });
    }

    /// Roughly what the batch weighs.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn pending(&self) -> &Arc<ShardPending> {
        &self.pending
    }

    pub(super) fn deletes_ranges(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// The rows, where no ranges are deleted.
    pub(super) fn into_rows(self) -> BTreeMap<Key, Option<Bytes>> {
        self.rows
    }

    /// Everything, and the rows for the cache, which must learn of them once they are written.
    pub(super) fn into_batch(self) -> (WriteBatch, BTreeMap<Key, Option<Bytes>>) {
        let mut batch = WriteBatch::with_capacity_bytes(self.bytes);
        for range in &self.ranges {
            let (from, to) = (range.from.as_bytes(), range.to.as_bytes());
            batch.delete_range_cf(self.store.family(range.family()), from, to);
        }
        put_all(self.store, &mut batch, &self.rows, RowForm::Whole);
        (batch, self.rows)
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowForm {
    /// Each as it is.
    Whole,
    /// As what differs from the row that RocksDB has, where the cache knows that one and it is worth it.
    Shortest,
}

/// Rows that waited, in the order of their keys.
pub(super) fn batch_of(store: &StateStore, rows: &Rows, form: RowForm) -> WriteBatch {
    let bytes = |(key, value): (&Key, &Option<Bytes>)| {
        key.as_bytes().len() + value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD_BYTES
    };
    let mut batch = WriteBatch::with_capacity_bytes(rows.iter().map(bytes).sum());
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    put_all(store, &mut batch, sorted, form);
    batch
}

fn put_all<'a>(
    store: &StateStore,
    batch: &mut WriteBatch,
    rows: impl IntoIterator<Item = (&'a Key, &'a Option<Bytes>)>,
    form: RowForm,
) {
    let delta = |key: &Key, row: &[u8]| match form {
        RowForm::Whole => None,
        RowForm::Shortest => delta::between(&store.cache.peek(key.as_bytes())?, row),
    };
    let [main, sharded] = Family::ALL.map(|family| store.family(family));
    for (key, value) in rows {
        let family = match key.family() {
            Family::Main => main,
            Family::Sharded => sharded,
        };
        match value {
            Some(row) if key.is_ranged() => match delta(key, row) {
                Some(delta) => batch.merge_cf(family, key.as_bytes(), delta),
                None => batch.put_cf(family, key.as_bytes(), row),
            },
            Some(row) => batch.put_cf(family, key.as_bytes(), row),
            None => batch.delete_cf(family, key.as_bytes()),
        }
    }
}
