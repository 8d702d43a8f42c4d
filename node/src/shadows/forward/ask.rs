//! Reads: answered by the replica on this node where there is one that keeps up, else by another.

use std::time::Duration;

use antumbra_raft::ShardId;
use antumbra_shadow::Tenant;
use tokio::time::Instant;

use crate::error::Error;
use crate::shadows::question::{Question, Reply};
use crate::shadows::{Shadows, metrics};

use super::retry::Retry;
use super::wire::{Answer, Envelope, encode_question};
use super::{Failed, NO_LEADER, Purpose, Server, remaining, role_of};

/// How long a read waits for one node before it asks another.
const HOP_TIMEOUT: Duration = Duration::from_secs(3);

impl Shadows {
    /// Has a question answered, and asks again as long as there is time: a read changes nothing. May
    /// be dropped midway.
    pub(crate) async fn ask(
        &self,
        tenant: Option<&Tenant>,
        shard: ShardId,
        question: &Question,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let least = match question.is_local() {
            true => self.inner.shown.least(shard),
            false => 0,
        };
        let purpose = match question.is_local() {
            true => Purpose::LocalRead(least),
            false => Purpose::Read,
        };
        let mut retry = Retry::new(deadline);
        loop {
            let table = self.table();
            let answered = match self.server(&table, shard, purpose, &retry) {
                Server::Here(context) => {
                    let answered = self.answer(&context, question, deadline).await;
                    if answered.is_err() {
                        retry.failed_at(&self.inner.node);
                    }
                    answered
                }
                Server::There(node) => {
                    let waits = deadline.min(Instant::now() + HOP_TIMEOUT);
                    let envelope = Envelope {
                        shard,
                        remaining: remaining(waits),
                        tenant: tenant.cloned(),
                    };
                    let body = encode_question(&envelope, question);
                    match self.hop(shard, &node, body, waits, &mut retry).await {
                        Ok(Answer::Reply(reply)) if reply.seen() < least => {
                            retry.failed_at(&node.name);
                            Err(Error::Unavailable(
                                "the replica is behind what was read here",
                            ))
                        }
                        Ok(Answer::Reply(reply)) => {
                            if question.is_local() {
                                self.inner.shown.show(shard, reply.seen());
                            }
                            Ok(reply)
                        }
                        Ok(_) => Err(Error::Internal("another node answered something else")),
                        Err(Failed::Certain(error)) => Err(error),
                        Err(Failed::Refused(refusal)) => Err(Error::from(refusal)),
                        Err(Failed::Astray) => Err(Error::Deadline),
                    }
                }
                Server::Nobody => Err(NO_LEADER),
            };
            let error = match answered {
                Ok(reply) => return Ok(reply),
                Err(error @ (Error::Unavailable(_) | Error::Deadline)) => error,
                Err(error) => return Err(error),
            };
            metrics::repeated();
            if !retry.again(role_of(&table, shard)).await {
                return Err(error);
            }
        }
    }
}
