//! Requests about a shard reach whoever can serve them: this node, or another one over one hop.
//!
//! # One hop
//! A door's node decides who is asked and repeats what may be repeated; the node that is asked serves
//! the request from its own replica or refuses it. It never passes a request on, so that no request
//! can run in circles and its deadline is kept in one place.
//!
//! # What may be repeated (invariant 5)
//! A *read* may always be repeated. For a *command* it depends on how an attempt failed:
//!
//! - *Certainly not done*: refused by a replica that does not lead, by a twin before it was sent, or by
//!   our own link before it was written. Another attempt cannot do it twice. When time runs out while
//!   all attempts failed so, the caller is told UNAVAILABLE, which promises that nothing was done.
//! - *Unknown*: the leader lost the result, or the link broke after the request was written. With a
//!   request id the same command may be sent again: if it was accepted before, apply remembers the id
//!   and gives the first outcome. Without one a repeat could do it twice, so the caller is told
//!   OUTCOME_UNKNOWN at once.
//!
//! Once an attempt was unknown, no later refusal makes the call certain again: a queue that is full
//! *now* says nothing about the first attempt. From then on only an outcome ends the call, or
//! OUTCOME_UNKNOWN when time runs out.
//!
//! A rejection needs more care, because rejections are not remembered. When the leader answered
//! "unknown", its entry is either in the log before the repeat or will never be: the rejection of
//! the repeat is final. When the link broke, a copy of the command may still lie in a buffer and be
//! carried out *after* the repeat was rejected; then only an accepted outcome is believed.
//!
//! A repeat carries the time at which this node first sent the command ([`Draft::issued`]), so that
//! apply can refuse it when ids that old were forgotten. The first attempt carries only what the
//! caller said: a node whose clock is behind must not have its fresh commands taken for old ones.
//!
//! [`Draft::issued`]: antumbra_shadow::Draft::issued

mod ask;
mod bytes;
mod choose;
mod command;
mod restore;
mod retry;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use ::bytes::Bytes;
use antumbra_raft::{ForwardError, Node, Role, ShardId};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::error::Error;

use super::context::ShardContext;
use super::table::Table;
use super::{Shadows, metrics};

pub(crate) use bytes::{Reader, Writer};
pub(crate) use choose::Hints;
pub(crate) use wire::FRAME_BYTES_MAX;

use choose::{Here, Pick, Prospect, pick};
use retry::Retry;
use wire::{Answer, Refusal};

/// What the other node is given less than this one waits, so that its answer comes back in time.
const ANSWER_MARGIN: Duration = Duration::from_millis(20);

/// The way to other nodes.
///
/// # For correctness
/// - [`ForwardError::NotSent`] only when the request certainly never reached the node.
/// - A body arrives whole or not at all; the items of a stream arrive in their order.
pub trait Peers: Send + Sync + 'static {
    /// One request to the handler of another node.
    fn forward(
        &self,
        node: &Node,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, ForwardError>>;

    /// Opens a stream of the changes of a shard on another node. Dropping it closes it.
    fn follow(
        &self,
        node: &Node,
        body: Bytes,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>>;
}

/// What a request does, which decides who can serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Only the leader can.
    Change,
    /// Every replica can that keeps up; the leader needs one round trip less.
    Read,
    /// What the replica here has applied, however far behind it is, once it has applied what this node
    /// has shown before: from one replica to another a reader could go back.
    LocalRead(u64),
}

/// Who serves an attempt.
enum Server {
    Here(ShardContext),
    There(Node),
    Nobody,
}

/// Why a hop brought no answer of use.
#[derive(Debug)]
enum Failed {
    /// Certainly nothing was done.
    Certain(Error),
    /// The request was sent and no answer came: it may be carried out yet.
    Astray,
    /// The other node refuses.
    Refused(Refusal),
}

impl Shadows {
    fn server(&self, table: &Table, shard: ShardId, purpose: Purpose, retry: &Retry) -> Server {
        let hints = &self.inner.hints;
        let local = table.local(shard);
        let here = match (local, purpose) {
            (None, _) => Here::No,
            (Some(context), Purpose::LocalRead(least)) => {
                match context.shard.applied_index() < least {
                    true => Here::No,
                    false => Here::Only,
                }
            }
            // A leader that cannot answer a read may be cut off without knowing it yet.
            (Some(_), Purpose::Read) if !hints.is_doubted(shard) => Here::Could,
            (Some(_), Purpose::Read) => Here::Lags,
            (Some(context), Purpose::Change) if context.leads() => Here::Only,
            (Some(_), Purpose::Change) => Here::No,
        };
        let failed = retry.failed.as_deref();
        match local {
            // The usual case: nobody else need be known.
            Some(context) if failed.is_none() && matches!(here, Here::Only | Here::Could) => {
                return Server::Here(context.clone());
            }
            _ => {}
        }
        let known = local.and_then(|context| context.shard.leader());
        let picked = pick(&Prospect {
            me: &self.inner.node,
            here,
            leaders: [known.map(|(_, node)| node), hints.leader(shard)],
            nodes: table.nodes(shard).collect(),
            failed,
            attempt: retry.attempt,
        });
        match (picked, local) {
            (Pick::Here, Some(context)) => Server::Here(context.clone()),
            (Pick::There(node), _) => Server::There(node),
            (Pick::Here | Pick::Nobody, _) => Server::Nobody,
        }
    }

    /// Sends a request to another node and learns from the answer who leads. May be dropped midway.
    async fn hop(
        &self,
        shard: ShardId,
        node: &Node,
        body: Bytes,
        deadline: Instant,
        retry: &mut Retry,
    ) -> Result<Answer, Failed> {
        let hints = &self.inner.hints;
        if body.len() > FRAME_BYTES_MAX {
            return Err(Failed::Certain(Error::TooLarge {
                what: "command",
                bytes: body.len() as u64,
                max: FRAME_BYTES_MAX as u64,
            }));
        }
        let timeout = deadline.saturating_duration_since(Instant::now());
        let sent = self.inner.peers.forward(node, body, timeout);
        // The link keeps the time itself; this is for one that does not.
        let answer = timeout_at(deadline + ANSWER_MARGIN, sent).await;
        let failed = match answer.unwrap_or(Err(ForwardError::Unknown)) {
            Ok(answer) => match Answer::decode(answer) {
                Some(Answer::NotLeader(leader)) => {
                    metrics::forwarded("not_leader");
                    hints.unlearn(shard, &node.name);
                    retry.failed_at(&node.name);
                    if let Some(leader) = leader.filter(|leader| leader.name != self.inner.node) {
                        retry.told(&leader.name);
                        hints.learn(shard, &leader);
                    }
                    return Err(Failed::Certain(NO_LEADER));
                }
                Some(Answer::Refused(refusal)) => {
                    metrics::forwarded("refused");
                    retry.failed_at(&node.name);
                    return Err(Failed::Refused(refusal));
                }
                Some(answer) => {
                    metrics::forwarded("answered");
                    return Ok(answer);
                }
                None => Failed::Astray,
            },
            Err(ForwardError::NotSent) => {
                Failed::Certain(Error::Unavailable("no node of the shard can be reached"))
            }
            Err(ForwardError::Unknown) => Failed::Astray,
        };
        metrics::forwarded(match failed {
            Failed::Certain(_) => "not_sent",
            _ => "lost",
        });
        debug!(%shard, node = node.name, ?failed, "no answer from another node");
        hints.unlearn(shard, &node.name);
        retry.failed_at(&node.name);
        Err(failed)
    }
}

const NO_LEADER: Error = Error::Unavailable("the shard has no leader");

/// How long the node that is asked may take.
fn remaining(deadline: Instant) -> Duration {
    let whole = deadline.saturating_duration_since(Instant::now());
    whole - ANSWER_MARGIN.min(whole / 8)
}

fn role_of(table: &Table, shard: ShardId) -> Option<watch::Receiver<Role>> {
    table.local(shard).map(|context| context.shard.role())
}
