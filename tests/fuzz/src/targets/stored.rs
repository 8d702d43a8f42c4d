//! What nodes send each other and keep: every shape that is decoded, and commands carried out.

use antumbra_shadow::apply::apply;
use antumbra_shadow::{
    DeviceRow, Document, Entry, FeedRecord, FeedRow, Patch, Position, Section, TimeUnit,
    decode_outcomes, encode_outcomes,
};
use bytes::Bytes;

use super::rows::OneRow;
use crate::guard::Allowance;

/// A decoder may take what [`antumbra_shadow::DECODE_BYTES_MAX`] says, before it sees the end.
pub const ALLOWANCE: Allowance = Allowance {
    base_bytes: antumbra_shadow::DECODE_BYTES_MAX + 1024 * 1024,
    per_byte: 512,
};

/// Two bytes with a length, that many bytes of a shape, and the row that the store holds when the
/// shape is an entry.
pub fn fuzz(data: &[u8]) {
    let Some((&[high, low], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (shape, row) = rest.split_at(length);
    check_shape(shape);
    check_shape(row);
    if let Ok(Entry::Device(entry)) = Entry::decode(shape)
        && let Ok(applied) = apply(&mut OneRow::new(row), Position::first(7), &entry)
    {
        assert_eq!(applied.len(), entry.commands.len(), "each has its outcome");
        let outcomes: Vec<_> = applied.iter().map(|one| one.outcome.clone()).collect();
        let stored = encode_outcomes(&outcomes);
        assert_eq!(decode_outcomes(&stored), Ok(outcomes), "outcomes are kept");
        // What is made of a row with damage in its leaves, which commands do not look at, has it too.
        let whole = Document::decode(Bytes::copy_from_slice(row)).is_ok() || row.is_empty();
        for change in applied
            .iter()
            .flat_map(|one| &one.changes)
            .filter(|_| whole)
        {
            show(&change.current);
            let record = FeedRecord::from(change);
            let again = FeedRecord::decode(&record.encode());
            assert_eq!(again, Ok(record), "the feed keeps the change");
        }
    }
}

/// What can be decoded is written as something that decodes to the same.
fn check_shape(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode(bytes) {
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry), "entry");
    }
    if let Ok(patch) = Patch::decode(bytes) {
        for section in Section::ALL {
            patch.section_json(section);
        }
        assert_eq!(Patch::decode(&patch.encode()), Ok(patch), "patch");
    }
    if let Ok(record) = FeedRecord::decode(bytes) {
        assert_eq!(FeedRecord::decode(&record.encode()), Ok(record), "record");
    }
    if let Ok(records) = FeedRow::split(bytes) {
        assert!(!records.is_empty(), "a row has records");
    }
    if let Ok(outcomes) = decode_outcomes(bytes) {
        let stored = encode_outcomes(&outcomes);
        assert_eq!(decode_outcomes(&stored), Ok(outcomes), "outcomes");
    }
    if let Ok(document) = Document::decode(Bytes::copy_from_slice(bytes)) {
        assert_eq!(document.encoded(), bytes, "a document keeps its bytes");
        show(&document);
    }
    let _ = DeviceRow::decode(bytes);
}

fn show(document: &Document) {
    for section in Section::ALL {
        document.state_json(section, &[]);
        document.metadata_json(section, &[], TimeUnit::Seconds);
    }
    document.delta_json(&[]);
    document.delta_metadata_json(TimeUnit::Seconds);
    document.state_bytes();
}
