//! From bytes as they come to packets of a server.

use bytes::{Bytes, BytesMut};

use super::Error;
use super::packets;
use super::reader::{Reader, variable_integer};
use crate::gateway::mqtt::wire::{ServerPacket, Version};

/// Decodes what one server sends. Between packets it owns no memory on the heap.
#[derive(Debug)]
pub struct Decoder {
    version: Version,
    packet_bytes_max: u32,
    failed: Option<Error>,
    /// The beginning of a packet whose end has not arrived.
    partial: BytesMut,
}

/// What a fixed header says.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Bytes of the header itself.
    bytes: usize,
    /// Bytes of the whole packet.
    packet_bytes: usize,
}

impl Decoder {
    /// A decoder for a connection of `version` that takes packets up to `packet_bytes_max`.
    #[must_use]
    pub fn new(version: Version, packet_bytes_max: u32) -> Self {
        Self {
            version,
            packet_bytes_max,
            failed: None,
            partial: BytesMut::new(),
        }
    }

    /// Takes at most one packet's bytes from the front of `input`. `None` means that `input` is
    /// used up: what it held of an unfinished packet is kept here. Call again until then.
    ///
    /// # Errors
    /// Says what is wrong with the packet. Every later call gives the same error.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<ServerPacket>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.next_packet(input).inspect_err(|error| {
            self.failed = Some(*error);
            self.partial = BytesMut::new();
        })
    }

    fn next_packet(&mut self, input: &mut &[u8]) -> Result<Option<ServerPacket>, Error> {
        let Some((header, mut bytes)) = self.next_frame(input)? else {
            return Ok(None);
        };
        let first = bytes[0];
        let body = Reader::new(bytes.split_off(header.bytes));
        packets::read(first, body, self.version).map(Some)
    }

    fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<(Header, Bytes)>, Error> {
        if self.partial.is_empty()
            && let Some(header) = self.parse_header(input)?
            && let Some((packet, rest)) = input.split_at_checked(header.packet_bytes)
        {
            *input = rest;
            return Ok(Some((header, Bytes::copy_from_slice(packet))));
        }
        // A header that is cut off is completed byte by byte, at most four times.
        loop {
            match self.parse_header(&self.partial)? {
                Some(header) => {
                    let missing = header.packet_bytes.saturating_sub(self.partial.len());
                    self.keep(input, missing);
                    if self.partial.len() < header.packet_bytes {
                        return Ok(None);
                    }
                    let bytes = std::mem::take(&mut self.partial).freeze();
                    return Ok(Some((header, bytes)));
                }
                None if input.is_empty() => return Ok(None),
                None => self.keep(input, 1),
            }
        }
    }

    /// Moves up to `count` bytes from `input` into what is kept.
    fn keep(&mut self, input: &mut &[u8], count: usize) {
        let (taken, rest) = input.split_at(count.min(input.len()));
        self.partial.extend_from_slice(taken);
        *input = rest;
    }

    fn parse_header(&self, bytes: &[u8]) -> Result<Option<Header>, Error> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        packets::check_first(*first, self.version)?;
        let Some((remaining, length_bytes)) = variable_integer(rest)? else {
            return Ok(None);
        };
        // Four groups of seven bits fit everywhere.
        let header_bytes = 1 + length_bytes;
        let packet_bytes = header_bytes + remaining as usize;
        let bytes_max = self.packet_bytes_max as usize;
        if packet_bytes > bytes_max {
            return Err(Error::TooLarge {
                bytes: packet_bytes,
                bytes_max,
            });
        }
        Ok(Some(Header {
            bytes: header_bytes,
            packet_bytes,
        }))
    }
}
