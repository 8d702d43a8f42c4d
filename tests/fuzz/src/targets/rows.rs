//! A store with one row.

use std::collections::BTreeMap;

use antumbra_shadow::{RowKey, Rows};
use bytes::Bytes;

/// Rows that were written, and one that stands at every other key.
#[derive(Debug, Default)]
pub(crate) struct OneRow {
    everywhere: Option<Bytes>,
    written: BTreeMap<RowKey, Option<Bytes>>,
}

/// A row does not hold what it should.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

impl OneRow {
    /// The row is at each key whose rows begin with its first byte, so that it is what is looked for.
    pub(crate) fn new(row: &[u8]) -> Self {
        Self {
            everywhere: Some(Bytes::copy_from_slice(row)),
            written: BTreeMap::new(),
        }
    }
}

/// The format tag of the rows at a key.
fn tag(key: &RowKey) -> u8 {
    match key {
        RowKey::Document(..) => 0x11,
        RowKey::Request(..) => 0x16,
        RowKey::RequestOrder(..) => 0x17,
        RowKey::Device(_) => 0x18,
    }
}

impl Rows for OneRow {
    type Error = Damaged;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Damaged> {
        if let Some(written) = self.written.get(key) {
            return Ok(written.clone());
        }
        let row = self.everywhere.as_ref();
        Ok(row.filter(|row| row.first() == Some(&tag(key))).cloned())
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.written.insert(key.clone(), Some(value));
    }

    fn delete(&mut self, key: &RowKey) {
        self.written.insert(key.clone(), None);
    }

    fn damaged(&self, _key: &RowKey) -> Damaged {
        Damaged
    }
}
