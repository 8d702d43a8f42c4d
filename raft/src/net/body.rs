//! What messages say. Every body but plain bytes begins with its format tag; shapes are frozen.

use bytes::{Buf, BufMut, Bytes};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, LogIdV1, Tag, VoteV1};
use crate::state::Position;
use crate::types::{Entry, LogId, SnapshotMeta, TypeConfig, Vote};

/// A shorter entry is copied out of its frame, so that it does not keep the whole frame in memory
/// for as long as the log does.
const SHARED_ENTRY_BYTES_MIN: usize = 64 << 10;

/// What a message says.
#[derive(Debug)]
pub(crate) enum Body {
    /// One append of a stream; the first one of a stream has sequence 0 and opens it.
    Append {
        /// Number within the stream.
        sequence: u64,
        /// What openraft asks.
        request: AppendEntriesRequest<TypeConfig>,
    },
    /// No more appends of this stream will come.
    AppendEnd,
    /// An append without entries, outside of any stream.
    Heartbeat(AppendEntriesRequest<TypeConfig>),
    /// A candidate asks for a vote.
    Vote(VoteRequest<TypeConfig>),
    /// Would the other grant a vote?
    PreVote(VoteRequest<TypeConfig>),
    /// The leader hands over.
    Transfer(TransferLeaderRequest<TypeConfig>),
    /// A follower asks its leader up to where it must have applied.
    ReadIndex,
    /// A snapshot begins: the vote of the leader, and what the snapshot is.
    Snapshot {
        /// The vote of the leader.
        vote: Vote,
        /// Its position.
        meta: SnapshotMeta,
    },
    /// One chunk of it.
    Chunk(Bytes),
    /// All chunks were sent.
    SnapshotEnd,
    /// No more chunks of it will come.
    SnapshotAbort,
    /// A request of the node itself.
    Forward(Bytes),

    /// Answer to an append or a heartbeat.
    Appended(StreamAppendResult<TypeConfig>),
    /// Answer to a vote or a pre-vote.
    Voted(VoteResponse<TypeConfig>),
    /// Answer to a transfer.
    Transferred(TransferLeaderResponse<TypeConfig>),
    /// Answer to a read index.
    ReadAt(u64),
    /// Answer to a begin or a chunk: it was handed on, another may come.
    Taken,
    /// The snapshot was taken in, or the receiver knows this higher vote.
    Installed(Vote),
    /// Answer to a request of the node.
    Forwarded(Bytes),
    /// The request was not served.
    Refused(Refusal),
}

/// Why a request was not served. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// This node does not host exactly that replica.
    NoSuchReplica,
    /// The replica has stopped.
    Stopped,
    /// Nobody serves requests of nodes here; it was not carried out.
    NoHandler,
    /// The replica does not lead.
    NotLeader,
    /// Too much is under way; it was not carried out.
    Overloaded,
    /// A quorum did not answer.
    Unavailable,
    /// The snapshot was not installed.
    SnapshotRefused,
    /// Whoever asks does not belong to the group (any more).
    NotMember,
}

/// What a body is. Part of the format: never change or reuse a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Append = 0x01,
    AppendEnd = 0x02,
    Heartbeat = 0x03,
    Vote = 0x04,
    PreVote = 0x05,
    Transfer = 0x06,
    ReadIndex = 0x07,
    Snapshot = 0x08,
    Chunk = 0x09,
    SnapshotEnd = 0x0a,
    SnapshotAbort = 0x0b,
    Forward = 0x0c,
    Appended = 0x81,
    Voted = 0x82,
    Transferred = 0x83,
    ReadAt = 0x84,
    Taken = 0x85,
    Installed = 0x86,
    Forwarded = 0x87,
    Refused = 0x88,
}

impl Kind {
    const ALL: [Kind; 20] = [
        Kind::Append,
        Kind::AppendEnd,
        Kind::Heartbeat,
        Kind::Vote,
        Kind::PreVote,
        Kind::Transfer,
        Kind::ReadIndex,
        Kind::Snapshot,
        Kind::Chunk,
        Kind::SnapshotEnd,
        Kind::SnapshotAbort,
        Kind::Forward,
        Kind::Appended,
        Kind::Voted,
        Kind::Transferred,
        Kind::ReadAt,
        Kind::Taken,
        Kind::Installed,
        Kind::Forwarded,
        Kind::Refused,
    ];

    pub(super) fn parse(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What stands before the entries of an append.
#[derive(Serialize, Deserialize)]
struct AppendV1 {
    sequence: u64,
    vote: VoteV1,
    prev: Option<LogIdV1>,
    committed: Option<LogIdV1>,
}

#[derive(Serialize, Deserialize)]
enum AppendedV1 {
    Matched(Option<LogIdV1>),
    Conflict(LogIdV1),
    HigherVote(VoteV1),
}

#[derive(Serialize, Deserialize)]
struct VoteRequestV1 {
    vote: VoteV1,
    last: Option<LogIdV1>,
    transfer: bool,
}

#[derive(Serialize, Deserialize)]
struct VotedV1 {
    vote: VoteV1,
    granted: bool,
    last: Option<LogIdV1>,
}

#[derive(Serialize, Deserialize)]
struct TransferV1 {
    from: VoteV1,
    to: u64,
    last: Option<LogIdV1>,
}

#[derive(Serialize, Deserialize)]
enum TransferredV1 {
    Accepted,
    VoteChanged {
        expected: VoteV1,
        actual: VoteV1,
    },
    LogNotFlushed {
        expected: Option<LogIdV1>,
        actual: Option<LogIdV1>,
    },
}

#[derive(Serialize, Deserialize)]
struct SnapshotV1 {
    vote: VoteV1,
    position: Vec<u8>,
}

impl Body {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Body::Append { .. } => Kind::Append,
            Body::AppendEnd => Kind::AppendEnd,
            Body::Heartbeat(_) => Kind::Heartbeat,
            Body::Vote(_) => Kind::Vote,
            Body::PreVote(_) => Kind::PreVote,
            Body::Transfer(_) => Kind::Transfer,
            Body::ReadIndex => Kind::ReadIndex,
            Body::Snapshot { .. } => Kind::Snapshot,
            Body::Chunk(_) => Kind::Chunk,
            Body::SnapshotEnd => Kind::SnapshotEnd,
            Body::SnapshotAbort => Kind::SnapshotAbort,
            Body::Forward(_) => Kind::Forward,
            Body::Appended(_) => Kind::Appended,
            Body::Voted(_) => Kind::Voted,
            Body::Transferred(_) => Kind::Transferred,
            Body::ReadAt(_) => Kind::ReadAt,
            Body::Taken => Kind::Taken,
            Body::Installed(_) => Kind::Installed,
            Body::Forwarded(_) => Kind::Forwarded,
            Body::Refused(_) => Kind::Refused,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Body::Append { sequence, request } => encode_append(out, *sequence, request),
            Body::Heartbeat(request) => encode_append(out, 0, request),
            Body::Vote(request) | Body::PreVote(request) => {
                let shape = VoteRequestV1 {
                    vote: VoteV1::from(&request.vote),
                    last: stored(&request.last_log_id),
                    transfer: request.leadership_transfer,
                };
                out.extend(codec::encode(Tag::VoteRequestV1, &shape));
            }
            Body::Transfer(request) => {
                let shape = TransferV1 {
                    from: VoteV1::from(request.from_leader()),
                    to: *request.to_node_id(),
                    last: request.last_log_id().map(LogIdV1::from),
                };
                out.extend(codec::encode(Tag::TransferV1, &shape));
            }
            Body::Snapshot { vote, meta } => {
                let shape = SnapshotV1 {
                    vote: VoteV1::from(vote),
                    position: Position::from_meta(meta).encode(),
                };
                out.extend(codec::encode(Tag::SnapshotV1, &shape));
            }
            Body::Chunk(bytes) | Body::Forward(bytes) | Body::Forwarded(bytes) => {
                out.extend_from_slice(bytes);
            }
            Body::AppendEnd
            | Body::ReadIndex
            | Body::SnapshotEnd
            | Body::SnapshotAbort
            | Body::Taken => {}
            Body::Appended(result) => {
                let shape = match result {
                    Ok(matched) => AppendedV1::Matched(stored(matched)),
                    Err(StreamAppendError::Conflict(id)) => AppendedV1::Conflict(id.into()),
                    Err(StreamAppendError::HigherVote(vote)) => AppendedV1::HigherVote(vote.into()),
                };
                out.extend(codec::encode(Tag::AppendedV1, &shape));
            }
            Body::Voted(answer) => {
                let shape = VotedV1 {
                    vote: VoteV1::from(&answer.vote),
                    granted: answer.vote_granted,
                    last: stored(&answer.last_log_id),
                };
                out.extend(codec::encode(Tag::VotedV1, &shape));
            }
            Body::Transferred(answer) => {
                out.extend(codec::encode(Tag::TransferredV1, &transferred(answer)));
            }
            Body::ReadAt(index) => out.extend(codec::encode(Tag::ReadAtV1, index)),
            Body::Installed(vote) => {
                out.extend(codec::encode(Tag::InstalledV1, &VoteV1::from(vote)));
            }
            Body::Refused(refusal) => out.extend(codec::encode(Tag::RefusedV1, refusal)),
        }
    }

    pub(super) fn decode(kind: Kind, bytes: Bytes) -> Result<Body, DecodeError> {
        Ok(match kind {
            Kind::Append => {
                let (sequence, request) = decode_append(bytes)?;
                Body::Append { sequence, request }
            }
            Kind::Heartbeat => match decode_append(bytes)? {
                (0, request) if request.entries.is_empty() => Body::Heartbeat(request),
                _ => return Err(DecodeError::Impossible("a heartbeat with entries")),
            },
            Kind::Vote => Body::Vote(decode_vote_request(&bytes)?),
            Kind::PreVote => Body::PreVote(decode_vote_request(&bytes)?),
            Kind::Transfer => {
                let shape: TransferV1 = codec::decode(Tag::TransferV1, &bytes)?;
                let (from, last) = (shape.from.into(), loaded(shape.last));
                Body::Transfer(TransferLeaderRequest::new(from, shape.to, last))
            }
            Kind::Snapshot => {
                let shape: SnapshotV1 = codec::decode(Tag::SnapshotV1, &bytes)?;
                Body::Snapshot {
                    vote: shape.vote.into(),
                    meta: Position::decode(&shape.position)?.meta(),
                }
            }
            Kind::Chunk => Body::Chunk(bytes),
            Kind::Forward => Body::Forward(bytes),
            Kind::Forwarded => Body::Forwarded(bytes),
            Kind::AppendEnd => empty(&bytes, Body::AppendEnd)?,
            Kind::ReadIndex => empty(&bytes, Body::ReadIndex)?,
            Kind::SnapshotEnd => empty(&bytes, Body::SnapshotEnd)?,
            Kind::SnapshotAbort => empty(&bytes, Body::SnapshotAbort)?,
            Kind::Taken => empty(&bytes, Body::Taken)?,
            Kind::Appended => Body::Appended(match codec::decode(Tag::AppendedV1, &bytes)? {
                AppendedV1::Matched(matched) => Ok(loaded(matched)),
                AppendedV1::Conflict(id) => Err(StreamAppendError::Conflict(id.into())),
                AppendedV1::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
            }),
            Kind::Voted => {
                let shape: VotedV1 = codec::decode(Tag::VotedV1, &bytes)?;
                let vote: Vote = shape.vote.into();
                Body::Voted(VoteResponse::new(vote, loaded(shape.last), shape.granted))
            }
            Kind::Transferred => {
                let shape: TransferredV1 = codec::decode(Tag::TransferredV1, &bytes)?;
                Body::Transferred(shape.into())
            }
            Kind::ReadAt => Body::ReadAt(codec::decode(Tag::ReadAtV1, &bytes)?),
            Kind::Installed => {
                let vote: VoteV1 = codec::decode(Tag::InstalledV1, &bytes)?;
                Body::Installed(vote.into())
            }
            Kind::Refused => Body::Refused(codec::decode(Tag::RefusedV1, &bytes)?),
        })
    }
}

/// The head behind its length, then the entries, each behind its length.
fn encode_append(out: &mut Vec<u8>, sequence: u64, request: &AppendEntriesRequest<TypeConfig>) {
    let head = AppendV1 {
        sequence,
        vote: VoteV1::from(&request.vote),
        prev: stored(&request.prev_log_id),
        committed: stored(&request.leader_commit),
    };
    let head = codec::encode(Tag::AppendV1, &head);
    out.put_u32(head.len() as u32);
    out.extend(head);
    for entry in &request.entries {
        let at = out.len();
        out.put_u32(0);
        codec::put_entry(out, entry);
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn decode_append(mut bytes: Bytes) -> Result<(u64, AppendEntriesRequest<TypeConfig>), DecodeError> {
    let head: AppendV1 = codec::decode(Tag::AppendV1, &part(&mut bytes)?)?;
    let mut entries: Vec<Entry> = Vec::new();
    while bytes.has_remaining() {
        let mut entry = part(&mut bytes)?;
        if entry.len() < SHARED_ENTRY_BYTES_MIN {
            entry = Bytes::copy_from_slice(&entry);
        }
        entries.push(codec::decode_entry(entry)?);
    }
    let request = AppendEntriesRequest {
        vote: head.vote.into(),
        prev_log_id: loaded(head.prev),
        leader_commit: loaded(head.committed),
        entries,
    };
    check_entries(&request)?;
    Ok((head.sequence, request))
}

/// openraft relies on entries that follow each other from `prev_log_id` on.
fn check_entries(request: &AppendEntriesRequest<TypeConfig>) -> Result<(), DecodeError> {
    let mut next = request
        .prev_log_id
        .map_or(Some(0), |id| id.index.checked_add(1));
    for entry in &request.entries {
        if next != Some(entry.log_id.index) {
            return Err(DecodeError::Impossible(
                "entries that do not follow each other",
            ));
        }
        next = entry.log_id.index.checked_add(1);
    }
    Ok(())
}

fn decode_vote_request(bytes: &[u8]) -> Result<VoteRequest<TypeConfig>, DecodeError> {
    let shape: VoteRequestV1 = codec::decode(Tag::VoteRequestV1, bytes)?;
    let mut request = VoteRequest::new(shape.vote.into(), loaded(shape.last));
    request.leadership_transfer = shape.transfer;
    Ok(request)
}

fn transferred(answer: &TransferLeaderResponse<TypeConfig>) -> TransferredV1 {
    match answer {
        Ok(()) => TransferredV1::Accepted,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => TransferredV1::VoteChanged {
            expected: expected.into(),
            actual: actual.into(),
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            TransferredV1::LogNotFlushed {
                expected: stored(expected),
                actual: stored(actual),
            }
        }
    }
}

impl From<TransferredV1> for TransferLeaderResponse<TypeConfig> {
    fn from(shape: TransferredV1) -> TransferLeaderResponse<TypeConfig> {
        Err(match shape {
            TransferredV1::Accepted => return Ok(()),
            TransferredV1::VoteChanged { expected, actual } => TransferLeaderError::VoteChanged {
                expected: expected.into(),
                actual: actual.into(),
            },
            TransferredV1::LogNotFlushed { expected, actual } => {
                TransferLeaderError::LogNotFlushed {
                    expected: loaded(expected),
                    actual: loaded(actual),
                }
            }
        })
    }
}

/// Cuts the next length-prefixed part off.
pub(super) fn part(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    const CUT: DecodeError = DecodeError::Impossible("a length beyond the end");
    if bytes.len() < 4 {
        return Err(CUT);
    }
    let length = bytes.get_u32() as usize;
    if length > bytes.len() {
        return Err(CUT);
    }
    Ok(bytes.split_to(length))
}

fn empty(bytes: &[u8], body: Body) -> Result<Body, DecodeError> {
    if bytes.is_empty() {
        Ok(body)
    } else {
        Err(DecodeError::Impossible("bytes are left over"))
    }
}

fn stored(id: &Option<LogId>) -> Option<LogIdV1> {
    id.as_ref().map(LogIdV1::from)
}

fn loaded(id: Option<LogIdV1>) -> Option<LogId> {
    id.map(LogId::from)
}
