//! The changes of one shard on their way to another node, as bytes: one request, then items.
//!
//! Documents and feed records travel in their stored form. Decoding is total: what cannot be read
//! ends the stream, and the asker goes on at another replica.

use std::collections::BTreeSet;
use std::sync::Arc;

use antumbra_raft::ShardId;
use antumbra_shadow::{Change, Document, FeedRecord, Position, Tenant};
use bytes::Bytes;

use crate::shadows::attached::Attached;
use crate::shadows::events::{ResetReason, Source};
use crate::shadows::forward::{Reader, Writer};
use crate::shadows::relay::Interest;
use crate::shadows::scan::OpeningDocument;

use super::DEVICES_MAX;

#[cfg(test)]
mod tests;

/// An item is closed when it has so many bytes; a larger record or document goes alone.
const ITEM_BYTES_TARGET: usize = 256 << 10;

/// More documents or records than an item can hold.
const LIST_MAX: usize = 1 << 20;

/// The first byte of each message. The values are never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    FollowV1 = 0x77,
    DocumentsV1 = 0x78,
    OpenedV1 = 0x79,
    ChangesV1 = 0x7a,
    ProvenV1 = 0x7b,
    ResetV1 = 0x7c,
    WholeChangesV1 = 0x7d,
}

/// Which changes a node wants of another.
#[derive(Clone)]
pub(super) struct FollowRequest {
    pub(super) shard: ShardId,
    /// Names the stream for a gateway, which says later what it wants.
    pub(super) stream: u64,
    /// The only tenant that the caller may touch.
    pub(super) only: Option<Tenant>,
    pub(super) interest: Interest,
    pub(super) start: Start,
}

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With the current documents.
    Opening,
    /// Just behind this place.
    After(Position),
    /// With what is applied next.
    Now,
}

/// One item of the stream.
#[derive(Debug)]
pub(super) enum Item {
    /// Some of the current documents.
    Documents(Vec<OpeningDocument>),
    /// All current documents were sent; they are those of this applied index.
    Opened { index: u64 },
    /// The next changes; with them everything of interest up to `upto` is known.
    Changes {
        changes: Vec<(Position, Source)>,
        upto: Position,
    },
    /// Nothing that was acknowledged before is missing up to here.
    Proven(Position),
    /// The stream is over, because it cannot go on where it is.
    Reset(ResetReason),
}

impl FollowRequest {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::new(Tag::FollowV1 as u8, 256);
        writer.u32(self.shard.0);
        writer.option(self.only.as_ref(), |writer, tenant| {
            writer.text(tenant.as_str());
        });
        match &self.interest {
            Interest::Devices(devices) => {
                writer.u8(0);
                writer.u32(devices.len() as u32);
                devices.iter().for_each(|device| writer.device(device));
            }
            Interest::Prefix { tenant, prefix } => {
                writer.u8(1);
                writer.text(tenant.as_str());
                writer.text(prefix);
            }
            // 2 was every device, without a stream; it is never used again.
            Interest::Wanted(_) | Interest::Attached(_) => {
                writer.u8(3);
                writer.u64(self.stream);
            }
        }
        match self.start {
            Start::Opening => writer.u8(0),
            Start::After(position) => {
                writer.u8(1);
                writer.position(position);
            }
            Start::Now => writer.u8(2),
        }
        writer.finish()
    }

    pub(super) fn decode(message: Bytes) -> Option<FollowRequest> {
        let (tag, mut reader) = Reader::open(message)?;
        if tag != Tag::FollowV1 as u8 {
            return None;
        }
        let mut stream = 0;
        let request = FollowRequest {
            shard: reader.shard()?,
            only: reader.option(Reader::tenant)?,
            interest: match reader.u8()? {
                0 => {
                    let devices = reader.list(DEVICES_MAX, Reader::device)?;
                    Interest::Devices(Arc::new(devices.into_iter().collect::<BTreeSet<_>>()))
                }
                1 => Interest::Prefix {
                    tenant: reader.tenant()?,
                    prefix: reader.text(|prefix| Some(prefix.into()))?,
                },
                3 => {
                    stream = reader.u64()?;
                    Interest::Attached(Arc::new(Attached::new(stream)))
                }
                _ => return None,
            },
            start: match reader.u8()? {
                0 => Start::Opening,
                1 => Start::After(reader.position()?),
                2 => Start::Now,
                _ => return None,
            },
            stream,
        };
        reader.finish(request)
    }
}

/// The messages that carry documents.
pub(super) fn encode_documents(documents: &[OpeningDocument]) -> Vec<Bytes> {
    let weight = |opening: &OpeningDocument| opening.document.encoded().len() + 256;
    let mut messages = Vec::new();
    for chunk in chunks(documents, weight) {
        let bytes: usize = chunk.iter().map(weight).sum();
        let mut writer = Writer::new(Tag::DocumentsV1 as u8, bytes);
        writer.u32(chunk.len() as u32);
        for opening in chunk {
            writer.device(&opening.device);
            writer.text(opening.shadow.as_str());
            writer.bytes(opening.document.encoded());
        }
        messages.push(writer.finish());
    }
    messages
}

/// The messages that carry changes. Each is complete up to its last change, the last one up to `upto`.
pub(super) fn encode_changes(changes: &[(Position, Source)], upto: Position) -> Vec<Bytes> {
    let encoded = changes
        .iter()
        .map(|(position, source)| (*position, record_of(source)));
    messages(Tag::ChangesV1, &encoded.collect::<Vec<_>>(), upto)
}

/// The same with the documents before and after, where they are known.
pub(super) fn encode_whole_changes(changes: &[(Position, Source)], upto: Position) -> Vec<Bytes> {
    let encoded = changes.iter().map(|(position, source)| {
        let mut writer = Writer::new(0, 1024);
        writer.bytes(&record_of(source));
        let live = match source {
            Source::Live(change) => Some(change),
            Source::Stored(_) => None,
        };
        writer.option(live, |writer, change| {
            writer.bytes(change.current.encoded());
            writer.option(change.previous.as_ref(), |writer, previous| {
                writer.bytes(previous.encoded());
            });
        });
        (*position, writer.finish().to_vec())
    });
    messages(Tag::WholeChangesV1, &encoded.collect::<Vec<_>>(), upto)
}

fn record_of(source: &Source) -> Vec<u8> {
    match source {
        Source::Live(change) => change.encode_record(),
        Source::Stored(record) => record.encode(),
    }
}

fn messages(tag: Tag, encoded: &[(Position, Vec<u8>)], upto: Position) -> Vec<Bytes> {
    let mut chunks: Vec<&[(Position, Vec<u8>)]> =
        chunks(encoded, |(_, record)| record.len() + 16).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let last = chunks.len() - 1;
    let messages = chunks.into_iter().enumerate().map(|(nth, chunk)| {
        let bytes: usize = chunk.iter().map(|(_, record)| record.len() + 16).sum();
        let mut writer = Writer::new(tag as u8, bytes + 16);
        writer.u32(chunk.len() as u32);
        for (position, record) in chunk {
            writer.position(*position);
            writer.bytes(record);
        }
        let end = chunk.last().filter(|_| nth < last);
        writer.position(end.map_or(upto, |(position, _)| *position));
        writer.finish()
    });
    messages.collect()
}

/// Reads what [`encode_whole_changes`] wrote for one change.
fn whole_change(position: Position, bytes: Bytes) -> Option<Source> {
    let (_, mut reader) = Reader::open(bytes)?;
    let record = FeedRecord::decode(&reader.bytes()?).ok()?;
    let document = |reader: &mut Reader| Document::decode(reader.bytes()?).ok();
    let documents = reader.option(|reader| {
        let current = document(reader)?;
        Some((current, reader.option(document)?))
    })?;
    let source = match documents {
        None => Source::Stored(Arc::new(record)),
        Some((current, previous)) => Source::Live(Arc::new(Change {
            device: record.device,
            shadow: record.shadow,
            version: record.version,
            time: record.time,
            actor: record.actor,
            client_token: record.client_token,
            position,
            deleted: record.deleted,
            patch: record.patch,
            undo: record.undo,
            previous,
            previous_position: record.previous_position,
            current,
        })),
    };
    reader.finish(source)
}

/// Divides a list so that each part weighs about as much as an item may.
fn chunks<T>(list: &[T], weight: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|value| {
            let first = bytes == 0;
            bytes += weight(value);
            first || bytes <= ITEM_BYTES_TARGET
        });
        let (chunk, behind) = rest.split_at(fits.count());
        rest = behind;
        (!chunk.is_empty()).then_some(chunk)
    })
}

impl Item {
    /// The message of an item without a list.
    pub(super) fn opened(index: u64) -> Bytes {
        let mut writer = Writer::new(Tag::OpenedV1 as u8, 8);
        writer.u64(index);
        writer.finish()
    }

    pub(super) fn proven(position: Position) -> Bytes {
        let mut writer = Writer::new(Tag::ProvenV1 as u8, 12);
        writer.position(position);
        writer.finish()
    }

    pub(super) fn reset(reason: ResetReason) -> Bytes {
        let mut writer = Writer::new(Tag::ResetV1 as u8, 1);
        writer.u8(match reason {
            ResetReason::CursorTrimmed => 1,
            ResetReason::CursorUnknown => 2,
            ResetReason::ReaderTooSlow => 3,
            ResetReason::SourceLost => 4,
        });
        writer.finish()
    }

    /// Reads an item; `None` when it is damaged or of a newer version.
    pub(super) fn decode(message: Bytes) -> Option<Item> {
        let (tag, mut reader) = Reader::open(message)?;
        let item = if tag == Tag::DocumentsV1 as u8 {
            Item::Documents(reader.list(LIST_MAX, |reader| {
                Some(OpeningDocument {
                    device: reader.device()?,
                    shadow: reader.shadow()?,
                    document: Document::decode(reader.bytes()?).ok()?,
                })
            })?)
        } else if tag == Tag::OpenedV1 as u8 {
            Item::Opened {
                index: reader.u64()?,
            }
        } else if tag == Tag::ChangesV1 as u8 {
            let changes = reader.list(LIST_MAX, |reader| {
                let position = reader.position()?;
                let record = FeedRecord::decode(&reader.bytes()?).ok()?;
                Some((position, Source::Stored(Arc::new(record))))
            })?;
            Item::Changes {
                changes,
                upto: reader.position()?,
            }
        } else if tag == Tag::WholeChangesV1 as u8 {
            let changes = reader.list(LIST_MAX, |reader| {
                let position = reader.position()?;
                Some((position, whole_change(position, reader.bytes()?)?))
            })?;
            Item::Changes {
                changes,
                upto: reader.position()?,
            }
        } else if tag == Tag::ProvenV1 as u8 {
            Item::Proven(reader.position()?)
        } else if tag == Tag::ResetV1 as u8 {
            Item::Reset(match reader.u8()? {
                1 => ResetReason::CursorTrimmed,
                2 => ResetReason::CursorUnknown,
                3 => ResetReason::ReaderTooSlow,
                4 => ResetReason::SourceLost,
                _ => return None,
            })
        } else {
            return None;
        };
        reader.finish(item)
    }
}
