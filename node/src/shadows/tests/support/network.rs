//! A network in memory that loses what a test wants it to lose.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{
    ConnectError, Duplex, ForwardError, ForwardHandler, Host, Lane, Node, Transport,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::shadows::{Peers, Shadows};

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shadows) enum Fault {
    /// It is never sent.
    NotSent,
    /// It is sent and never arrives.
    Lost,
    /// It arrives and is served, and the answer is lost.
    AnswerLost,
}

/// The network of one test.
#[derive(Default)]
pub(in crate::shadows) struct Network {
    pub(super) nodes: Mutex<BTreeMap<String, Reached>>,
    /// Nodes that nobody reaches, and that reach nobody.
    cut_off: Mutex<BTreeMap<String, CancellationToken>>,
    faults: Mutex<VecDeque<Fault>>,
    /// Requests that were forwarded: from, to.
    pub(in crate::shadows) forwarded: Mutex<Vec<(String, String)>>,
    /// Streams that were opened: from, to.
    pub(in crate::shadows) followed: Mutex<Vec<(String, String)>>,
}

#[derive(Clone)]
pub(super) struct Reached {
    pub(super) host: Arc<Host>,
    pub(super) shadows: Shadows,
    pub(super) handler: Arc<dyn ForwardHandler>,
}

impl Network {
    /// What happens to the next requests, one after another.
    pub(in crate::shadows) fn break_next(&self, faults: &[Fault]) {
        self.faults.lock().extend(faults);
    }

    /// Cuts a node off: its connections end and none can be opened.
    pub(in crate::shadows) fn cut(&self, name: &str) {
        let token = self.token(name);
        token.cancel();
    }

    pub(in crate::shadows) fn heal(&self, name: &str) {
        self.cut_off.lock().remove(name);
    }

    fn token(&self, name: &str) -> CancellationToken {
        let mut cut_off = self.cut_off.lock();
        cut_off.entry(name.to_owned()).or_default().clone()
    }

    fn reach(
        &self,
        from: &str,
        to: &str,
    ) -> Option<(Reached, CancellationToken, CancellationToken)> {
        let (mine, other) = (self.token(from), self.token(to));
        let reached = self.nodes.lock().get(to).cloned()?;
        let is_open = !mine.is_cancelled() && !other.is_cancelled();
        is_open.then_some((reached, mine, other))
    }
}

/// What one node has of the network.
pub(super) struct Line {
    pub(super) network: Arc<Network>,
    pub(super) me: String,
}

impl Transport for Line {
    fn connect(&self, node: &Node, lane: Lane) -> BoxFuture<'static, Result<Duplex, ConnectError>> {
        let Some((reached, mine, other)) = self.network.reach(&self.me, &node.name) else {
            return async { Err(ConnectError("cut off".to_owned())) }.boxed();
        };
        async move {
            let (to_there, from_here) = pipe(&mine, &other);
            let (to_here, from_there) = pipe(&mine, &other);
            let theirs = Duplex {
                sender: to_here,
                receiver: from_here,
            };
            reached.host.accept(lane, theirs);
            Ok(Duplex {
                sender: to_there,
                receiver: from_there,
            })
        }
        .boxed()
    }
}

/// One direction of a connection; it ends when one of the nodes is cut off.
fn pipe(
    one: &CancellationToken,
    other: &CancellationToken,
) -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    let (sender, mut incoming) = mpsc::channel::<Bytes>(64);
    let (outgoing, receiver) = mpsc::channel(64);
    let (one, other) = (one.clone(), other.clone());
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                biased;
                () = one.cancelled() => return,
                () = other.cancelled() => return,
                () = outgoing.closed() => return,
                frame = incoming.recv() => frame,
            };
            let Some(frame) = frame else { return };
            if outgoing.send(frame).await.is_err() {
                return;
            }
        }
    });
    (sender, receiver)
}

impl Peers for Line {
    fn forward(
        &self,
        node: &Node,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, ForwardError>> {
        let passed = (self.me.clone(), node.name.clone());
        self.network.forwarded.lock().push(passed);
        let fault = self.network.faults.lock().pop_front();
        let reached = self.network.reach(&self.me, &node.name);
        async move {
            let Some((reached, mine, other)) = reached else {
                return Err(ForwardError::NotSent);
            };
            match fault {
                Some(Fault::NotSent) => return Err(ForwardError::NotSent),
                Some(Fault::Lost) => return Err(ForwardError::Unknown),
                Some(Fault::AnswerLost) | None => {}
            }
            let served = tokio::select! {
                biased;
                () = mine.cancelled() => return Err(ForwardError::Unknown),
                () = other.cancelled() => return Err(ForwardError::Unknown),
                served = tokio::time::timeout(timeout, reached.handler.handle(body)) => served,
            };
            match served {
                Ok(answer) if fault.is_none() => Ok(answer),
                _ => Err(ForwardError::Unknown),
            }
        }
        .boxed()
    }

    fn follow(
        &self,
        node: &Node,
        body: Bytes,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        let passed = (self.me.clone(), node.name.clone());
        self.network.followed.lock().push(passed);
        let reached = self.network.reach(&self.me, &node.name);
        async move {
            let (reached, mine, other) = reached.ok_or("cut off")?;
            let stream = reached.shadows.follow(body);
            let cut = async move {
                tokio::select! {
                    biased;
                    () = mine.cancelled() => {}
                    () = other.cancelled() => {}
                }
            };
            Ok(stream.take_until(Box::pin(cut)).boxed())
        }
        .boxed()
    }
}
