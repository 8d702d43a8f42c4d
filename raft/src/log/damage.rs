//! Looks for lost synced data in RocksDB's own log files, before RocksDB opens and repairs them.
//!
//! Every batch is one logical record of the write-ahead log and is synced before the next is
//! written. So after a power cut at most the last record is torn, with whatever fragments of it
//! reached the disk. A complete record after a bad place proves that something that was synced
//! cannot be read any more: RocksDB would silently stop before it.
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

/// Fails when a write-ahead log in `directory` holds a complete record after a bad place.
pub(super) fn check_wal(directory: &Path) -> Result<(), Error> {
    let mut scan = Scan::default();
    for (number, path) in wal_files(directory).map_err(read_failed)? {
        scan.begin_file(number, path.clone());
        let mut file = File::open(&path).map_err(read_failed)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        loop {
            block.clear();
            (&mut file)
                .take(BLOCK_BYTES as u64)
                .read_to_end(&mut block)
                .map_err(read_failed)?;
            if block.is_empty() {
                break;
            }
            scan.block(&block)?;
        }
        scan.end_file();
    }
    Ok(())
}

/// Length of the readable part of a manifest: up to the end of its last complete record before any bad place.
pub(super) fn manifest_readable_bytes(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let (mut readable, mut block_start) = (0, 0);
    for block in bytes.chunks(BLOCK_BYTES) {
        let mut at = 0;
        while block.len() - at >= HEADER_BYTES {
            let Some(fragment) = Fragment::parse(&block[at..], None) else {
                return Ok(readable);
            };
            at += fragment.bytes;
            if matches!(fragment.part, Part::Full | Part::Last) {
                readable = (block_start + at) as u64;
            }
        }
        block_start += block.len();
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

    /// A record that the file does not finish was torn.
    fn end_file(&mut self) {
        if let Some(open) = self.open.take() {
            self.note_bad(open.offset);
        }
    }

    /// Goes through one block. After a bad place every offset is tried: its length cannot be trusted.
    fn block(&mut self, block: &[u8]) -> Result<(), Error> {
        let mut at = 0;
        while block.len() - at >= HEADER_BYTES {
            let offset = self.offset + at as u64;
            match Fragment::parse(&block[at..], Some(self.number)) {
                Some(fragment) => {
                    self.fragment(&fragment, offset)?;
                    at += fragment.bytes;
                }
                None => {
                    self.note_bad(offset);
                    at += 1;
                }
            }
        }
        self.offset += block.len() as u64;
        Ok(())
    }

    fn fragment(&mut self, fragment: &Fragment<'_>, offset: u64) -> Result<(), Error> {
        match (fragment.part, &mut self.open) {
            (Part::Other, _) => Ok(()),
            (Part::Full | Part::First, open) => {
                if let Some(unfinished) = open.take() {
                    self.note_bad(unfinished.offset);
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
                self.note_bad(offset);
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
            self.note_bad(record.offset);
            return Ok(());
        };
        let lost = match (&self.bad, self.expected) {
            (None, _) => false,
            (Some(_), Some(expected)) if sequence < expected => return Ok(()),
            (Some(_), Some(expected)) => sequence > expected,
            (Some(bad), None) => bad.in_this_file,
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

    fn note_bad(&mut self, offset: u64) {
        self.open = None;
        if self.bad.is_none() {
            self.bad = Some(Bad {
                path: self.path.clone(),
                offset,
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
