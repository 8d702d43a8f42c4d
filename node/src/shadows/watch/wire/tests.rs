#![allow(clippy::unwrap_used)]

use antumbra_shadow::{DeviceId, DeviceKey, Patch, ShadowName, Time};

use super::*;

fn device(id: &str) -> DeviceKey {
    DeviceKey::new(Tenant::parse("t").unwrap(), DeviceId::parse(id).unwrap())
}

fn at(index: u64, sequence: u32) -> Position {
    Position { index, sequence }
}

fn record(actor: &str) -> Source {
    Source::Stored(Arc::new(FeedRecord {
        device: device("pump"),
        shadow: ShadowName::classic(),
        version: 3,
        time: Time(4),
        actor: actor.to_owned(),
        client_token: None,
        deleted: false,
        patch: Patch::clear_both(),
        undo: Patch::default(),
        previous_position: None,
    }))
}

fn requests() -> [FollowRequest; 2] {
    let devices = BTreeSet::from([device("a"), device("b")]);
    let prefix = Interest::Prefix {
        tenant: Tenant::parse("t").unwrap(),
        prefix: "p".into(),
    };
    [
        FollowRequest {
            shard: ShardId(7),
            stream: 0,
            only: None,
            interest: Interest::Devices(Arc::new(devices)),
            start: Start::Opening,
        },
        FollowRequest {
            shard: ShardId(7),
            stream: 0,
            only: Some(Tenant::parse("t").unwrap()),
            interest: prefix,
            start: Start::After(at(8, 9)),
        },
    ]
}

/// A gateway names its stream, and says later what it wants; the other side carries everything first.
#[test]
fn request_of_a_gateway_names_its_stream() {
    let request = FollowRequest {
        shard: ShardId(7),
        stream: 5,
        only: None,
        interest: Interest::Wanted(Arc::default()),
        start: Start::Now,
    };
    let bytes = request.encode();
    assert_eq!(bytes[..], b"\x77\0\0\0\x07\0\x03\0\0\0\0\0\0\0\x05\x02"[..]);
    let read = FollowRequest::decode(bytes).unwrap();
    let Interest::Attached(attached) = read.interest else {
        panic!("another interest");
    };
    assert_eq!((read.stream, attached.stream), (5, 5));
    assert!(attached.wants(&device("a")));
}

/// Golden bytes: nodes of different versions talk to each other during an upgrade.
#[test]
fn requests_have_their_frozen_bytes() {
    let [devices, prefix] = requests();
    assert_eq!(
        devices.encode()[..],
        b"\x77\0\0\0\x07\0\0\0\0\0\x02\0\0\0\x01t\0\0\0\x01a\0\0\0\x01t\0\0\0\x01b\0"[..]
    );
    assert_eq!(
        prefix.encode()[..],
        b"\x77\0\0\0\x07\x01\0\0\0\x01t\x01\0\0\0\x01t\0\0\0\x01p\
          \x01\0\0\0\0\0\0\0\x08\0\0\0\x09"[..]
    );
    for request in requests() {
        let bytes = request.encode();
        let read = FollowRequest::decode(bytes.clone()).unwrap();
        assert_eq!(read.encode(), bytes);
        for cut in 0..bytes.len() {
            assert!(FollowRequest::decode(bytes.slice(..cut)).is_none());
        }
    }
}

/// Golden bytes: nodes of different versions talk to each other during an upgrade.
#[test]
fn items_have_their_frozen_bytes() {
    assert_eq!(Item::opened(5)[..], b"\x79\0\0\0\0\0\0\0\x05"[..]);
    assert_eq!(
        Item::proven(at(5, 6))[..],
        b"\x7b\0\0\0\0\0\0\0\x05\0\0\0\x06"[..]
    );
    let reasons = [
        ResetReason::CursorTrimmed,
        ResetReason::CursorUnknown,
        ResetReason::ReaderTooSlow,
        ResetReason::SourceLost,
    ];
    for (number, reason) in (1_u8..).zip(reasons) {
        let bytes = Item::reset(reason);
        assert_eq!(bytes[..], [0x7c, number]);
        assert!(matches!(Item::decode(bytes), Some(Item::Reset(read)) if read == reason));
    }
    let Source::Stored(stored) = record("who") else {
        panic!("a stored record");
    };
    let messages = encode_changes(&[(at(8, 1), record("who"))], at(9, 0));
    let stored = stored.encode();
    let length = (stored.len() as u32).to_be_bytes();
    let place = b"\0\0\0\0\0\0\0\x08\0\0\0\x01";
    let upto = b"\0\0\0\0\0\0\0\x09\0\0\0\0";
    assert_eq!(
        messages,
        [[b"\x7a\0\0\0\x01", &place[..], &length, &stored, upto].concat()]
    );
}

/// A large batch is divided, in order, and each part says how far it is complete.
#[test]
fn large_batches_are_divided() {
    let actor = "x".repeat(ITEM_BYTES_TARGET / 3);
    let changes: Vec<_> = (1..=7).map(|nth| (at(nth, 0), record(&actor))).collect();
    let messages = encode_changes(&changes, at(20, 0));
    let mut seen = Vec::new();
    let mut ends = Vec::new();
    for message in messages {
        assert!(message.len() <= ITEM_BYTES_TARGET + 64);
        let Some(Item::Changes { changes, upto }) = Item::decode(message) else {
            panic!("changes");
        };
        seen.extend(changes.into_iter().map(|(position, _)| position.index));
        ends.push(upto.index);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(ends, [2, 4, 6, 20]);
    // A record that is too large for an item goes alone; nothing to tell is an item too.
    let alone = record(&"x".repeat(2 * ITEM_BYTES_TARGET));
    let changes = [
        (at(1, 0), record("a")),
        (at(2, 0), alone),
        (at(3, 0), record("b")),
    ];
    assert_eq!(encode_changes(&changes, at(3, 0)).len(), 3);
    let nothing = encode_changes(&[], at(4, 0));
    assert_eq!(nothing.len(), 1);
    assert!(matches!(
        Item::decode(nothing[0].clone()),
        Some(Item::Changes { changes, upto }) if changes.is_empty() && upto == at(4, 0)
    ));
}

/// Whatever arrives is read whole or refused, never a panic (invariant 12).
#[test]
fn damaged_items_are_refused() {
    let mut messages = encode_changes(&[(at(8, 1), record("who"))], at(9, 0));
    messages.extend([Item::opened(1), Item::proven(at(1, 1))]);
    messages.extend(requests().map(|request| request.encode()));
    for message in messages {
        for cut in 0..message.len() {
            assert!(Item::decode(message.slice(..cut)).is_none());
        }
        for place in 0..message.len() {
            for bit in 0..8 {
                let mut changed = message.to_vec();
                changed[place] ^= 1 << bit;
                let changed = Bytes::from(changed);
                let _ = FollowRequest::decode(changed.clone());
                let _ = Item::decode(changed);
            }
        }
    }
}
