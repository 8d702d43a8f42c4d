//! One request of a node about a shard, and its answer, as bytes.
//!
//! A request starts with a tag that names its kind and version, then says which shard, how long the
//! asker waits and whose data the caller may touch. A command travels as the log entry that it would
//! become (with time 0: the leader stamps it), an outcome as the reply of an entry, so neither has
//! a second format. Decoding is total; what cannot be read is refused by the receiver and changes
//! nothing.

use std::time::Duration;

use antumbra_raft::{Node, ShardId};
use antumbra_shadow::{
    DeviceEntry, DeviceKey, Document, Draft, Entry, Failure, Outcome, Tenant, Time,
    decode_outcomes, encode_outcomes,
};
use bytes::Bytes;

use crate::error::Error;
use crate::shadows::keys;
use crate::shadows::list::{DeviceFilter, Found, PAGE_SIZE_MAX, ShadowSummary};
use crate::shadows::question::{Question, Reply};
use crate::shadows::read::{Consistency, ReadOptions};

use super::bytes::{Reader, Writer};

#[cfg(test)]
mod tests;

/// The largest message, either way.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;

/// The first byte of each message. The values are never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    CommandV1 = 0x51,
    DocumentQuestionV1 = 0x52,
    ShadowsQuestionV1 = 0x53,
    DevicesQuestionV1 = 0x54,
    OutcomeV1 = 0x58,
    DocumentReplyV1 = 0x59,
    ShadowsReplyV1 = 0x5a,
    DevicesReplyV1 = 0x5b,
    NotLeaderV1 = 0x5c,
    RefusalV1 = 0x5d,
}

impl Tag {
    const ALL: [Tag; 10] = [
        Tag::CommandV1,
        Tag::DocumentQuestionV1,
        Tag::ShadowsQuestionV1,
        Tag::DevicesQuestionV1,
        Tag::OutcomeV1,
        Tag::DocumentReplyV1,
        Tag::ShadowsReplyV1,
        Tag::DevicesReplyV1,
        Tag::NotLeaderV1,
        Tag::RefusalV1,
    ];

    fn open(message: Bytes) -> Option<(Tag, Reader)> {
        let (byte, reader) = Reader::open(message)?;
        let tag = Tag::ALL.into_iter().find(|tag| *tag as u8 == byte)?;
        Some((tag, reader))
    }
}

/// What every request says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The shard that the asker thinks it is about.
    pub(crate) shard: ShardId,
    /// How long the asker waits for the answer.
    pub(crate) remaining: Duration,
    /// The only tenant that the caller may touch.
    pub(crate) tenant: Option<Tenant>,
}

/// What a node asks another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Carry this out, if you lead the shard.
    Command {
        device: DeviceKey,
        draft: Box<Draft>,
    },
    /// Answer this.
    Question(Question),
}

/// What the other node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The command was carried out, accepted or rejected.
    Outcome(Outcome),
    Reply(Reply),
    /// Nothing was done, because another replica leads: this one, as far as is known.
    NotLeader(Option<Node>),
    Refused(Refusal),
}

/// Why there is neither outcome nor reply. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Refusal {
    Overloaded = 1,
    /// Certainly nothing was done; another attempt may succeed.
    Unavailable = 2,
    /// The result was lost.
    Unknown = 3,
    Deadline = 4,
    Damaged = 5,
    PermissionDenied = 6,
    /// The receiver cannot read the request: nothing was done.
    NotUnderstood = 7,
    /// A bug of the receiver.
    Internal = 8,
}

impl Refusal {
    const ALL: [Refusal; 8] = [
        Refusal::Overloaded,
        Refusal::Unavailable,
        Refusal::Unknown,
        Refusal::Deadline,
        Refusal::Damaged,
        Refusal::PermissionDenied,
        Refusal::NotUnderstood,
        Refusal::Internal,
    ];
}

/// What a command that found no outcome is answered with.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        match failure {
            Failure::Overloaded => Refusal::Overloaded,
            Failure::NotLeader | Failure::Unavailable(_) => Refusal::Unavailable,
            Failure::Unknown => Refusal::Unknown,
            Failure::Deadline => Refusal::Deadline,
            Failure::Damaged => Refusal::Damaged,
        }
    }
}

/// What a read that failed is answered with.
impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::Overloaded => Refusal::Overloaded,
            Error::Unavailable(_) => Refusal::Unavailable,
            Error::Deadline => Refusal::Deadline,
            Error::Damaged => Refusal::Damaged,
            Error::PermissionDenied => Refusal::PermissionDenied,
            _ => Refusal::Internal,
        }
    }
}

/// What it means to the asker.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Overloaded => Error::Overloaded,
            Refusal::Unavailable => Error::Unavailable("another node cannot serve the shard now"),
            Refusal::Unknown => Error::OutcomeUnknown,
            Refusal::Deadline => Error::Deadline,
            Refusal::Damaged => Error::Damaged,
            Refusal::PermissionDenied => Error::PermissionDenied,
            Refusal::NotUnderstood => Error::Unavailable("another node is older than this one"),
            Refusal::Internal => Error::Internal("another node failed"),
        }
    }
}

fn request(tag: Tag, envelope: &Envelope, capacity: usize) -> Writer {
    let mut writer = Writer::new(tag as u8, capacity + 128);
    writer.u32(envelope.shard.0);
    let remaining = envelope.remaining.as_millis();
    writer.u32(u32::try_from(remaining).unwrap_or(u32::MAX));
    writer.option(envelope.tenant.as_ref(), |writer, tenant| {
        writer.text(tenant.as_str());
    });
    writer
}

/// A command for the leader of a shard.
pub(crate) fn encode_command(envelope: &Envelope, device: &DeviceKey, draft: Draft) -> Bytes {
    let command = draft.stamp(Time(0));
    let entry = Entry::Device(DeviceEntry::new(device.clone(), vec![command])).encode();
    let mut writer = request(Tag::CommandV1, envelope, entry.len());
    writer.bytes(&entry);
    writer.finish()
}

/// A question for a replica of a shard.
pub(crate) fn encode_question(envelope: &Envelope, question: &Question) -> Bytes {
    match question {
        Question::Document {
            device,
            shadow,
            options,
        } => {
            let mut writer = request(Tag::DocumentQuestionV1, envelope, 256);
            writer.device(device);
            writer.text(shadow.as_str());
            writer.u8(u8::from(options.consistency == Consistency::Local));
            writer.u64(options.min_version);
            writer.finish()
        }
        Question::Shadows { device, from, size } => {
            let mut writer = request(Tag::ShadowsQuestionV1, envelope, 512);
            writer.device(device);
            writer.key(from);
            writer.u32(*size as u32);
            writer.finish()
        }
        Question::Devices {
            filter,
            from,
            size,
            rows_max,
        } => {
            let mut writer = request(Tag::DevicesQuestionV1, envelope, 512);
            writer.text(filter.tenant.as_str());
            writer.text(&filter.prefix);
            writer.key(from);
            writer.u32(*size as u32);
            writer.u32(*rows_max as u32);
            writer.finish()
        }
    }
}

/// Reads a request; `None` when it is damaged or of a newer version.
pub(crate) fn decode_request(message: Bytes) -> Option<(Envelope, Request)> {
    let (tag, mut reader) = Tag::open(message)?;
    let envelope = Envelope {
        shard: reader.shard()?,
        remaining: Duration::from_millis(u64::from(reader.u32()?)),
        tenant: reader.option(Reader::tenant)?,
    };
    let request = match tag {
        Tag::CommandV1 => {
            let (device, draft) = read_command(&mut reader)?;
            Request::Command { device, draft }
        }
        Tag::DocumentQuestionV1 => Request::Question(Question::Document {
            device: reader.device()?,
            shadow: reader.shadow()?,
            options: ReadOptions {
                consistency: match reader.u8()? {
                    0 => Consistency::Linearizable,
                    1 => Consistency::Local,
                    _ => return None,
                },
                min_version: reader.u64()?,
            },
        }),
        Tag::ShadowsQuestionV1 => Request::Question(Question::Shadows {
            device: reader.device()?,
            from: reader.key(keys::document_at)?,
            size: reader.u32()? as usize,
        }),
        Tag::DevicesQuestionV1 => Request::Question(Question::Devices {
            filter: DeviceFilter {
                tenant: reader.tenant()?,
                prefix: reader.text(|prefix| Some(prefix.to_owned()))?,
            },
            from: reader.key(keys::device_row_at)?,
            size: reader.u32()? as usize,
            rows_max: reader.u32()? as usize,
        }),
        _ => return None,
    };
    reader.finish((envelope, request))
}

fn read_command(reader: &mut Reader) -> Option<(DeviceKey, Box<Draft>)> {
    let Ok(Entry::Device(entry)) = Entry::decode(&reader.bytes()?) else {
        return None;
    };
    let mut commands = entry.commands.into_iter();
    match (commands.next(), commands.next()) {
        (Some(command), None) => Some((entry.device, Box::new(command.draft))),
        _ => None,
    }
}

impl Answer {
    /// The message, tag included.
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Answer::Outcome(outcome) => {
                let outcome = encode_outcomes(std::slice::from_ref(outcome));
                let mut writer = Writer::new(Tag::OutcomeV1 as u8, outcome.len() + 8);
                writer.bytes(&outcome);
                writer.finish()
            }
            Answer::Reply(reply) => encode_reply(reply),
            Answer::NotLeader(leader) => {
                let mut writer = Writer::new(Tag::NotLeaderV1 as u8, 64);
                writer.option(leader.as_ref(), Writer::node);
                writer.finish()
            }
            Answer::Refused(refusal) => {
                let mut writer = Writer::new(Tag::RefusalV1 as u8, 1);
                writer.u8(*refusal as u8);
                writer.finish()
            }
        }
    }

    /// Reads an answer; `None` when it is damaged or of a newer version.
    pub(crate) fn decode(message: Bytes) -> Option<Answer> {
        let (tag, mut reader) = Tag::open(message)?;
        let answer = match tag {
            Tag::OutcomeV1 => {
                let mut outcomes = decode_outcomes(&reader.bytes()?).ok()?.into_iter();
                match (outcomes.next(), outcomes.next()) {
                    (Some(outcome), None) => Answer::Outcome(outcome),
                    _ => return None,
                }
            }
            Tag::NotLeaderV1 => Answer::NotLeader(reader.option(Reader::node)?),
            Tag::RefusalV1 => {
                let number = reader.u8()?;
                let refusals = Refusal::ALL.into_iter();
                Answer::Refused({ refusals }.find(|refusal| *refusal as u8 == number)?)
            }
            _ => Answer::Reply(read_reply(tag, &mut reader)?),
        };
        reader.finish(answer)
    }
}

fn encode_reply(reply: &Reply) -> Bytes {
    match reply {
        Reply::Document { seen, document } => {
            let bytes = document.as_ref().map(Document::encoded);
            let capacity = bytes.map_or(0, Bytes::len) + 16;
            let mut writer = Writer::new(Tag::DocumentReplyV1 as u8, capacity);
            writer.u64(*seen);
            writer.option(bytes, |writer, bytes| writer.bytes(bytes));
            writer.finish()
        }
        Reply::Shadows(found) => write_found(Tag::ShadowsReplyV1, found, |writer, summary| {
            writer.text(summary.name.as_str());
            writer.u64(summary.version);
            writer.u64(summary.updated.0);
        }),
        Reply::Devices(found) => write_found(Tag::DevicesReplyV1, found, |writer, device| {
            writer.text(device.as_str());
        }),
    }
}

fn read_reply(tag: Tag, reader: &mut Reader) -> Option<Reply> {
    match tag {
        Tag::DocumentReplyV1 => {
            let seen = reader.u64()?;
            let bytes = reader.option(Reader::bytes)?;
            let document = bytes.map(Document::decode).transpose().ok()?;
            Some(Reply::Document { seen, document })
        }
        Tag::ShadowsReplyV1 => {
            let found = read_found(reader, keys::document_at, |reader| {
                Some(ShadowSummary {
                    name: reader.shadow()?,
                    version: reader.u64()?,
                    updated: Time(reader.u64()?),
                })
            })?;
            Some(Reply::Shadows(found))
        }
        Tag::DevicesReplyV1 => {
            let found = read_found(reader, keys::device_row_at, Reader::device_id)?;
            Some(Reply::Devices(found))
        }
        _ => None,
    }
}

fn write_found<T>(tag: Tag, found: &Found<T>, entry: impl Fn(&mut Writer, &T)) -> Bytes {
    let mut writer = Writer::new(tag as u8, 64 + 64 * found.entries.len());
    writer.u32(found.entries.len() as u32);
    for found in &found.entries {
        entry(&mut writer, found);
    }
    writer.u32(found.scanned as u32);
    writer.option(found.next.as_ref(), Writer::key);
    writer.finish()
}

fn read_found<T>(
    reader: &mut Reader,
    key_at: fn(u32, &[u8]) -> antumbra_raft::Key,
    entry: impl FnMut(&mut Reader) -> Option<T>,
) -> Option<Found<T>> {
    Some(Found {
        entries: reader.list(PAGE_SIZE_MAX, entry)?,
        scanned: reader.u32()? as usize,
        next: reader.option(|reader| reader.key(key_at))?,
    })
}
