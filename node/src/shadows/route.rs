//! The shard map: which shard owns which part of the device hash. A pure value.

use antumbra_raft::{HashRange, ShardId};

/// The most shards a map may have; far above what makes sense on one node.
pub const SHARDS_MAX: u32 = 1024;

/// Hash ranges and their shards, ascending, without gap or overlap. Shard 0 is reserved for the
/// cluster's own data, so data shards count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    places: Vec<Place>,
}

/// One shard and the hashes it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The shard.
    pub shard: ShardId,
    /// What it owns; the end is inclusive.
    pub range: HashRange,
}

impl ShardMap {
    /// Divides the hash space evenly over `count` shards, numbered from 1.
    ///
    /// # Panics
    /// When `count` is 0 or above [`SHARDS_MAX`]: configuration is validated before.
    pub fn even(count: u32) -> ShardMap {
        assert!(
            (1..=SHARDS_MAX).contains(&count),
            "a shard map has 1 to {SHARDS_MAX} shards"
        );
        let bound = |nth: u32| (u64::from(nth) << 32) / u64::from(count);
        let places = (0..count)
            .map(|nth| Place {
                shard: ShardId(nth + 1),
                range: HashRange {
                    start: bound(nth) as u32,
                    end: (bound(nth + 1) - 1) as u32,
                },
            })
            .collect();
        ShardMap { places }
    }

    /// The map of these shards; `None` when they leave a gap, overlap or take shard 0.
    pub fn of(places: impl IntoIterator<Item = Place>) -> Option<ShardMap> {
        let mut places: Vec<Place> = places.into_iter().collect();
        places.sort_by_key(|place| place.range.start);
        let mut next = Some(0);
        for place in &places {
            let (start, end) = (place.range.start, place.range.end);
            if place.shard == ShardId(0) || next != Some(start) || end < start {
                return None;
            }
            next = end.checked_add(1);
        }
        (next.is_none() && !places.is_empty()).then_some(ShardMap { places })
    }

    /// The shard that owns `hash`.
    pub fn route(&self, hash: u32) -> ShardId {
        let nth = self
            .places
            .partition_point(|place| place.range.end < hash)
            .min(self.places.len() - 1);
        self.places[nth].shard
    }

    /// All shards in ascending order of the hashes they own.
    pub fn places(&self) -> &[Place] {
        &self.places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_has_exactly_one_shard() {
        for count in [1, 2, 3, 5, 64, SHARDS_MAX] {
            let map = ShardMap::even(count);
            assert_eq!(map.places().len(), count as usize);
            assert_eq!(map.places()[0].range.start, 0);
            assert_eq!(map.places()[count as usize - 1].range.end, u32::MAX);
            for pair in map.places().windows(2) {
                assert_eq!(pair[0].range.end + 1, pair[1].range.start);
            }
            assert_eq!(
                ShardMap::of(map.places().iter().copied()),
                Some(map.clone())
            );
            for place in map.places() {
                assert_eq!(map.route(place.range.start), place.shard);
                assert_eq!(map.route(place.range.end), place.shard);
                assert_ne!(place.shard, ShardId(0));
            }
        }
    }

    #[test]
    fn map_with_a_gap_or_an_overlap_is_refused() {
        let place = |shard, start, end| Place {
            shard: ShardId(shard),
            range: HashRange { start, end },
        };
        assert_eq!(ShardMap::of([]), None);
        assert_eq!(ShardMap::of([place(1, 0, 5)]), None, "end missing");
        assert_eq!(ShardMap::of([place(1, 1, u32::MAX)]), None, "start missing");
        assert_eq!(
            ShardMap::of([place(0, 0, u32::MAX)]),
            None,
            "reserved shard"
        );
        let (low, gap, overlap) = (place(1, 0, 5), place(2, 7, u32::MAX), place(2, 5, u32::MAX));
        assert_eq!(ShardMap::of([low, gap]), None);
        assert_eq!(ShardMap::of([low, overlap]), None);
        assert!(ShardMap::of([place(2, 6, u32::MAX), low]).is_some());
    }
}
