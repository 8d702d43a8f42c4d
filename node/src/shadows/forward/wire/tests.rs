#![allow(clippy::unwrap_used)]

use antumbra_shadow::json::{self, DuplicateKeys};
use antumbra_shadow::{
    AcceptedItem, Conditions, Delete, DeviceId, Kind, Limits, Patch, Position, Rejection,
    RequestId, SectionInput, ShadowName, Update,
};

use super::*;

fn device() -> DeviceKey {
    DeviceKey::new(
        Tenant::parse("t").unwrap(),
        DeviceId::parse("pump").unwrap(),
    )
}

fn envelope() -> Envelope {
    Envelope {
        shard: ShardId(7),
        remaining: Duration::from_millis(258),
        tenant: Some(Tenant::parse("t").unwrap()),
    }
}

fn draft() -> Draft {
    let value = json::parse(br#"{"a":[1,2]}"#, DuplicateKeys::Reject, 8).unwrap();
    let limits = Limits::default();
    let update = Update {
        shadow: ShadowName::parse("s").unwrap(),
        patch: Patch::build(SectionInput::Clear, SectionInput::Merge(&value), &limits).unwrap(),
        conditions: Conditions {
            expected_version: Some(3),
            ..Conditions::default()
        },
    };
    Draft {
        request_id: Some(RequestId::parse("r").unwrap()),
        issued: Some(Time(5)),
        client_token: Some("token".to_owned()),
        ..Draft::new("who", Kind::Update(update))
    }
}

fn questions() -> Vec<Question> {
    let name = ShadowName::parse("s").unwrap();
    let options = |consistency, min_version| ReadOptions {
        consistency,
        min_version,
    };
    vec![
        Question::Document {
            device: device(),
            shadow: ShadowName::classic(),
            options: options(Consistency::Linearizable, 0),
        },
        Question::Document {
            device: device(),
            shadow: name.clone(),
            options: options(Consistency::Local, 9),
        },
        Question::Shadows {
            device: device(),
            from: keys::document(&device(), &name),
            size: 3,
        },
        Question::Devices {
            filter: DeviceFilter {
                tenant: device().tenant,
                prefix: "p".to_owned(),
            },
            from: keys::device_row(&device()),
            size: 3,
            rows_max: 4,
        },
    ]
}

fn answers() -> Vec<Answer> {
    let item = AcceptedItem {
        shadow: ShadowName::classic(),
        version: 4,
        time: Time(5),
        position: Position {
            index: 6,
            sequence: 7,
        },
    };
    let rejection = Rejection::Item {
        index: 1,
        rejection: Box::new(Rejection::VersionConflict { current: 2 }),
    };
    let mut answers = vec![
        Answer::Outcome(Outcome::Accepted(vec![item])),
        Answer::Outcome(Outcome::Rejected(rejection)),
        Answer::Reply(Reply::Document {
            seen: 8,
            document: None,
        }),
        Answer::Reply(Reply::Shadows(Found {
            entries: vec![ShadowSummary {
                name: ShadowName::parse("s").unwrap(),
                version: 2,
                updated: Time(3),
            }],
            scanned: 5,
            next: Some(keys::document(&device(), &ShadowName::classic())),
        })),
        Answer::Reply(Reply::Devices(Found {
            entries: vec![DeviceId::parse("pump").unwrap()],
            scanned: 5,
            next: None,
        })),
        Answer::NotLeader(None),
        Answer::NotLeader(Some(Node {
            name: "n".to_owned(),
            address: "h:1".to_owned(),
        })),
    ];
    answers.extend(Refusal::ALL.map(Answer::Refused));
    answers
}

/// Golden bytes: nodes of different versions talk to each other during an upgrade.
#[test]
fn requests_have_their_frozen_bytes() {
    let head = b"\0\0\0\x07\0\0\x01\x02\x01\0\0\0\x01t";
    let entry = DeviceEntry::new(device(), vec![draft().stamp(Time(0))]);
    let entry = Entry::Device(entry).encode();
    let length = (entry.len() as u32).to_be_bytes();
    assert_eq!(
        encode_command(&envelope(), &device(), draft())[..],
        [b"\x51", &head[..], &length, &entry].concat(),
        "a command is the entry that it becomes"
    );
    let hash = device().hash().to_be_bytes();
    let key = b"\0\0\0\x01t\0\0\0\x04pump";
    let expected = [
        [b"\x52", &head[..], key, b"\0\0\0\0\0\0\0\0\0\0\0\0\0"].concat(),
        [
            b"\x52",
            &head[..],
            key,
            b"\0\0\0\x01s\x01\0\0\0\0\0\0\0\x09",
        ]
        .concat(),
        [
            b"\x53",
            &head[..],
            key,
            &hash,
            b"\0\0\0\x08t\0pump\0s\0\0\0\x03",
        ]
        .concat(),
        [
            b"\x54",
            &head[..],
            b"\0\0\0\x01t\0\0\0\x01p",
            &hash,
            b"\0\0\0\x06t\0pump\0\0\0\x03\0\0\0\x04",
        ]
        .concat(),
    ];
    for (question, expected) in questions().iter().zip(expected) {
        assert_eq!(encode_question(&envelope(), question), expected);
    }
}

/// Golden bytes: nodes of different versions talk to each other during an upgrade.
#[test]
fn answers_have_their_frozen_bytes() {
    let bytes = |answer: &Answer| answer.encode().to_vec();
    let answers = answers();
    for outcome in &answers[..2] {
        let Answer::Outcome(inner) = outcome else {
            panic!("the first two are outcomes");
        };
        let inner = encode_outcomes(std::slice::from_ref(inner));
        let length = (inner.len() as u32).to_be_bytes();
        assert_eq!(bytes(outcome), [b"\x58", &length[..], &inner].concat());
    }
    assert_eq!(bytes(&answers[2]), b"\x59\0\0\0\0\0\0\0\x08\0");
    let hash = device().hash().to_be_bytes();
    let summary = b"\0\0\0\x01\0\0\0\x01s\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03";
    assert_eq!(
        bytes(&answers[3]),
        [
            b"\x5a",
            &summary[..],
            b"\0\0\0\x05\x01",
            &hash,
            b"\0\0\0\x07t\0pump\0"
        ]
        .concat()
    );
    assert_eq!(
        bytes(&answers[4]),
        b"\x5b\0\0\0\x01\0\0\0\x04pump\0\0\0\x05\0"
    );
    assert_eq!(bytes(&answers[5]), b"\x5c\0");
    assert_eq!(bytes(&answers[6]), b"\x5c\x01\0\0\0\x01n\0\0\0\x03h:1");
    for (nth, refusal) in (1_u8..).zip(&answers[7..]) {
        assert_eq!(bytes(refusal), [0x5d, nth]);
    }
}

#[test]
fn messages_come_back_as_they_were_sent() {
    let sent = encode_command(&envelope(), &device(), draft());
    let command = Request::Command {
        device: device(),
        draft: Box::new(draft()),
    };
    assert_eq!(decode_request(sent), Some((envelope(), command)));
    for question in questions() {
        let sent = encode_question(&envelope(), &question);
        let expected = (envelope(), Request::Question(question));
        assert_eq!(decode_request(sent), Some(expected));
    }
    for answer in answers() {
        assert_eq!(Answer::decode(answer.encode()), Some(answer));
    }
}

/// Whatever arrives is read whole or refused, never a panic (invariant 12).
#[test]
fn damaged_messages_are_refused() {
    let mut messages = vec![encode_command(&envelope(), &device(), draft())];
    messages.extend(questions().iter().map(|q| encode_question(&envelope(), q)));
    messages.extend(answers().iter().map(Answer::encode));
    for message in messages {
        for cut in 0..message.len() {
            assert_eq!(decode_request(message.slice(..cut)), None);
            assert_eq!(Answer::decode(message.slice(..cut)), None);
        }
        let longer = Bytes::from([&message[..], b"\0"].concat());
        assert_eq!(decode_request(longer.clone()), None);
        assert_eq!(Answer::decode(longer), None);
        for place in 0..message.len() {
            for bit in 0..8 {
                let mut changed = message.to_vec();
                changed[place] ^= 1 << bit;
                let changed = Bytes::from(changed);
                // It may be another valid message; it must not panic or take much memory.
                let _ = decode_request(changed.clone());
                let _ = Answer::decode(changed);
            }
        }
    }
}

/// Only one command of one device is forwarded at a time; other entries never come that way.
#[test]
fn entries_that_no_door_makes_are_refused() {
    let command = draft().stamp(Time(0));
    let delete = Delete {
        shadow: ShadowName::classic(),
        conditions: Conditions::default(),
    };
    let other = Draft::new("who", Kind::Delete(delete)).stamp(Time(0));
    let entries = [
        Entry::Device(DeviceEntry::new(device(), Vec::new())),
        Entry::Device(DeviceEntry::new(device(), vec![command, other])),
        Entry::TrimFeed(antumbra_shadow::TrimFeed { upto_index: 9 }),
    ];
    for entry in entries {
        let mut writer = request(Tag::CommandV1, &envelope(), 0);
        writer.bytes(&entry.encode());
        assert_eq!(decode_request(writer.finish()), None);
    }
}
