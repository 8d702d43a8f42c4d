//! A row that changed, as what differs from the row before.
//!
//! An update changes a few bytes of a document. Handed to RocksDB whole, the document is written to a flushed file and
//! copied by every merge of files on its way down. As a merge operand of what differs it is a tenth of that; RocksDB makes
//! the whole row of it when the row is read, and once for all in the merge that reaches the row before.
//!
//! A difference is an LZ4 block that has the row before as its dictionary. It carries a checksum of what it makes: on another
//! row than the one it was made for it makes nothing, and RocksDB reports damage.

use std::borrow::Cow;

use lz4_flex::block;
use rocksdb::{MergeOperands, Options};

/// The name of the operator. RocksDB notes it in the store's options: never changed.
const NAME: &str = "antumbra.delta";

/// First byte of a difference; part of the format on disk, never used again for something else.
const TAG_LZ4_V1: u8 = 0x61;

/// Tag, checksum and length before the block.
const HEAD_BYTES: usize = 9;

/// A shorter row is written whole: beside its key, and what RocksDB notes of it, it weighs little.
const ROW_BYTES_MIN: usize = 256;

/// Neither row of a difference is longer: LZ4 looks back no further than 64 KiB.
const ROW_BYTES_MAX: usize = 32 << 10;

/// A difference is worth it when it has no more than one in so many of the bytes of the row.
const WORTH: usize = 3;

/// One in so many changes is written whole all the same. So whoever reads a row that is written again and again, and that no
/// merge has reached, finds about so many differences before the row.
const WHOLE_EVERY: u32 = 16;

/// What makes `row` of `before`, where that is worth it.
pub(super) fn between(before: &[u8], row: &[u8]) -> Option<Vec<u8>> {
    let lengths = ROW_BYTES_MIN..=ROW_BYTES_MAX;
    if !lengths.contains(&row.len()) || !lengths.contains(&before.len()) {
        return None;
    }
    let checksum = crc32fast::hash(row);
    if checksum.is_multiple_of(WHOLE_EVERY) {
        return None;
    }
    let block = block::compress_with_dict(row, before);
    if block.len() > row.len() / WORTH {
        return None;
    }
    let mut delta = Vec::with_capacity(HEAD_BYTES + block.len());
    delta.push(TAG_LZ4_V1);
    delta.extend(checksum.to_le_bytes());
    delta.extend((row.len() as u32).to_le_bytes());
    delta.extend(block);
    Some(delta)
}

/// The row that a difference makes of the one before. `None` when it was made for another row, or is damaged.
fn apply(before: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let (head, block) = delta.split_first_chunk::<HEAD_BYTES>()?;
    let (&[tag], rest) = head.split_first_chunk()?;
    let (checksum, length) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    if tag != TAG_LZ4_V1 || length > ROW_BYTES_MAX {
        return None;
    }
    let row = block::decompress_with_dict(block, length, before).ok()?;
    (crc32fast::hash(&row) == u32::from_le_bytes(*checksum)).then_some(row)
}

/// Lets RocksDB make rows of differences.
pub(super) fn teach(rocks: &mut Options) {
    let make = |_: &[u8], before: Option<&[u8]>, deltas: &MergeOperands| {
        let mut row = Cow::Borrowed(before?);
        for delta in deltas {
            row = Cow::Owned(apply(&row, delta)?);
        }
        Some(row.into_owned())
    };
    // Differences are not made one: they stay side by side until a row is made.
    rocks.set_merge_operator(
        NAME,
        make,
        |_: &[u8], _: Option<&[u8]>, _: &MergeOperands| None,
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rand::rngs::SmallRng;
    use rand::{Rng, RngCore, SeedableRng};

    use super::*;

    fn random_row(random: &mut SmallRng, length: usize) -> Vec<u8> {
        let mut row = vec![0; length];
        random.fill_bytes(&mut row);
        row
    }

    /// Changed, longer and shorter in a few places.
    fn changed(random: &mut SmallRng, before: &[u8]) -> Vec<u8> {
        let mut row = before.to_vec();
        for _ in 0..random.random_range(1..4) {
            let from = random.random_range(0..row.len());
            let to = (from + random.random_range(0..12)).min(row.len());
            let length = random.random_range(0..12);
            let new = random_row(random, length);
            row.splice(from..to, new);
        }
        row
    }

    /// Whatever changes, the row comes out of it; a few bytes of what cannot be compressed make a small difference.
    #[test]
    fn a_difference_makes_the_row_again() {
        let random = &mut SmallRng::seed_from_u64(7);
        let (mut made, mut whole, mut bytes) = (0, 0, 0);
        for _ in 0..2_000 {
            let length = random.random_range(600..3_000);
            let before = random_row(random, length);
            let row = changed(random, &before);
            match between(&before, &row) {
                Some(delta) => {
                    assert_eq!(apply(&before, &delta).unwrap(), row);
                    bytes += delta.len();
                    made += 1;
                }
                None => whole += 1,
            }
        }
        assert!(made > 1_700 && whole > 60, "{made} made, {whole} whole");
        assert!(bytes / made < 80, "{} bytes each", bytes / made);
    }

    /// Short rows, long ones, and what has little in common are written whole.
    #[test]
    fn a_difference_must_be_worth_it() {
        let random = &mut SmallRng::seed_from_u64(8);
        for _ in 0..50 {
            let row = random_row(random, 2_000);
            let other = random_row(random, 2_000);
            assert_eq!(between(&other, &row), None);
            assert_eq!(between(&row[..ROW_BYTES_MIN - 1], &row), None);
            assert_eq!(between(&row, &row[..ROW_BYTES_MIN - 1]), None);
            let long = random_row(random, ROW_BYTES_MAX + 1);
            assert_eq!(between(&long, &long), None);
        }
    }

    /// Nothing is made of another row, or of bytes that are not a difference; nothing panics.
    #[test]
    fn a_difference_of_another_row_makes_nothing() {
        let random = &mut SmallRng::seed_from_u64(9);
        let mut tried = 0;
        while tried < 300 {
            let before = random_row(random, 700);
            let row = changed(random, &before);
            let Some(delta) = between(&before, &row) else {
                continue;
            };
            tried += 1;
            let mut other = before.clone();
            other[random.random_range(0..700)] ^= 1 << random.random_range(0..8);
            // A byte that the change did not keep does not matter.
            let made = apply(&other, &delta);
            assert!(made.is_none() || made.unwrap() == row);
            assert_eq!(apply(&[], &delta), None);
            for cut in 0..delta.len() {
                assert_eq!(apply(&before, &delta[..cut]), None);
            }
            let mut damaged = delta.clone();
            damaged[random.random_range(0..delta.len())] ^= 1 << random.random_range(0..8);
            let made = apply(&before, &damaged);
            assert!(made.is_none() || made.unwrap() == row);
            let length = random.random_range(0..200);
            assert_eq!(apply(&before, &random_row(random, length)), None);
        }
    }

    /// The bytes on disk of a known difference.
    #[test]
    fn bytes_on_disk_are_read_for_ever() {
        let before: Vec<u8> = (0..400_u32).map(|n| (n * n / 7 % 251) as u8).collect();
        let mut row = before.clone();
        row[200..204].copy_from_slice(b"here");
        let golden = "615e756b7e900100000f9001b54f686572659001ab6058c93fb02799";
        let delta: Vec<u8> = (0..golden.len() / 2)
            .map(|at| u8::from_str_radix(&golden[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        assert_eq!(apply(&before, &delta).unwrap(), row);
    }
}
