//! A transport of which a test holds the other end.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ids::{ReplicaId, ShardId};
use crate::types::Node;

use super::link::Link;
use super::wire::{Frame, Message, decode_frame};
use super::{Body, ConnectError, Duplex, Lane, Route, Transport};

pub(super) fn route() -> Route {
    Route {
        shard: ShardId(1),
        from: ReplicaId(1),
        to: ReplicaId(2),
    }
}

/// What connecting leads to.
pub(super) enum Way {
    /// It never ends.
    Never,
    /// It fails.
    Refused,
    /// The test has the other end.
    Open(mpsc::UnboundedSender<Duplex>),
}

/// Connects as it is told, and counts.
pub(super) struct Fake {
    way: Way,
    pub(super) attempts: AtomicUsize,
}

impl Transport for Fake {
    fn connect(&self, _: &Node, _: Lane) -> BoxFuture<'static, Result<Duplex, ConnectError>> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        match &self.way {
            Way::Never => Box::pin(std::future::pending()),
            Way::Refused => Box::pin(async { Err(ConnectError("refused".to_owned())) }),
            Way::Open(ends) => {
                let (sender, received) = mpsc::channel(64);
                let (answer, receiver) = mpsc::channel(64);
                let far = Duplex {
                    sender: answer,
                    receiver: received,
                };
                ends.send(far).unwrap();
                Box::pin(async { Ok(Duplex { sender, receiver }) })
            }
        }
    }
}

pub(super) fn fake(way: Way) -> Arc<Fake> {
    Arc::new(Fake {
        way,
        attempts: AtomicUsize::new(0),
    })
}

pub(super) fn link(way: Way) -> (Arc<Link>, Arc<Fake>) {
    let fake = fake(way);
    let transport = Arc::clone(&fake) as Arc<dyn Transport>;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let link = Link::new(Node::default(), Lane::Control, transport, tasks, stop);
    (link, fake)
}

pub(super) fn open() -> (Arc<Link>, mpsc::UnboundedReceiver<Duplex>) {
    let (ends, far) = mpsc::unbounded_channel();
    (link(Way::Open(ends)).0, far)
}

pub(super) async fn heard(far: &mut Duplex) -> Vec<Message> {
    decode_frame(far.receiver.recv().await.unwrap()).unwrap()
}

pub(super) async fn say(far: &Duplex, answers: impl IntoIterator<Item = (u64, Route, Body)>) {
    let mut frame = Frame::new();
    for (id, route, body) in answers {
        frame.push(&Message { id, route, body }.encode().unwrap());
    }
    far.sender.send(frame.finish()).await.unwrap();
}
