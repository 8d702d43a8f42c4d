//! The log store on RocksDB.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options,
    ReadOptions, WriteBatch, WriteOptions,
};
use tracing::info;

use crate::codec::{self, Tag};
use crate::config::{HostConfig, SyncMode};
use crate::error::Error;
use crate::ids::ShardId;
use crate::types::Entry;
use crate::vitals::StoreVitals;

use super::damage::{check_wal, current_manifest, manifest_readable_bytes};
use super::keys;
use super::seal::{Seal, Sealed};
use super::store::{Action, Batch, Change, LogStore, ShardRows};

/// Format of the rows; a higher number on disk is refused.
const FORMAT: u32 = 1;

const BLOCK_CACHE_BYTES: usize = 8 << 20;
const LEVEL_BASE_BYTES: u64 = 64 << 20;
const TABLE_BYTES: u64 = 16 << 20;
const MANIFEST_BYTES_MAX: usize = 4 << 20;
const INFO_LOG_BYTES_MAX: usize = 4 << 20;

pub(super) struct RocksLog {
    db: DB,
    path: PathBuf,
    sync: SyncMode,
    last_batch: AtomicU64,
    seal: Mutex<SealState>,
    /// Background errors that RocksDB got over.
    errors_seen: AtomicU64,
}

struct SealState {
    seal: Seal,
    /// Number and length of the manifest when it was looked at last.
    seen: (u64, u64),
}

impl RocksLog {
    /// Opens the store in `<directory>/log`. Whatever speaks against the data is found before RocksDB
    /// opens them, because opening changes files.
    pub(super) fn open(config: &HostConfig) -> Result<RocksLog, Error> {
        let path = config.directory.join("log");
        let seal = open_seal(config, &path)?;
        let sealed = seal.sealed();
        let exists = path.join("CURRENT").exists();
        if exists {
            check_manifest(&path, sealed)?;
            check_wal(&path)?;
        }
        let db = DB::open(&options(config, !exists), &path)
            .map_err(|error| Error::from_log_open(&error))?;
        let store = RocksLog {
            last_batch: AtomicU64::new(read_batch_number(&db)?),
            db,
            path,
            sync: config.sync,
            seal: Mutex::new(SealState { seal, seen: (0, 0) }),
            errors_seen: AtomicU64::new(0),
        };
        store.check_identity(config)?;
        let found = store.last_batch();
        if found < sealed.batch {
            return Err(Error::log_damaged(format!(
                "the last batch is {found}, but batch {} was synced",
                sealed.batch
            )));
        }
        store.write_seal(found)?;
        info!(batch = found, "open log store");
        Ok(store)
    }

    /// Every store says whose it is, in a row that is synced before anything else is.
    fn check_identity(&self, config: &HostConfig) -> Result<(), Error> {
        let row = self.get(&keys::store())?;
        let Some(row) = row else {
            if !config.create || self.last_batch() > 0 {
                return Err(Error::log_damaged("the store row is missing"));
            }
            let row = codec::encode(Tag::LogStoreV1, &(FORMAT, config.store_id));
            let mut batch = WriteBatch::default();
            batch.put(keys::store(), row);
            return self.write(batch);
        };
        let (format, store_id): (u32, [u8; 16]) = codec::decode(Tag::LogStoreV1, &row)
            .map_err(|error| Error::log_decode("the store row", error))?;
        if format > FORMAT {
            return Err(Error::format_too_new("log", format, FORMAT));
        }
        if store_id != config.store_id {
            return Err(Error::wrong_store("log"));
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.db
            .get(key)
            .map_err(|error| Error::from_log_store("read a row of the log", &error))
    }

    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(self.sync == SyncMode::Fsync);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| Error::from_log_store("write a batch of the log", &error))
    }

    /// Seals a batch, and how much of the manifest is durable.
    fn write_seal(&self, batch: u64) -> Result<(), Error> {
        let mut state = self.seal.lock();
        let mut sealed = state.seal.sealed();
        let seen = look_at_manifest(&self.path).map_err(manifest_failed)?;
        if seen != state.seen {
            sealed.manifest = seen.0;
            sealed.manifest_bytes = sync_manifest(&self.path)?;
        }
        sealed.batch = batch;
        state.seal.write(sealed)?;
        state.seen = seen;
        Ok(())
    }

    fn manifest_changed(&self) -> Result<bool, Error> {
        let seen = look_at_manifest(&self.path).map_err(manifest_failed)?;
        Ok(seen != self.seal.lock().seen)
    }

    /// RocksDB meets errors of flushes and compactions on its own threads, and then fails writes with
    /// them, unless it got over them. Writing the last number again tells which.
    fn check_background(&self) -> Result<(), Error> {
        let count = self
            .db
            .property_int_value("rocksdb.background-errors")
            .map_err(|error| Error::from_log_store("ask for background errors", &error))?
            .unwrap_or(0);
        if self.errors_seen.swap(count, Ordering::AcqRel) == count {
            return Ok(());
        }
        let mut probe = WriteBatch::default();
        probe.put(
            keys::batch(),
            codec::encode(Tag::BatchV1, &self.last_batch()),
        );
        self.write(probe)
    }
}

impl LogStore for RocksLog {
    fn last_batch(&self) -> u64 {
        self.last_batch.load(Ordering::Acquire)
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let mut rows = WriteBatch::default();
        rows.put(keys::batch(), codec::encode(Tag::BatchV1, &batch.number));
        for change in &batch.changes {
            add_change(&mut rows, change);
        }
        self.write(rows)?;
        self.last_batch.store(batch.number, Ordering::Release);
        Ok(())
    }

    fn rows(&self, shard: ShardId) -> Result<ShardRows, Error> {
        let damaged = |error| Error::log_decode("a row of a shard", error);
        let log_id = |key: &[u8]| {
            let row = self.get(key)?;
            row.map(|row| codec::decode_log_id(&row).map_err(damaged))
                .transpose()
        };
        let vote = self.get(&keys::vote(shard))?;
        Ok(ShardRows {
            vote: vote
                .map(|row| codec::decode_vote(&row).map_err(damaged))
                .transpose()?,
            committed: log_id(&keys::committed(shard))?,
            purged: log_id(&keys::purged(shard))?,
        })
    }

    fn entries(
        &self,
        shard: ShardId,
        first: u64,
        visit: &mut dyn FnMut(Entry, usize) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::entries_end(shard));
        let from = keys::entry(shard, first);
        let rows = self
            .db
            .iterator_opt(IteratorMode::From(&from, Direction::Forward), options);
        for row in rows {
            let (key, value) =
                row.map_err(|error| Error::from_log_store("read entries of the log", &error))?;
            let bytes = value.len();
            let entry = codec::decode_entry(Bytes::from(value))
                .map_err(|error| Error::log_decode("an entry", error))?;
            if keys::entry_index(&key) != Some(entry.log_id.index) {
                return Err(Error::log_damaged(format!(
                    "an entry of shard {shard} is {} but lies elsewhere",
                    entry.log_id
                )));
            }
            if visit(entry, bytes).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn seal(&self, number: u64) -> Result<(), Error> {
        match self.sync {
            SyncMode::Fsync => self.write_seal(number),
            // Nothing is known to be durable.
            SyncMode::NoSyncForTests => Ok(()),
        }
    }

    fn vitals(&self) -> Option<StoreVitals> {
        Some(StoreVitals::of(&self.db))
    }

    fn check(&self) -> Result<(), Error> {
        self.check_background()?;
        if self.sync == SyncMode::Fsync && self.manifest_changed()? {
            self.write_seal(self.last_batch())?;
        }
        Ok(())
    }

    fn close(&self, number: u64) -> Result<(), Error> {
        self.db
            .flush()
            .map_err(|error| Error::from_log_store("flush the log", &error))?;
        self.check_background()?;
        self.write_seal(number)
    }
}

fn add_change(rows: &mut WriteBatch, change: &Change) {
    let shard = change.shard;
    match &change.action {
        Action::Append(entries) => {
            for entry in entries {
                let key = keys::entry(shard, entry.log_id.index);
                rows.put(key, codec::encode_entry(entry));
            }
        }
        Action::Vote(vote) => rows.put(keys::vote(shard), codec::encode_vote(vote)),
        Action::Committed(id) => rows.put(keys::committed(shard), codec::encode_log_id(id)),
        Action::Truncate { from } => {
            rows.delete_range(keys::entry(shard, *from).to_vec(), keys::entries_end(shard));
        }
        Action::Purge { from, upto } => {
            let end = upto.index.saturating_add(1);
            rows.delete_range(keys::entry(shard, *from), keys::entry(shard, end));
            rows.put(keys::purged(shard), codec::encode_log_id(upto));
        }
        Action::Clear => {
            rows.delete_range(keys::entry(shard, 0).to_vec(), keys::entries_end(shard));
            rows.delete(keys::vote(shard));
            rows.delete(keys::committed(shard));
            rows.delete(keys::purged(shard));
        }
    }
}

/// The seal is made before the store and says whether there must be one: where it states a batch,
/// nothing is created.
fn open_seal(config: &HostConfig, path: &Path) -> Result<Seal, Error> {
    let has_store = path.join("CURRENT").exists();
    if !Seal::path(&config.directory).exists() {
        return match (has_store, config.create) {
            (true, _) => Err(Error::log_damaged("the seal is missing")),
            (false, true) if is_empty(path)? => Seal::create(&config.directory, config.store_id),
            (false, true) => Err(Error::log_damaged("CURRENT and the seal are missing")),
            (false, false) => Err(Error::store_missing(path)),
        };
    }
    let seal = Seal::open(&config.directory, config.store_id)?;
    if !has_store && (!config.create || seal.sealed() != Sealed::default()) {
        return Err(if is_empty(path)? {
            Error::store_missing(path)
        } else {
            Error::log_damaged("CURRENT is missing")
        });
    }
    Ok(seal)
}

fn is_empty(path: &Path) -> Result<bool, Error> {
    match fs::read_dir(path) {
        Ok(mut files) => Ok(files.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::io("list the log store", error)),
    }
}

/// CURRENT must not have gone back, and the manifest must be readable as far as it was, and behind
/// that up to a torn end.
fn check_manifest(path: &Path, sealed: Sealed) -> Result<(), Error> {
    let unreadable = |error: io::Error| Error::log_damaged(format!("read the manifest: {error}"));
    let (number, manifest) = current_manifest(path).map_err(unreadable)?;
    if number < sealed.manifest {
        return Err(Error::log_damaged(format!(
            "CURRENT names manifest {number}, but {} was in use",
            sealed.manifest
        )));
    }
    let bytes = fs::read(&manifest).map_err(unreadable)?;
    let readable = manifest_readable_bytes(&manifest, &bytes)?;
    if number == sealed.manifest && readable < sealed.manifest_bytes {
        return Err(Error::log_damaged(format!(
            "{} is readable up to {readable}, but was synced up to {}",
            manifest.display(),
            sealed.manifest_bytes
        )));
    }
    Ok(())
}

/// Number and length of the manifest in use. A manifest that is replaced between two steps is looked
/// for again.
fn look_at_manifest(path: &Path) -> io::Result<(u64, u64)> {
    let look = || -> io::Result<(u64, u64)> {
        let (number, manifest) = current_manifest(path)?;
        Ok((number, fs::metadata(manifest)?.len()))
    };
    match look() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => look(),
        looked => looked,
    }
}

/// Makes durable what is readable of the manifest, and that CURRENT names it. What RocksDB is just
/// writing to the manifest looks torn.
fn sync_manifest(path: &Path) -> Result<u64, Error> {
    let (_, manifest) = current_manifest(path).map_err(manifest_failed)?;
    let bytes = fs::read(&manifest).map_err(manifest_failed)?;
    let readable = manifest_readable_bytes(&manifest, &bytes)?;
    let sync = || -> io::Result<()> {
        File::open(&manifest)?.sync_data()?;
        File::open(path)?.sync_all()
    };
    sync().map_err(manifest_failed)?;
    Ok(readable)
}

fn manifest_failed(error: io::Error) -> Error {
    Error::io("look at the manifest of the log", error)
}

fn read_batch_number(db: &DB) -> Result<u64, Error> {
    let row = db
        .get(keys::batch())
        .map_err(|error| Error::from_log_store("read the batch number", &error))?;
    match row {
        Some(row) => codec::decode(Tag::BatchV1, &row)
            .map_err(|error| Error::log_decode("the batch number", error)),
        None => Ok(0),
    }
}

/// Memtable and write-ahead log are bounded by the buffer; purged entries go with the next
/// compactions, which small levels bring about soon.
fn options(config: &HostConfig, create: bool) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&rocksdb::Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    blocks.set_format_version(6);
    let mut options = Options::default();
    options.create_if_missing(create);
    options.set_error_if_exists(create);
    options.set_block_based_table_factory(&blocks);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_manual_wal_flush(false);
    // What is flushed is purged soon: compressing it costs more than it saves.
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(config.log_buffer_bytes);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(2 * config.log_buffer_bytes as u64);
    options.set_target_file_size_base(TABLE_BYTES);
    options.set_max_bytes_for_level_base(LEVEL_BASE_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(2);
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}
