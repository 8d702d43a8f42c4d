//! Reads the basic data types of MQTT (section 1.5) from a packet, without copying text.

use bytes::Bytes;
use bytestring::ByteString;

use super::Error;
use crate::gateway::mqtt::wire::PacketId;

/// What is left of a packet.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Starts at the front of `bytes`.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails unless everything has been read.
    pub(super) fn expect_end(&self) -> Result<(), Error> {
        if self.is_at_end() {
            Ok(())
        } else {
            Err(Error::Malformed("bytes after the end"))
        }
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<Bytes, Error> {
        if count > self.rest.len() {
            return Err(Error::Malformed("field is cut off"));
        }
        Ok(self.rest.split_to(count))
    }

    /// Everything that is left.
    pub(super) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    /// Two Byte Integer.
    pub(super) fn two_bytes(&mut self) -> Result<u16, Error> {
        let taken = self.take(2)?;
        Ok(u16::from_be_bytes([taken[0], taken[1]]))
    }

    /// Four Byte Integer.
    pub(super) fn four_bytes(&mut self) -> Result<u32, Error> {
        let taken = self.take(4)?;
        Ok(u32::from_be_bytes([taken[0], taken[1], taken[2], taken[3]]))
    }

    /// Variable Byte Integer.
    pub(super) fn variable(&mut self) -> Result<u32, Error> {
        let Some((value, bytes)) = variable_integer(&self.rest)? else {
            return Err(Error::Malformed("integer is cut off"));
        };
        self.take(bytes)?;
        Ok(value)
    }

    /// Binary Data.
    pub(super) fn binary(&mut self) -> Result<Bytes, Error> {
        let length = self.two_bytes()?;
        self.take(usize::from(length))
    }

    /// UTF-8 Encoded String.
    pub(super) fn text(&mut self) -> Result<ByteString, Error> {
        ByteString::try_from(self.binary()?).map_err(|_| Error::Malformed("text is not UTF-8"))
    }

    /// A packet identifier, which is never zero.
    pub(super) fn packet_id(&mut self) -> Result<PacketId, Error> {
        PacketId::new(self.two_bytes()?).ok_or(Error::Malformed("packet identifier is zero"))
    }
}

/// Reads a Variable Byte Integer from the front of `bytes`, with how many bytes it took; `None`
/// when more are needed.
pub(super) fn variable_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, Error> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Error::Malformed("integer is longer than four bytes"))
    }
}
