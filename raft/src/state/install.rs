//! Installing a snapshot so that a crash between any two steps ends in the old rows or the new ones.
//!
//! 1. Stage: verify every chunk, write SST files beside the store, sync them.
//! 2. Mark: write READY with a rename and sync. From here on the install will be finished.
//! 3. Clear: delete the rows of the shard.
//! 4. Ingest the files of each column family, those with the position row last. Between the two the shard
//!    has new rows of sharded tables, no position, and the marker.
//! 5. Flush, so that the delete and the position are durable.
//! 6. Remove the marker, then the files.
//!
//! A start finishes whatever has READY, from step 3, and throws away whatever has not. Steps 3
//! to 5 can be repeated: the files stay where they are until the marker is gone.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use rocksdb::{Options, SstFileWriter};
use tokio::sync::OwnedMutexGuard;
use tracing::info;

use crate::error::Error;
use crate::ids::{HashRange, ReplicaId, ShardId};

use super::StateStore;
use super::family::Family;
use super::keys::{Key, KeyRange, data_ranges};
use super::position::{Position, PositionRow};
use super::progress::Progress;
use super::snapshot::{Chunk, Decoder, SnapshotData, refused};

/// A staged file is closed once it is this long.
const FILE_BYTES_TARGET: u64 = 64 << 20;

const READY: &str = "READY";

/// Tag of the marker; part of the format on disk, never reused.
const TAG_READY_V2: u8 = 0x63;
const READY_BYTES: usize = 1 + 12 + 4 + 4 + 4;

/// A marker of format 1 of the store: all its files are of the main family.
const TAG_READY_V1: u8 = 0x62;
const READY_V1_BYTES: usize = READY_BYTES - 4;

/// A verified snapshot on disk that is not marked yet.
pub(crate) struct Staged {
    shard: ShardId,
    range: HashRange,
    directory: PathBuf,
    files: FileCounts,
    /// Lets the next snapshot of the shard come once this one is installed or thrown away.
    turn: Option<OwnedMutexGuard<()>>,
}

/// How many files of each family there are.
#[derive(Debug, Clone, Copy, Default)]
struct FileCounts {
    main: u32,
    sharded: u32,
}

impl FileCounts {
    fn of(&mut self, family: Family) -> &mut u32 {
        match family {
            Family::Main => &mut self.main,
            Family::Sharded => &mut self.sharded,
        }
    }
}

impl Staged {
    /// Holds the turn of the shard for as long as the files are needed.
    pub(crate) fn holding(mut self, turn: OwnedMutexGuard<()>) -> Staged {
        self.turn = Some(turn);
        self
    }
}

/// Verifies a snapshot and writes it beside the store; the shard's rows are not touched.
pub(crate) fn stage(
    store: &StateStore,
    progress: &Progress,
    position: &Position,
    mut data: SnapshotData,
) -> Result<Staged, Error> {
    // One of its own for each replica: the last chunks of a former one may still be on their way.
    let name = format!("{}-{}", progress.shard, progress.replica);
    let directory = staging(store).join(name);
    remove(&directory)?;
    fs::create_dir_all(&directory).map_err(io("create the staging directory"))?;
    let mut decoder = Decoder::default();
    let mut next = || match data.blocking_next() {
        Some(chunk) => decoder.decode(chunk?).map(Some),
        None => Ok(None),
    };
    check_head(next()?, progress, position)?;
    let options = FileOptions::default();
    let mut files = Files::new(&directory, &options, progress);
    let rows = loop {
        match next()? {
            Some(Chunk::Rows(rows)) => {
                for (key, value) in rows {
                    files.add(&key, &value)?;
                }
            }
            Some(Chunk::End { rows }) => break rows,
            Some(Chunk::Head { .. }) => return Err(refused("it begins twice")),
            None => return Err(refused("it ends early")),
        }
    };
    if next()?.is_some() || rows != files.rows {
        return Err(refused("its end does not fit its rows"));
    }
    let files = files.finish(progress.replica, position)?;
    sync_directory(&directory)?;
    sync_directory(&staging(store))?;
    sync_directory(store.directory())?;
    Ok(Staged {
        shard: progress.shard,
        range: progress.range,
        directory,
        files,
        turn: None,
    })
}

/// All steps after staging; the rows of the shard are those of the snapshot afterwards.
pub(crate) fn install(
    store: &StateStore,
    progress: &Progress,
    position: &Position,
    staged: &Staged,
) -> Result<(), Error> {
    mark(staged)?;
    progress.advance(position.clone(), || {
        clear(store, staged)?;
        ingest(store, staged)
    })?;
    store.flush()?;
    remove(&staged.directory)
}

/// Finishes installs that a crash interrupted and removes unfinished staging. Before openraft opens
/// any shard.
pub(crate) fn finish_ready_installs(store: &Arc<StateStore>) -> Result<(), Error> {
    let staging = staging(store);
    if !staging.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(&staging).map_err(io("read the staging directory"))?;
    for entry in entries {
        let directory = entry.map_err(io("read the staging directory"))?.path();
        if directory.join(READY).exists() {
            let staged = read_marker(&directory)?;
            info!(shard = %staged.shard, "finish an interrupted snapshot install");
            clear(store, &staged)?;
            ingest(store, &staged)?;
            // Files of an older format have all rows together.
            store.move_sharded_rows()?;
            store.flush()?;
        }
        remove(&directory)?;
    }
    Ok(())
}

fn check_head(head: Option<Chunk>, progress: &Progress, expected: &Position) -> Result<(), Error> {
    let Some(Chunk::Head {
        shard,
        range,
        position,
    }) = head
    else {
        return Err(refused("it does not begin with its head"));
    };
    if shard != progress.shard || range != progress.range {
        return Err(refused("it is of another shard or range"));
    }
    let position =
        Position::decode(&position).map_err(|_| refused("its position is unreadable"))?;
    if position != *expected {
        return Err(refused("its position is not the announced one"));
    }
    Ok(())
}

pub(super) fn mark(staged: &Staged) -> Result<(), Error> {
    let mut marker = vec![TAG_READY_V2];
    marker.put_u32(staged.shard.0);
    marker.put_u32(staged.range.start);
    marker.put_u32(staged.range.end);
    marker.put_u32(staged.files.main);
    marker.put_u32(staged.files.sharded);
    let sum = crc32fast::hash(&marker);
    marker.put_u32(sum);
    let unnamed = staged.directory.join("READY.new");
    let mut file = File::create(&unnamed).map_err(io("write the install marker"))?;
    file.write_all(&marker)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&unnamed, staged.directory.join(READY)))
        .map_err(io("write the install marker"))?;
    sync_directory(&staged.directory)
}

fn read_marker(directory: &Path) -> Result<Staged, Error> {
    let marker = fs::read(directory.join(READY)).map_err(io("read the install marker"))?;
    let damaged = || Error::state_damaged("the marker of a snapshot install is unreadable");
    let length = match marker.first() {
        Some(&TAG_READY_V1) => READY_V1_BYTES,
        Some(&TAG_READY_V2) => READY_BYTES,
        _ => return Err(damaged()),
    };
    if marker.len() != length {
        return Err(damaged());
    }
    let (body, mut sum) = marker.split_at(length - 4);
    if crc32fast::hash(body) != sum.get_u32() {
        return Err(damaged());
    }
    let mut body = &body[1..];
    Ok(Staged {
        shard: ShardId(body.get_u32()),
        range: HashRange {
            start: body.get_u32(),
            end: body.get_u32(),
        },
        files: FileCounts {
            main: body.get_u32(),
            sharded: if body.has_remaining() {
                body.get_u32()
            } else {
                0
            },
        },
        directory: directory.to_owned(),
        turn: None,
    })
}

pub(super) fn clear(store: &StateStore, staged: &Staged) -> Result<(), Error> {
    store.clear_shard(staged.shard, staged.range)
}

/// The position comes with the main family, so last: until then a start does it all again.
pub(super) fn ingest(store: &StateStore, staged: &Staged) -> Result<(), Error> {
    ingest_family(store, staged, Family::Sharded)?;
    ingest_family(store, staged, Family::Main)
}

pub(super) fn ingest_family(
    store: &StateStore,
    staged: &Staged,
    family: Family,
) -> Result<(), Error> {
    let mut links = Vec::new();
    let mut counts = staged.files;
    for number in 0..*counts.of(family) {
        // The store takes the links: nothing is copied while the rows are locked, and the files stay for
        // another attempt.
        let file = file_path(&staged.directory, family, number);
        let link = file.with_extension("link.sst");
        if link.exists() {
            fs::remove_file(&link).map_err(io("remove an old link"))?;
        }
        fs::hard_link(file, &link).map_err(io("link a staged file"))?;
        links.push(link);
    }
    if links.is_empty() {
        return Ok(());
    }
    store.ingest(family, links)
}

/// Removes a staging directory, its marker first: without it the rest means nothing.
fn remove(directory: &Path) -> Result<(), Error> {
    if !directory.exists() {
        return Ok(());
    }
    let marker = directory.join(READY);
    if marker.exists() {
        fs::remove_file(&marker).map_err(io("remove the install marker"))?;
        sync_directory(directory)?;
    }
    fs::remove_dir_all(directory).map_err(io("remove staged files"))
}

/// How files of each family are written.
struct FileOptions {
    main: Options,
    sharded: Options,
}

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions {
            main: Family::Main.file_options(),
            sharded: Family::Sharded.file_options(),
        }
    }
}

/// Writes rows in order into SST files of bounded length, each of one family.
struct Files<'a> {
    directory: &'a Path,
    options: &'a FileOptions,
    shard: ShardId,
    ranges: Vec<KeyRange>,
    /// What is being written, of which family.
    writer: Option<(Family, SstFileWriter<'a>)>,
    counts: FileCounts,
    rows: u64,
    last: Vec<u8>,
}

impl<'a> Files<'a> {
    fn new(directory: &'a Path, options: &'a FileOptions, progress: &Progress) -> Files<'a> {
        Files {
            directory,
            options,
            shard: progress.shard,
            ranges: data_ranges(progress.shard, progress.range),
            writer: None,
            counts: FileCounts::default(),
            rows: 0,
            last: Vec::new(),
        }
    }

    /// A row outside of the shard, or out of order, refuses the snapshot.
    fn add(&mut self, key: &Bytes, value: &Bytes) -> Result<(), Error> {
        if !self.ranges.iter().any(|range| range.contains(key)) {
            return Err(refused("a row is not of this shard"));
        }
        if *key <= self.last {
            return Err(refused("its rows are not in order"));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.rows += 1;
        self.put(key, value)
    }

    /// Adds the position row, which sorts last, and syncs everything.
    fn finish(mut self, replica: ReplicaId, position: &Position) -> Result<FileCounts, Error> {
        let key = Key::position(self.shard);
        self.put(key.as_bytes(), &PositionRow::encode(replica, position))?;
        let last = self.writer.take();
        self.close(last)?;
        Ok(self.counts)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let family = Family::with(key);
        let mut writer = match self.writer.take() {
            Some((of, writer)) if of == family => writer,
            other => {
                self.close(other)?;
                self.open(family)?
            }
        };
        writer
            .put(key, value)
            .map_err(|error| Error::from_state_store("write a staged file", &error))?;
        let is_full = writer.file_size() >= FILE_BYTES_TARGET;
        let written = Some((family, writer));
        if is_full {
            return self.close(written);
        }
        self.writer = written;
        Ok(())
    }

    fn open(&mut self, family: Family) -> Result<SstFileWriter<'a>, Error> {
        let writer = SstFileWriter::create(match family {
            Family::Main => &self.options.main,
            Family::Sharded => &self.options.sharded,
        });
        let count = self.counts.of(family);
        writer
            .open(file_path(self.directory, family, *count))
            .map_err(|error| Error::from_state_store("open a staged file", &error))?;
        *count += 1;
        Ok(writer)
    }

    fn close(&mut self, writer: Option<(Family, SstFileWriter<'a>)>) -> Result<(), Error> {
        let Some((family, mut writer)) = writer else {
            return Ok(());
        };
        writer
            .finish()
            .map_err(|error| Error::from_state_store("finish a staged file", &error))?;
        let number = *self.counts.of(family) - 1;
        File::open(file_path(self.directory, family, number))
            .and_then(|file| file.sync_all())
            .map_err(io("sync a staged file"))
    }
}

fn staging(store: &StateStore) -> PathBuf {
    store.directory().join("staging")
}

/// Files of the main family have the names that all had in format 1.
fn file_path(directory: &Path, family: Family, number: u32) -> PathBuf {
    directory.join(match family {
        Family::Main => format!("{number:06}.sst"),
        Family::Sharded => format!("sharded-{number:06}.sst"),
    })
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io("sync a directory"))
}

fn io(action: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::io(action, source)
}
