//! How replicas, and the nodes that carry them, talk to each other.
//!
//! - This file: the ports. A [`Transport`] opens message-framed connections and knows nothing of what
//!   goes over them; a [`ForwardHandler`] serves the node's own requests.
//! - `wire`, `body`: the bytes: frames of messages, each with its envelope.
//! - `link`, `links`: the asking side of a connection: what is queued, what waits for an answer, when
//!   to connect again.
//! - `client`, `append`, `snapshot`: openraft's network over links.
//! - `server`, `receive`: the answering side of a connection.
//!
//! # For correctness
//! - An envelope carries (shard, from, to); what is not for exactly a replica of this node is answered
//!   with *no such replica*. A message never creates a replica.
//! - Every wait for a peer ends by itself. A dead peer is `Unreachable`, and all that waits for it
//!   learns so at once.
//! - A pre-vote that nobody answers is an error: openraft's default grants, and an isolated replica
//!   would elect itself candidate over and over.
//! - Answers to the appends of one stream come in the order of the requests.
//! - Everything that waits is bounded: requests and bytes of a link, appends of a stream, handlers of a
//!   connection, chunks of a snapshot. A side that is asked too much stops reading.

mod append;
mod body;
mod client;
#[cfg(test)]
mod fake;
mod link;
mod links;
mod receive;
mod server;
mod snapshot;
mod wire;

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::ids::{ReplicaId, ShardId};
use crate::types::Node;

pub(crate) use body::{Body, Refusal};
pub(crate) use client::Peers;
pub(crate) use link::CallError;
pub(crate) use links::Links;
pub(crate) use server::Server;

/// No frame is longer: a longer one ends the connection.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// Traffic that must not wait for other traffic: one connection per node and lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, read indexes, transfers of leadership.
    Control,
    /// Entries.
    Log,
    /// Snapshots.
    Snapshot,
    /// Requests of the node itself.
    Forward,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Lane; 4] = [Lane::Control, Lane::Log, Lane::Snapshot, Lane::Forward];

    /// The name on the wire, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Log => "log",
            Lane::Snapshot => "snapshot",
            Lane::Forward => "forward",
        }
    }

    /// The lane of a name.
    pub fn parse(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.name() == name)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message-framed, ordered, reliable connection, bounded both ways. The other side has gone when
/// `receiver` ends or `sender` fails; dropping both ends it for the other side.
#[derive(Debug)]
pub struct Duplex {
    /// Frames to the other side, each at most [`FRAME_BYTES_MAX`] long.
    pub sender: mpsc::Sender<Bytes>,
    /// Frames of the other side.
    pub receiver: mpsc::Receiver<Bytes>,
}

/// Why a node was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub String);

/// Connects this node with others.
///
/// # For correctness
/// - Frames arrive whole and in the order in which they were sent; after a lost one nothing arrives any
///   more.
/// - A connection leads to the node that was named, or ends.
/// - A connection whose other side has gone silent ends by itself within seconds.
pub trait Transport: Send + Sync + 'static {
    /// Opens a connection to a node for one lane. Ends by itself within its own connect timeout.
    fn connect(&self, node: &Node, lane: Lane) -> BoxFuture<'static, Result<Duplex, ConnectError>>;
}

/// The transport of a node that is alone: nobody can be reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTransport;

impl Transport for NoTransport {
    fn connect(
        &self,
        _node: &Node,
        _lane: Lane,
    ) -> BoxFuture<'static, Result<Duplex, ConnectError>> {
        Box::pin(async { Err(ConnectError("this node has no transport".to_owned())) })
    }
}

/// Serves the requests of other nodes on [`Lane::Forward`].
pub trait ForwardHandler: Send + Sync + 'static {
    /// Answers one request. Requests of one connection run side by side on one task, so the future
    /// must neither block nor run for ever; one that panics leaves its request without an answer.
    /// It goes on when the asking side has given up, and is dropped midway when the connection ends.
    fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes>;
}

/// Why a forwarded request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Certainly never carried out: no connection, no handler, too long, or too much is under way.
    #[error("the request was not sent")]
    NotSent,
    /// Sent, and no answer came: it may have been carried out, or may yet be.
    #[error("the request was sent, and no answer came")]
    Unknown,
}

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Route {
    /// The group both belong to.
    pub(crate) shard: ShardId,
    /// The replica that speaks.
    pub(crate) from: ReplicaId,
    /// The replica that is spoken to.
    pub(crate) to: ReplicaId,
}

impl Route {
    /// The way of the answer.
    pub(crate) fn back(self) -> Route {
        Route {
            shard: self.shard,
            from: self.to,
            to: self.from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of lanes travel between versions.
    #[test]
    fn lanes_have_stable_names() {
        let names: Vec<_> = Lane::ALL.into_iter().map(Lane::name).collect();
        assert_eq!(names, ["control", "log", "snapshot", "forward"]);
        for (place, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(Lane::parse(lane.name()), Some(lane));
            assert_eq!(lane as usize, place);
        }
        assert_eq!(Lane::parse("other"), None);
    }
}
