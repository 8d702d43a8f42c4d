//! Entries, rows and records as a shard writes them.

use antumbra_shadow::apply::apply;
use antumbra_shadow::json::{self, DuplicateKeys, Value};
use antumbra_shadow::{
    BatchItem, Conditions, Delete, DeviceEntry, DeviceId, DeviceKey, Draft, Entry, FeedRecord,
    FeedRow, Kind, Limits, Patch, PathCondition, PathTest, Pointer, Position, RequestId, RowKey,
    Rows, Section, SectionInput, ShadowName, Tenant, Time, TrimFeed, Update, encode_outcomes,
};

use super::{Seed, pair};
use crate::targets::rows::OneRow;

pub(super) fn seeds() -> Vec<Seed> {
    let entries = [
        (
            "create",
            entry(
                None,
                vec![update("", r#"{"on":true,"level":[1,2]}"#, none())],
            ),
        ),
        (
            "nested",
            entry(
                None,
                vec![update("motor", r#"{"a":{"b":{"c":1.5e3}},"d":{}}"#, none())],
            ),
        ),
        (
            "request",
            entry(Some("r-1"), vec![update("", r#"{"on":false}"#, none())]),
        ),
        (
            "conditions",
            entry(None, vec![update("", r#"{"on":null}"#, conditions())]),
        ),
        (
            "delete",
            entry(
                None,
                vec![Kind::Delete(Delete {
                    shadow: name(""),
                    conditions: none(),
                })],
            ),
        ),
        ("batch", entry(Some("r-2"), vec![batch()])),
        (
            "several",
            entry(
                None,
                vec![
                    update("", r#"{"on":true}"#, none()),
                    update("", r#"{"on":null,"off":"x"}"#, none()),
                    Kind::Delete(Delete {
                        shadow: name(""),
                        conditions: none(),
                    }),
                    update("", "{}", none()),
                ],
            ),
        ),
    ];
    let mut seeds = Vec::new();
    let mut add = |name: String, shape: &[u8], row: &[u8]| {
        seeds.push(Seed::new("stored", name, pair(shape, row)));
    };
    for (label, entry) in entries {
        let mut rows = OneRow::default();
        let Ok(applied) = apply(&mut rows, Position::first(7), &entry) else {
            panic!("an empty store is not damaged");
        };
        let outcomes: Vec<_> = applied.iter().map(|one| one.outcome.clone()).collect();
        let bytes = Entry::Device(entry.clone()).encode();
        add(format!("{label}-entry"), &bytes, b"");
        add(
            format!("{label}-outcomes"),
            &encode_outcomes(&outcomes),
            b"",
        );
        if let Some(change) = applied.iter().flat_map(|one| &one.changes).next_back() {
            let record = FeedRecord::from(change).encode();
            add(format!("{label}-record"), &record, b"");
            let mut row = FeedRow::new();
            row.push(change);
            row.push(change);
            add(format!("{label}-row"), &row.into_bytes(), b"");
            // The same again, on what it left behind.
            add(
                format!("{label}-document"),
                &bytes,
                change.current.encoded(),
            );
        }
        let request = RequestId::parse("r-1").expect("is an id");
        let keys = [
            ("device", RowKey::Device(device())),
            ("remembered", RowKey::Request(device(), request)),
            ("order", RowKey::RequestOrder(device(), 0)),
        ];
        for (kind, key) in keys {
            if let Ok(Some(row)) = rows.get(&key) {
                add(format!("{label}-{kind}"), &bytes, &row);
            }
        }
    }
    add(
        "trim".into(),
        &Entry::TrimFeed(TrimFeed { upto_index: 9 }).encode(),
        b"",
    );
    add(
        "patch".into(),
        &patch(r#"{"on":true,"a":{"b":null}}"#).encode(),
        b"",
    );
    add("patch-clear".into(), &Patch::clear_both().encode(), b"");
    seeds
}

fn entry(request: Option<&str>, kinds: Vec<Kind>) -> DeviceEntry {
    let commands = kinds.into_iter().map(|kind| {
        let mut draft = Draft::new("somebody", kind);
        draft.client_token = Some("token".into());
        draft.request_id = request.map(|id| RequestId::parse(id).expect("is an id"));
        draft.issued = request.map(|_| Time(1_000));
        draft.stamp(Time(2_000))
    });
    DeviceEntry::new(device(), commands.collect())
}

fn device() -> DeviceKey {
    let device = DeviceId::parse("pump").expect("is a name");
    DeviceKey::new(Tenant::default(), device)
}

fn name(text: &str) -> ShadowName {
    ShadowName::parse(text).expect("is a name")
}

fn none() -> Conditions {
    Conditions::default()
}

fn conditions() -> Conditions {
    let test = |path: &str, test| PathCondition {
        section: Section::Desired,
        pointer: Pointer::parse(path).expect("is a pointer"),
        test,
    };
    let equals = PathTest::equals(&tree("[1,true]"), &Limits::default());
    Conditions {
        expected_version: Some(0),
        proposed_version_greater: Some(4),
        paths: vec![
            test("/on", PathTest::Absent),
            test("/level", equals.expect("is a value")),
            test("/a~1b/c", PathTest::LeafVersion(3)),
        ],
        ..Conditions::default()
    }
}

fn update(shadow: &str, desired: &str, conditions: Conditions) -> Kind {
    Kind::Update(Update {
        shadow: name(shadow),
        patch: patch(desired),
        conditions,
    })
}

fn batch() -> Kind {
    let update = |shadow: &str| {
        BatchItem::Update(Update {
            shadow: name(shadow),
            patch: patch(r#"{"n":1}"#),
            conditions: none(),
        })
    };
    Kind::Batch(vec![update("one"), update("two"), update("three")])
}

fn patch(desired: &str) -> Patch {
    let desired = tree(desired);
    let reported = tree(r#"{"on":false,"t":21.5}"#);
    let (desired, reported) = (
        SectionInput::Merge(&desired),
        SectionInput::Merge(&reported),
    );
    Patch::build(desired, reported, &Limits::default()).expect("is within the limits")
}

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes(), DuplicateKeys::Reject, 20).expect("is JSON")
}
