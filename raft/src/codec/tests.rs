#![allow(clippy::unwrap_used)]

use super::*;
use crate::types::Command;

fn membership() -> Membership {
    let node = |name: &str| Node {
        name: name.to_owned(),
        address: format!("{name}:7401"),
    };
    let nodes = BTreeMap::from([(1, node("a")), (2, node("b")), (300, node("c"))]);
    let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 300])];
    Membership::new(voters, nodes).unwrap()
}

fn entry(payload: Payload) -> Entry {
    Entry {
        log_id: log_id(3, 0x0102),
        payload,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Golden bytes: what is on disk today must be readable for ever.
#[test]
fn stored_bytes_match_golden() {
    let blank = entry(Payload::Blank);
    let head = "0100000000000000030000000000000102";
    assert_eq!(hex(&encode_entry(&blank)), format!("{head}00"));
    let command = entry(Payload::Normal(Command::one(Bytes::from_static(b"hi"))));
    assert_eq!(hex(&encode_entry(&command)), format!("{head}016869"));
    let hi = || Bytes::from_static(b"hi");
    let group = Command::of([hi(), Bytes::new(), hi()].into_iter());
    assert_eq!(
        hex(&encode_entry(&entry(Payload::Normal(group)))),
        format!("{head}03000000026869 00000000 000000026869").replace(' ', "")
    );
    let members = entry(Payload::Membership(membership()));
    assert_eq!(
        hex(&encode_entry(&members)),
        format!(
            "{head}02\
             02020102\
             0202fb2c01\
             03\
             0101610661 3a37343031\
             0201620662 3a37343031\
             fb2c0101630663 3a37343031"
        )
        .replace(' ', "")
    );
    let mut vote = Vote::new(7, 300);
    vote.committed = true;
    assert_eq!(hex(&encode_vote(&vote)), "0207fb2c0101");
    assert_eq!(hex(&encode_log_id(&log_id(7, 251))), "0307fbfb00");
    assert_eq!(
        hex(&encode(Tag::BatchV1, &u64::MAX)),
        "04fdffffffffffffffff"
    );
}

#[test]
fn what_is_encoded_is_decoded() {
    let payloads = [
        Payload::Blank,
        Payload::Normal(Command::one(Bytes::new())),
        Payload::Normal(Command::of(
            [Bytes::new(), Bytes::from_static(b"x")].into_iter(),
        )),
        Payload::Normal(Command::one(Bytes::from(vec![7; 100_000]))),
        Payload::Membership(membership()),
        Payload::Membership(Membership::default()),
    ];
    for payload in payloads {
        let entry = entry(payload);
        assert_eq!(decode_entry(encode_entry(&entry).into()).unwrap(), entry);
    }
    let mut vote = Vote::new(7, 300);
    for committed in [false, true] {
        vote.committed = committed;
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
    }
    let id = log_id(9, u64::MAX);
    assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
}

/// A cut or changed record is an error, never a panic and never another value of another kind.
#[test]
fn refuses_cut_foreign_and_overlong_bytes() {
    let whole = encode_entry(&entry(Payload::Membership(membership())));
    for length in 0..whole.len() {
        assert!(decode_entry(Bytes::copy_from_slice(&whole[..length])).is_err());
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(decode_entry(longer.into()).is_err());
    assert!(decode_vote(&whole).is_err());
    assert!(decode_vote(&[]).is_err());
    let mut vote = encode_vote(&Vote::new(1, 2));
    vote.push(0);
    assert!(decode_vote(&vote).is_err());
    assert!(decode::<Vec<u8>>(Tag::BatchV1, &vec![4; VALUE_BYTES_MAX + 2]).is_err());
}

/// A length field from a broken record must not allocate what it claims.
#[test]
fn refuses_a_length_that_is_over_the_limit() {
    let mut bytes = vec![Tag::BatchV1 as u8, 0xfd];
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    assert!(decode::<Vec<u8>>(Tag::BatchV1, &bytes).is_err());
}

/// The command of an entry is a slice of what was read, not a copy.
#[test]
fn command_shares_the_bytes_that_were_read() {
    let command = Bytes::from(vec![5; 1000]);
    let stored = Bytes::from(encode_entry(&entry(Payload::Normal(Command::one(command)))));
    let Payload::Normal(decoded) = decode_entry(stored.clone()).unwrap().payload else {
        panic!("not a command");
    };
    assert_eq!(
        decoded.parts().1.as_ptr(),
        stored[ENTRY_HEAD_BYTES..].as_ptr()
    );
}
