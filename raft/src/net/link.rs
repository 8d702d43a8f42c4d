//! The asking side of one connection: one node, one lane.
//!
//! A link connects when it is first asked something, and again on demand after it was lost, with a
//! growing pause between attempts. What is asked waits in its queue until the connection takes it; all
//! that is queued goes out as one frame. One task serves the connection; no request has a task.
//!
//! # For correctness
//! - A request that fails as [`CallError::NotSent`] was never handed to a connection.
//! - When the connection is lost, everything that waits for an answer learns so at once, and nothing of
//!   it is sent again.
//! - Ids are never reused, so an answer cannot reach another request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::metrics::{record_link_lost, record_link_opened};
use crate::types::Node;

use super::wire::{Frame, Message, decode_frame};
use super::{Body, Duplex, Lane, Refusal, Route, Transport};

/// Requests of one link that have no answer yet; more are refused at once.
pub(super) const REQUESTS_MAX: usize = 4096;

/// Bytes of those requests; more are refused at once.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Pause after the first failed attempt to connect; it doubles with each further one.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Short, because a vote that nobody takes costs a whole election timeout.
const RETRY_MAX: Duration = Duration::from_millis(250);

/// Ends an attempt that the transport does not end by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallError {
    /// Never handed to a connection.
    NotSent,
    /// The connection was lost, or the answer made no sense: it may have been carried out.
    Lost,
    /// No answer in time: it may have been carried out, or may yet be.
    TimedOut,
}

/// See the module.
pub(crate) struct Link {
    lane: Lane,
    transport: Arc<dyn Transport>,
    tasks: TaskTracker,
    stop: CancellationToken,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Told when the queue is no longer empty.
    filled: Notify,
}

struct State {
    node: Node,
    /// A task connects or serves the connection.
    up: bool,
    /// Attempts since the other side was last heard.
    failures: u32,
    retry_at: Option<Instant>,
    queue: VecDeque<Queued>,
    waiting: BTreeMap<u64, Waiter>,
    /// Over all of `waiting`.
    requests: usize,
    bytes: usize,
}

struct Queued {
    id: u64,
    message: Bytes,
}

/// Who waits for answers with one id.
enum Waiter {
    Call {
        answer: oneshot::Sender<Result<Message, CallError>>,
        bytes: usize,
    },
    Stream {
        answers: mpsc::Sender<Message>,
        /// Lengths of the messages that have no answer yet, in order.
        bytes: VecDeque<usize>,
        /// The other side may know of the stream.
        begun: bool,
    },
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        self.requests < REQUESTS_MAX && self.bytes.saturating_add(bytes) <= REQUEST_BYTES_MAX
    }
}

impl Link {
    pub(super) fn new(
        node: Node,
        lane: Lane,
        transport: Arc<dyn Transport>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Link> {
        Arc::new(Link {
            lane,
            transport,
            tasks,
            stop,
            next_id: AtomicU64::new(1),
            state: Mutex::new(State {
                node,
                up: false,
                failures: 0,
                retry_at: None,
                queue: VecDeque::new(),
                waiting: BTreeMap::new(),
                requests: 0,
                bytes: 0,
            }),
            filled: Notify::new(),
        })
    }

    /// The node may have moved: the next attempt to connect goes there.
    pub(super) fn update(&self, node: &Node) {
        let mut state = self.state.lock();
        if state.node != *node {
            state.node = node.clone();
        }
    }

    /// Asks and waits for the answer. When the future is dropped midway, nobody learns the answer.
    pub(crate) async fn call(
        self: &Arc<Self>,
        route: Route,
        body: Body,
        timeout: Duration,
    ) -> Result<Body, CallError> {
        let (answer, answered) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let message = encode(id, route, body)?;
        let bytes = message.len();
        self.begin(id, message, Waiter::Call { answer, bytes })?;
        let waiting = Waiting { link: self, id };
        let answered = tokio::time::timeout(timeout, answered).await;
        match answered {
            Ok(Ok(answer)) => {
                waiting.done();
                answer.and_then(|message| checked(message, route))
            }
            Ok(Err(_)) => Err(CallError::Lost),
            Err(_) => Err(waiting.give_up()),
        }
    }

    /// Begins a stream of requests that are answered one after another. `farewell` is sent when the
    /// stream is dropped after something of it was sent.
    pub(super) fn stream(self: &Arc<Self>, route: Route, window: usize, farewell: Body) -> Stream {
        let (sender, answers) = mpsc::channel(window);
        Stream {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            link: Arc::clone(self),
            route,
            farewell,
            sender: Some(sender),
            answers,
        }
    }

    /// Queues the first message of a call or stream, and connects where nobody does.
    fn begin(self: &Arc<Self>, id: u64, message: Bytes, waiter: Waiter) -> Result<(), CallError> {
        let mut state = self.state.lock();
        if !state.has_room(message.len()) || self.stop.is_cancelled() {
            return Err(CallError::NotSent);
        }
        if !state.up {
            if state.retry_at.is_some_and(|at| Instant::now() < at) {
                return Err(CallError::NotSent);
            }
            state.up = true;
            let link = Arc::clone(self);
            self.tasks.spawn(link.run(state.node.clone()));
        }
        state.requests += 1;
        state.bytes += message.len();
        state.waiting.insert(id, waiter);
        self.push(&mut state, Queued { id, message });
        Ok(())
    }

    /// Queues a further message of a stream, on the connection on which it began.
    fn proceed(&self, id: u64, message: Bytes) -> Result<(), CallError> {
        let mut state = self.state.lock();
        if !state.has_room(message.len()) {
            return Err(CallError::NotSent);
        }
        let Some(Waiter::Stream { bytes, .. }) = state.waiting.get_mut(&id) else {
            return Err(CallError::Lost);
        };
        bytes.push_back(message.len());
        state.requests += 1;
        state.bytes += message.len();
        self.push(&mut state, Queued { id, message });
        Ok(())
    }

    fn push(&self, state: &mut State, queued: Queued) {
        state.queue.push_back(queued);
        if state.queue.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Nobody waits for this request any more.
    fn forget(&self, id: u64) -> CallError {
        let mut state = self.state.lock();
        if let Some(Waiter::Call { bytes, .. }) = state.waiting.remove(&id) {
            state.requests -= 1;
            state.bytes -= bytes;
        }
        let queued = state.queue.iter().position(|queued| queued.id == id);
        match queued {
            Some(place) => {
                state.queue.remove(place);
                CallError::NotSent
            }
            None => CallError::TimedOut,
        }
    }

    /// Connects and serves until the connection is lost.
    async fn run(self: Arc<Self>, node: Node) {
        let lane = self.lane;
        let connecting = self.transport.connect(&node, lane);
        let connected = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting) => connected.ok(),
        };
        let heard = match connected {
            Some(Ok(duplex)) => {
                debug!(node = node.name, %lane, "connected");
                record_link_opened(lane);
                let heard = self.serve(duplex).await;
                record_link_lost(lane);
                if heard && !self.stop.is_cancelled() {
                    info!(node = node.name, %lane, "connection lost");
                }
                heard
            }
            Some(Err(error)) => {
                debug!(node = node.name, %lane, %error, "connect");
                false
            }
            None => false,
        };
        self.down(heard);
    }

    /// Serves a connection; says whether the other side was heard.
    async fn serve(&self, mut duplex: Duplex) -> bool {
        let mut heard = false;
        loop {
            let idle = self.state.lock().queue.is_empty();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return heard,
                frame = duplex.receiver.recv() => {
                    let Some(frame) = frame else {
                        return heard;
                    };
                    if let Err(error) = self.take_in(frame) {
                        warn!(lane = %self.lane, error, "close a connection that makes no sense");
                        return false;
                    }
                    heard = true;
                }
                permit = duplex.sender.reserve(), if !idle => {
                    let Ok(permit) = permit else {
                        return heard;
                    };
                    if let Some(frame) = self.fill_frame() {
                        permit.send(frame);
                    }
                }
                () = self.filled.notified(), if idle => {}
            }
        }
    }

    /// What is queued, as far as it belongs into one frame.
    fn fill_frame(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            return None;
        }
        let mut frame = Frame::new();
        while let Some(next) = state.queue.pop_front() {
            if !frame.takes(&next.message) {
                state.queue.push_front(next);
                break;
            }
            frame.push(&next.message);
            if let Some(Waiter::Stream { begun, .. }) = state.waiting.get_mut(&next.id) {
                *begun = true;
            }
        }
        Some(frame.finish())
    }

    /// Hands the answers of a frame to those who wait for them.
    fn take_in(&self, frame: Bytes) -> Result<(), String> {
        let messages = decode_frame(frame).map_err(|error| error.to_string())?;
        let mut state = self.state.lock();
        state.failures = 0;
        for message in messages {
            let id = message.id;
            match state.waiting.get_mut(&id) {
                Some(Waiter::Call { bytes, .. }) => {
                    let bytes = *bytes;
                    state.requests -= 1;
                    state.bytes -= bytes;
                    if let Some(Waiter::Call { answer, .. }) = state.waiting.remove(&id) {
                        // Whoever asked may have gone.
                        let _ = answer.send(Ok(message));
                    }
                }
                Some(Waiter::Stream { answers, bytes, .. }) => {
                    let Some(length) = bytes.pop_front() else {
                        return Err("an answer to nothing".to_owned());
                    };
                    if let Err(mpsc::error::TrySendError::Full(_)) = answers.try_send(message) {
                        return Err("more answers than requests".to_owned());
                    }
                    state.requests -= 1;
                    state.bytes -= length;
                }
                // Whoever asked has given up.
                None => {}
            }
        }
        Ok(())
    }

    /// The connection is gone: so is all that waited for it.
    fn down(&self, heard: bool) {
        let mut state = self.state.lock();
        state.up = false;
        state.failures = if heard {
            0
        } else {
            state.failures.saturating_add(1)
        };
        state.retry_at = (!heard).then(|| Instant::now() + retry_pause(state.failures));
        (state.requests, state.bytes) = (0, 0);
        let unsent: Vec<u64> = state.queue.drain(..).map(|queued| queued.id).collect();
        let mut waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for id in unsent {
            if let Some(Waiter::Call { answer, .. }) = waiting.remove(&id) {
                let _ = answer.send(Err(CallError::NotSent));
            }
        }
        for waiter in waiting.into_values() {
            if let Waiter::Call { answer, .. } = waiter {
                let _ = answer.send(Err(CallError::Lost));
            }
        }
    }
}

fn retry_pause(failures: u32) -> Duration {
    let doubled = RETRY_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(RETRY_MAX)
}

fn encode(id: u64, route: Route, body: Body) -> Result<Bytes, CallError> {
    let message = Message { id, route, body };
    message.encode().map_err(|_| CallError::NotSent)
}

/// The answer, if it is of the replica that was asked.
fn checked(message: Message, asked: Route) -> Result<Body, CallError> {
    if message.route == asked.back() {
        return Ok(message.body);
    }
    warn!(shard = %asked.shard, asked = %asked.to, found = %message.route.from, "answer of another replica");
    Err(CallError::Lost)
}

/// Takes a call out of the link when its future is dropped midway.
struct Waiting<'a> {
    link: &'a Link,
    id: u64,
}

impl Waiting<'_> {
    /// The link has let go of the call already.
    fn done(self) {
        std::mem::forget(self);
    }

    fn give_up(self) -> CallError {
        let error = self.link.forget(self.id);
        self.done();
        error
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.link.forget(self.id);
    }
}

/// Requests that are answered in their order, as long as the connection lasts.
pub(super) struct Stream {
    link: Arc<Link>,
    id: u64,
    route: Route,
    farewell: Body,
    /// Handed to the link with the first request.
    sender: Option<mpsc::Sender<Message>>,
    answers: mpsc::Receiver<Message>,
}

impl Stream {
    /// Queues a request. The caller keeps to its window: never more requests without an answer.
    pub(super) fn send(&mut self, body: Body) -> Result<(), CallError> {
        let message = encode(self.id, self.route, body)?;
        let Some(answers) = self.sender.take() else {
            return self.link.proceed(self.id, message);
        };
        let waiter = Waiter::Stream {
            answers,
            bytes: VecDeque::from([message.len()]),
            begun: false,
        };
        self.link.begin(self.id, message, waiter)
    }

    /// The next answer, or `None` when the connection is lost. May be dropped midway.
    pub(super) async fn answer(&mut self) -> Option<Result<Body, CallError>> {
        let message = self.answers.recv().await?;
        Some(checked(message, self.route))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.link.state.lock();
        let Some(Waiter::Stream { bytes, begun, .. }) = state.waiting.remove(&self.id) else {
            return;
        };
        state.requests -= bytes.len();
        state.bytes -= bytes.iter().sum::<usize>();
        let id = self.id;
        state.queue.retain(|queued| queued.id != id);
        let farewell = std::mem::replace(&mut self.farewell, Body::Refused(Refusal::Stopped));
        if begun && let Ok(message) = encode(id, self.route, farewell) {
            self.link.push(&mut state, Queued { id, message });
        }
    }
}

#[cfg(test)]
mod tests;
