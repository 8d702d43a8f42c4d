//! Typed keys of the state store: one fixed kind byte, then big-endian numbers.
//!
//! Every row of a shard is found by its hash range (*ranged* tables) or by its shard id (*sharded*
//! tables and the position row), so that dropping a replica is a handful of range deletes.

use std::fmt;

use bytes::Bytes;

use crate::ids::{HashRange, ShardId};

use super::family::Family;

/// Number of ranged tables, and of sharded tables.
pub const TABLES: u8 = 16;

/// First byte of every key. The values are part of the format on disk and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum KeyKind {
    /// Which store this is: id and format.
    Store = 0x01,
    /// First of sixteen tables keyed by hash.
    Ranged = 0x10,
    /// First of sixteen tables keyed by shard.
    Sharded = 0x20,
    /// The last applied position of a shard. Sorts after all data, so that a snapshot writes it last.
    Position = 0x40,
}

/// The place of one row in the state store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// A row of a ranged table: it belongs to the shard whose hash range holds `hash`.
    ///
    /// # Panics
    /// When `table` is not below [`TABLES`]: tables are constants of the program.
    pub fn ranged(table: u8, hash: u32, rest: &[u8]) -> Key {
        Key::ranged_of(table, hash, &[rest])
    }

    /// The same, with a rest in parts.
    ///
    /// # Panics
    /// As [`Key::ranged`].
    pub fn ranged_of(table: u8, hash: u32, rest: &[&[u8]]) -> Key {
        assert!(table < TABLES, "ranged table {table} does not exist");
        Key::build(KeyKind::Ranged as u8 + table, hash, rest)
    }

    /// A row of a sharded table.
    ///
    /// # Panics
    /// When `table` is not below [`TABLES`]: tables are constants of the program.
    pub fn sharded(table: u8, shard: ShardId, rest: &[u8]) -> Key {
        assert!(table < TABLES, "sharded table {table} does not exist");
        Key::build(KeyKind::Sharded as u8 + table, shard.0, &[rest])
    }

    /// The exclusive end of all rows of a ranged table up to and including `last_hash`.
    pub fn ranged_end(table: u8, last_hash: u32) -> Key {
        Key::ranged(table, last_hash, &[]).prefix_end()
    }

    /// The exclusive end of all rows of `shard` in a sharded table.
    pub fn sharded_end(table: u8, shard: ShardId) -> Key {
        Key::sharded(table, shard, &[]).prefix_end()
    }

    /// The smallest key that is greater than every key that starts with this one.
    pub fn prefix_end(&self) -> Key {
        let mut bytes = self.0.to_vec();
        while let Some(last) = bytes.pop() {
            if last < u8::MAX {
                bytes.push(last + 1);
                break;
            }
        }
        // The kind byte is never 0xff, so the loop always stopped at a byte it could raise.
        Key(bytes.into())
    }

    /// The smallest key that is greater than this one: where a scan goes on.
    pub fn successor(&self) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Key(bytes.into())
    }

    /// The encoded key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The part after kind and number: what was given as `rest`.
    pub fn rest(&self) -> &[u8] {
        &self.0[5.min(self.0.len())..]
    }

    pub(crate) fn position(shard: ShardId) -> Key {
        Key::build(KeyKind::Position as u8, shard.0, &[])
    }

    pub(crate) fn store() -> Key {
        Key(Bytes::from_static(&[KeyKind::Store as u8]))
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Where rows with such a key are.
    pub(crate) fn family(&self) -> Family {
        Family::with(&self.0)
    }

    /// Only rows of ranged tables go through the cache: the others are scanned, not read by point.
    pub(crate) fn is_ranged(&self) -> bool {
        self.0
            .first()
            .is_some_and(|kind| (0x10..0x20).contains(kind))
    }

    fn build(kind: u8, number: u32, rest: &[&[u8]]) -> Key {
        let mut bytes = Vec::with_capacity(5 + rest.iter().map(|part| part.len()).sum::<usize>());
        bytes.push(kind);
        bytes.extend_from_slice(&number.to_be_bytes());
        for part in rest {
            bytes.extend_from_slice(part);
        }
        Key(bytes.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

/// A half-open range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) from: Key,
    pub(crate) to: Key,
}

impl KeyRange {
    /// Where its rows are: a range never spans two families.
    pub(crate) fn family(&self) -> Family {
        self.from.family()
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.from.as_bytes() <= key && key < self.to.as_bytes()
    }
}

/// The data ranges of a shard in ascending order, without its position row.
pub(crate) fn data_ranges(shard: ShardId, range: HashRange) -> Vec<KeyRange> {
    let ranged_tables = if range.is_empty() { 0 } else { TABLES };
    let ranged = (0..ranged_tables).map(|table| KeyRange {
        from: Key::ranged(table, range.start, &[]),
        to: Key::ranged_end(table, range.end),
    });
    let sharded = (0..TABLES).map(|table| KeyRange {
        from: Key::sharded(table, shard, &[]),
        to: Key::sharded_end(table, shard),
    });
    ranged.chain(sharded).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Golden bytes: keys on disk never change their shape.
    #[test]
    fn keys_have_their_frozen_bytes() {
        assert_eq!(
            Key::ranged(2, 0x0102_0304, b"ab").as_bytes(),
            b"\x12\x01\x02\x03\x04ab"
        );
        assert_eq!(
            Key::sharded(1, ShardId(7), b"x").as_bytes(),
            b"\x21\x00\x00\x00\x07x"
        );
        assert_eq!(
            Key::position(ShardId(7)).as_bytes(),
            b"\x40\x00\x00\x00\x07"
        );
        assert_eq!(Key::store().as_bytes(), b"\x01");
        assert_eq!(Key::ranged(2, 9, b"ab").rest(), b"ab");
    }

    /// Scans and range deletes rely on byte order being number order.
    #[test]
    fn keys_sort_by_number_then_rest() {
        let keys = [
            Key::ranged(0, 0, b""),
            Key::ranged(0, 1, b"z"),
            Key::ranged(0, 256, b"a"),
            Key::ranged(0, u32::MAX, b"a"),
            Key::ranged(1, 0, b""),
            Key::sharded(0, ShardId(0), b""),
            Key::sharded(15, ShardId(u32::MAX), b""),
            Key::position(ShardId(0)),
        ];
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    }

    /// A shard at the upper end of the hash space must not lose or overrun its last hash.
    #[test]
    fn range_ends_are_exact() {
        let end = Key::ranged_end(0, u32::MAX);
        assert!(Key::ranged(0, u32::MAX, &[0xff; 8]) < end);
        assert!(end <= Key::ranged(1, 0, b""));
        let end = Key::ranged_end(3, 0x00ff);
        assert!(Key::ranged(3, 0x00ff, &[0xff; 8]) < end);
        assert!(end <= Key::ranged(3, 0x0100, b""));
        assert!(Key::sharded_end(15, ShardId(u32::MAX)) <= Key::position(ShardId(0)));
    }

    #[test]
    fn data_ranges_are_disjoint_and_ascending() {
        let ranges = data_ranges(
            ShardId(3),
            HashRange {
                start: 5,
                end: u32::MAX,
            },
        );
        assert_eq!(ranges.len(), 2 * usize::from(TABLES));
        assert!(ranges.windows(2).all(|pair| pair[0].to <= pair[1].from));
        assert!(ranges.iter().all(|range| range.from < range.to));
    }
}
