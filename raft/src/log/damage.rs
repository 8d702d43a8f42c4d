//! Looks for lost synced data in RocksDB's own log files, before RocksDB opens and repairs them.
//!
//! Every batch is one logical record of the write-ahead log and is synced before the next is
//! written. So after a power cut at most the last record is torn, with whatever fragments of it
//! reached the disk. A complete record after a bad place proves that something that was synced
//! cannot be read any more: RocksDB would silently stop before it.
//!
//! The last record has none after it, but a torn write looks different from damage. What a kill or a
//! power cut tears ends the file too early, or leaves zeros where sectors were never written. A
//! fragment that is there from its header to its end and yet fails its checksum was changed later.
//!
//! Format (RocksDB, `db/log_format.h`): blocks of 32 KiB; fragments of crc32c over type and payload
//! (masked), length (2), type (1), for recyclable types the low half of the file number (4), then the
//! payload; a rest of a block that is shorter than a header is padding. The payload of a record
//! begins with its sequence number (8) and its number of changes (4), little-endian.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::Error;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 4 + 2 + 1;
const RECYCLABLE_HEADER_BYTES: usize = HEADER_BYTES + 4;
/// Sequence number and count in front of a record.
const RECORD_HEAD_BYTES: usize = 8 + 4;
const CRC_MASK_DELTA: u32 = 0xa282_ead8;
/// Type bytes of whole records, and of first, middle and last fragments.
const PLAIN_KINDS: [u8; 4] = [1, 2, 3, 4];
/// The least that a disk writes as a whole.
const SECTOR_BYTES: usize = 512;
/// A checksum of zeros was never written.
const CHECKSUM_BYTES: usize = 4;
/// This many zeros at the end of a record were never written: nothing that is stored ends so.
const ZEROS_MIN: usize = 16;

/// Fails when the write-ahead logs in `directory` hold a complete record after a bad place, or end
/// with a record that was not torn and cannot be read.
pub(super) fn check_wal(directory: &Path) -> Result<(), Error> {
    let mut scan = Scan::default();
    for (number, path) in wal_files(directory).map_err(read_failed)? {
        let file = File::open(&path).map_err(read_failed)?;
        let file_bytes = file.metadata().map_err(read_failed)?.len();
        scan.begin_file(number, path);
        scan.file(file, file_bytes)?;
        scan.end_file();
    }
    scan.finish()
}

/// Length of the readable part of a manifest: up to the end of its last complete record. Fails when
/// what comes after it was not torn.
pub(super) fn manifest_readable_bytes(path: &Path, manifest: &[u8]) -> Result<u64, Error> {
    let (mut readable, mut block_start) = (0, 0);
    for bytes in manifest.chunks(BLOCK_BYTES) {
        let block = Block {
            bytes,
            ends_file: block_start + bytes.len() == manifest.len(),
        };
        let mut at = 0;
        while bytes.len() - at >= HEADER_BYTES {
            let Some(fragment) = Fragment::parse(&bytes[at..], None) else {
                return match block.cause(at) {
                    Cause::Torn => Ok(readable),
                    Cause::Damage => Err(damaged(path, (block_start + at) as u64)),
                };
            };
            at += fragment.bytes;
            if matches!(fragment.part, Part::Full | Part::Last) {
                readable = (block_start + at) as u64;
            }
        }
        block_start += bytes.len();
    }
    Ok(readable)
}

/// The manifest that CURRENT names: its number and path.
pub(super) fn current_manifest(directory: &Path) -> io::Result<(u64, PathBuf)> {
    let current = fs::read_to_string(directory.join("CURRENT"))?;
    let name = current.trim_end();
    let number = name
        .strip_prefix("MANIFEST-")
        .and_then(|number| number.parse().ok());
    match number {
        Some(number) => Ok((number, directory.join(name))),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "CURRENT does not name a manifest",
        )),
    }
}

fn wal_files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

fn read_failed(error: io::Error) -> Error {
    Error::io("read the write-ahead log", error)
}

fn damaged(path: &Path, offset: u64) -> Error {
    Error::log_damaged(format!(
        "{} is unreadable at offset {offset}, and the record there is not a torn one",
        path.display()
    ))
}

/// State of a scan over all files in their order.
#[derive(Default)]
struct Scan {
    number: u64,
    path: PathBuf,
    /// Offset in the file of the block that comes next.
    offset: u64,
    /// The sequence number after the last good record.
    expected: Option<u64>,
    /// The first bad place since the last good record.
    bad: Option<Bad>,
    /// A record of which the last fragment is still missing.
    open: Option<OpenRecord>,
}

struct Bad {
    path: PathBuf,
    offset: u64,
    cause: Cause,
    in_this_file: bool,
}

/// The first bytes of a record: where they begin and what was collected.
struct OpenRecord {
    offset: u64,
    head: Vec<u8>,
}

impl Scan {
    fn begin_file(&mut self, number: u64, path: PathBuf) {
        (self.number, self.path, self.offset) = (number, path, 0);
        if let Some(bad) = &mut self.bad {
            bad.in_this_file = false;
        }
    }

    /// Goes through the blocks of a file of this length.
    fn file(&mut self, mut file: impl Read, file_bytes: u64) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        while self.offset < file_bytes {
            bytes.clear();
            (&mut file)
                .take(BLOCK_BYTES as u64)
                .read_to_end(&mut bytes)
                .map_err(read_failed)?;
            if bytes.is_empty() {
                break;
            }
            self.block(&Block {
                bytes: &bytes,
                ends_file: self.offset + bytes.len() as u64 >= file_bytes,
            })?;
        }
        Ok(())
    }

    /// A record that the file does not finish was torn.
    fn end_file(&mut self) {
        if let Some(open) = self.open.take() {
            self.note_bad(open.offset, Cause::Torn);
        }
    }

    /// Nothing follows that could give a loss away: the bad place itself has to tell.
    fn finish(self) -> Result<(), Error> {
        match self.bad {
            Some(bad) if bad.cause == Cause::Damage => Err(damaged(&bad.path, bad.offset)),
            _ => Ok(()),
        }
    }

    /// Goes through one block. After a bad place every offset is tried: its length cannot be trusted.
    fn block(&mut self, block: &Block<'_>) -> Result<(), Error> {
        let mut at = 0;
        while block.bytes.len() - at >= HEADER_BYTES {
            let offset = self.offset + at as u64;
            match Fragment::parse(&block.bytes[at..], Some(self.number)) {
                Some(fragment) => {
                    self.fragment(&fragment, offset)?;
                    at += fragment.bytes;
                }
                None => {
                    if self.bad.is_none() {
                        self.note_bad(offset, block.cause(at));
                    }
                    self.open = None;
                    at += 1;
                }
            }
        }
        self.offset += block.bytes.len() as u64;
        Ok(())
    }

    fn fragment(&mut self, fragment: &Fragment<'_>, offset: u64) -> Result<(), Error> {
        match (fragment.part, &mut self.open) {
            (Part::Other, _) => Ok(()),
            (Part::Full | Part::First, open) => {
                if let Some(unfinished) = open.take() {
                    self.note_bad(unfinished.offset, Cause::Damage);
                }
                let mut begun = OpenRecord {
                    offset,
                    head: Vec::new(),
                };
                begun.collect(fragment.payload);
                self.open = Some(begun);
                self.finish_if(fragment.part == Part::Full)
            }
            (Part::Middle | Part::Last, Some(open)) => {
                open.collect(fragment.payload);
                self.finish_if(fragment.part == Part::Last)
            }
            (Part::Middle | Part::Last, None) => {
                // The rest of a record whose beginning is bad: it says nothing new.
                self.note_bad(offset, Cause::Damage);
                Ok(())
            }
        }
    }

    fn finish_if(&mut self, finished: bool) -> Result<(), Error> {
        if !finished {
            return Ok(());
        }
        let Some(record) = self.open.take() else {
            return Ok(());
        };
        let Some((sequence, count)) = record.numbers() else {
            self.note_bad(record.offset, Cause::Damage);
            return Ok(());
        };
        let lost = match (&self.bad, self.expected) {
            (None, _) => false,
            (Some(_), Some(expected)) if sequence < expected => return Ok(()),
            (Some(_), Some(expected)) => sequence > expected,
            (Some(bad), None) => bad.in_this_file || bad.cause == Cause::Damage,
        };
        match &self.bad {
            Some(bad) if lost => Err(Error::log_damaged(format!(
                "{} is unreadable at offset {}, and a complete record follows at offset {} of {}",
                bad.path.display(),
                bad.offset,
                record.offset,
                self.path.display()
            ))),
            _ => {
                // Recovery once dropped a torn record here and went on with its number.
                self.bad = None;
                self.expected = Some(sequence.saturating_add(u64::from(count)));
                Ok(())
            }
        }
    }

    /// Only the first bad place counts: behind a torn one everything belongs to the same record.
    fn note_bad(&mut self, offset: u64, cause: Cause) {
        self.open = None;
        if self.bad.is_none() {
            self.bad = Some(Bad {
                path: self.path.clone(),
                offset,
                cause,
                in_this_file: true,
            });
        }
    }
}

impl OpenRecord {
    fn collect(&mut self, payload: &[u8]) {
        let missing = RECORD_HEAD_BYTES.saturating_sub(self.head.len());
        self.head
            .extend_from_slice(&payload[..missing.min(payload.len())]);
    }

    fn numbers(&self) -> Option<(u64, u32)> {
        let (sequence, count) = self.head.split_at_checked(8)?;
        Some((
            u64::from_le_bytes(sequence.try_into().ok()?),
            u32::from_le_bytes(count.try_into().ok()?),
        ))
    }
}

/// Why a fragment cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It was never written to its end.
    Torn,
    /// It was, and changed later.
    Damage,
}

/// A block of a file, and whether it is the last one.
struct Block<'a> {
    bytes: &'a [u8],
    ends_file: bool,
}

impl Block<'_> {
    /// Why the fragment at `at` cannot be read; at least a header is left there.
    fn cause(&self, at: usize) -> Cause {
        let fragment = &self.bytes[at..];
        if self.has_unwritten_sector(at) {
            return Cause::Torn;
        }
        if !self.ends_file {
            // Only sectors can be missing: the end of the file is elsewhere.
            return Cause::Damage;
        }
        // Recyclable types have a longer header, but logs are not recycled: such a type is a changed one.
        let claimed = HEADER_BYTES + usize::from(u16::from_le_bytes([fragment[4], fragment[5]]));
        if claimed <= fragment.len() || is_whole_but_for_its_length(fragment) {
            Cause::Damage
        } else {
            Cause::Torn
        }
    }

    /// Whether a sector is zero, or as much of the first and the last one as lies between `at` and the end.
    fn has_unwritten_sector(&self, at: usize) -> bool {
        let first_bytes = (SECTOR_BYTES - at % SECTOR_BYTES).min(self.bytes.len() - at);
        let (first, others) = self.bytes[at..].split_at(first_bytes);
        let unwritten = |sector: &[u8], bytes_min| sector.len() >= bytes_min && is_zero(sector);
        unwritten(first, CHECKSUM_BYTES)
            || others
                .chunks(SECTOR_BYTES)
                .any(|sector| unwritten(sector, ZEROS_MIN))
    }
}

/// Whether a fragment passes its checksum when it reaches to the end of the file.
fn is_whole_but_for_its_length(fragment: &[u8]) -> bool {
    let sum = &fragment[..CHECKSUM_BYTES];
    let payload = &fragment[HEADER_BYTES..];
    PLAIN_KINDS.iter().any(|kind| {
        let found = crc32c::crc32c_append(crc32c::crc32c(&[*kind]), payload);
        mask(found).to_le_bytes() == sum
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Full,
    First,
    Middle,
    Last,
    /// Carries no change: settings of the file.
    Other,
}

/// A piece of a record within one block.
struct Fragment<'a> {
    part: Part,
    payload: &'a [u8],
    /// With its header.
    bytes: usize,
}

impl<'a> Fragment<'a> {
    /// The fragment at the beginning of `bytes`, or `None` when there is no good one. `file` is the number that
    /// recyclable fragments must carry.
    fn parse(bytes: &'a [u8], file: Option<u64>) -> Option<Fragment<'a>> {
        let kind = *bytes.get(6)?;
        let (part, header_bytes) = match kind {
            1 => (Part::Full, HEADER_BYTES),
            2 => (Part::First, HEADER_BYTES),
            3 => (Part::Middle, HEADER_BYTES),
            4 => (Part::Last, HEADER_BYTES),
            5 => (Part::Full, RECYCLABLE_HEADER_BYTES),
            6 => (Part::First, RECYCLABLE_HEADER_BYTES),
            7 => (Part::Middle, RECYCLABLE_HEADER_BYTES),
            8 => (Part::Last, RECYCLABLE_HEADER_BYTES),
            9 | 10 | 130 => (Part::Other, HEADER_BYTES),
            11 | 131 => (Part::Other, RECYCLABLE_HEADER_BYTES),
            _ => return None,
        };
        let end = header_bytes + usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        let payload = bytes.get(header_bytes..end)?;
        if header_bytes == RECYCLABLE_HEADER_BYTES {
            let number = u32::from_le_bytes(bytes[7..11].try_into().ok()?);
            if file.is_some_and(|file| file as u32 != number) {
                return None;
            }
        }
        let sum = u32::from_le_bytes(bytes[..4].try_into().ok()?);
        (mask(crc32c::crc32c(&bytes[6..end])) == sum).then_some(Fragment {
            part,
            payload,
            bytes: end,
        })
    }
}

fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(CRC_MASK_DELTA)
}

#[cfg(test)]
mod tests;
