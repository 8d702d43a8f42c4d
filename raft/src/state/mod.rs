//! The state store of a node: the rows of all its shards in one RocksDB without a write-ahead log.
//!
//! Rows live in two column families, see [`family`], which are written and flushed together. The
//! applied position of a shard is written in the same batch as what it covers; a crash takes the
//! store back to an earlier position, never to a half of one, and the shard's log is replayed
//! from there. That is why a log is purged only up to a position that was flushed here.

mod apply;
mod cache;
mod family;
mod flusher;
mod install;
mod keys;
mod open;
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
    cache: Cache,
    /// At which RocksDB flushes documents by itself.
    memtable_bytes: usize,
    directory: PathBuf,
    failure: Failure,
}

impl StateStore {
    /// The value of a row; ranged rows go through the cache.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Bytes>, Error> {
        if !key.is_ranged() {
            return self.read(key);
        }
        match self.cache.lookup(key.as_bytes()) {
            Lookup::Hit(value) => Ok(value),
            Lookup::Miss(ticket) => {
                let value = self.read(key)?;
                self.cache.fill(key.bytes(), value.clone(), ticket);
                Ok(value)
            }
        }
    }

    /// The value of a ranged row at the moment of the call, while `still` is held: a row that is not in
    /// the cache is read from a frozen view after it was let go.
    pub(crate) fn get_at<T>(&self, key: &Key, still: T) -> Result<Option<Bytes>, Error> {
        if !key.is_ranged() {
            return self.read(key);
        }
        match self.cache.lookup(key.as_bytes()) {
            Lookup::Hit(value) => Ok(value),
            Lookup::Miss(ticket) => {
                let view = self.pin();
                drop(still);
                let value = view.get(key)?;
                self.cache.fill(key.bytes(), value.clone(), ticket);
                Ok(value)
            }
        }
    }

    /// Writes what a transaction collected, atomically, then lets the cache know.
    pub(crate) fn commit(&self, tx: WriteTx<'_>) -> Result<(), Error> {
        let (batch, rows) = tx.into_batch();
        self.write(batch)?;
        for (key, value) in rows {
            self.cache.written(key.bytes().clone(), value);
        }
        Ok(())
    }

    /// The state as of now, frozen.
    pub(crate) fn pin(&self) -> PinnedView<'_> {
        PinnedView::new(self, self.db.snapshot())
    }

    /// Makes everything written before the call durable. Blocks on the disk.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = Family::ALL.map(|family| self.family(family));
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(|error| self.failed("flush", error))
    }

    /// Whether RocksDB is about to flush by itself. Who flushes before it does knows what became durable, and can
    /// have that part of the log purged while it lies in the log's own memtable: what is purged
    /// by then is not written a second time.
    pub(crate) fn is_filling_up(&self) -> bool {
        Family::ALL.into_iter().any(|family| {
            let asked = "rocksdb.cur-size-active-mem-table";
            let bytes = self.db.property_int_value_cf(self.family(family), asked);
            let full = family.memtable_bytes(self.memtable_bytes) as u64;
            matches!(bytes, Ok(Some(bytes)) if bytes >= full / 4 * 3)
        })
    }

    /// Deletes all rows of a shard, its position included. Not durable before a flush.
    pub(crate) fn clear_shard(&self, shard: ShardId, range: HashRange) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let view = self.pin();
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
        StoreVitals::of(&self.db).with_family(&self.db, sharded)
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

    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| self.failed("write a batch", error))
    }
}
