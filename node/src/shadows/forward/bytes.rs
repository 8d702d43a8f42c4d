//! Numbers, texts and byte strings one after another: what the messages between nodes are made of.
//!
//! Numbers are big-endian, texts and byte strings stand behind their length (4 bytes). Reading is
//! total: whatever does not fit gives `None`.

use antumbra_raft::{Key, Node, ShardId};
use antumbra_shadow::{DeviceId, DeviceKey, Position, ShadowName, Tenant};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Puts a message together.
pub(crate) struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// A message that starts with this format tag.
    pub(crate) fn new(tag: u8, capacity: usize) -> Writer {
        let mut bytes = BytesMut::with_capacity(capacity + 1);
        bytes.put_u8(tag);
        Writer { bytes }
    }

    pub(crate) fn u8(&mut self, number: u8) {
        self.bytes.put_u8(number);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.bytes.put_u32(number);
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.bytes.put_u64(number);
    }

    /// Everything that is written is far below 4 GiB: larger messages are never sent.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.put_u32(bytes.len() as u32);
        self.bytes.put_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A value that may be missing: a byte that says so, then the value.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn device(&mut self, device: &DeviceKey) {
        self.text(device.tenant.as_str());
        self.text(device.device.as_str());
    }

    pub(crate) fn position(&mut self, position: Position) {
        self.u64(position.index);
        self.u32(position.sequence);
    }

    pub(crate) fn node(&mut self, node: &Node) {
        self.text(&node.name);
        self.text(&node.address);
    }

    /// A key of a ranged table, which the reader knows.
    pub(crate) fn key(&mut self, key: &Key) {
        let number = key.as_bytes().get(1..5).and_then(|n| n.try_into().ok());
        self.u32(number.map_or(0, u32::from_be_bytes));
        self.bytes(key.rest());
    }

    pub(crate) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Takes a message apart. Byte strings share the memory of the message.
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    /// The format tag of a message, and what comes behind it.
    pub(crate) fn open(message: Bytes) -> Option<(u8, Reader)> {
        let mut reader = Reader { rest: message };
        let tag = reader.u8()?;
        Some((tag, reader))
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.rest.has_remaining().then(|| self.rest.get_u8())
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        (self.rest.len() >= 4).then(|| self.rest.get_u32())
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        (self.rest.len() >= 8).then(|| self.rest.get_u64())
    }

    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        (self.rest.len() >= length).then(|| self.rest.split_to(length))
    }

    /// A text that `parse` takes.
    pub(crate) fn text<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let bytes = self.bytes()?;
        parse(std::str::from_utf8(&bytes).ok()?)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => Some(Some(read(self)?)),
            _ => None,
        }
    }

    /// A list of at most `max` values behind their number.
    pub(crate) fn list<T>(
        &mut self,
        max: usize,
        mut read: impl FnMut(&mut Reader) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        // Every value takes at least a byte, so a number alone never takes memory.
        if count > max || count > self.rest.len() {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }

    pub(crate) fn tenant(&mut self) -> Option<Tenant> {
        self.text(|text| Tenant::parse(text).ok())
    }

    pub(crate) fn device_id(&mut self) -> Option<DeviceId> {
        self.text(|text| DeviceId::parse(text).ok())
    }

    pub(crate) fn shadow(&mut self) -> Option<ShadowName> {
        self.text(|text| ShadowName::parse(text).ok())
    }

    pub(crate) fn device(&mut self) -> Option<DeviceKey> {
        Some(DeviceKey {
            tenant: self.tenant()?,
            device: self.device_id()?,
        })
    }

    pub(crate) fn shard(&mut self) -> Option<ShardId> {
        self.u32().map(ShardId)
    }

    pub(crate) fn position(&mut self) -> Option<Position> {
        Some(Position {
            index: self.u64()?,
            sequence: self.u32()?,
        })
    }

    pub(crate) fn node(&mut self) -> Option<Node> {
        let owned = |text: &str| Some(text.to_owned());
        Some(Node {
            name: self.text(owned)?,
            address: self.text(owned)?,
        })
    }

    /// A key of the table whose keys `key_at` makes.
    pub(crate) fn key(&mut self, key_at: fn(u32, &[u8]) -> Key) -> Option<Key> {
        let hash = self.u32()?;
        Some(key_at(hash, &self.bytes()?))
    }

    /// The value, if nothing is left behind it.
    pub(crate) fn finish<T>(self, value: T) -> Option<T> {
        self.rest.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_come_back_in_their_order() {
        let mut writer = Writer::new(9, 0);
        writer.u8(1);
        writer.u32(2);
        writer.u64(3);
        writer.text("four");
        writer.option(Some(5), Writer::u32);
        writer.option(None::<u32>, Writer::u32);
        let (tag, mut reader) = Reader::open(writer.finish()).unwrap();
        assert_eq!(tag, 9);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u32(), Some(2));
        assert_eq!(reader.u64(), Some(3));
        assert_eq!(reader.text(|text| Some(text.len())), Some(4));
        assert_eq!(reader.option(Reader::u32), Some(Some(5)));
        assert_eq!(reader.option(Reader::u32), Some(None));
        assert_eq!(reader.finish(()), Some(()));
    }

    /// A length or number that lies must neither panic nor reserve memory.
    #[test]
    fn lengths_that_lie_are_refused() {
        let read = |bytes: &'static [u8]| Reader::open(Bytes::from_static(bytes)).unwrap().1;
        assert!(Reader::open(Bytes::new()).is_none());
        assert_eq!(read(b"\0\xff\xff\xff\xff").bytes(), None);
        assert_eq!(
            read(b"\0\xff\xff\xff\xff").list(usize::MAX, Reader::u8),
            None
        );
        assert_eq!(read(b"\0\0\0\0\x02ab").list(1, Reader::u8), None);
        assert_eq!(read(b"\0\x02").option(Reader::u8), None);
        assert_eq!(read(b"\0\0\0\0").u32(), None);
        assert_eq!(read(b"\0\0\0\0\x01\xff").text(|t| Some(t.len())), None);
        assert_eq!(read(b"\0\0").finish(()), None);
    }
}
