//! openraft's network: what one replica asks another one, over links.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::RaftNetworkFactory;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RPCTypes,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;

use crate::ids::{ReplicaId, ShardId};
use crate::state::SnapshotData;
use crate::types::{Node, TypeConfig, Vote};

use super::append::{Pipeline, heartbeats};
use super::link::{CallError, Link};
use super::{Body, Lane, Links, Route, snapshot};

/// Pauses of openraft before it asks an unreachable replica again. They are short because a link that
/// cannot connect answers at once and paces its own attempts.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(400);

/// The other replicas of one group.
pub(crate) struct Peers {
    pub(crate) links: Arc<Links>,
    pub(crate) shard: ShardId,
    /// The replica on this node.
    pub(crate) from: ReplicaId,
    /// A stream of appends that hears nothing for this long is given up.
    pub(crate) patience: Duration,
}

impl Peers {
    fn client(&self, to: u64, node: &Node, lane: Lane) -> Client {
        Client {
            links: Arc::clone(&self.links),
            route: Route {
                shard: self.shard,
                from: self.from,
                to: ReplicaId(to),
            },
            node: node.clone(),
            lane,
            patience: self.patience,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Node) -> Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Client {
        self.client(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Node) -> Client {
        self.client(target, node, Lane::Snapshot)
    }
}

/// Talks to one replica. Votes and transfers go over the control lane, whatever the client is for.
pub(crate) struct Client {
    pub(super) links: Arc<Links>,
    pub(super) route: Route,
    pub(super) node: Node,
    pub(super) lane: Lane,
    pub(super) patience: Duration,
}

impl Client {
    pub(super) fn link(&self, lane: Lane) -> Arc<Link> {
        self.links.link(&self.node, lane)
    }

    async fn ask(&self, body: Body, what: RPCTypes, option: &RPCOption) -> Result<Body, Failed> {
        let timeout = option.soft_ttl();
        let link = self.link(Lane::Control);
        let answer = link.call(self.route, body, timeout).await;
        answer.map_err(|error| failed(error, self.route, what, timeout))
    }
}

pub(super) type Failed = RPCError<TypeConfig>;

/// What openraft is told about a request without an answer.
pub(super) fn failed(
    error: CallError,
    route: Route,
    action: RPCTypes,
    timeout: Duration,
) -> Failed {
    match error {
        CallError::NotSent => unreachable("no connection").into(),
        CallError::Lost => unreachable("the connection was lost").into(),
        CallError::TimedOut => Failed::Timeout(Timeout {
            action,
            id: route.from.0,
            target: route.to.0,
            timeout,
        }),
    }
}

/// The answer is not one to the question: a refusal, or nonsense.
pub(super) fn refused(answer: &Body) -> Unreachable<TypeConfig> {
    match answer {
        Body::Refused(refusal) => unreachable(&format!("refused: {refusal:?}")),
        _ => unreachable("the answer is to another question"),
    }
}

fn unreachable(what: &str) -> Unreachable<TypeConfig> {
    Unreachable::from_string(what)
}

impl NetBackoff<TypeConfig> for Client {
    fn backoff(&self) -> Option<Backoff> {
        let pauses = std::iter::successors(Some(BACKOFF_MIN), |last| {
            Some(last.saturating_mul(2).min(BACKOFF_MAX))
        });
        Some(Backoff::new(pauses))
    }
}

impl NetVote<TypeConfig> for Client {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        match self.ask(Body::Vote(rpc), RPCTypes::Vote, &option).await? {
            Body::Voted(answer) => Ok(answer),
            other => Err(refused(&other).into()),
        }
    }

    /// Never grants by itself: who cannot be asked has not granted.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let body = Body::PreVote(rpc);
        match self.ask(body, RPCTypes::Vote, &option).await? {
            Body::Voted(answer) => Ok(answer),
            other => Err(refused(&other).into()),
        }
    }
}

impl NetTransferLeader<TypeConfig> for Client {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failed> {
        let body = Body::Transfer(req);
        match self.ask(body, RPCTypes::TransferLeader, &option).await? {
            Body::Transferred(answer) => Ok(answer),
            other => Err(refused(&other).into()),
        }
    }
}

impl NetStreamAppend<TypeConfig> for Client {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failed>>, Failed>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let answers = match self.lane {
            Lane::Log => Pipeline::new(self, input).answers().boxed(),
            // An answer that comes late is one still, and renews the lease of a leader on a busy machine.
            _ => heartbeats(self, input, option.hard_ttl()).boxed(),
        };
        Box::pin(async move { Ok(answers) })
    }
}

impl NetSnapshot<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = snapshot::send(self, vote, snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = sending => sent,
        }
    }
}
