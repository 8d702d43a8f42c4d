//! The writes of one apply batch, readable before they are written.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use rocksdb::WriteBatch;

use crate::error::Error;

use super::StateStore;
use super::family::Family;
use super::keys::{Key, KeyRange};

/// What a row costs in a batch beside its bytes; keeps batches of tiny rows bounded too.
const ROW_OVERHEAD_BYTES: usize = 32;

/// A transaction of the single writer of a shard: reads see its own writes, and nothing is visible
/// to others before the engine has written the whole batch together with the applied position.
pub struct WriteTx<'a> {
    store: &'a StateStore,
    /// Rows written since the last covering range delete.
    rows: BTreeMap<Key, Option<Bytes>>,
    /// Deleted before any of `rows` is written.
    ranges: Vec<KeyRange>,
    bytes: usize,
}

impl<'a> WriteTx<'a> {
    pub(crate) fn new(store: &'a StateStore) -> WriteTx<'a> {
        WriteTx {
            store,
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
        self.store.get(key)
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

    /// The batch, and the rows that the cache must learn once it is written.
    pub(crate) fn into_batch(self) -> (WriteBatch, Vec<(Key, Option<Bytes>)>) {
        let mut batch = WriteBatch::with_capacity_bytes(self.bytes);
        let [main, sharded] = Family::ALL.map(|family| self.store.family(family));
        let family = |key: &Key| match key.family() {
            Family::Main => main,
            Family::Sharded => sharded,
        };
        for range in &self.ranges {
            let (from, to) = (range.from.as_bytes(), range.to.as_bytes());
            batch.delete_range_cf(family(&range.from), from, to);
        }
        for (key, value) in &self.rows {
            match value {
                Some(value) => batch.put_cf(family(key), key.as_bytes(), value),
                None => batch.delete_cf(family(key), key.as_bytes()),
            }
        }
        let cached = self
            .rows
            .into_iter()
            .filter(|(key, _)| key.is_ranged())
            .collect();
        (batch, cached)
    }
}
