//! What a snapshot says about itself: `manifest.json`.

use serde::{Deserialize, Serialize};

use super::row::Counts;

/// The format of a snapshot that this version writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Format of the directory.
    pub(crate) format: u32,
    /// Version of the program that wrote it.
    pub(crate) antumbra: String,
    /// The cluster that it is of.
    pub(crate) cluster_id: String,
    /// What that cluster is called.
    pub(crate) cluster_name: String,
    /// When it was finished, in milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// Replicas that the shards had at most.
    pub(crate) replication_factor: u32,
    /// In the order of their hashes; together they own every hash once.
    pub(crate) shards: Vec<Shard>,
}

/// One shard at its read point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shard {
    /// Its number in that cluster.
    pub(crate) shard: u32,
    /// Name of the file.
    pub(crate) file: String,
    /// First and last device hash that it owns.
    pub(crate) first_hash: u32,
    /// Both included.
    pub(crate) last_hash: u32,
    /// Index of the log whose state this is: everything acknowledged before the save is in it.
    pub(crate) index: u64,
    /// When it was read, in milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// Rows in the file.
    pub(crate) rows: u64,
    /// Rows that are documents, those of deleted shadows included.
    pub(crate) documents: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    /// XXH3-64 over keys and values, 16 hexadecimal digits.
    pub(crate) checksum: String,
}

impl Manifest {
    /// As it stands in the file.
    pub(crate) fn encode(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("texts and numbers can always be written") + "\n"
    }

    /// Reads the file and checks what it says about the shards.
    pub(crate) fn decode(text: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!(
                "it has format {}; this version reads format {FORMAT}",
                manifest.format
            ));
        }
        let mut next = Some(0);
        for shard in &manifest.shards {
            if shard.file != file_of(shard.shard) {
                return Err(format!("shard {} cannot be in that file", shard.shard));
            }
            if Some(shard.first_hash) != next || shard.last_hash < shard.first_hash {
                return Err(format!(
                    "the hashes of shard {} do not follow those before",
                    shard.shard
                ));
            }
            next = shard.last_hash.checked_add(1);
        }
        match next {
            None => Ok(manifest),
            Some(hash) => Err(format!("no shard owns hash {hash:08x}")),
        }
    }
}

impl Shard {
    /// What its rows must amount to.
    pub(crate) fn says(&self, counts: &Counts) -> bool {
        self.rows == counts.rows
            && self.documents == counts.documents
            && self.bytes == counts.bytes
            && self.checksum == checksum_text(counts)
    }
}

/// A checksum as it stands in the file.
pub(crate) fn checksum_text(counts: &Counts) -> String {
    format!("{:016x}", counts.checksum)
}

/// The name of the file of a shard.
pub(crate) fn file_of(shard: u32) -> String {
    format!("shard-{shard:05}.rows")
}
