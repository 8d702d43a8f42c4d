//! What readers see of the state store.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions, Snapshot};

use crate::error::Error;
use crate::ids::ShardId;

use super::StateStore;
use super::family::Family;
use super::keys::{Key, KeyRange};
use super::position::{Position, PositionRow};

/// Key and value as RocksDB hands them out.
type RawRow = (Box<[u8]>, Box<[u8]>);

/// The current state of a shard: a read sees at least everything that was applied before it began.
#[derive(Clone)]
pub struct View {
    store: Arc<StateStore>,
    shard: ShardId,
}

impl View {
    pub(crate) fn new(store: Arc<StateStore>, shard: ShardId) -> View {
        View { store, shard }
    }

    /// The value of one row, through the cache.
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>, Error> {
        self.store.get(self.shard, key)
    }

    /// Up to `limit` rows from `from` up to, not including, `to`, in order. It blocks on the disk:
    /// call long scans from a blocking task. Rows applied meanwhile may be seen or not.
    pub fn scan(&self, from: &Key, to: &Key, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.store.pin(self.shard)?.scan(from, to, limit)
    }
}

/// The state frozen at one applied position. Keeps old data on disk alive: drop it soon.
pub struct PinnedView<'a> {
    store: &'a StateStore,
    snapshot: Snapshot<'a>,
}

impl<'a> PinnedView<'a> {
    pub(crate) fn new(store: &'a StateStore, snapshot: Snapshot<'a>) -> PinnedView<'a> {
        PinnedView { store, snapshot }
    }

    /// The value of one row.
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>, Error> {
        self.snapshot
            .get_cf(self.store.family(key.family()), key.as_bytes())
            .map(|value| value.map(Bytes::from))
            .map_err(|error| self.store.failed("read a row", error))
    }

    /// Up to `limit` rows from `from` up to, not including, `to`, in order. It blocks on the disk:
    /// call long scans from a blocking task.
    pub fn scan(&self, from: &Key, to: &Key, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = KeyRange {
            from: from.clone(),
            to: to.clone(),
        };
        self.rows(&range)
            .take(limit)
            .map(|row| row.map(|(key, value)| (Bytes::from(key), Bytes::from(value))))
            .collect()
    }

    /// The last key from `from` up to and including `at`, if there is a row.
    pub fn last_key(&self, from: &Key, at: &Key) -> Result<Option<Bytes>, Error> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from.as_bytes());
        let mode = IteratorMode::From(at.as_bytes(), Direction::Reverse);
        let family = self.store.family(at.family());
        let mut rows = self.snapshot.iterator_cf_opt(family, options, mode);
        let row = rows.next().transpose();
        let row = row.map_err(|error| self.store.failed("find a row", error))?;
        Ok(row.map(|(key, _)| Bytes::from(key)))
    }

    /// All rows of a range. After an error the iterator ends.
    pub(crate) fn rows(&self, range: &KeyRange) -> impl Iterator<Item = Result<RawRow, Error>> {
        self.rows_in(range.family(), range)
    }

    /// The same, wherever the keys say that the rows are.
    pub(super) fn rows_in(
        &self,
        family: Family,
        range: &KeyRange,
    ) -> impl Iterator<Item = Result<RawRow, Error>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to.as_bytes());
        let mode = IteratorMode::From(range.from.as_bytes(), Direction::Forward);
        let family = self.store.family(family);
        let mut rows = self.snapshot.iterator_cf_opt(family, options, mode);
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let row = rows.next()?;
            failed = row.is_err();
            Some(row.map_err(|error| self.store.failed("scan rows", error)))
        })
    }

    /// The applied position of a shard in this view.
    pub(crate) fn position(&self, shard: ShardId) -> Result<Option<Position>, Error> {
        let row = self.get(&Key::position(shard))?;
        row.map(|row| PositionRow::decode(&row).map(|row| row.position))
            .transpose()
    }
}
