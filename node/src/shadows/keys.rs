//! Typed keys of everything a shard stores. The only place that knows how rows are laid out.
//!
//! Ranged tables are found by the device hash, sharded tables by the shard id, so that a replica
//! can be dropped by range deletes. Text parts are closed by a zero byte, which no id may contain.

use antumbra_raft::{HashRange, Key, ShardId};
use antumbra_shadow::{DeviceId, DeviceKey, Position, RequestId, RowKey, ShadowName, Tenant};

/// Length of the kind byte and the number that every key starts with.
const HEADER_BYTES: usize = 5;

/// Closes the text parts of a key.
const END: u8 = 0;
const END_PART: &[u8] = &[END];

/// Tables keyed by device hash. The numbers are part of the format on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Ranged {
    Documents = 0,
    Devices = 1,
    Requests = 2,
    RequestOrder = 3,
}

/// Tables keyed by shard. The numbers are part of the format on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Sharded {
    Feed = 0,
    Account = 1,
}

/// The key of a row that `apply` names.
pub(crate) fn row(key: &RowKey) -> Key {
    match key {
        RowKey::Device(device) => device_row(device),
        RowKey::Document(device, shadow) => document(device, shadow),
        RowKey::Request(device, request) => {
            below_device(Ranged::Requests, device, request.as_str().as_bytes())
        }
        RowKey::RequestOrder(device, sequence) => {
            below_device(Ranged::RequestOrder, device, &sequence.to_be_bytes())
        }
    }
}

/// Reads the key of any row that `apply` names back. Bytes that [`row`] does not give are none.
pub(crate) fn decode_row(bytes: &[u8]) -> Option<RowKey> {
    let mut parts = bytes.get(HEADER_BYTES..)?.splitn(3, |byte| *byte == END);
    let device = decode_device_parts(parts.next()?, parts.next()?)?;
    let last = parts.next();
    let text = last.and_then(|last| std::str::from_utf8(last).ok());
    let candidates = [
        last.is_none().then(|| RowKey::Device(device.clone())),
        text.and_then(|text| ShadowName::parse(text).ok())
            .map(|shadow| RowKey::Document(device.clone(), shadow)),
        text.and_then(|text| RequestId::parse(text).ok())
            .map(|request| RowKey::Request(device.clone(), request)),
        last.and_then(|last| last.try_into().ok())
            .map(|number| RowKey::RequestOrder(device.clone(), u64::from_be_bytes(number))),
    ];
    let mut candidates = candidates.into_iter().flatten();
    candidates.find(|key| row(key).as_bytes() == bytes)
}

/// Where the rows that `apply` names lie, of all devices with these hashes: a range for each table.
/// Behind the kind byte the rows of one device sort next to each other, its counters first.
pub(crate) fn row_tables(range: HashRange) -> [(Key, Key); 4] {
    let tables = [
        Ranged::Documents,
        Ranged::Devices,
        Ranged::Requests,
        Ranged::RequestOrder,
    ];
    tables.map(|table| {
        let from = Key::ranged(table as u8, range.start, &[]);
        (from, Key::ranged_end(table as u8, range.end))
    })
}

/// The document of one shadow.
pub(crate) fn document(device: &DeviceKey, shadow: &ShadowName) -> Key {
    below_device(Ranged::Documents, device, shadow.as_str().as_bytes())
}

/// What all documents of a device start with.
pub(crate) fn documents_of(device: &DeviceKey) -> Key {
    below_device(Ranged::Documents, device, &[])
}

/// The first key that a document of a device with this hash or a later one can have.
pub(crate) fn documents_from(hash: u32) -> Key {
    Key::ranged(Ranged::Documents as u8, hash, &[])
}

/// The exclusive end of all documents whose device hash is at most `hash`.
pub(crate) fn documents_end(hash: u32) -> Key {
    Key::ranged_end(Ranged::Documents as u8, hash)
}

/// The document whose key goes on with `rest` behind the hash.
pub(crate) fn document_at(hash: u32, rest: &[u8]) -> Key {
    Key::ranged(Ranged::Documents as u8, hash, rest)
}

/// The counters of a device.
pub(crate) fn device_row(device: &DeviceKey) -> Key {
    let (tenant, id) = texts(device);
    let rest = [tenant, END_PART, id];
    Key::ranged_of(Ranged::Devices as u8, device.hash(), &rest)
}

/// The first key that the counters of a device with this hash or a later one can have.
pub(crate) fn devices_from(hash: u32) -> Key {
    device_row_at(hash, &[])
}

/// The exclusive end of the counters of all devices whose hash is at most `hash`.
pub(crate) fn devices_end(hash: u32) -> Key {
    Key::ranged_end(Ranged::Devices as u8, hash)
}

/// The counters of the device whose key goes on with `rest` behind the hash.
pub(crate) fn device_row_at(hash: u32, rest: &[u8]) -> Key {
    Key::ranged(Ranged::Devices as u8, hash, rest)
}

/// What the keys of the counters of all devices of a tenant whose id starts with a prefix have behind the hash.
pub(crate) fn behind_hash_of(tenant: &Tenant, prefix: &str) -> Vec<u8> {
    [tenant.as_str().as_bytes(), END_PART, prefix.as_bytes()].concat()
}

/// What a key of a ranged table has behind the hash.
pub(crate) fn behind_hash(key: &[u8]) -> &[u8] {
    key.get(HEADER_BYTES..).unwrap_or_default()
}

/// Reads the key of a device's counters back.
pub(crate) fn decode_device(key: &[u8]) -> Option<DeviceKey> {
    let mut parts = key.get(HEADER_BYTES..)?.splitn(2, |byte| *byte == END);
    decode_device_parts(parts.next()?, parts.next()?)
}

/// Reads the key of a document back.
pub(crate) fn decode_document(key: &[u8]) -> Option<(DeviceKey, ShadowName)> {
    let mut parts = key.get(HEADER_BYTES..)?.splitn(3, |byte| *byte == END);
    let device = decode_device_parts(parts.next()?, parts.next()?)?;
    let shadow = std::str::from_utf8(parts.next()?).ok()?;
    Some((device, ShadowName::parse(shadow).ok()?))
}

/// The row of the feed of a shard that begins with the record at this place.
pub(crate) fn feed(shard: ShardId, position: Position) -> Key {
    let mut rest = [0; 12];
    rest[..8].copy_from_slice(&position.index.to_be_bytes());
    rest[8..].copy_from_slice(&position.sequence.to_be_bytes());
    Key::sharded(Sharded::Feed as u8, shard, &rest)
}

/// The exclusive end of the feed of a shard.
pub(crate) fn feed_end(shard: ShardId) -> Key {
    Key::sharded_end(Sharded::Feed as u8, shard)
}

/// Reads the place of the first record of a row back.
pub(crate) fn decode_feed(key: &[u8]) -> Option<Position> {
    let (index, sequence) = key.get(HEADER_BYTES..)?.split_at_checked(8)?;
    Some(Position {
        index: u64::from_be_bytes(index.try_into().ok()?),
        sequence: u32::from_be_bytes(sequence.try_into().ok()?),
    })
}

/// The totals of a shard's feed.
pub(crate) fn account(shard: ShardId) -> Key {
    Key::sharded(Sharded::Account as u8, shard, &[0])
}

/// The mark that says what the feed amounted to after the entry at `index`.
pub(crate) fn mark(shard: ShardId, index: u64) -> Key {
    let mut rest = [1; 9];
    rest[1..].copy_from_slice(&index.to_be_bytes());
    Key::sharded(Sharded::Account as u8, shard, &rest)
}

/// The exclusive end of the marks of a shard.
pub(crate) fn marks_end(shard: ShardId) -> Key {
    Key::sharded_end(Sharded::Account as u8, shard)
}

/// Reads the entry index of a mark back.
pub(crate) fn decode_mark(key: &[u8]) -> Option<u64> {
    let bytes = key.get(HEADER_BYTES + 1..)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn below_device(table: Ranged, device: &DeviceKey, last: &[u8]) -> Key {
    let (tenant, id) = texts(device);
    let rest = [tenant, END_PART, id, END_PART, last];
    Key::ranged_of(table as u8, device.hash(), &rest)
}

fn texts(device: &DeviceKey) -> (&[u8], &[u8]) {
    let (tenant, id) = (device.tenant.as_str(), device.device.as_str());
    (tenant.as_bytes(), id.as_bytes())
}

fn decode_device_parts(tenant: &[u8], device: &[u8]) -> Option<DeviceKey> {
    Some(DeviceKey {
        tenant: Tenant::parse(std::str::from_utf8(tenant).ok()?).ok()?,
        device: DeviceId::parse(std::str::from_utf8(device).ok()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use antumbra_shadow::RequestId;

    use super::*;

    fn device(id: &str) -> DeviceKey {
        DeviceKey {
            tenant: Tenant::parse("default").unwrap(),
            device: DeviceId::parse(id).unwrap(),
        }
    }

    /// Golden bytes: keys on disk never change their shape.
    #[test]
    fn keys_have_their_frozen_bytes() {
        let pump = device("pump");
        let hash = pump.hash().to_be_bytes();
        let name = ShadowName::parse("cfg").unwrap();
        let with = |table: u8, rest: &[u8]| [&[table], &hash[..], rest].concat();
        assert_eq!(
            document(&pump, &name).as_bytes(),
            with(0x10, b"default\0pump\0cfg")
        );
        assert_eq!(device_row(&pump).as_bytes(), with(0x11, b"default\0pump"));
        let request = RowKey::Request(pump.clone(), RequestId::parse("r").unwrap());
        assert_eq!(row(&request).as_bytes(), with(0x12, b"default\0pump\0r"));
        let order = RowKey::RequestOrder(pump.clone(), 258);
        assert_eq!(
            row(&order).as_bytes(),
            with(0x13, b"default\0pump\0\0\0\0\0\0\0\x01\x02")
        );
        let position = Position {
            index: 5,
            sequence: 6,
        };
        assert_eq!(
            feed(ShardId(2), position).as_bytes(),
            b"\x20\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\x06"
        );
        assert_eq!(account(ShardId(2)).as_bytes(), b"\x21\0\0\0\x02\0");
        assert_eq!(
            mark(ShardId(2), 9).as_bytes(),
            b"\x21\0\0\0\x02\x01\0\0\0\0\0\0\0\x09"
        );
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        let pump = device("pump:1");
        for name in ["", "cfg", "$x"] {
            let name = ShadowName::parse(name).unwrap();
            let key = document(&pump, &name);
            assert_eq!(decode_document(key.as_bytes()), Some((pump.clone(), name)));
        }
        assert_eq!(
            decode_device(device_row(&pump).as_bytes()),
            Some(pump.clone())
        );
        let position = Position {
            index: u64::MAX,
            sequence: 3,
        };
        assert_eq!(
            decode_feed(feed(ShardId(1), position).as_bytes()),
            Some(position)
        );
        assert_eq!(decode_mark(mark(ShardId(1), 77).as_bytes()), Some(77));
        assert_eq!(decode_document(b"\x10ab"), None);
        assert_eq!(decode_feed(b"\x20\0\0\0\x01\0\0"), None);
    }

    /// A restore writes only keys that a shard would have written itself.
    #[test]
    fn rows_are_read_back_and_nothing_else_is() {
        let pump = device("pump");
        let keys = [
            RowKey::Device(pump.clone()),
            RowKey::Document(pump.clone(), ShadowName::classic()),
            RowKey::Document(pump.clone(), ShadowName::parse("12345678").unwrap()),
            RowKey::Request(pump.clone(), RequestId::parse("12345678").unwrap()),
            RowKey::Request(pump.clone(), RequestId::parse("a\0b").unwrap()),
            RowKey::RequestOrder(pump.clone(), 0),
            RowKey::RequestOrder(pump.clone(), u64::MAX),
        ];
        for key in keys {
            assert_eq!(decode_row(row(&key).as_bytes()), Some(key));
        }
        let mut moved = device_row(&pump).as_bytes().to_vec();
        moved[4] ^= 1;
        assert_eq!(decode_row(&moved), None, "the hash is another device's");
        let others = [account(ShardId(1)), feed(ShardId(1), Position::default())];
        for other in others {
            assert_eq!(decode_row(other.as_bytes()), None);
        }
        let mut kind = device_row(&pump).as_bytes().to_vec();
        kind[0] = 0x14;
        assert_eq!(decode_row(&kind), None);
        assert_eq!(decode_row(b""), None);
    }

    /// A device whose id starts with another's must not be listed with it.
    #[test]
    fn documents_of_a_device_are_a_range_of_their_own() {
        let (a, ab) = (device("a"), device("ab"));
        let range = documents_of(&a);
        let inside = document(&a, &ShadowName::parse("z").unwrap());
        assert!(inside.as_bytes().starts_with(range.as_bytes()));
        let other = document(&ab, &ShadowName::parse("").unwrap());
        assert!(!other.as_bytes().starts_with(range.as_bytes()));
    }
}
