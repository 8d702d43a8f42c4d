//! Snapshots of one shard as a stream of checksummed, tagged chunks.
//!
//! Nothing is written to disk on the sending side: the stream reads a RocksDB snapshot of the shard's
//! ranges that was opened together with the position it states. Chunks are numbered, so that a
//! lost, repeated or reordered one is found as surely as a flipped bit.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::ids::{HashRange, ShardId};

use super::StateStore;
use super::install::Staged;
use super::keys::data_ranges;
use super::position::Position;

/// A chunk is closed once its rows reach this many bytes; one row may go over it.
pub(crate) const CHUNK_BYTES_TARGET: usize = 256 * 1024;

/// No chunk is ever longer: a longer one is refused unread.
pub const CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Chunks that wait for a slow reader.
const CHUNKS_AHEAD: usize = 2;

/// Tag, checksum and number in front of every chunk body.
const CHUNK_HEAD_BYTES: usize = 1 + 4 + 4;

/// The chunks of a snapshot on their way: made by the source, or fed by a transport.
///
/// The stream reads nothing before the first [`SnapshotData::next`]; dropping it releases whatever it holds.
pub struct SnapshotData(Source);

enum Source {
    /// Chunks that a producer or a transport makes.
    Stream {
        start: Option<oneshot::Sender<()>>,
        chunks: mpsc::Receiver<Result<Bytes, Error>>,
    },
    /// Received, verified and written beside the store: ready to be installed.
    Staged(Staged),
}

/// The end of a snapshot stream that a transport feeds with received chunks.
pub struct SnapshotFeeder(mpsc::Sender<Result<Bytes, Error>>);

/// What a chunk says, decoded and verified.
#[derive(Debug, PartialEq)]
pub(crate) enum Chunk {
    /// Always the first: whose data follow, at which position.
    Head {
        shard: ShardId,
        range: HashRange,
        position: Bytes,
    },
    /// Rows in ascending order of their keys.
    Rows(Vec<(Bytes, Bytes)>),
    /// Always the last: how many rows there were.
    End { rows: u64 },
}

/// Tags of chunks; part of the format on the wire, never reused.
const TAG_HEAD_V1: u8 = 0x51;
const TAG_ROWS_V1: u8 = 0x52;
const TAG_END_V1: u8 = 0x53;

impl SnapshotData {
    /// A stream that a transport feeds.
    pub fn channel() -> (SnapshotFeeder, SnapshotData) {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let data = SnapshotData(Source::Stream {
            start: None,
            chunks,
        });
        (SnapshotFeeder(sender), data)
    }

    /// The next chunk, or `None` at the end. May be dropped midway.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        self.chunks()?.recv().await
    }

    /// The next chunk, for a thread that may block.
    pub(crate) fn blocking_next(&mut self) -> Option<Result<Bytes, Error>> {
        self.chunks()?.blocking_recv()
    }

    pub(crate) fn staged(staged: Staged) -> SnapshotData {
        SnapshotData(Source::Staged(staged))
    }

    /// The staged snapshot, or the stream that is still to be staged.
    pub(crate) fn into_staged(self) -> Result<Staged, SnapshotData> {
        match self.0 {
            Source::Staged(staged) => Ok(staged),
            stream @ Source::Stream { .. } => Err(SnapshotData(stream)),
        }
    }

    /// Opens the shard's ranges now and streams them on demand; the position is exactly the one of the opened rows.
    pub(crate) async fn open(
        store: Arc<StateStore>,
        shard: ShardId,
        range: HashRange,
    ) -> Result<Option<(Position, SnapshotData)>, Error> {
        let (opened, position) = oneshot::channel();
        let (start, started) = oneshot::channel();
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            produce(&store, shard, range, opened, started, &sender);
        });
        let position = position.await.map_err(|_| Error::Stopped)??;
        Ok(position.map(|position| {
            let data = SnapshotData(Source::Stream {
                start: Some(start),
                chunks,
            });
            (position, data)
        }))
    }

    /// Stands for a snapshot of which only the position is asked.
    pub(crate) fn without_rows() -> SnapshotData {
        SnapshotData::channel().1
    }

    fn chunks(&mut self) -> Option<&mut mpsc::Receiver<Result<Bytes, Error>>> {
        let Source::Stream { start, chunks } = &mut self.0 else {
            return None;
        };
        if let Some(start) = start.take() {
            // A producer that is gone shows as the end of the chunks.
            let _ = start.send(());
        }
        Some(chunks)
    }
}

impl std::fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotData")
    }
}

impl SnapshotFeeder {
    /// Hands a received chunk, or the reason why no more will come, to the installer. False when
    /// the installer has gone.
    pub async fn send(&self, chunk: Result<Bytes, Error>) -> bool {
        self.0.send(chunk).await.is_ok()
    }
}

/// Runs on a blocking thread for as long as the stream is read.
fn produce(
    store: &StateStore,
    shard: ShardId,
    range: HashRange,
    opened: oneshot::Sender<Result<Option<Position>, Error>>,
    started: oneshot::Receiver<()>,
    chunks: &mpsc::Sender<Result<Bytes, Error>>,
) {
    let pinned = store.pin(shard).and_then(|view| {
        let position = view.position(shard)?;
        Ok(position.map(|position| (view, position)))
    });
    let (view, position) = match pinned {
        Ok(Some(pinned)) => pinned,
        other => {
            let _ = opened.send(other.map(|_| None));
            return;
        }
    };
    if opened.send(Ok(Some(position.clone()))).is_err() || started.blocking_recv().is_err() {
        return;
    }
    let mut encoder = Encoder::default();
    let send = |chunk: Bytes| chunks.blocking_send(Ok(chunk)).is_ok();
    if !send(encoder.head(shard, range, &position)) {
        return;
    }
    for range in data_ranges(shard, range) {
        for row in view.rows(&range) {
            let full = match row {
                Ok((key, value)) => encoder.row(&key, &value),
                Err(error) => {
                    let _ = chunks.blocking_send(Err(error));
                    return;
                }
            };
            if full.is_some_and(|chunk| !send(chunk)) {
                return;
            }
        }
    }
    for chunk in encoder.end() {
        if !send(chunk) {
            return;
        }
    }
}

/// Makes numbered chunks.
#[derive(Default)]
pub(crate) struct Encoder {
    number: u32,
    rows: u64,
    body: BytesMut,
}

impl Encoder {
    pub(crate) fn head(&mut self, shard: ShardId, range: HashRange, position: &Position) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u32(shard.0);
        body.put_u32(range.start);
        body.put_u32(range.end);
        body.put_slice(&position.encode());
        self.chunk(TAG_HEAD_V1, &body)
    }

    /// Adds a row; gives a chunk when one is full.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Option<Bytes> {
        self.rows += 1;
        self.body.put_u32(key.len() as u32);
        self.body.put_u32(value.len() as u32);
        self.body.put_slice(key);
        self.body.put_slice(value);
        (self.body.len() >= CHUNK_BYTES_TARGET).then(|| self.close_rows())
    }

    pub(crate) fn end(&mut self) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        if !self.body.is_empty() {
            chunks.push(self.close_rows());
        }
        chunks.push(self.chunk(TAG_END_V1, &self.rows.to_be_bytes()));
        chunks
    }

    fn close_rows(&mut self) -> Bytes {
        let body = self.body.split();
        self.chunk(TAG_ROWS_V1, &body)
    }

    fn chunk(&mut self, tag: u8, body: &[u8]) -> Bytes {
        let mut chunk = BytesMut::with_capacity(CHUNK_HEAD_BYTES + body.len());
        chunk.put_u8(tag);
        chunk.put_u32(checksum(tag, self.number, body));
        chunk.put_u32(self.number);
        chunk.put_slice(body);
        self.number += 1;
        chunk.freeze()
    }
}

/// Verifies and decodes chunks in their order.
#[derive(Default)]
pub(crate) struct Decoder {
    number: u32,
}

impl Decoder {
    /// Fails on anything that is not exactly the next chunk of one snapshot.
    pub(crate) fn decode(&mut self, mut chunk: Bytes) -> Result<Chunk, Error> {
        if chunk.len() < CHUNK_HEAD_BYTES || chunk.len() > CHUNK_BYTES_MAX {
            return Err(refused("a chunk has an impossible length"));
        }
        let (tag, sum, number) = (chunk.get_u8(), chunk.get_u32(), chunk.get_u32());
        if checksum(tag, number, &chunk) != sum {
            return Err(refused("the checksum of a chunk is wrong"));
        }
        if number != self.number {
            return Err(refused("a chunk is missing or repeated"));
        }
        self.number += 1;
        match tag {
            TAG_HEAD_V1 => decode_head(chunk),
            TAG_ROWS_V1 => decode_rows(chunk),
            TAG_END_V1 if chunk.len() == 8 => Ok(Chunk::End {
                rows: chunk.get_u64(),
            }),
            _ => Err(refused("a chunk has an unknown tag")),
        }
    }
}

fn decode_head(mut body: Bytes) -> Result<Chunk, Error> {
    if body.len() < 12 {
        return Err(refused("the first chunk is cut"));
    }
    let shard = ShardId(body.get_u32());
    let range = HashRange {
        start: body.get_u32(),
        end: body.get_u32(),
    };
    Ok(Chunk::Head {
        shard,
        range,
        position: body,
    })
}

fn decode_rows(mut body: Bytes) -> Result<Chunk, Error> {
    let mut rows = Vec::new();
    while body.has_remaining() {
        if body.len() < 8 {
            return Err(refused("a row is cut"));
        }
        let (key, value) = (body.get_u32() as usize, body.get_u32() as usize);
        if key.saturating_add(value) > body.len() {
            return Err(refused("a row is cut"));
        }
        rows.push((body.split_to(key), body.split_to(value)));
    }
    Ok(Chunk::Rows(rows))
}

fn checksum(tag: u8, number: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[tag]);
    hasher.update(&number.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

pub(crate) fn refused(what: &'static str) -> Error {
    Error::SnapshotRefused { what }
}
