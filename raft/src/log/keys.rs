//! Typed keys of the log store: one fixed kind byte, then big-endian numbers.

use crate::ids::ShardId;

/// First byte of every key. The values are part of the format on disk and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum KeyKind {
    /// Which store this is: id and format.
    Store = 0x01,
    /// The number of the last batch.
    Batch = 0x02,
    /// The vote of a shard.
    Vote = 0x10,
    /// How far a shard knew its log to be committed.
    Committed = 0x11,
    /// Up to where a shard's log was purged.
    Purged = 0x12,
    /// An entry of a shard.
    Entry = 0x20,
}

const SHARD_KEY_BYTES: usize = 1 + 4;
const ENTRY_KEY_BYTES: usize = SHARD_KEY_BYTES + 8;

/// Key of the row that says whose store this is.
pub(super) fn store() -> [u8; 1] {
    [KeyKind::Store as u8]
}

/// Key of the row with the number of the last batch.
pub(super) fn batch() -> [u8; 1] {
    [KeyKind::Batch as u8]
}

/// Key of a shard's vote.
pub(super) fn vote(shard: ShardId) -> [u8; SHARD_KEY_BYTES] {
    of_shard(KeyKind::Vote, shard)
}

/// Key of a shard's committed position.
pub(super) fn committed(shard: ShardId) -> [u8; SHARD_KEY_BYTES] {
    of_shard(KeyKind::Committed, shard)
}

/// Key of a shard's purged position.
pub(super) fn purged(shard: ShardId) -> [u8; SHARD_KEY_BYTES] {
    of_shard(KeyKind::Purged, shard)
}

/// Key of one entry.
pub(super) fn entry(shard: ShardId, index: u64) -> [u8; ENTRY_KEY_BYTES] {
    let mut key = [0; ENTRY_KEY_BYTES];
    key[..SHARD_KEY_BYTES].copy_from_slice(&of_shard(KeyKind::Entry, shard));
    key[SHARD_KEY_BYTES..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The smallest key after all entries of a shard.
pub(super) fn entries_end(shard: ShardId) -> Vec<u8> {
    match shard.0.checked_add(1) {
        Some(next) => of_shard(KeyKind::Entry, ShardId(next)).to_vec(),
        None => vec![KeyKind::Entry as u8 + 1],
    }
}

/// The index in the key of an entry.
pub(super) fn entry_index(key: &[u8]) -> Option<u64> {
    let index = key.get(SHARD_KEY_BYTES..)?;
    Some(u64::from_be_bytes(index.try_into().ok()?))
}

fn of_shard(kind: KeyKind, shard: ShardId) -> [u8; SHARD_KEY_BYTES] {
    let mut key = [0; SHARD_KEY_BYTES];
    key[0] = kind as u8;
    key[1..].copy_from_slice(&shard.0.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: keys on disk never change their shape.
    #[test]
    fn keys_have_their_frozen_bytes() {
        assert_eq!(store(), [1]);
        assert_eq!(batch(), [2]);
        assert_eq!(vote(ShardId(0x0102)), [0x10, 0, 0, 1, 2]);
        assert_eq!(committed(ShardId(3)), [0x11, 0, 0, 0, 3]);
        assert_eq!(purged(ShardId(3)), [0x12, 0, 0, 0, 3]);
        assert_eq!(
            entry(ShardId(3), 0x0405),
            [0x20, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 4, 5]
        );
    }

    /// Range deletes and scans rely on byte order being shard order, then index order.
    #[test]
    fn entries_sort_by_shard_then_index() {
        let keys = [
            entry(ShardId(0), 0),
            entry(ShardId(0), 255),
            entry(ShardId(0), 256),
            entry(ShardId(1), 0),
            entry(ShardId(u32::MAX), u64::MAX),
        ];
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(entry(ShardId(0), u64::MAX)[..] < entries_end(ShardId(0))[..]);
        assert!(entries_end(ShardId(0))[..] <= entry(ShardId(1), 0)[..]);
        assert!(entry(ShardId(u32::MAX), u64::MAX)[..] < entries_end(ShardId(u32::MAX))[..]);
        assert_eq!(entry_index(&entry(ShardId(7), 99)), Some(99));
        assert_eq!(entry_index(b"short"), None);
    }
}
