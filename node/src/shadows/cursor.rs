//! Cursors: places in the feeds of one or more shards of one cluster.

use std::collections::BTreeMap;

use antumbra_raft::ShardId;
use antumbra_shadow::Position;

use super::opaque::{self, Tag};

/// Bytes of one shard's place: shard, index, sequence.
const PLACE_BYTES: usize = 16;

/// Everything up to these places has been seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    places: BTreeMap<ShardId, Position>,
}

/// Marks cursors of one cluster, so that those of another are recognised as foreign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClusterMark(pub(crate) u32);

impl Cursor {
    /// The text of a cursor in the feed of one shard, as every reply has one.
    pub(crate) fn text_at(shard: ShardId, position: Position, cluster: ClusterMark) -> String {
        encode([(shard, position)].into_iter(), cluster)
    }

    /// Where the feed of `shard` goes on; `None` when the cursor says nothing about it.
    pub(crate) fn place(&self, shard: ShardId) -> Option<Position> {
        self.places.get(&shard).copied()
    }

    /// Moves the place in one shard.
    pub(crate) fn set(&mut self, shard: ShardId, position: Position) {
        self.places.insert(shard, position);
    }

    /// The text that clients keep.
    pub(crate) fn encode(&self, cluster: ClusterMark) -> String {
        let places = self.places.iter();
        encode(places.map(|(shard, place)| (*shard, *place)), cluster)
    }

    /// Reads a client's text; `None` when it is damaged or of another cluster.
    pub(crate) fn decode(text: &str, cluster: ClusterMark) -> Option<Cursor> {
        let payload = opaque::open(Tag::CursorV1, text)?;
        let (mark, places) = payload.split_at_checked(4)?;
        if mark != cluster.0.to_be_bytes() || places.len() % PLACE_BYTES != 0 {
            return None;
        }
        let places = places.chunks_exact(PLACE_BYTES).map(decode_place);
        Some(Cursor {
            places: places.collect::<Option<_>>()?,
        })
    }
}

/// The place behind every change of the entry at `index`.
pub(crate) fn end_of(index: u64) -> Position {
    Position {
        index,
        sequence: u32::MAX,
    }
}

fn encode(
    places: impl ExactSizeIterator<Item = (ShardId, Position)>,
    cluster: ClusterMark,
) -> String {
    let mut payload = Vec::with_capacity(4 + places.len() * PLACE_BYTES);
    payload.extend_from_slice(&cluster.0.to_be_bytes());
    for (shard, position) in places {
        payload.extend_from_slice(&shard.0.to_be_bytes());
        payload.extend_from_slice(&position.index.to_be_bytes());
        payload.extend_from_slice(&position.sequence.to_be_bytes());
    }
    opaque::seal(Tag::CursorV1, &payload)
}

fn decode_place(bytes: &[u8]) -> Option<(ShardId, Position)> {
    let (shard, rest) = bytes.split_at_checked(4)?;
    let (index, sequence) = rest.split_at_checked(8)?;
    let position = Position {
        index: u64::from_be_bytes(index.try_into().ok()?),
        sequence: u32::from_be_bytes(sequence.try_into().ok()?),
    };
    Some((
        ShardId(u32::from_be_bytes(shard.try_into().ok()?)),
        position,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HOME: ClusterMark = ClusterMark(7);

    fn sample() -> Cursor {
        let mut cursor = Cursor::default();
        cursor.set(ShardId(1), end_of(9));
        cursor.set(
            ShardId(3),
            Position {
                index: u64::MAX,
                sequence: 4,
            },
        );
        cursor
    }

    /// Golden text: clients keep cursors across upgrades.
    #[test]
    fn cursor_has_its_frozen_text() {
        let position = Position {
            index: 2,
            sequence: 3,
        };
        let text = Cursor::text_at(ShardId(1), position, HOME);
        assert_eq!(Cursor::decode(&text, HOME).unwrap().encode(HOME), text);
        assert!(text.starts_with("AQAAAAcAAAABAAAAAAAAAAIAAAAD"), "{text}");
    }

    #[test]
    fn cursor_survives_its_text_form() {
        let text = sample().encode(HOME);
        assert_eq!(Cursor::decode(&text, HOME), Some(sample()));
        let empty = Cursor::default();
        assert_eq!(Cursor::decode(&empty.encode(HOME), HOME), Some(empty));
    }

    #[test]
    fn cursor_of_another_cluster_is_unknown() {
        assert_eq!(Cursor::decode(&sample().encode(HOME), ClusterMark(8)), None);
    }
}
