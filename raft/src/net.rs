//! The port through which replicas talk to each other.
//!
//! # For correctness
//! - An envelope carries (shard, from, to); the receiver drops it when it does not host exactly that
//!   replica. A message never creates a replica.
//! - Every call ends by itself within `RPCOption::soft_ttl`. A dead peer is `Unreachable`.
//! - `pre_vote` is implemented, and is an error when the peer cannot be reached: openraft's default
//!   grants, and an isolated replica would elect itself candidate over and over.
//! - `stream_append` answers in the order of the requests.

use std::future::Future;

use openraft::RaftNetworkV2;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;

use crate::ids::{ReplicaId, ShardId};
use crate::state::SnapshotData;
use crate::types::{Node, TypeConfig, Vote};

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The group both belong to.
    pub shard: ShardId,
    /// The replica on this node.
    pub from: ReplicaId,
    /// The replica on the other node.
    pub to: ReplicaId,
}

/// Traffic that must not wait for other traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Entries and votes.
    Log,
    /// Heartbeats.
    Heartbeat,
    /// Snapshots.
    Snapshot,
}

/// Makes openraft's network clients. See the module for what an implementation must keep.
pub trait Transport: Send + Sync + 'static {
    /// Talks to one replica.
    type Client: RaftNetworkV2<TypeConfig, SnapshotData = SnapshotData>;

    /// A client for one route and lane. Does no I/O: connecting happens at the first call.
    fn client(&self, route: Route, node: &Node, lane: Lane) -> Self::Client;
}

/// The transport of a node that is alone: nobody can be reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTransport;

impl Transport for NoTransport {
    type Client = NoPeer;

    fn client(&self, _route: Route, _node: &Node, _lane: Lane) -> NoPeer {
        NoPeer
    }
}

/// A peer that is never there.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeer;

impl NoPeer {
    fn unreachable() -> Unreachable<TypeConfig> {
        Unreachable::from_string("this node has no transport")
    }
}

impl RaftNetworkV2<TypeConfig> for NoPeer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(Self::unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(Self::unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(Self::unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(Self::unreachable().into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    /// A node that reaches nobody must not believe that it was granted a pre-vote.
    #[tokio::test]
    async fn pre_vote_of_an_unreachable_peer_is_an_error() {
        let route = Route {
            shard: ShardId(1),
            from: ReplicaId(1),
            to: ReplicaId(2),
        };
        let mut peer = NoTransport.client(route, &Node::default(), Lane::Log);
        let request = VoteRequest::new(Vote::new(1, 1), None);
        let answer = peer
            .pre_vote(request, RPCOption::new(Duration::from_secs(1)))
            .await;
        assert!(matches!(answer, Err(RPCError::Unreachable(_))));
    }
}
