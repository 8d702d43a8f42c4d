//! The state store of a node: the rows of all its shards in one RocksDB without a write-ahead log.
//!
//! Rows live in two column families, see [`family`], which are written and flushed together. The
//! applied position of a shard is written in the same batch as what it covers; a crash takes the
//! store back to an earlier position, never to a half of one, and the shard's log is replayed
//! from there. That is why a log is purged only up to a position that was flushed here. Until somebody wants to see
//! rows in order, or to flush them, they wait in front of RocksDB, see [`pending`].

mod apply;
mod cache;
mod delta;
mod family;
mod flusher;
mod install;
mod keys;
mod open;
mod pending;
mod pins;
mod position;
mod progress;
mod snapshot;
mod tx;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    ColumnFamily, DB, FlushOptions, IngestExternalFileOptions, WriteBatch, WriteOptions,
};

use crate::error::Error;
use crate::failure::Failure;
use crate::ids::{HashRange, ReplicaId, ShardId};
use crate::vitals::StoreVitals;

use cache::{Cache, Lookup};
use family::Family;
use keys::data_ranges;
use pending::{Pending, ShardPending, Turn};
use tx::RowForm;

pub use apply::ShardState;
pub use keys::{Key, TABLES};
pub use pins::StateChecksum;
pub use snapshot::{CHUNK_BYTES_MAX, SnapshotData, SnapshotFeeder};
pub use tx::WriteTx;
pub use view::{PinnedView, View};

pub(crate) use flusher::Flusher;
pub(crate) use install::{finish_ready_installs, stage};
pub(crate) use open::StateOptions;
pub(crate) use pins::Kept;
pub(crate) use position::{Position, PositionRow};
pub(crate) use progress::Progress;

#[cfg(test)]
mod tests;

/// The rows of all shards of a node.
pub(crate) struct StateStore {
    db: DB,
    pending: Pending,
    cache: Cache,
    /// What may be applied and not flushed.
    memtable_bytes: usize,
    directory: PathBuf,
    failure: Failure,
}

impl StateStore {
    /// The value of a row of a shard; ranged rows go through the cache.
    pub(crate) fn get(&self, shard: ShardId, key: &Key) -> Result<Option<Bytes>, Error> {
        self.get_with(&self.pending.of(shard), key)
    }

    fn get_with(&self, pending: &ShardPending, key: &Key) -> Result<Option<Bytes>, Error> {
        match pending.get(key) {
            Some(value) => Ok(value),
            None => self.get_handed_over(key, || self.read(key)),
        }
    }

    /// The value of a row of a shard at the moment of the call, while `still` is held, which keeps the shard from
    /// being written: a row that neither waits nor is in the cache is read from a frozen view after it was
    /// let go.
    pub(crate) fn get_at<T>(
        &self,
        shard: ShardId,
        key: &Key,
        still: T,
    ) -> Result<Option<Bytes>, Error> {
        match self.pending.of(shard).get(key) {
            Some(value) => Ok(value),
            None => self.get_handed_over(key, || {
                let view = self.frozen();
                drop(still);
                view.get(key)
            }),
        }
    }

    /// The value of a row that did not wait: through the cache, if it is a ranged one.
    fn get_handed_over(
        &self,
        key: &Key,
        read: impl FnOnce() -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<Bytes>, Error> {
        if !key.is_ranged() {
            return read();
        }
        match self.cache.lookup(key.as_bytes()) {
            Lookup::Hit(value) => Ok(value),
            Lookup::Miss(ticket) => {
                let value = read()?;
                self.cache.fill(key.bytes(), value.clone(), ticket);
                Ok(value)
            }
        }
    }

    /// Writes what a transaction collected, atomically. The single writer of a shard calls it, one transaction
    /// after another.
    pub(crate) fn commit(&self, tx: WriteTx<'_>) -> Result<(), Error> {
        let pending = Arc::clone(tx.pending());
        if tx.deletes_ranges() {
            // Rows that wait are not looked through for what lies in a range.
            self.hand_over(&pending)?;
            let (batch, rows) = tx.into_batch();
            self.write(batch)?;
            self.teach(&rows);
            return Ok(());
        }
        pending.add(tx.into_rows());
        if self.waiting_bytes() >= self.memtable_bytes {
            self.hand_over(&pending)?;
        }
        Ok(())
    }

    /// Lets the cache know what was written to RocksDB.
    fn teach<'a>(&self, rows: impl IntoIterator<Item = (&'a Key, &'a Option<Bytes>)>) {
        for (key, value) in rows {
            if key.is_ranged() {
                self.cache.written(key.bytes().clone(), value.clone());
            }
        }
    }

    /// Brings everything that was committed of a shard before the call into RocksDB, in one batch. After an error it
    /// can be called again, and nothing is lost.
    ///
    /// While a row waits, nobody asks the cache for it, which may have an older value. So the cache learns of it
    /// after RocksDB has it, when every reader who missed may find it, and before it waits no more.
    fn hand_over(&self, pending: &ShardPending) -> Result<(), Error> {
        let turn = pending.turn();
        if turn.is_left_over() {
            // Nobody knows how far it came: what differs from the row before may be in RocksDB.
            self.hand_over_next(&turn, RowForm::Whole)?;
        }
        self.hand_over_next(&turn, RowForm::Shortest)
    }

    fn hand_over_next(&self, turn: &Turn<'_>, form: RowForm) -> Result<(), Error> {
        let rows = turn.begin();
        if !rows.is_empty() {
            self.write(tx::batch_of(self, &rows, form))?;
            self.teach(rows.iter());
        }
        turn.end();
        Ok(())
    }

    /// The state of a shard as of now, or newer, frozen. Rows of other shards may be missing.
    pub(crate) fn pin(&self, shard: ShardId) -> Result<PinnedView<'_>, Error> {
        self.hand_over(&self.pending.of(shard))?;
        Ok(self.frozen())
    }

    /// What RocksDB has, frozen.
    fn frozen(&self) -> PinnedView<'_> {
        PinnedView::new(self, self.db.snapshot())
    }

    /// Makes everything written before the call durable. Blocks on the disk.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        for pending in self.pending.all() {
            self.hand_over(&pending)?;
        }
        self.flush_handed_over()
    }

    /// What RocksDB does by itself once a memtable is full.
    fn flush_handed_over(&self) -> Result<(), Error> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = Family::ALL.map(|family| self.family(family));
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(|error| self.failed("flush", error))
    }

    /// Whether so much is applied and not flushed that RocksDB might soon flush by itself. Who flushes before it does
    /// knows what became durable, and can have that part of the log purged while it lies in the log's own
    /// memtable: what is purged by then is not written a second time.
    pub(crate) fn is_filling_up(&self) -> bool {
        let handed_over = Family::ALL.into_iter().map(|family| {
            let asked = "rocksdb.cur-size-active-mem-table";
            let bytes = self.db.property_int_value_cf(self.family(family), asked);
            bytes.ok().flatten().unwrap_or(0) as usize
        });
        let bytes = self.waiting_bytes() + handed_over.sum::<usize>();
        bytes >= self.memtable_bytes / 4 * 3
    }

    /// Deletes all rows of a shard, its position included. Not durable before a flush.
    pub(crate) fn clear_shard(&self, shard: ShardId, range: HashRange) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let view = self.pin(shard)?;
        for range in data_ranges(shard, range) {
            // A range tombstone costs every later read: none where there is nothing to delete.
            if let Some(first) = view.rows(&range).next() {
                first?;
                let family = self.family(range.family());
                batch.delete_range_cf(family, range.from.as_bytes(), range.to.as_bytes());
            }
        }
        batch.delete(Key::position(shard).as_bytes());
        self.write(batch)?;
        self.cache.clear();
        Ok(())
    }

    /// Removes all rows of a shard and notes whose they are from now on. Durable when it returns; blocks
    /// on the disk.
    pub(crate) fn give_to(
        &self,
        replica: ReplicaId,
        shard: ShardId,
        range: HashRange,
    ) -> Result<(), Error> {
        self.clear_shard(shard, range)?;
        let mut batch = WriteBatch::default();
        let row = PositionRow::encode(replica, &Position::default());
        batch.put(Key::position(shard).as_bytes(), row);
        self.write(batch)?;
        self.flush()
    }

    /// Takes in finished SST files of one family, all or none. The files are moved, and not changed.
    pub(crate) fn ingest(&self, family: Family, files: Vec<PathBuf>) -> Result<(), Error> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        options.set_allow_global_seqno(true);
        options.set_snapshot_consistency(true);
        self.db
            .ingest_external_file_cf_opts(self.family(family), &options, files)
            .map_err(|error| self.failed("ingest a snapshot", error))?;
        self.cache.clear();
        Ok(())
    }

    /// True once RocksDB met an error in the background: it has stopped writing.
    pub(crate) fn background_errors(&self) -> bool {
        matches!(
            self.db.property_int_value("rocksdb.background-errors"),
            Ok(Some(count)) if count > 0
        )
    }

    /// What RocksDB says of the store.
    pub(crate) fn vitals(&self) -> StoreVitals {
        let sharded = self.family(Family::Sharded);
        let mut vitals = StoreVitals::of(&self.db).with_family(&self.db, sharded);
        vitals.memtable_bytes += self.waiting_bytes() as u64;
        vitals
    }

    /// The data directory of the node, where snapshots are staged beside the store.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sorts an error of RocksDB: damage, or the disk. Every read comes through here, so that damage
    /// stops the node even when only a reader meets it.
    pub(crate) fn failed(&self, action: &'static str, error: rocksdb::Error) -> Error {
        let found = Error::from_state_store(action, &error);
        if found.is_damage() {
            self.failure
                .stop_node(&Arc::new(Error::from_state_store(action, &error)));
        }
        found
    }

    /// Where the rows of a family are.
    fn family(&self, family: Family) -> &ColumnFamily {
        family.of(&self.db)
    }

    fn read(&self, key: &Key) -> Result<Option<Bytes>, Error> {
        self.db
            .get_cf(self.family(key.family()), key.as_bytes())
            .map(|value| value.map(Bytes::from))
            .map_err(|error| self.failed("read a row", error))
    }

    /// What is applied and not in RocksDB.
    fn waiting_bytes(&self) -> usize {
        self.pending.bytes()
    }

    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|error| {
            // Whether RocksDB has it is not known, so neither is whether it has what the cache has.
            self.cache.clear();
            self.failed("write a batch", error)
        })
    }
}
