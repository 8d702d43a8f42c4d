//! The column families of the state store: rows that live differently are kept apart.
//!
//! Documents are written over and over, all over the keys; nearly all rows of sharded tables (a feed) are
//! added at the end, never changed, and deleted from the front. In one family every flushed file
//! would span both, and each merge of documents would copy the whole feed once more.
//!
//! A write batch is atomic over families. Flushes are made so (`set_atomic_flush`): a crash takes both
//! back to the same position. An ingest is not: see `install` for what makes up for it.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, ColumnFamily, DB, DBCompactionStyle, DBCompressionType,
    Options, UniversalCompactOptions,
};

use super::delta;
use super::keys::{KeyKind, TABLES};
use super::open::StateOptions;

/// Flushed files that wait before they are merged into the next level.
const L0_FILES: i32 = 8;

/// Sorted runs of sharded tables before some of them are merged: the more, the fewer times a row is copied in
/// its life. Writes are slowed down at three times as many, and wait at four.
const SHARDED_RUNS: i32 = 12;

/// How much of the oldest run of sharded tables the newer ones may have together before all become
/// one, in percent. RocksDB looks at it only when there are [`SHARDED_RUNS`]: what was deleted takes
/// disk until then.
const SHARDED_AMPLIFICATION_PERCENT: i32 = 100;

/// Runs of sharded tables are compressed when all older ones together have less than this part of the bytes:
/// what is new will be merged again before long.
const SHARDED_COMPRESSED_PERCENT: i32 = 70;

/// Rows of sharded tables are scanned: larger blocks make fewer of them.
const SHARDED_BLOCK_BYTES: usize = 16 << 10;

/// Part of a memtable of documents that is a Bloom filter: a document that is not in it is looked for in files
/// without a walk through its skip list. An entry of 100 bytes has 16 bits of it, a larger one more.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;

/// By level: none for what was just flushed.
const COMPRESSION: [DBCompressionType; 7] = {
    let mut levels = [DBCompressionType::Lz4; 7];
    levels[0] = DBCompressionType::None;
    levels
};

/// Which column family a row is in: its key says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Ranged tables, positions, and the row of the store itself.
    Main,
    /// Sharded tables.
    Sharded,
}

impl Family {
    pub(crate) const ALL: [Family; 2] = [Family::Main, Family::Sharded];

    /// The name on disk, never changed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::Main => "default",
            Family::Sharded => "sharded",
        }
    }

    /// Where a row with this encoded key is.
    pub(crate) fn with(key: &[u8]) -> Family {
        let sharded = KeyKind::Sharded as u8..KeyKind::Sharded as u8 + TABLES;
        match key.first() {
            Some(kind) if sharded.contains(kind) => Family::Sharded,
            _ => Family::Main,
        }
    }

    /// The family in an open store.
    pub(crate) fn of(self, db: &DB) -> &ColumnFamily {
        let family = db.cf_handle(self.name());
        family.expect("a store is opened with all its families")
    }

    /// How RocksDB is to keep the family.
    pub(crate) fn options(self, options: &StateOptions, cache: &rocksdb::Cache) -> Options {
        let mut blocks = self.blocks();
        blocks.set_block_cache(cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_pin_top_level_index_and_filter(true);
        let mut rocks = self.file_options();
        rocks.set_block_based_table_factory(&blocks);
        rocks.set_write_buffer_size(options.memtable_bytes);
        rocks.set_max_write_buffer_number(3);
        // A flushed file is rewritten soon; only what stays is worth compressing.
        rocks.set_compression_per_level(&COMPRESSION);
        match self {
            Family::Main => {
                delta::teach(&mut rocks);
                rocks.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
                rocks.set_memtable_whole_key_filtering(true);
                // Documents are written over and over: the more flushed files are merged at a time, the
                // fewer of their old versions are copied.
                rocks.set_level_zero_file_num_compaction_trigger(L0_FILES);
                rocks.set_level_compaction_dynamic_level_bytes(true);
            }
            Family::Sharded => {
                // What is only added needs no order of levels: runs of a size are merged, so that a
                // row is copied a few times in its life and not once for each merge of newer ones.
                rocks.set_compaction_style(DBCompactionStyle::Universal);
                rocks.set_level_zero_file_num_compaction_trigger(SHARDED_RUNS);
                rocks.set_level_zero_slowdown_writes_trigger(3 * SHARDED_RUNS);
                rocks.set_level_zero_stop_writes_trigger(4 * SHARDED_RUNS);
                let mut universal = UniversalCompactOptions::default();
                universal.set_max_size_amplification_percent(SHARDED_AMPLIFICATION_PERCENT);
                universal.set_compression_size_percent(SHARDED_COMPRESSED_PERCENT);
                rocks.set_universal_compaction_options(&universal);
            }
        }
        rocks
    }

    /// What files written for an ingest share with the store.
    pub(crate) fn file_options(self) -> Options {
        let mut rocks = Options::default();
        rocks.set_compression_type(DBCompressionType::Lz4);
        rocks.set_block_based_table_factory(&self.blocks());
        rocks
    }

    /// Index and filter of a file are in parts of a block's size, so that what a read needs fits the
    /// cache however large the store: one part of each, not the whole of a file.
    fn blocks(self) -> BlockBasedOptions {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_format_version(6);
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        match self {
            Family::Main => {
                blocks.set_bloom_filter(10.0, false);
                blocks.set_partition_filters(true);
            }
            Family::Sharded => blocks.set_block_size(SHARDED_BLOCK_BYTES),
        }
        blocks
    }
}
