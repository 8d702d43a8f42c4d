//! Frames and messages as they travel.
//!
//! A frame is a format tag and one or more messages, each behind its length: the sender puts into it
//! whatever has queued up. A message is a format tag, a correlation id, its envelope, its kind and its
//! body. Decoding is total: what this version cannot have sent is an error, and the connection ends.

use bytes::{Buf, BufMut, Bytes};

use crate::codec::DecodeError;
use crate::ids::{ReplicaId, ShardId};

use super::body::{Body, Kind, part};
use super::{FRAME_BYTES_MAX, Route};

/// Tag of a frame; part of the format, never reused.
const TAG_FRAME_V1: u8 = 0x70;
/// Tag of a message; part of the format, never reused.
const TAG_MESSAGE_V1: u8 = 0x71;

/// Tag, correlation id, shard, from, to, kind.
const HEAD_BYTES: usize = 1 + 8 + 4 + 8 + 8 + 1;

/// A frame is closed once it holds this much; one larger message has a frame for itself.
const FRAME_BYTES_TARGET: usize = 256 << 10;

/// What is left of a frame for its tag, lengths, heads, and what a transport puts around it.
const FRAME_OVERHEAD_BYTES: usize = 4 << 10;

/// No body is longer.
pub(super) const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES;

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    /// Chosen by the asking side; the answer has the same one.
    pub(super) id: u64,
    /// Who speaks to whom; empty for requests of nodes.
    pub(super) route: Route,
    pub(super) body: Body,
}

/// A message that does not fit into a frame.
#[derive(Debug)]
pub(super) struct TooLong;

impl Message {
    /// The message behind its length, as it stands in a frame.
    pub(super) fn encode(&self) -> Result<Bytes, TooLong> {
        let mut bytes = Vec::with_capacity(4 + HEAD_BYTES + 64);
        bytes.put_u32(0);
        bytes.put_u8(TAG_MESSAGE_V1);
        bytes.put_u64(self.id);
        bytes.put_u32(self.route.shard.0);
        bytes.put_u64(self.route.from.0);
        bytes.put_u64(self.route.to.0);
        bytes.put_u8(self.body.kind() as u8);
        self.body.encode(&mut bytes);
        if bytes.len() > 4 + HEAD_BYTES + BODY_BYTES_MAX {
            return Err(TooLong);
        }
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Ok(bytes.into())
    }

    fn decode(mut bytes: Bytes) -> Result<Message, DecodeError> {
        if bytes.len() < HEAD_BYTES {
            return Err(DecodeError::Impossible("a message is cut"));
        }
        tagged(TAG_MESSAGE_V1, bytes.get_u8())?;
        let id = bytes.get_u64();
        let route = Route {
            shard: ShardId(bytes.get_u32()),
            from: ReplicaId(bytes.get_u64()),
            to: ReplicaId(bytes.get_u64()),
        };
        let kind = Kind::parse(bytes.get_u8())
            .ok_or(DecodeError::Impossible("a message of an unknown kind"))?;
        let body = Body::decode(kind, bytes)?;
        Ok(Message { id, route, body })
    }
}

/// A frame that is being filled.
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn new() -> Frame {
        Frame(vec![TAG_FRAME_V1])
    }

    /// Whether another encoded message belongs into this frame.
    pub(super) fn takes(&self, message: &Bytes) -> bool {
        self.0.len() == 1 || self.0.len() + message.len() <= FRAME_BYTES_TARGET
    }

    pub(super) fn push(&mut self, message: &Bytes) {
        self.0.extend_from_slice(message);
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// The messages of a received frame.
pub(super) fn decode_frame(mut frame: Bytes) -> Result<Vec<Message>, DecodeError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::TooLong(frame.len()));
    }
    if !frame.has_remaining() {
        return Err(DecodeError::Empty);
    }
    tagged(TAG_FRAME_V1, frame.get_u8())?;
    let mut messages = Vec::new();
    while frame.has_remaining() {
        messages.push(Message::decode(part(&mut frame)?)?);
    }
    Ok(messages)
}

fn tagged(expected: u8, found: u8) -> Result<(), DecodeError> {
    if found == expected {
        Ok(())
    } else {
        Err(DecodeError::WrongTag { expected, found })
    }
}

#[cfg(test)]
mod tests;
