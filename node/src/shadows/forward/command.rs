//! Commands: carried out by the leader of the shard, wherever it is, at most once.

use std::time::Duration;

use antumbra_raft::{Node, ShardId};
use antumbra_shadow::{DeviceKey, Draft, Failure, Outcome, Tenant, Time};
use tokio::time::Instant;

use crate::error::Error;
use crate::shadows::context::Order;
use crate::shadows::{Shadows, metrics};
use crate::trace;

use super::retry::Retry;
use super::wire::{Answer, Envelope, Refusal, encode_command};
use super::{Failed, NO_LEADER, Purpose, Server, remaining, role_of};

/// How long a command that can be repeated waits for one node: a leader that hangs must not take all
/// the time that there is.
const HOP_TIMEOUT: Duration = Duration::from_secs(4);

/// How an attempt ended without an outcome.
enum Attempt {
    /// Certainly not done; another attempt may succeed.
    Certain(Error),
    /// Certainly not done, and the caller is told so.
    Refused(Error),
    /// Perhaps done.
    Unknown(Doubt, Error),
    /// Whatever became of it, the caller is told this.
    Final(Error),
}

/// What the attempts so far may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// Certainly nothing.
    None,
    /// Something; it is before the next attempt or nowhere.
    Settled,
    /// Something, or it may yet.
    Astray,
}

impl Shadows {
    /// Carries a command out, here or on the leader's node, and repeats it as far as that is safe.
    pub(crate) async fn carry_out(
        &self,
        tenant: Option<&Tenant>,
        device: &DeviceKey,
        mut draft: Draft,
        order: Order,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        trace::note_command(draft.request_id.as_ref());
        let first_sent = Time(self.inner.clock.now_ms());
        let can_repeat = draft.request_id.is_some();
        let mut retry = Retry::new(deadline);
        let mut doubt = Doubt::None;
        loop {
            let table = self.table();
            let shard = table.shard_of(device).map_err(|error| doubt.told(error))?;
            let attempt = match self.server(&table, shard, Purpose::Change, &retry) {
                Server::Here(context) => {
                    let submitted = context.submit(device, draft.clone(), order, deadline).await;
                    submitted.map_err(Attempt::from)
                }
                Server::There(node) => {
                    let waits = match can_repeat {
                        true => deadline.min(Instant::now() + HOP_TIMEOUT),
                        false => deadline,
                    };
                    let command = Forwarded {
                        tenant,
                        device,
                        draft: &draft,
                        waits,
                        deadline,
                    };
                    self.forward(shard, &node, command, &mut retry).await
                }
                Server::Nobody => Err(Attempt::Certain(NO_LEADER)),
            };
            let error = match attempt {
                // A copy that went astray may be carried out after this rejection.
                Ok(Outcome::Rejected(_)) if doubt == Doubt::Astray => {
                    return Err(Error::OutcomeUnknown);
                }
                Ok(outcome) => return Ok(outcome),
                Err(Attempt::Certain(error)) => error,
                Err(Attempt::Refused(error)) if doubt == Doubt::None => return Err(error),
                Err(Attempt::Refused(error)) => error,
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Unknown(_, error)) if !can_repeat => return Err(error),
                Err(Attempt::Unknown(more, error)) => {
                    doubt = doubt.max(more);
                    draft.issued.get_or_insert(first_sent);
                    error
                }
            };
            metrics::repeated();
            if !retry.again(role_of(&table, shard)).await {
                return Err(doubt.told(error));
            }
        }
    }

    async fn forward(
        &self,
        shard: ShardId,
        node: &Node,
        command: Forwarded<'_>,
        retry: &mut Retry,
    ) -> Result<Outcome, Attempt> {
        let envelope = Envelope {
            shard,
            remaining: remaining(command.waits),
            tenant: command.tenant.cloned(),
        };
        let body = encode_command(&envelope, command.device, command.draft.clone());
        match self.hop(shard, node, body, command.waits, retry).await {
            Ok(Answer::Outcome(outcome)) => {
                self.inner.hints.learn(shard, node);
                Ok(outcome)
            }
            // Whatever this node did, it did not say what became of the command.
            Ok(_) => Err(Attempt::Unknown(Doubt::Astray, Error::OutcomeUnknown)),
            Err(Failed::Certain(error @ Error::TooLarge { .. })) => Err(Attempt::Refused(error)),
            Err(Failed::Certain(error)) => Err(Attempt::Certain(error)),
            Err(Failed::Astray) => {
                let error = match Instant::now() < command.deadline {
                    true => Error::OutcomeUnknown,
                    false => Error::Deadline,
                };
                Err(Attempt::Unknown(Doubt::Astray, error))
            }
            Err(Failed::Refused(refusal)) => {
                Err(refused(refusal, command.waits < command.deadline))
            }
        }
    }
}

/// A command on its way to another node.
struct Forwarded<'a> {
    tenant: Option<&'a Tenant>,
    device: &'a DeviceKey,
    draft: &'a Draft,
    /// How long this attempt waits.
    waits: Instant,
    /// How long the caller waits.
    deadline: Instant,
}

/// What the refusal of the node that was asked means. `is_early`: the caller waits longer than this
/// attempt did.
fn refused(refusal: Refusal, is_early: bool) -> Attempt {
    let error = Error::from(refusal);
    match refusal {
        Refusal::Unavailable => Attempt::Certain(error),
        Refusal::Overloaded | Refusal::PermissionDenied | Refusal::NotUnderstood => {
            Attempt::Refused(error)
        }
        Refusal::Unknown => Attempt::Unknown(Doubt::Settled, error),
        Refusal::Deadline if is_early => Attempt::Unknown(Doubt::Settled, error),
        Refusal::Deadline | Refusal::Damaged => Attempt::Final(error),
        Refusal::Internal => Attempt::Unknown(Doubt::Astray, Error::OutcomeUnknown),
    }
}

impl From<Failure> for Attempt {
    /// What a failure of the replica here means.
    fn from(failure: Failure) -> Attempt {
        match failure {
            Failure::NotLeader => Attempt::Certain(NO_LEADER),
            Failure::Unavailable(why) => Attempt::Certain(Error::Unavailable(why)),
            Failure::Overloaded => Attempt::Refused(Error::Overloaded),
            Failure::Unknown => Attempt::Unknown(Doubt::Settled, Error::OutcomeUnknown),
            Failure::Deadline | Failure::Damaged => Attempt::Final(Error::from(failure)),
        }
    }
}

impl Doubt {
    /// What a caller is told whose last attempt failed so.
    fn told(self, error: Error) -> Error {
        match self {
            Doubt::None => error,
            Doubt::Settled | Doubt::Astray => Error::OutcomeUnknown,
        }
    }
}
