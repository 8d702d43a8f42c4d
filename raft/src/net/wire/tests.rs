#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};

use super::*;
use crate::net::Refusal;
use crate::types::{
    Command, Entry, Membership, Node, Payload, SnapshotMeta, StoredMembership, TypeConfig, Vote,
    log_id,
};

fn route() -> Route {
    Route {
        shard: ShardId(3),
        from: ReplicaId(31),
        to: ReplicaId(0x0102),
    }
}

fn vote(committed: bool) -> Vote {
    let mut vote = Vote::new(7, 31);
    vote.committed = committed;
    vote
}

fn append() -> AppendEntriesRequest<TypeConfig> {
    let entry = |index, payload| Entry {
        log_id: log_id(7, index),
        payload,
    };
    AppendEntriesRequest {
        vote: vote(true),
        prev_log_id: Some(log_id(6, 4)),
        leader_commit: Some(log_id(6, 3)),
        entries: vec![
            entry(5, Payload::Blank),
            entry(6, Payload::Normal(Command::one(Bytes::from_static(b"hi")))),
        ],
    }
}

fn heartbeat() -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: vote(true),
        prev_log_id: None,
        leader_commit: None,
        entries: Vec::new(),
    }
}

fn meta() -> SnapshotMeta {
    let nodes = BTreeMap::from([(31, Node::default())]);
    let membership = Membership::new(vec![BTreeSet::from([31])], nodes).unwrap();
    SnapshotMeta {
        last_log_id: Some(log_id(6, 4)),
        last_membership: StoredMembership::new(Some(log_id(1, 0)), membership),
    }
}

fn vote_request() -> VoteRequest<TypeConfig> {
    let mut request = VoteRequest::new(vote(false), Some(log_id(6, 4)));
    request.leadership_transfer = true;
    request
}

/// One body of every kind and shape, with its golden bytes.
fn bodies() -> Vec<(Body, &'static str)> {
    let transfer = TransferLeaderRequest::new(vote(true), 5, Some(log_id(6, 4)));
    let changed = TransferLeaderError::VoteChanged {
        expected: vote(true),
        actual: vote(false),
    };
    let unflushed = TransferLeaderError::LogNotFlushed {
        expected: Some(log_id(6, 4)),
        actual: None,
    };
    let snapshot = Body::Snapshot {
        vote: vote(true),
        meta: meta(),
    };
    let voted = VoteResponse::new(vote(false), Some(log_id(6, 4)), true);
    vec![
        (
            Body::Append {
                sequence: 300,
                request: append(),
            },
            "01 0000000d 20 fb2c01 071f01 010604 010603 \
             00000012 01 0000000000000007 0000000000000005 00 \
             00000014 01 0000000000000007 0000000000000006 01 6869",
        ),
        (Body::AppendEnd, "02"),
        (
            Body::Heartbeat(heartbeat()),
            "03 00000007 20 00 071f01 00 00",
        ),
        (Body::Vote(vote_request()), "04 21 071f00 010604 01"),
        (Body::PreVote(vote_request()), "05 21 071f00 010604 01"),
        (Body::Transfer(transfer), "06 23 071f01 05 010604"),
        (Body::ReadIndex, "07"),
        (
            snapshot,
            "08 26 071f01 0f 10 010604 010100 01 01 011f 01 1f 00 00",
        ),
        (Body::Chunk(Bytes::from_static(b"chunk")), "09 6368756e6b"),
        (Body::SnapshotEnd, "0a"),
        (Body::SnapshotAbort, "0b"),
        (Body::Forward(Bytes::from_static(b"ask")), "0c 61736b"),
        (Body::Appended(Ok(Some(log_id(6, 4)))), "81 28 00 010604"),
        (Body::Appended(Ok(None)), "81 28 00 00"),
        (
            Body::Appended(Err(StreamAppendError::Conflict(log_id(6, 4)))),
            "81 28 01 0604",
        ),
        (
            Body::Appended(Err(StreamAppendError::HigherVote(vote(false)))),
            "81 28 02 071f00",
        ),
        (Body::Voted(voted), "82 22 071f00 01 010604"),
        (Body::Transferred(Ok(())), "83 24 00"),
        (Body::Transferred(Err(changed)), "83 24 01 071f01 071f00"),
        (Body::Transferred(Err(unflushed)), "83 24 02 010604 00"),
        (Body::ReadAt(1 << 20), "84 25 fc00001000"),
        (Body::Taken, "85"),
        (Body::Installed(vote(true)), "86 27 071f01"),
        (Body::Forwarded(Bytes::from_static(b"told")), "87 746f6c64"),
        (Body::Refused(Refusal::NoSuchReplica), "88 29 00"),
        (Body::Refused(Refusal::Stopped), "88 29 01"),
        (Body::Refused(Refusal::NoHandler), "88 29 02"),
        (Body::Refused(Refusal::NotLeader), "88 29 03"),
        (Body::Refused(Refusal::Overloaded), "88 29 04"),
        (Body::Refused(Refusal::Unavailable), "88 29 05"),
        (Body::Refused(Refusal::SnapshotRefused), "88 29 06"),
        (Body::Refused(Refusal::NotMember), "88 29 07"),
    ]
}

fn message(body: Body) -> Message {
    Message {
        id: 9,
        route: route(),
        body,
    }
}

fn frame(messages: impl IntoIterator<Item = Body>) -> Bytes {
    let mut frame = Frame::new();
    for body in messages {
        frame.push(&message(body).encode().unwrap());
    }
    frame.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Golden bytes: nodes of different versions talk to each other.
#[test]
fn messages_match_golden() {
    let head = "71000000000000000900000003000000000000001f0000000000000102";
    for (body, golden) in bodies() {
        let kind = body.kind();
        let encoded = message(body).encode().unwrap();
        let golden = golden.replace(' ', "");
        assert_eq!(hex(&encoded[4..]), format!("{head}{golden}"), "{kind:?}");
        assert_eq!(encoded[..4], ((encoded.len() - 4) as u32).to_be_bytes());
    }
    let two = frame([Body::Taken, Body::ReadIndex]);
    let expected = format!("700000001e{head}850000001e{head}07");
    assert_eq!(hex(&two), expected);
}

/// What one node says is what another hears.
#[test]
fn what_is_encoded_is_decoded() {
    let sent = frame(bodies().into_iter().map(|(body, _)| body));
    let received = decode_frame(sent.clone()).unwrap();
    assert_eq!(received.len(), bodies().len());
    for ((body, _), received) in bodies().into_iter().zip(&received) {
        assert_eq!((received.id, received.route), (9, route()));
        assert_eq!(format!("{:?}", received.body), format!("{body:?}"));
    }
    assert_eq!(
        frame(received.into_iter().map(|received| received.body)),
        sent
    );
}

/// Decoding is total: a cut or changed frame is an error or other messages, never a panic.
#[test]
fn damaged_frames_never_panic() {
    for (body, _) in bodies() {
        let sent = frame([body]);
        for length in 0..sent.len() {
            if length != 1 {
                assert!(decode_frame(sent.slice(..length)).is_err(), "{length}");
            }
        }
        for offset in 0..sent.len() {
            for bit in 0..8 {
                let mut bytes = sent.to_vec();
                bytes[offset] ^= 1 << bit;
                let _ = decode_frame(bytes.into());
            }
        }
    }
    assert!(decode_frame(Bytes::new()).is_err());
    assert!(decode_frame(vec![TAG_FRAME_V1; FRAME_BYTES_MAX + 1].into()).is_err());
}

/// Entries with a hole would break openraft's log.
#[test]
fn entries_that_do_not_follow_each_other_are_refused() {
    let mut request = append();
    request.entries.remove(0);
    let sent = frame([Body::Append {
        sequence: 0,
        request,
    }]);
    assert!(decode_frame(sent).is_err());
}

/// What does not fit into a frame is never handed to a connection.
#[test]
fn a_message_over_the_limit_is_not_encoded() {
    let fits = Body::Forward(vec![0; BODY_BYTES_MAX].into());
    let encoded = message(fits).encode().unwrap();
    let mut frame = Frame::new();
    frame.push(&encoded);
    let sent = frame.finish();
    assert!(sent.len() < FRAME_BYTES_MAX);
    assert_eq!(decode_frame(sent).unwrap().len(), 1);
    let over = Body::Forward(vec![0; BODY_BYTES_MAX + 1].into());
    assert!(message(over).encode().is_err());
}

/// What has queued up goes out together, but a large message does not wait for company.
#[test]
fn a_frame_is_filled_up_to_its_target() {
    let mut frame = Frame::new();
    let small = message(Body::Taken).encode().unwrap();
    let large = message(Body::Forward(vec![0; FRAME_BYTES_TARGET].into()));
    let large = large.encode().unwrap();
    assert!(frame.takes(&large));
    frame.push(&small);
    assert!(frame.takes(&small) && !frame.takes(&large));
}
