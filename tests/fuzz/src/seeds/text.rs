//! Cursors, tokens, pointers and names.

use antumbra_shadow::Position;

use super::Seed;
use crate::ShardId;
use crate::shadows::cursor::{ClusterMark, Cursor};
use crate::shadows::opaque::{self, Tag};

pub(super) fn seeds() -> Vec<Seed> {
    let place = |index, sequence| Position { index, sequence };
    let mut cursor = Cursor::default();
    cursor.set(ShardId(1), place(2, 3));
    let one = cursor.encode(ClusterMark(7));
    cursor.set(ShardId(9), place(u64::MAX, u32::MAX));
    let two = cursor.encode(ClusterMark(7));
    let page = opaque::seal(Tag::PageV1, b"\x01\x02\x03\x04\0\0\0\x01default\0pump\0");
    let texts = [
        ("cursor", one.as_str()),
        ("cursor-two", &two),
        ("cursor-cut", &two[..two.len() - 3]),
        ("page", &page),
        ("empty", ""),
        ("pointer", "/state/a~1b/m~0n"),
        ("pointer-wrong", "/a~2"),
        ("pointer-empty-keys", "//"),
        ("device", "Plant_7:pump-01"),
        ("shadow", "$motor"),
        ("accents", "/é/😀"),
    ];
    let mut seeds: Vec<Seed> = texts
        .map(|(name, text)| Seed::new("text", name, text))
        .to_vec();
    let mut places = vec![0, 0, 0, 7];
    for shard in [1, 2] {
        places.extend([0, 0, 0, shard, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6]);
    }
    seeds.push(Seed::new("text", "places", places));
    seeds
}
