//! The answering side of connections: hands requests to the replicas of this node, and to its handler.
//!
//! One task serves a connection and polls all that it is asked: a request has no task of its own. What
//! has been answered meanwhile goes out as one frame. When too much is under way it stops reading, and
//! the asking side fills its own bounds.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt, StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::ids::ReplicaId;
use crate::shard::Shard;
use crate::shards::Shards;
use crate::types::{SnapshotMeta, TypeConfig, Vote};

use super::append::IN_FLIGHT_MAX;
use super::receive::{Piece, Receiving};
use super::snapshot::WINDOW;
use super::wire::{Frame, Message, decode_frame};
use super::{Body, Duplex, ForwardHandler, Lane, Refusal, Route};

/// Requests of one connection that run at a time; further ones wait, and nothing more is read.
const RUNNING_MAX: usize = 1024;

/// Answers that wait for a slow reader before nothing more is read.
const ANSWERS_MAX: usize = 4096;

/// Streams of appends of one connection: one for each shard that is led on the other side.
const STREAMS_MAX: usize = 4096;

/// Snapshots of one connection that are taken in at a time.
const SNAPSHOTS_MAX: usize = 4;

/// The handler of the node, once it has one.
pub(crate) type Handler = Arc<RwLock<Option<Arc<dyn ForwardHandler>>>>;

/// Serves connections that other nodes open.
pub(crate) struct Server {
    pub(crate) shards: Arc<Shards>,
    pub(crate) handler: Handler,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Server {
    /// Serves a connection until it ends.
    pub(crate) fn accept(&self, lane: Lane, connection: Duplex) {
        let connection = Connection {
            lane,
            shards: Arc::clone(&self.shards),
            handler: Arc::clone(&self.handler),
            tasks: self.tasks.clone(),
            sender: connection.sender,
            receiver: connection.receiver,
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            sessions: SelectAll::new(),
            appends: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            answers: VecDeque::new(),
        };
        self.tasks.spawn(connection.run(self.stop.clone()));
    }
}

struct Connection {
    lane: Lane,
    shards: Arc<Shards>,
    handler: Handler,
    tasks: TaskTracker,
    sender: mpsc::Sender<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
    /// Received, and not begun because too much runs.
    waiting: VecDeque<Message>,
    /// Single requests under way; each gives its encoded answer.
    running: FuturesUnordered<BoxFuture<'static, Bytes>>,
    /// What streams of appends and snapshots answer.
    sessions: SelectAll<BoxStream<'static, Event>>,
    appends: BTreeMap<u64, Appends>,
    snapshots: BTreeMap<u64, mpsc::Sender<Piece>>,
    /// Encoded answers that wait for the connection.
    answers: VecDeque<Bytes>,
}

/// A stream of appends on its way to its replica.
struct Appends {
    route: Route,
    requests: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
}

enum Event {
    Answer(Bytes),
    /// The session with this id has given its last answer.
    End(u64),
}

/// What no honest node sends; the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Nonsense(String);

impl Connection {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.begin_waiting() {
                warn!(lane = %self.lane, %error, "close a connection that makes no sense");
                return;
            }
            let reads = self.waiting.is_empty() && self.answers.len() < ANSWERS_MAX;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(answer) = self.running.next(), if !self.running.is_empty() => {
                    self.answers.push_back(answer);
                }
                Some(event) = self.sessions.next(), if !self.sessions.is_empty() => match event {
                    Event::Answer(answer) => self.answers.push_back(answer),
                    Event::End(id) => {
                        self.appends.remove(&id);
                        self.snapshots.remove(&id);
                    }
                },
                permit = self.sender.reserve(), if !self.answers.is_empty() => match permit {
                    Ok(permit) => permit.send(fill_frame(&mut self.answers)),
                    Err(_) => return,
                },
                frame = self.receiver.recv(), if reads => {
                    let Some(frame) = frame else {
                        return;
                    };
                    match decode_frame(frame) {
                        Ok(messages) => self.waiting.extend(messages),
                        Err(error) => {
                            warn!(lane = %self.lane, %error, "close a connection that makes no sense");
                            return;
                        }
                    }
                }
            }
        }
    }

    fn begin_waiting(&mut self) -> Result<(), Nonsense> {
        while self.running.len() < RUNNING_MAX {
            let Some(message) = self.waiting.pop_front() else {
                break;
            };
            self.begin(message)?;
        }
        Ok(())
    }

    fn begin(&mut self, message: Message) -> Result<(), Nonsense> {
        let Message { id, route, body } = message;
        match body {
            Body::Append { sequence, request } => self.append(id, route, sequence, request),
            Body::AppendEnd => {
                self.appends.remove(&id);
                Ok(())
            }
            Body::Snapshot { vote, meta } => self.begin_snapshot(id, route, vote, meta),
            Body::Chunk(chunk) => self.piece(id, Piece::Chunk(chunk)),
            Body::SnapshotEnd => self.piece(id, Piece::End),
            Body::SnapshotAbort => self.piece(id, Piece::Abort),
            Body::Forward(request) => {
                let handler = self.handler.read().clone();
                match handler {
                    Some(handler) => self.start(id, route, forward(handler, request)),
                    None => self.answer(id, route, Body::Refused(Refusal::NoHandler)),
                }
                Ok(())
            }
            request => {
                if !is_request(&request) {
                    return Err(Nonsense(format!(
                        "an answer ({:?}) as a request",
                        request.kind()
                    )));
                }
                match self.shards.hosted(route.shard, route.to) {
                    Some(shard) => self.start(id, route, serve(shard, route.from, request)),
                    None => self.answer(id, route, Body::Refused(Refusal::NoSuchReplica)),
                }
                Ok(())
            }
        }
    }

    fn start(&self, id: u64, route: Route, answer: impl Future<Output = Body> + Send + 'static) {
        let answer = answer.map(move |body| encode(id, route, body));
        self.running.push(answer.boxed());
    }

    fn answer(&mut self, id: u64, route: Route, body: Body) {
        self.answers.push_back(encode(id, route, body));
    }

    /// Appends of one stream reach the replica in their order. What comes after the end of a stream
    /// was sent before the other side knew of it.
    fn append(
        &mut self,
        id: u64,
        route: Route,
        sequence: u64,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<(), Nonsense> {
        if sequence == 0 {
            if self.appends.contains_key(&id) {
                return Err(Nonsense("a stream of appends begins twice".to_owned()));
            }
            let Some(shard) = self.shards.hosted(route.shard, route.to) else {
                self.answer(id, route, Body::Refused(Refusal::NoSuchReplica));
                return Ok(());
            };
            if self.appends.len() >= STREAMS_MAX {
                self.answer(id, route, Body::Refused(Refusal::Overloaded));
                return Ok(());
            }
            let (requests, received) = mpsc::channel(IN_FLIGHT_MAX);
            self.appends.insert(id, Appends { route, requests });
            self.sessions
                .push(append_session(id, route, &shard, received));
        }
        let Some(appends) = self.appends.get(&id) else {
            return Ok(());
        };
        if appends.route != route {
            return Err(Nonsense(
                "a stream of appends changes its replica".to_owned(),
            ));
        }
        match appends.requests.try_send(request) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Nonsense("more appends than the window allows".to_owned()))
            }
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn begin_snapshot(
        &mut self,
        id: u64,
        route: Route,
        vote: Vote,
        meta: SnapshotMeta,
    ) -> Result<(), Nonsense> {
        if self.snapshots.contains_key(&id) {
            return Err(Nonsense("a snapshot begins twice".to_owned()));
        }
        let Some(shard) = self.shards.hosted(route.shard, route.to) else {
            self.answer(id, route, Body::Refused(Refusal::NoSuchReplica));
            return Ok(());
        };
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            self.answer(id, route, Body::Refused(Refusal::Overloaded));
            return Ok(());
        }
        // Beside the chunks of the window there may be the end or the abort.
        let (sender, pieces) = mpsc::channel(WINDOW + 2);
        let (answers, mut answered) = mpsc::channel(WINDOW + 1);
        self.snapshots.insert(id, sender);
        let receiving = Receiving {
            shard,
            vote,
            meta,
            pieces,
            answers,
        };
        self.tasks.spawn(receiving.run());
        let answers = stream::poll_fn(move |context| answered.poll_recv(context));
        self.sessions.push(session(id, route, answers));
        Ok(())
    }

    /// A piece of a snapshot that has ended already was sent before the other side knew of it.
    fn piece(&mut self, id: u64, piece: Piece) -> Result<(), Nonsense> {
        let Some(pieces) = self.snapshots.get(&id) else {
            return Ok(());
        };
        match pieces.try_send(piece) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Nonsense("more chunks than the window allows".to_owned()))
            }
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// The answers of one replica to a stream of appends, in their order.
fn append_session(
    id: u64,
    route: Route,
    shard: &Shard,
    mut received: mpsc::Receiver<AppendEntriesRequest<TypeConfig>>,
) -> BoxStream<'static, Event> {
    let requests = stream::poll_fn(move |context| received.poll_recv(context));
    let answers = shard.raft().stream_append(requests);
    session(
        id,
        route,
        answers.map(|answer| match answer {
            Ok(result) => Body::Appended(result),
            Err(_) => Body::Refused(Refusal::Stopped),
        }),
    )
}

fn session(
    id: u64,
    route: Route,
    answers: impl futures::Stream<Item = Body> + Send + 'static,
) -> BoxStream<'static, Event> {
    let answers = answers.map(move |body| Event::Answer(encode(id, route, body)));
    answers.chain(stream::iter([Event::End(id)])).boxed()
}

fn is_request(body: &Body) -> bool {
    matches!(
        body,
        Body::Heartbeat(_) | Body::Vote(_) | Body::PreVote(_) | Body::Transfer(_) | Body::ReadIndex
    )
}

/// Serves a single request. openraft and the barrier bound how long they take.
async fn serve(shard: Shard, from: ReplicaId, request: Body) -> Body {
    const STOPPED: Body = Body::Refused(Refusal::Stopped);
    let raft = shard.raft();
    match request {
        Body::Heartbeat(request) => {
            let at = request.prev_log_id;
            match raft.append_entries(request).await {
                Ok(AppendEntriesResponse::Conflict) => match at {
                    None => Body::Appended(Ok(None)),
                    // openraft asks at the entry that it counts as matching.
                    Some(counted) => {
                        shard.entries_lost(&counted);
                        STOPPED
                    }
                },
                Ok(answer) => Body::Appended(answer.into_stream_result(at, at)),
                Err(_) => STOPPED,
            }
        }
        Body::Vote(request) => raft.vote(request).await.map_or(STOPPED, Body::Voted),
        Body::PreVote(request) => raft.pre_vote(request).await.map_or(STOPPED, Body::Voted),
        Body::Transfer(request) => {
            let answer = raft.handle_transfer_leader(request).await;
            answer.map_or(STOPPED, Body::Transferred)
        }
        // It will not get what it would have to wait for.
        Body::ReadIndex if !shard.members().iter().any(|m| m.replica == from) => {
            Body::Refused(Refusal::NotMember)
        }
        Body::ReadIndex => match shard.inner.barrier.read_index().await {
            Ok(index) => Body::ReadAt(index),
            Err(error) => Body::Refused(error.into()),
        },
        _ => Body::Refused(Refusal::Unavailable),
    }
}

async fn forward(handler: Arc<dyn ForwardHandler>, request: Bytes) -> Body {
    // A handler may panic before it gives its future, too.
    let handled = AssertUnwindSafe(async move { handler.handle(request).await });
    match handled.catch_unwind().await {
        Ok(answer) => Body::Forwarded(answer),
        Err(_) => {
            error!("the handler of a forwarded request panicked");
            Body::Refused(Refusal::Unavailable)
        }
    }
}

/// An answer that is too long for a frame is none: what was asked may have been carried out.
fn encode(id: u64, route: Route, body: Body) -> Bytes {
    let route = route.back();
    let refused = || Message {
        id,
        route,
        body: Body::Refused(Refusal::Unavailable),
    };
    let message = Message { id, route, body };
    message
        .encode()
        .or_else(|_| refused().encode())
        .unwrap_or_default()
}

fn fill_frame(answers: &mut VecDeque<Bytes>) -> Bytes {
    let mut frame = Frame::new();
    while let Some(next) = answers.pop_front() {
        if !frame.takes(&next) {
            answers.push_front(next);
            break;
        }
        frame.push(&next);
    }
    frame.finish()
}
