//! Names of shards and replicas, and the range of hashes that a shard owns.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One Raft group. Shard 0 is the meta shard.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One shard's copy on one node: the openraft node id of that copy. Drawn anew at each add and never
/// reused, because a replica that lost its log has lost its votes too.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A contiguous range of the 32-bit hash, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HashRange {
    /// First hash of the range.
    pub start: u32,
    /// Last hash of the range.
    pub end: u32,
}

impl HashRange {
    /// All hashes.
    pub const FULL: HashRange = HashRange {
        start: 0,
        end: u32::MAX,
    };

    /// No hash: a shard that keeps no rows by hash, as the meta shard.
    pub const EMPTY: HashRange = HashRange { start: 1, end: 0 };

    /// Whether no hash lies in the range.
    pub fn is_empty(&self) -> bool {
        self.start > self.end
    }

    /// Whether `hash` lies in the range.
    pub fn contains(&self, hash: u32) -> bool {
        self.start <= hash && hash <= self.end
    }
}

impl fmt::Display for HashRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}..={:08x}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends belong to the range, also at the ends of the hash space.
    #[test]
    fn range_includes_both_ends() {
        let range = HashRange { start: 5, end: 9 };
        assert!(range.contains(5) && range.contains(9));
        assert!(!range.contains(4) && !range.contains(10));
        assert!(HashRange::FULL.contains(0) && HashRange::FULL.contains(u32::MAX));
        assert!(HashRange::EMPTY.is_empty() && !HashRange::EMPTY.contains(0));
        assert!(!HashRange { start: 0, end: 0 }.is_empty());
    }
}
