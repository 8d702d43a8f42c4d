//! From bytes as they come to packets.

use bytes::BytesMut;

use super::check;
use super::error::Error;
use super::header::{self, Header, Kind};
use super::packet::{ClientPacket, Version};
use super::receive;

/// Room behind a packet in which the codec finds what it reserves, so that it allocates nothing.
const SPARE_BYTES: usize = 8;

/// Largest packets that are accepted, fixed header included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// CONNECT, which comes from somebody unknown. Default 4 KiB.
    pub connect_bytes_max: u32,
    /// PUBLISH. Announced as Maximum Packet Size. Default 149,504 bytes, what AWS IoT announces: a
    /// payload of 128 KiB and room for topic and properties.
    pub publish_bytes_max: u32,
    /// Every other packet. Default 16 KiB.
    pub control_bytes_max: u32,
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self {
            connect_bytes_max: 4 * 1024,
            publish_bytes_max: 149_504,
            control_bytes_max: 16 * 1024,
        }
    }
}

/// Decodes what one client sends. Between packets it owns no memory on the heap.
#[derive(Debug)]
pub struct Decoder {
    limits: SizeLimits,
    state: State,
    /// The beginning of a packet whose end has not arrived.
    partial: BytesMut,
}

#[derive(Debug, Clone, Copy)]
enum State {
    AwaitConnect,
    Connected(Version),
    Failed(Error, Option<Version>),
}

/// A packet in full.
struct Frame {
    header: Header,
    bytes: BytesMut,
}

impl Decoder {
    /// A decoder that waits for a CONNECT.
    #[must_use]
    pub fn new(limits: SizeLimits) -> Self {
        Self {
            limits,
            state: State::AwaitConnect,
            partial: BytesMut::new(),
        }
    }

    /// The version, once a CONNECT has told it (also when that CONNECT was wrong otherwise).
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self.state {
            State::AwaitConnect => None,
            State::Connected(version) => Some(version),
            State::Failed(_, version) => version,
        }
    }

    /// Bytes kept of a packet whose end has not arrived.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Bytes that the decoder owns on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes at most one packet's bytes from the front of `input`. `None` means that `input` is
    /// used up: what it held of an unfinished packet is kept here. Call again until then.
    ///
    /// # Errors
    /// Says what is wrong with the packet. Every later call gives the same error.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<ClientPacket>, Error> {
        if let State::Failed(error, _) = self.state {
            return Err(error);
        }
        self.next_packet(input).inspect_err(|error| {
            self.state = State::Failed(*error, self.version());
            self.partial = BytesMut::new();
        })
    }

    fn next_packet(&mut self, input: &mut &[u8]) -> Result<Option<ClientPacket>, Error> {
        let Some(Frame { header, mut bytes }) = self.next_frame(input)? else {
            return Ok(None);
        };
        let first_byte = bytes[0];
        let body = &mut bytes[header.bytes..];
        let version = match self.state {
            State::Connected(version) => version,
            _ => {
                let version = check::sniff_version(body)?;
                self.state = State::Connected(version);
                if version == Version::V5 && !header.is_shortest {
                    return Err(Error::Malformed("length is not in its shortest form"));
                }
                version
            }
        };
        let restore = check::packet(header.kind, (first_byte >> 1) & 0b11, body, version)?;
        let mut packet = receive::packet(header.kind, bytes, version)?;
        restore_values(&mut packet, restore);
        Ok(Some(packet))
    }

    fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Error> {
        if self.partial.is_empty()
            && let Some(header) = self.parse_header(input)?
            && let Some((packet, rest)) = input.split_at_checked(header.packet_bytes())
        {
            *input = rest;
            let mut bytes = BytesMut::with_capacity(packet.len() + SPARE_BYTES);
            bytes.extend_from_slice(packet);
            return Ok(Some(Frame { header, bytes }));
        }
        // A header that is cut off is completed byte by byte, at most four times.
        loop {
            match self.parse_header(&self.partial)? {
                Some(header) => {
                    let missing = header.packet_bytes().saturating_sub(self.partial.len());
                    self.keep(input, missing);
                    if self.partial.len() < header.packet_bytes() {
                        return Ok(None);
                    }
                    let bytes = std::mem::take(&mut self.partial);
                    return Ok(Some(Frame { header, bytes }));
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
        let version = self.version();
        let Some(header) = header::parse(bytes, version)? else {
            return Ok(None);
        };
        let bytes_max = match header.kind {
            Kind::Connect => self.limits.connect_bytes_max,
            Kind::Publish => self.limits.publish_bytes_max,
            _ => self.limits.control_bytes_max,
        };
        // Four bytes of length and five of header stay far below 2^32.
        let bytes = u32::try_from(header.packet_bytes()).unwrap_or(u32::MAX);
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        Ok(Some(header))
    }
}

/// Puts back what had to be written over for the codec.
fn restore_values(packet: &mut ClientPacket, restore: check::Restore) {
    let message = match packet {
        ClientPacket::Connect(connect) => {
            connect.clean_start &= !restore.clean_start_off;
            connect.will.as_mut().map(|will| &mut will.message)
        }
        ClientPacket::Publish(publish) => Some(&mut publish.message),
        _ => None,
    };
    if restore.expiry_zero
        && let Some(properties) = message.and_then(|message| message.properties.as_mut())
    {
        properties.expiry_s = Some(0);
    }
}
