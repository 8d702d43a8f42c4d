//! A row of a shard outside of it, and what many of them amount to.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// Key and value as a shard stores them, without places in its feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

impl Row {
    /// Bytes of key and value.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// What the rows of a shard amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) rows: u64,
    /// Rows that are documents, those of deleted shadows included.
    pub(crate) documents: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    /// XXH3-64 over all rows: length of the key and of the value (4 bytes each, big-endian), key, value.
    pub(crate) checksum: u64,
}

/// Counts rows as they pass.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Counts,
    hasher: Xxh3,
}

impl Tally {
    /// One more row.
    pub(crate) fn add(&mut self, row: &Row, is_document: bool) {
        self.counts.rows += 1;
        self.counts.documents += u64::from(is_document);
        self.counts.bytes += row.bytes() as u64;
        self.hasher.update(&(row.key.len() as u32).to_be_bytes());
        self.hasher.update(&(row.value.len() as u32).to_be_bytes());
        self.hasher.update(&row.key);
        self.hasher.update(&row.value);
    }

    /// What passed so far.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            checksum: self.hasher.digest(),
            ..self.counts
        }
    }
}

/// The row of a device's counters, for tests.
#[cfg(test)]
pub(crate) fn device_row(id: &str) -> Row {
    use antumbra_shadow::{DeviceId, DeviceKey, Tenant};

    let id = DeviceId::parse(id).expect("tests name devices well");
    let device = DeviceKey::new(Tenant::default(), id);
    let key = crate::shadows::device_row_key(&device);
    Row {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(&[0x18, 1, 1, 0, 0, 0, 0, 0]),
    }
}
