//! The applied position of a shard: the row that makes applying exactly-once.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, LogIdV1, MembershipV1};
use crate::error::Error;
use crate::ids::ReplicaId;
use crate::types::{LogId, Membership, SnapshotMeta, StoredMembership};

/// Tag of the stored row; part of the format on disk, never reused.
const TAG_ROW_V1: u8 = 0x61;

/// How far a replica has applied its log, and the membership in force there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Position {
    /// Index of the last applied entry; 0 when nothing is applied.
    pub(crate) fn index(&self) -> u64 {
        self.applied.as_ref().map_or(0, |id| id.index)
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        }
    }

    pub(crate) fn from_meta(meta: &SnapshotMeta) -> Position {
        Position {
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let membership = self.membership.membership();
        let stored = PositionV1 {
            applied: self.applied.as_ref().map(LogIdV1::from),
            membership_at: self.membership.log_id().as_ref().map(LogIdV1::from),
            membership: (*membership != Membership::default())
                .then(|| MembershipV1::from(membership)),
        };
        codec::encode(codec::Tag::PositionV1, &stored)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Position, DecodeError> {
        let stored: PositionV1 = codec::decode(codec::Tag::PositionV1, bytes)?;
        let membership = stored.membership.map(Membership::try_from).transpose()?;
        Ok(Position {
            applied: stored.applied.map(LogId::from),
            membership: StoredMembership::new(
                stored.membership_at.map(LogId::from),
                membership.unwrap_or_default(),
            ),
        })
    }
}

/// The frozen shape of a position.
#[derive(Serialize, Deserialize)]
struct PositionV1 {
    applied: Option<LogIdV1>,
    membership_at: Option<LogIdV1>,
    /// Absent before the group has one.
    membership: Option<MembershipV1>,
}

/// The position as it is stored: with the replica that applied, since ids are never reused and
/// rows of a former replica must not pass for those of a new one.
pub(crate) struct PositionRow {
    pub(crate) replica: ReplicaId,
    pub(crate) position: Position,
}

impl PositionRow {
    pub(crate) fn encode(replica: ReplicaId, position: &Position) -> Vec<u8> {
        let mut row = BytesMut::new();
        row.put_u8(TAG_ROW_V1);
        row.put_u64(replica.0);
        row.put_slice(&position.encode());
        row.to_vec()
    }

    pub(crate) fn decode(row: &Bytes) -> Result<PositionRow, Error> {
        let mut row = row.clone();
        if row.len() < 9 || row.get_u8() != TAG_ROW_V1 {
            return Err(Error::state_damaged("a position row has an unknown format"));
        }
        Ok(PositionRow {
            replica: ReplicaId(row.get_u64()),
            position: Position::decode(&row)
                .map_err(|error| Error::state_damaged(format!("position row: {error}")))?,
        })
    }
}
