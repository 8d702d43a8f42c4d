//! Opening the state store: whose it is, of which format, and what an older format had elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{ColumnFamilyDescriptor, DB, Options, WriteBatch};

use crate::config::HostConfig;
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ShardId;

use super::StateStore;
use super::cache::Cache;
use super::family::Family;
use super::keys::{Key, KeyRange, TABLES};
use super::pending::Pending;

/// Format of the rows of the engine; a higher number on disk is refused. Format 1 had all rows in
/// one column family, and until format 2 every row was whole.
pub(super) const FORMAT: u32 = 3;

/// The first format with a column family for sharded tables.
const FORMAT_OF_FAMILIES: u32 = 2;

/// Tag of the store row; part of the format on disk, never reused.
const TAG_STORE_V1: u8 = 0x60;

/// Rows that an older format had elsewhere are moved in batches of so many bytes.
const MOVE_BYTES: usize = 1 << 20;

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
            memtable_bytes: config.memtable_bytes,
        }
    }
}

impl StateStore {
    /// Opens the store in `<directory>/state`. Creates it only when `create` is set; a store of another
    /// cluster or of a newer format is refused and left alone. One of format 1 is brought to the
    /// present one, which takes the time to copy its feed; a crash meanwhile begins again.
    pub(crate) fn open(options: &StateOptions, failure: Failure) -> Result<Arc<StateStore>, Error> {
        let path = options.directory.join("state");
        let exists = path.join("CURRENT").exists();
        if !exists && !options.create {
            return Err(Error::store_missing(&path));
        }
        let cache = rocksdb::Cache::new_lru_cache(options.block_cache_bytes);
        let (mut db, families) = open_database(options, &cache, &path, exists)?;
        let format = identify(&db, options)?;
        let is_whole = families.iter().any(|name| name == Family::Sharded.name());
        if !is_whole {
            if format >= Some(FORMAT_OF_FAMILIES) {
                return Err(Error::state_damaged("a column family is missing"));
            }
            let rocks = Family::Sharded.options(options, &cache);
            let created = db.create_cf(Family::Sharded.name(), &rocks);
            created.map_err(open_failed)?;
        }
        let store = StateStore {
            db,
            pending: Pending::default(),
            cache: Cache::new(options.cache_bytes),
            memtable_bytes: options.memtable_bytes,
            directory: options.directory.clone(),
            failure,
        };
        if format.is_some_and(|format| format < FORMAT_OF_FAMILIES) {
            store.move_sharded_rows()?;
        }
        if format != Some(FORMAT) {
            // Every store says whose it is, in a flushed row that is written before anything else.
            let mut batch = WriteBatch::default();
            batch.put(Key::store().as_bytes(), store_row(options.store_id));
            store.write(batch)?;
            store.flush()?;
        }
        Ok(Arc::new(store))
    }

    /// Moves the rows of sharded tables from the family that has everything in format 1 to their own.
    /// Durable when it returns. Cut anywhere, it can be repeated.
    pub(super) fn move_sharded_rows(&self) -> Result<(), Error> {
        let all = KeyRange {
            from: Key::sharded(0, ShardId(0), &[]),
            to: Key::sharded_end(TABLES - 1, ShardId(u32::MAX)),
        };
        let target = self.family(Family::Sharded);
        let mut batch = WriteBatch::default();
        let view = self.frozen();
        let mut rows = view.rows_in(Family::Main, &all).peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        for row in rows {
            let (key, value) = row?;
            batch.put_cf(target, key, value);
            if batch.size_in_bytes() >= MOVE_BYTES {
                self.write(std::mem::take(&mut batch))?;
            }
        }
        self.write(batch)?;
        self.flush()?;
        let mut batch = WriteBatch::default();
        let source = self.family(Family::Main);
        batch.delete_range_cf(source, all.from.as_bytes(), all.to.as_bytes());
        self.write(batch)?;
        self.flush()
    }
}

/// Opens the families that are there, those that only a newer format knows included.
fn open_database(
    options: &StateOptions,
    cache: &rocksdb::Cache,
    path: &Path,
    exists: bool,
) -> Result<(DB, Vec<String>), Error> {
    let mut rocks = Options::default();
    rocks.create_if_missing(options.create);
    rocks.set_atomic_flush(true);
    // One flushes, and a long merge of one family does not hold up the other.
    rocks.set_max_background_jobs(3);
    rocks.set_paranoid_checks(true);
    rocks.set_keep_log_file_num(2);
    rocks.set_manual_wal_flush(false);
    let families = match exists {
        true => DB::list_cf(&rocks, path).map_err(open_failed)?,
        false => {
            rocks.create_missing_column_families(true);
            Family::ALL.map(|family| family.name().to_owned()).into()
        }
    };
    let descriptors = families.iter().map(|name| {
        let known = Family::ALL
            .into_iter()
            .find(|family| family.name() == *name);
        let rocks = known.map_or_else(untouched, |family| family.options(options, cache));
        ColumnFamilyDescriptor::new(name, rocks)
    });
    let db = DB::open_cf_descriptors(&rocks, path, descriptors).map_err(open_failed)?;
    Ok((db, families))
}

/// For a family that only a newer format knows: the store will be refused.
fn untouched() -> Options {
    let mut rocks = Options::default();
    rocks.set_disable_auto_compactions(true);
    rocks
}

/// The format of a store, if it is ours; `None` when it is a new one.
fn identify(db: &DB, options: &StateOptions) -> Result<Option<u32>, Error> {
    let row = db.get(Key::store().as_bytes()).map_err(open_failed)?;
    let Some(row) = row else {
        if !options.create {
            return Err(Error::state_damaged("the store row is missing"));
        }
        return Ok(None);
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
    Ok(Some(format))
}

pub(super) fn store_row(store_id: [u8; 16]) -> Vec<u8> {
    let mut row = vec![TAG_STORE_V1];
    row.extend_from_slice(&FORMAT.to_be_bytes());
    row.extend_from_slice(&store_id);
    row
}

/// A store that does not open is damaged, unless the system says otherwise.
fn open_failed(error: rocksdb::Error) -> Error {
    Error::from_state_open(&error)
}
