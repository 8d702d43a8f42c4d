//! The file of a shard: a format tag, then frames of rows, each behind its length and checksum.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::row::Row;

/// First byte of a file. Never used again for another format.
const TAG_ROWS_V1: u8 = 0x53;

/// No frame is longer: rows travel in messages of at most 4 MiB.
const FRAME_BYTES_MAX: u32 = 4 << 20;

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The disk fails.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another file, or a newer version's.
    #[error("the format tag is {0:#04x}; this version reads {TAG_ROWS_V1:#04x}")]
    Tag(u8),
    /// The file ends within a frame.
    #[error("the frame at byte {0} is cut off")]
    CutOff(u64),
    /// The frame is not what was written.
    #[error("the frame at byte {0} does not have its checksum")]
    Checksum(u64),
    /// No frame is so long.
    #[error("the frame at byte {0} has an impossible length")]
    Length(u64),
    /// The checksum is right and the rows are not.
    #[error("the frame at byte {0} does not hold rows")]
    Rows(u64),
}

/// Writes a file.
pub(crate) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(crate) fn begin(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(&[TAG_ROWS_V1])?;
        Ok(Writer { out })
    }

    /// Adds a frame. No rows make no frame.
    pub(crate) fn write(&mut self, rows: &[Row]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::new();
        for row in rows {
            payload.extend_from_slice(&(row.key.len() as u32).to_be_bytes());
            payload.extend_from_slice(&(row.value.len() as u32).to_be_bytes());
            payload.extend_from_slice(&row.key);
            payload.extend_from_slice(&row.value);
        }
        self.out.write_all(&(payload.len() as u32).to_be_bytes())?;
        self.out.write_all(&checksum(&payload).to_be_bytes())?;
        self.out.write_all(&payload)
    }

    /// What was written to.
    pub(crate) fn into_inner(self) -> W {
        self.out
    }
}

/// Reads a file frame by frame. Nothing follows an error.
pub(crate) struct Reader<R> {
    input: R,
    /// Where the next frame begins.
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Checks the tag.
    pub(crate) fn open(mut input: R) -> Result<Reader<R>, Error> {
        let mut tag = [0];
        match input.read_exact(&mut tag) {
            Ok(()) if tag[0] == TAG_ROWS_V1 => Ok(Reader { input, at: 1 }),
            Ok(()) => Err(Error::Tag(tag[0])),
            Err(error) => Err(cut_off(error, 0)),
        }
    }

    /// The rows of the next frame; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<Row>>, Error> {
        let at = self.at;
        let mut head = [0; 8];
        // The end is only where a frame would begin.
        if self.input.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        let read = self.input.read_exact(&mut head[1..]);
        read.map_err(|error| cut_off(error, at))?;
        let [a, b, c, d, e, f, g, h] = head;
        let (length, sum) = (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        );
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(Error::Length(at));
        }
        let mut payload = vec![0; length as usize];
        let read = self.input.read_exact(&mut payload);
        read.map_err(|error| cut_off(error, at))?;
        if checksum(&payload) != sum {
            return Err(Error::Checksum(at));
        }
        self.at = at + 8 + u64::from(length);
        rows(payload.into()).ok_or(Error::Rows(at)).map(Some)
    }
}

fn cut_off(error: io::Error, at: u64) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::CutOff(at),
        _ => Error::Io(error),
    }
}

fn checksum(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

fn rows(mut rest: Bytes) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (key, value) = (length(&rest, 0)?, length(&rest, 4)?);
        let whole = key.checked_add(value)?.checked_add(8)?;
        if rest.len() < whole {
            return None;
        }
        let mut row = rest.split_to(whole).slice(8..);
        let key = row.split_to(key);
        rows.push(Row { key, value: row });
    }
    Some(rows)
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes) as usize)
}
