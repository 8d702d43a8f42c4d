use bytes::Bytes;

use crate::change::Change;
use crate::command::{BatchItem, Delete, DeviceEntry, Draft, Entry, Kind, RULES, TrimFeed, Update};
use crate::conditions::{Conditions, Expected, PathCondition, PathTest};
use crate::document::{Document, Head};
use crate::feed::{FeedRecord, FeedRow};
use crate::id::{DeviceId, DeviceKey, Position, RequestId, ShadowName, Tenant, Time};
use crate::leaves::{Form, Stamp, Writer};
use crate::limits::Limits;
use crate::outcome::{AcceptedItem, FailedCondition, Outcome, Rejection};
use crate::patch::{Patch, Section, SectionPatch};
use crate::pointer::Pointer;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run(form: Form, leaves: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Writer::new(form, 0);
    for (path, value) in leaves {
        out.put(
            path,
            value,
            Stamp {
                time: 1_000,
                version: 3,
            },
        );
    }
    out.finish()
}

fn patch() -> Patch {
    let ops = run(
        Form::Plain,
        &[(b"a\0b\0", b"1"), (b"a\0c\0", b"null"), (b"d\0", b"{}")],
    );
    Patch {
        sections: [SectionPatch::Merge(Bytes::from(ops)), SectionPatch::Clear],
    }
}

fn device() -> DeviceKey {
    DeviceKey::new(Tenant::parse("t").unwrap(), DeviceId::parse("d").unwrap())
}

fn entry() -> Entry {
    let test = |test| PathCondition {
        section: Section::Reported,
        pointer: Pointer::of_keys(["p"]),
        test,
    };
    let expected = Expected(Bytes::from(run(Form::Plain, &[(b"", b"7")])));
    let conditions = Conditions {
        expected_version: Some(4),
        proposed_version_greater: Some(300),
        expected_desired_version: Some(1),
        expected_reported_version: None,
        paths: vec![
            test(PathTest::Exists),
            test(PathTest::Absent),
            test(PathTest::Equals(expected)),
            test(PathTest::LeafVersion(2)),
        ],
    };
    let shadow = ShadowName::parse("s").unwrap();
    let update = Update {
        shadow: shadow.clone(),
        patch: patch(),
        conditions,
    };
    let delete = Delete {
        shadow,
        conditions: Conditions::default(),
    };
    let full = Draft {
        actor: "who".to_owned(),
        request_id: Some(RequestId::parse("r").unwrap()),
        issued: Some(Time(5)),
        client_token: Some("c".to_owned()),
        limits: Limits::default(),
        kind: Kind::Update(update.clone()),
    };
    let batch = Kind::Batch(vec![
        BatchItem::Update(update),
        BatchItem::Delete(delete.clone()),
    ]);
    let commands = vec![
        full.stamp(Time(70_000)),
        Draft::new("", Kind::Delete(delete)).stamp(Time(1)),
        Draft::new("", batch).stamp(Time(2)),
    ];
    Entry::Device(DeviceEntry {
        rules: 1,
        device: device(),
        commands,
    })
}

fn outcomes() -> Vec<Outcome> {
    let item = AcceptedItem {
        shadow: ShadowName::parse("s").unwrap(),
        version: 9,
        time: Time(1_000),
        position: Position {
            index: 7,
            sequence: 1,
        },
    };
    let failed = |condition| Rejection::ConditionFailed { condition };
    let section = Section::Reported;
    let mut outcomes = vec![Outcome::Accepted(vec![item]), Outcome::Accepted(Vec::new())];
    let rejections = [
        Rejection::VersionConflict { current: 5 },
        failed(FailedCondition::ProposedVersion { current: 6 }),
        failed(FailedCondition::SectionVersion {
            section,
            current: 7,
        }),
        failed(FailedCondition::Path { index: 1 }),
        Rejection::NotFound,
        Rejection::DocumentTooLarge {
            bytes: 9_000,
            max: 8_192,
        },
        Rejection::TooDeep { max: 8 },
        Rejection::KeyTooLong { max: 1_024 },
        Rejection::SectionNotObject { section },
        Rejection::ArrayNull,
        Rejection::TooManyShadows { max: 64 },
        Rejection::ClientTokenTooLong { max: 64 },
        Rejection::BatchSize { max: 100 },
        Rejection::TooManyConditions { max: 16 },
        Rejection::RequestIdReused,
        Rejection::RequestForgotten,
        Rejection::UnknownRules { rules: 2 },
        Rejection::Undecodable,
        Rejection::Item {
            index: 3,
            rejection: Box::new(Rejection::NotFound),
        },
    ];
    outcomes.extend(rejections.map(Outcome::Rejected));
    outcomes
}

fn document() -> Document {
    let head = Head {
        deleted: false,
        version: 3,
        created: Time(500),
        updated: Time(1_000),
        section_versions: [3, 2],
        proposed_version: Some(1_700_000_000_000),
        position: Position {
            index: 70_000,
            sequence: 2,
        },
        json_bytes: [23, 9],
    };
    let desired = run(Form::Stamped, &[(b"a\0b\0", b"1"), (b"a\0c\0", b"[1,2]")]);
    let reported = run(Form::Stamped, &[(b"a\0", b"\"x\"")]);
    encode_document(head, &desired, &reported)
}

fn feed_record() -> FeedRecord {
    FeedRecord {
        device: device(),
        shadow: ShadowName::classic(),
        version: 3,
        time: Time(1_000),
        actor: "who".to_owned(),
        client_token: Some("c".to_owned()),
        deleted: false,
        patch: patch(),
        undo: Patch::default(),
        previous_position: Some(Position {
            index: 6,
            sequence: 0,
        }),
    }
}

/// The change of [`feed_record`].
fn change() -> Change {
    let record = feed_record();
    Change {
        device: record.device,
        shadow: record.shadow,
        version: record.version,
        time: record.time,
        actor: record.actor,
        client_token: record.client_token,
        position: Position::first(7),
        deleted: record.deleted,
        patch: record.patch,
        undo: record.undo,
        previous: None,
        previous_position: record.previous_position,
        current: document(),
    }
}

fn feed_row() -> Vec<u8> {
    let mut row = FeedRow::new();
    row.push(&change());
    row.push(&change());
    row.into_bytes()
}

fn device_row() -> DeviceRow {
    DeviceRow {
        shadows: 2,
        names: 3,
        requests_from: 10,
        requests_to: 300,
        oldest_request: Time(1_000),
        forgotten: Some(Time(900)),
        latest_request: Time(2_000),
    }
}

fn request_row() -> RequestRow {
    RequestRow {
        hash: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        outcome: outcomes().remove(0),
    }
}

fn order_row() -> OrderRow {
    OrderRow {
        request_id: RequestId::parse("r").unwrap(),
        time: Time(1_000),
    }
}

/// Protects every byte on disk and in the log: a shape that was written once is read for ever.
#[test]
fn stored_shapes_match_golden_bytes() {
    let trim = Entry::TrimFeed(TrimFeed { upto_index: 300 });
    let shapes: [(&str, Vec<u8>); 10] = [
        ("document", document().encoded().to_vec()),
        ("patch", patch().encode()),
        ("entry", entry().encode().to_vec()),
        ("trim", trim.encode().to_vec()),
        ("outcomes", encode_outcomes(&outcomes())),
        ("feed record", feed_record().encode()),
        ("request", request_row().encode()),
        ("order", order_row().encode()),
        ("device", device_row().encode()),
        ("feed row", feed_row()),
    ];
    let golden: Vec<(&str, &str)> = include_str!("golden.txt")
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let written: Vec<String> = shapes
        .iter()
        .map(|(name, bytes)| format!("{name}: {}", hex(bytes)))
        .collect();
    let expected: Vec<String> = golden
        .iter()
        .map(|(name, bytes)| format!("{name}: {bytes}"))
        .collect();
    assert_eq!(written, expected, "\n{}\n", written.join("\n"));
}

/// Protects readers: what was written comes back.
#[test]
fn stored_shapes_are_read_back() {
    let document = document();
    let read = Document::decode(document.encoded().clone()).unwrap();
    assert_eq!(read.head, document.head);
    assert_eq!(read.sections, document.sections);
    assert_eq!(Patch::decode(&patch().encode()).unwrap(), patch());
    assert_eq!(Entry::decode(&entry().encode()).unwrap(), entry());
    assert_eq!(
        decode_outcomes(&encode_outcomes(&outcomes())).unwrap(),
        outcomes()
    );
    assert_eq!(
        FeedRecord::decode(&feed_record().encode()).unwrap(),
        feed_record()
    );
    assert_eq!(
        RequestRow::decode(&request_row().encode()).unwrap(),
        request_row()
    );
    assert_eq!(
        OrderRow::decode(&order_row().encode()).unwrap(),
        order_row()
    );
    assert_eq!(
        DeviceRow::decode(&device_row().encode()).unwrap(),
        device_row()
    );
}

/// Protects readers from newer and foreign shapes: the tag is looked at first, the end last.
#[test]
fn unknown_tags_and_trailing_bytes_are_refused() {
    let good = patch().encode();
    assert_eq!(
        Patch::decode(&[]),
        Err(DecodeError::UnknownTag { found: None })
    );
    let mut newer = good.clone();
    newer[0] = 0x92;
    assert_eq!(
        Patch::decode(&newer),
        Err(DecodeError::UnknownTag { found: Some(0x92) })
    );
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(Patch::decode(&longer), Err(DecodeError::Malformed));
    assert_eq!(
        Patch::decode(&good[..good.len() - 1]),
        Err(DecodeError::Malformed)
    );
}

/// Protects replicas of an older version: an entry of later rules is told apart from one that nobody can read,
/// whatever shape its commands have.
#[test]
fn entries_of_later_rules_are_told_apart() {
    let Entry::Device(entry) = entry() else {
        panic!("a device entry")
    };
    let later = Entry::Device(DeviceEntry {
        rules: RULES + 1,
        ..entry
    });
    let refused = Err(DecodeError::LaterRules { rules: RULES + 1 });
    let mut bytes = later.encode().to_vec();
    assert_eq!(Entry::decode(&bytes), refused);
    // The tag, which entry it is, and the rules.
    bytes.truncate(3);
    bytes.extend(b"a shape of later");
    assert_eq!(Entry::decode(&bytes), refused);
}

/// Protects watchers: a row gives the records that were put into it, also one of before rows were shared, and none
/// when anything of it is missing.
#[test]
fn feed_rows_are_parted_into_their_records() {
    let (row, record) = (feed_row(), feed_record().encode());
    assert_eq!(FeedRow::split(&row).unwrap(), [&record, &record]);
    assert_eq!(FeedRow::split(&record).unwrap(), [&record]);
    let whole = [row.len(), row.len() - record.len() - 4];
    for length in (1..row.len()).filter(|length| !whole.contains(length)) {
        let cut = FeedRow::split(&row[..length]);
        assert_eq!(cut, Err(DecodeError::Malformed), "{length} bytes");
    }
    for (bytes, found) in [(&b""[..], None), (&b"\x99"[..], Some(0x99))] {
        assert_eq!(
            FeedRow::split(bytes),
            Err(DecodeError::UnknownTag { found })
        );
    }
}

/// Protects memory: a length that lies allocates nothing near what it claims.
#[test]
fn lying_lengths_are_refused() {
    let huge = 0xfd_u8;
    let mut bytes = vec![Tag::OutcomesV1 as u8, huge];
    bytes.extend(u64::MAX.to_le_bytes());
    assert_eq!(decode_outcomes(&bytes), Err(DecodeError::Malformed));
    let mut bytes = vec![Tag::PatchV1 as u8, 2, 0xfc];
    bytes.extend(0xffff_ffff_u32.to_le_bytes());
    assert_eq!(Patch::decode(&bytes), Err(DecodeError::Malformed));
}

/// Protects documents of every size: the codec's lengths have several widths.
#[test]
fn sections_of_every_length_are_found() {
    for length in [
        0_usize, 1, 200, 240, 250, 251, 300, 65_000, 65_530, 65_540, 70_000,
    ] {
        let text = format!("\"{}\"", "x".repeat(length));
        let leaf: (&[u8], &[u8]) = (b"k\0", text.as_bytes());
        let full = run(Form::Stamped, &[leaf]);
        for (desired, reported) in [(&full, &Vec::new()), (&Vec::new(), &full), (&full, &full)] {
            let written = encode_document(Head::default(), desired, reported);
            let read = Document::decode(written.encoded().clone()).unwrap();
            for document in [&written, &read] {
                assert_eq!(document.leaves(Section::Desired), desired.as_slice());
                assert_eq!(document.leaves(Section::Reported), reported.as_slice());
            }
        }
    }
}

/// Protects retries: the hash of a command may never change, it is compared with stored ones.
#[test]
fn command_hash_is_frozen() {
    let Entry::Device(entry) = entry() else {
        panic!("a device entry")
    };
    let hash = command_hash(&entry.commands[0].draft.kind);
    assert_eq!(
        format!("{hash:032x}"),
        include_str!("golden_hash.txt").trim()
    );
}
