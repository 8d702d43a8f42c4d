//! Appends to one follower: a pipeline of requests that are answered in their order.
//!
//! A request without entries only tells how far the log is committed. It is held back for a moment: the
//! next one, if it begins at the same place, says all that it says, and its answer counts for both.
//! Nothing else is ever held back, and nothing is dropped without such a successor.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::network::RPCTypes;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::{Instant, Sleep};

use crate::log::weight;
use crate::types::TypeConfig;

use super::client::{Client, Failed, failed, refused};
use super::link::{self, CallError};
use super::{Body, Lane, Route};

/// Requests of one stream without an answer. openraft's receiving side takes as many ahead.
pub(super) const IN_FLIGHT_MAX: usize = 64;

/// Bytes of their entries: two shards that catch up must not fill the bounds of the link that they share.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;

/// How long a request that carries nothing but the committed position waits for entries.
const COMMIT_HOLD: Duration = Duration::from_millis(5);

type Request = AppendEntriesRequest<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, Failed>;

/// Single requests over the control lane, each answered before the next is taken.
pub(super) fn heartbeats<S>(
    client: &Client,
    input: S,
    timeout: Duration,
) -> impl Stream<Item = Answer> + Send + use<S>
where
    S: Stream<Item = Request> + Send + Unpin + 'static,
{
    let (link, route) = (client.link(Lane::Control), client.route);
    stream::unfold(Some((link, input)), move |state| async move {
        let (link, mut input) = state?;
        let request = input.next().await?;
        let answer = link.call(route, Body::Heartbeat(request), timeout).await;
        let answer = match answer {
            Ok(Body::Appended(result)) => Ok(result),
            Ok(other) => Err(refused(&other).into()),
            Err(error) => Err(failed(error, route, RPCTypes::AppendEntries, timeout)),
        };
        let goes_on = matches!(answer, Ok(Ok(_)));
        Some((answer, goes_on.then_some((link, input))))
    })
}

/// One stream of appends, for as long as openraft has requests and every answer is a success.
pub(super) struct Pipeline<S> {
    /// What openraft wants to be sent; `None` once it has ended.
    input: Option<S>,
    stream: link::Stream,
    route: Route,
    patience: Duration,
    sequence: u64,
    /// When each request without an answer was sent, and its bytes.
    in_flight: VecDeque<(Instant, usize)>,
    in_flight_bytes: usize,
    /// When the last answer came.
    heard: Instant,
    held: Option<Held>,
    timer: Pin<Box<Sleep>>,
}

/// A request that waits for a successor that makes it superfluous.
struct Held {
    request: Request,
    due: Instant,
}

/// What a pipeline meets next.
enum Event {
    Answer(Option<Result<Body, CallError>>),
    Request(Option<Request>),
    Timer,
}

impl<S> Pipeline<S>
where
    S: Stream<Item = Request> + Send + Unpin + 'static,
{
    pub(super) fn new(client: &Client, input: S) -> Pipeline<S> {
        let link = client.link(Lane::Log);
        Pipeline {
            input: Some(input),
            stream: link.stream(client.route, IN_FLIGHT_MAX, Body::AppendEnd),
            route: client.route,
            patience: client.patience,
            sequence: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            heard: Instant::now(),
            held: None,
            timer: Box::pin(tokio::time::sleep(client.patience)),
        }
    }

    /// The answers in the order of the requests. After an error, a conflict or a higher vote nothing
    /// comes any more.
    pub(super) fn answers(self) -> impl Stream<Item = Answer> + Send + use<S> {
        stream::unfold(Some(self), |pipeline| async move {
            let mut pipeline = pipeline?;
            let answer = pipeline.next().await?;
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(pipeline)))
        })
    }

    /// Sends what may be sent until an answer is there. May be dropped midway.
    async fn next(&mut self) -> Option<Answer> {
        loop {
            if self.input.is_none() && self.held.is_none() && self.in_flight.is_empty() {
                return None;
            }
            let handled = match self.event().await {
                Event::Answer(Some(Ok(Body::Appended(result)))) => {
                    self.heard = Instant::now();
                    if let Some((_, bytes)) = self.in_flight.pop_front() {
                        self.in_flight_bytes -= bytes;
                    }
                    return Some(Ok(result));
                }
                Event::Answer(Some(Ok(other))) => return Some(Err(refused(&other).into())),
                Event::Answer(Some(Err(error))) => Err(error),
                Event::Answer(None) => Err(CallError::Lost),
                Event::Request(Some(request)) => self.take(request),
                Event::Request(None) => {
                    self.input = None;
                    self.send_held()
                }
                Event::Timer => self.tick(),
            };
            if let Err(error) = handled {
                let action = RPCTypes::AppendEntries;
                return Some(Err(failed(error, self.route, action, self.patience)));
            }
        }
    }

    async fn event(&mut self) -> Event {
        let room =
            self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX;
        let input = async {
            match &mut self.input {
                Some(input) => input.next().await,
                None => std::future::pending().await,
            }
        };
        let timed = self.held.is_some() || !self.in_flight.is_empty();
        tokio::select! {
            biased;
            answer = self.stream.answer(), if !self.in_flight.is_empty() => Event::Answer(answer),
            request = input, if room => Event::Request(request),
            () = self.timer.as_mut(), if timed => Event::Timer,
        }
    }

    fn take(&mut self, request: Request) -> Result<(), CallError> {
        let mut due = Instant::now() + COMMIT_HOLD;
        match self.held.take() {
            Some(held) if supersedes(&request, &held.request) => due = held.due,
            Some(held) => self.send(held.request)?,
            None => {}
        }
        // The first request of a stream asks where the follower is: openraft waits for its answer.
        if request.entries.is_empty() && self.sequence > 0 {
            self.held = Some(Held { request, due });
            self.timer.as_mut().reset(due);
            return Ok(());
        }
        self.send(request)
    }

    fn send_held(&mut self) -> Result<(), CallError> {
        match self.held.take() {
            Some(held) => self.send(held.request),
            None => Ok(()),
        }
    }

    fn send(&mut self, request: Request) -> Result<(), CallError> {
        let sequence = self.sequence;
        let bytes: usize = request.entries.iter().map(weight).sum();
        self.stream.send(Body::Append { sequence, request })?;
        self.sequence += 1;
        let now = Instant::now();
        if self.in_flight.is_empty() {
            self.timer.as_mut().reset(now + self.patience);
        }
        self.in_flight.push_back((now, bytes));
        self.in_flight_bytes += bytes;
        Ok(())
    }

    /// The timer is not moved for every answer: it looks, and sets itself anew.
    fn tick(&mut self) -> Result<(), CallError> {
        let now = Instant::now();
        if self.held.as_ref().is_some_and(|held| held.due <= now) {
            self.send_held()?;
        }
        // A follower that works through what it was sent answers one request after the other.
        let oldest = self.in_flight.front().map(|(sent, _)| *sent);
        let overdue = oldest.map(|sent| sent.max(self.heard) + self.patience);
        if overdue.is_some_and(|overdue| overdue <= now) {
            return Err(CallError::TimedOut);
        }
        let held = self.held.as_ref().map(|held| held.due);
        if let Some(next) = overdue.into_iter().chain(held).min() {
            self.timer.as_mut().reset(next);
        }
        Ok(())
    }
}

/// Whether `next` says all that `held` says: same leader, same place, and a commit that is not older.
fn supersedes(next: &Request, held: &Request) -> bool {
    next.vote == held.vote
        && next.prev_log_id == held.prev_log_id
        && next.leader_commit >= held.leader_commit
}

#[cfg(test)]
mod tests;
