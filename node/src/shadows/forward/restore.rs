//! Rows of a snapshot reach the leaders of the shards that own them.
//!
//! The same rows may be written again and again ([`super::super::restore`]), so whatever an attempt did,
//! the next one may follow.

use std::collections::BTreeMap;

use ::bytes::Bytes;
use antumbra_raft::{Node, Role, ShardId};
use futures::future::try_join_all;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::shadows::context::ShardContext;
use crate::shadows::dump::device_of;
use crate::shadows::restore::{self, Applied, ROWS_BYTES_MAX, ROWS_MAX, Restored};
use crate::shadows::{Shadows, keys};
use crate::snapshot::Row;

use super::bytes::{Reader, Writer};
use super::retry::Retry;
use super::server::WAIT_MAX;
use super::{ANSWER_MARGIN, NO_LEADER, Purpose, Server, remaining, role_of};

/// The first byte of a request to restore rows, and of its answer. Beside the tags of `wire`; never used
/// again for something else.
pub(super) const RESTORE_V1: u8 = 0x63;

/// What a node answers.
enum Answer {
    /// The reply of the shard.
    Applied(Applied),
    /// It does not lead, and who does.
    NotLeader(Option<Node>),
    /// It could not now, or does not know whether it did.
    Failed,
}

impl Shadows {
    /// Writes rows of a snapshot, each into the shard that owns it. `ConditionFailed` when a device is there
    /// that is not the same. After a failure some shards may have their part; the same rows may be given
    /// again. May be dropped midway.
    pub(crate) async fn restore(
        &self,
        rows: Vec<Row>,
        deadline: Instant,
    ) -> Result<Restored, Error> {
        let bytes: usize = rows.iter().map(Row::bytes).sum();
        if bytes > ROWS_BYTES_MAX || rows.len() > ROWS_MAX {
            return Err(Error::TooLarge {
                what: "request",
                bytes: bytes as u64,
                max: ROWS_BYTES_MAX as u64,
            });
        }
        let table = self.table();
        let mut parts: BTreeMap<ShardId, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let key = keys::decode_row(&row.key);
            let key = key.ok_or_else(|| Error::invalid("rows", "a key is no key of a device"))?;
            let shard = table.shard_of(device_of(&key))?;
            parts.entry(shard).or_default().push(row);
        }
        let restored = parts.iter().map(|(shard, rows)| {
            let command = restore::command(rows.iter());
            self.restore_part(*shard, command, deadline)
        });
        let restored = try_join_all(restored).await?;
        let mut sum = Restored::default();
        restored.into_iter().for_each(|part| sum += part);
        Ok(sum)
    }

    /// Has whoever leads the shard write one part, again and again until somebody has.
    async fn restore_part(
        &self,
        shard: ShardId,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Restored, Error> {
        let mut retry = Retry::new(deadline);
        let mut failure = NO_LEADER;
        loop {
            let table = self.table();
            let answer = match self.server(&table, shard, Purpose::Change, &retry) {
                Server::Here(context) => propose(&context, command.clone(), deadline).await,
                Server::There(node) => {
                    let answer = self.restore_there(shard, &node, &command, deadline).await;
                    self.note(shard, &node, &answer, &mut retry);
                    answer
                }
                Server::Nobody => Answer::NotLeader(None),
            };
            match answer {
                Answer::Applied(applied) => return told(applied),
                Answer::NotLeader(_) => {}
                Answer::Failed => failure = Error::OutcomeUnknown,
            }
            if !retry.again(role_of(&table, shard)).await {
                return Err(failure);
            }
        }
    }

    async fn restore_there(
        &self,
        shard: ShardId,
        node: &Node,
        command: &Bytes,
        deadline: Instant,
    ) -> Answer {
        let mut writer = Writer::new(RESTORE_V1, command.len() + 16);
        writer.u32(shard.0);
        writer.u64(remaining(deadline).as_millis() as u64);
        writer.bytes(command);
        let timeout = deadline.saturating_duration_since(Instant::now());
        let sent = self.ask_node(node, writer.finish(), timeout);
        match timeout_at(deadline + ANSWER_MARGIN, sent).await {
            Ok(Ok(answer)) => Answer::decode(answer).unwrap_or(Answer::Failed),
            Ok(Err(antumbra_raft::ForwardError::NotSent)) => Answer::NotLeader(None),
            Ok(Err(_)) | Err(_) => Answer::Failed,
        }
    }

    /// Learns from an answer who leads.
    fn note(&self, shard: ShardId, node: &Node, answer: &Answer, retry: &mut Retry) {
        let hints = &self.inner.hints;
        match answer {
            Answer::Applied(_) => hints.learn(shard, node),
            Answer::Failed => retry.failed_at(&node.name),
            Answer::NotLeader(leader) => {
                hints.unlearn(shard, &node.name);
                retry.failed_at(&node.name);
                if let Some(leader) = leader.as_ref().filter(|it| it.name != self.inner.node) {
                    retry.told(&leader.name);
                    hints.learn(shard, leader);
                }
            }
        }
    }

    /// Serves such a request of another node.
    pub(super) async fn serve_restore(&self, request: Bytes) -> Bytes {
        let Ok(_place) = self.inner.served.try_acquire() else {
            return Answer::Failed.encode();
        };
        let Some((shard, wait_ms, command)) = decode_request(request) else {
            return Answer::Failed.encode();
        };
        let table = self.table();
        let Some(context) = table.local(shard) else {
            return Answer::NotLeader(None).encode();
        };
        let wait = std::time::Duration::from_millis(wait_ms).min(WAIT_MAX);
        let answer = propose(context, command, Instant::now() + wait).await;
        answer.encode()
    }
}

/// Writes the rows if this replica leads.
async fn propose(context: &ShardContext, command: Bytes, deadline: Instant) -> Answer {
    let role = *context.shard.role().borrow();
    let Role::Leader { term } = role else {
        let leader = context.shard.leader().map(|(_, node)| node);
        return Answer::NotLeader(leader);
    };
    let proposed = timeout_at(deadline, context.shard.propose(term, command)).await;
    match proposed {
        Ok(Ok(proposed)) => Applied::decode(proposed.reply).map_or(Answer::Failed, Answer::Applied),
        Ok(Err(antumbra_raft::ProposeError::NotLeader)) => Answer::NotLeader(None),
        Ok(Err(_)) | Err(_) => Answer::Failed,
    }
}

/// What the caller is told.
fn told(applied: Applied) -> Result<Restored, Error> {
    match applied {
        Applied::Restored(restored) => Ok(restored),
        Applied::Conflict(device) => Err(Error::ConditionFailed {
            condition: format!(
                "device {} of tenant {} is there already and is not the same",
                device.device, device.tenant
            )
            .into(),
        }),
        Applied::Refused(refusal) => Err(Error::invalid("rows", refusal.to_string())),
    }
}

fn decode_request(request: Bytes) -> Option<(ShardId, u64, Bytes)> {
    let (tag, mut reader) = Reader::open(request)?;
    if tag != RESTORE_V1 {
        return None;
    }
    let request = (reader.shard()?, reader.u64()?, reader.bytes()?);
    // Nothing else may get into the log this way.
    let request = restore::is_command(&request.2).then_some(request)?;
    reader.finish(request)
}

impl Answer {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new(RESTORE_V1, 64);
        match self {
            Answer::Applied(applied) => {
                writer.u8(0);
                writer.bytes(&applied.encode());
            }
            Answer::NotLeader(leader) => {
                writer.u8(1);
                writer.option(leader.as_ref(), Writer::node);
            }
            Answer::Failed => writer.u8(2),
        }
        writer.finish()
    }

    fn decode(answer: Bytes) -> Option<Answer> {
        let (tag, mut reader) = Reader::open(answer)?;
        if tag != RESTORE_V1 {
            return None;
        }
        let answer = match reader.u8()? {
            0 => Answer::Applied(Applied::decode(reader.bytes()?)?),
            1 => Answer::NotLeader(reader.option(Reader::node)?),
            2 => Answer::Failed,
            _ => return None,
        };
        reader.finish(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Golden bytes: nodes of two versions talk to each other.
    #[test]
    fn answers_have_their_frozen_bytes() {
        let node = Node {
            name: "b".to_owned(),
            address: "h:1".to_owned(),
        };
        let answer = Answer::NotLeader(Some(node.clone())).encode();
        assert_eq!(&answer[..], b"\x63\x01\x01\0\0\0\x01b\0\0\0\x03h:1");
        let read = Answer::decode(answer);
        assert!(matches!(read, Some(Answer::NotLeader(Some(read))) if read == node));
        assert_eq!(&Answer::Failed.encode()[..], b"\x63\x02");
        let restored = Applied::Restored(Restored::default());
        let answer = Answer::Applied(restored.clone()).encode();
        assert!(matches!(Answer::decode(answer), Some(Answer::Applied(read)) if read == restored));
        assert!(Answer::decode(Bytes::from_static(b"\x63\x02\0")).is_none());
        assert!(Answer::decode(Bytes::from_static(b"\x51")).is_none());
    }

    /// A request of another node must not put any other command into the log.
    #[test]
    fn only_rows_are_taken() {
        let request = |command: &[u8]| {
            let mut writer = Writer::new(RESTORE_V1, 0);
            writer.u32(3);
            writer.u64(40);
            writer.bytes(command);
            decode_request(writer.finish())
        };
        let command = restore::command([].iter());
        assert_eq!(request(&command), Some((ShardId(3), 40, command.clone())));
        assert_eq!(request(b"\x13"), None);
        assert_eq!(request(b""), None);
    }
}
