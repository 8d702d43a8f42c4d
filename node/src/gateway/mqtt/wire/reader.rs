//! Reads the basic data types of MQTT (section 1.5) from a slice, with a position.

use super::error::Error;

/// A slice and how much of it has been read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Whether everything has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
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
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = rest
            .get(..count)
            .ok_or(Error::Malformed("field is cut off"))?;
        self.position += count;
        Ok(taken)
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

    /// Variable Byte Integer: at most four bytes, in the shortest form [MQTT-1.5.5-1].
    pub(super) fn variable(&mut self) -> Result<u32, Error> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        match variable_integer(rest)? {
            Some(length) if length.is_shortest => {
                self.position += length.bytes;
                Ok(length.value)
            }
            Some(_) => Err(Error::Malformed("integer is not in its shortest form")),
            None => Err(Error::Malformed("integer is cut off")),
        }
    }

    /// Binary Data.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Error> {
        let length = self.two_bytes()?;
        self.take(usize::from(length))
    }

    /// UTF-8 Encoded String: no ill-formed text [MQTT-1.5.4-1], no U+0000 [MQTT-1.5.4-2].
    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(Error::Malformed("text contains the null character"));
        }
        std::str::from_utf8(bytes).map_err(|_| Error::Malformed("text is not UTF-8"))
    }

    /// A packet identifier, which is never zero [MQTT-2.2.1-3].
    pub(super) fn packet_id(&mut self) -> Result<(), Error> {
        if self.two_bytes()? == 0 {
            return Err(Error::Protocol("packet identifier is zero"));
        }
        Ok(())
    }
}

/// A Variable Byte Integer that was read.
pub(super) struct VariableInteger {
    /// The number, at most 268,435,455.
    pub(super) value: u32,
    /// Bytes that it took, at most four.
    pub(super) bytes: usize,
    /// Whether it could not have been shorter.
    pub(super) is_shortest: bool,
}

/// Reads a Variable Byte Integer from the front of `bytes`; `None` when more bytes are needed.
pub(super) fn variable_integer(bytes: &[u8]) -> Result<Option<VariableInteger>, Error> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some(VariableInteger {
                value,
                bytes: index + 1,
                is_shortest: index == 0 || *byte != 0,
            }));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Error::Malformed("integer is longer than four bytes"))
    }
}
