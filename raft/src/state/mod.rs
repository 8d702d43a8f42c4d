//! The state store of a node: the rows of all its shards in one RocksDB without a write-ahead log.
//!
//! One column family holds everything, so that a flush and an ingest are atomic by construction.
//! The applied position of a shard is written in the same batch as what it covers; a crash takes
//! the store back to an earlier position, never to a half of one, and the shard's log is replayed
//! from there. That is why a log is purged only up to a position that was flushed here.

mod apply;
mod cache;
mod flusher;
mod install;
mod keys;
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
    BlockBasedIndexType, BlockBasedOptions, DB, DBCompressionType, FlushOptions,
    IngestExternalFileOptions, Options, WriteBatch, WriteOptions,
};

use crate::config::HostConfig;
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::{HashRange, ReplicaId, ShardId};
use crate::vitals::StoreVitals;

use cache::{Cache, Lookup};
use keys::data_ranges;

pub use apply::ShardState;
pub use keys::{Key, TABLES};
pub use pins::StateChecksum;
pub use snapshot::{CHUNK_BYTES_MAX, SnapshotData, SnapshotFeeder};
pub use tx::WriteTx;
pub use view::{PinnedView, View};

pub(crate) use flusher::Flusher;
pub(crate) use install::{finish_ready_installs, stage};
pub(crate) use pins::Kept;
pub(crate) use position::{Position, PositionRow};
pub(crate) use progress::Progress;

#[cfg(test)]
mod tests;

/// Format of the rows of the engine; a higher number on disk is refused.
const FORMAT: u32 = 1;

/// Tag of the store row; part of the format on disk, never reused.
const TAG_STORE_V1: u8 = 0x60;

/// RocksDB flushes by itself when its memtable is this full; harmless, and rarer than our own flushes.
const MEMTABLE_BYTES: usize = 32 << 20;

/// Flushed files that wait before they are merged into the next level.
const L0_FILES: i32 = 8;

/// By level: none for what was just flushed.
const COMPRESSION: [DBCompressionType; 7] = {
    let mut levels = [DBCompressionType::Lz4; 7];
    levels[0] = DBCompressionType::None;
    levels
};

/// How to open the state store.
#[derive(Debug, Clone)]
pub(crate) struct StateOptions {
    pub(crate) directory: PathBuf,
    pub(crate) store_id: [u8; 16],
    pub(crate) create: bool,
    pub(crate) cache_bytes: usize,
    pub(crate) block_cache_bytes: usize,
    pub(crate) memtable_bytes: usize,
}

impl StateOptions {
    pub(crate) fn new(config: &HostConfig) -> StateOptions {
        StateOptions {
            directory: config.directory.clone(),
            store_id: config.store_id,
            create: config.create,
            cache_bytes: config.cache_bytes,
            block_cache_bytes: config.block_cache_bytes,
            memtable_bytes: MEMTABLE_BYTES,
        }
    }
}

/// The rows of all shards of a node.
pub(crate) struct StateStore {
    db: DB,
    cache: Cache,
    directory: PathBuf,
    failure: Failure,
}

impl StateStore {
    /// Opens the store in `<directory>/state`. Creates it only when `create` is set; a store of another
    /// cluster or of a newer format is refused and left alone.
    pub(crate) fn open(options: &StateOptions, failure: Failure) -> Result<Arc<StateStore>, Error> {
        let path = options.directory.join("state");
        let exists = path.join("CURRENT").exists();
        if !exists && !options.create {
            return Err(Error::store_missing(&path));
        }
        let db = DB::open(&rocks_options(options), &path).map_err(open_failed)?;
        let store = StateStore {
            db,
            cache: Cache::new(options.cache_bytes),
            directory: options.directory.clone(),
            failure,
        };
        store.check_identity(options)?;
        Ok(Arc::new(store))
    }

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
        self.db
            .flush_opt(&options)
            .map_err(|error| self.failed("flush", error))
    }

    /// Deletes all rows of a shard, its position included. Not durable before a flush.
    pub(crate) fn clear_shard(&self, shard: ShardId, range: HashRange) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let view = self.pin();
        for range in data_ranges(shard, range) {
            // A range tombstone costs every later read: none where there is nothing to delete.
            if let Some(first) = view.rows(&range).next() {
                first?;
                batch.delete_range(range.from.as_bytes(), range.to.as_bytes());
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

    /// Takes in finished SST files, all or none. The files are moved, and not changed.
    pub(crate) fn ingest(&self, files: Vec<PathBuf>) -> Result<(), Error> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        options.set_allow_global_seqno(true);
        options.set_snapshot_consistency(true);
        self.db
            .ingest_external_file_opts(&options, files)
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
        StoreVitals::of(&self.db)
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

    fn read(&self, key: &Key) -> Result<Option<Bytes>, Error> {
        self.db
            .get(key.as_bytes())
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

    /// Every store says whose it is, in a flushed row that is written before anything else.
    fn check_identity(&self, options: &StateOptions) -> Result<(), Error> {
        let Some(row) = self.read(&Key::store())? else {
            if !options.create {
                return Err(Error::state_damaged("the store row is missing"));
            }
            let mut batch = WriteBatch::default();
            batch.put(Key::store().as_bytes(), store_row(options.store_id));
            self.write(batch)?;
            return self.flush();
        };
        if row.len() != 21 || row[0] != TAG_STORE_V1 {
            return Err(Error::state_damaged("the store row has an unknown form"));
        }
        let format = u32::from_be_bytes([row[1], row[2], row[3], row[4]]);
        if format > FORMAT {
            return Err(Error::format_too_new("state", format, FORMAT));
        }
        if row[5..] != options.store_id {
            return Err(Error::wrong_store("state"));
        }
        Ok(())
    }
}

fn store_row(store_id: [u8; 16]) -> Vec<u8> {
    let mut row = vec![TAG_STORE_V1];
    row.extend_from_slice(&FORMAT.to_be_bytes());
    row.extend_from_slice(&store_id);
    row
}

fn rocks_options(options: &StateOptions) -> Options {
    let mut blocks = block_options();
    blocks.set_block_cache(&rocksdb::Cache::new_lru_cache(options.block_cache_bytes));
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_pin_top_level_index_and_filter(true);
    let mut rocks = base_options();
    rocks.create_if_missing(options.create);
    rocks.set_block_based_table_factory(&blocks);
    rocks.set_write_buffer_size(options.memtable_bytes);
    rocks.set_max_write_buffer_number(3);
    // A flushed file is rewritten soon; only what stays is worth compressing.
    rocks.set_compression_per_level(&COMPRESSION);
    // Documents are written over and over: the more flushed files are merged at a time, the fewer of
    // their old versions are copied.
    rocks.set_level_zero_file_num_compaction_trigger(L0_FILES);
    rocks.set_max_background_jobs(2);
    rocks.set_paranoid_checks(true);
    rocks.set_keep_log_file_num(2);
    rocks.set_level_compaction_dynamic_level_bytes(true);
    rocks.set_manual_wal_flush(false);
    rocks
}

/// What files written for an ingest share with the store.
fn base_options() -> Options {
    let mut rocks = Options::default();
    rocks.set_compression_type(DBCompressionType::Lz4);
    rocks.set_block_based_table_factory(&block_options());
    rocks
}

/// Index and filter of a file are in parts of a block's size, so that what a read needs fits the cache
/// however large the store: one part of each, not the whole of a file.
fn block_options() -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_format_version(6);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks
}

/// A store that does not open is damaged, unless the system says otherwise.
fn open_failed(error: rocksdb::Error) -> Error {
    Error::from_state_open(&error)
}
