//! `StreamUpdates`: pipelined updates for bulk writers.
//!
//! Updates of one device are carried out one after the other, in the order they came; while one is
//! in flight or its outcome is not known yet, the later ones wait; when it is never known, those that
//! wait are refused, because the first might yet be carried out after them. So they need no twin to
//! keep them in order. Devices do not wait for each other. When the node stops nothing more is read,
//! what is held is answered, and the stream ends. At most `stream_updates_max` updates are held; then
//! nothing more is read, so that the sender is slowed down by flow control and not by errors. A
//! reader that takes no replies stops everything.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;

use antumbra_proto::v1;
use antumbra_shadow::{DeviceKey, Update};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::deadline::{Deadline, library_error};
use super::{Door, convert, single};
use crate::error::Error;
use crate::health::{Health, Phase};
use crate::shadows::Order;

/// Replies that wait for the reader.
const REPLIES_MAX: usize = 64;
/// Why an update is refused that waited behind one of unknown outcome.
const BEHIND_UNKNOWN: &str = "the outcome of an earlier update of the device is unknown";

type Reply = Result<v1::StreamUpdatesResponse, Status>;

/// Starts to carry the updates out. The task ends when the stream of replies is dropped; what is
/// in flight then may be applied or not.
pub(super) fn updates(
    door: &Door,
    incoming: Streaming<v1::StreamUpdatesRequest>,
    deadline: Deadline,
) -> impl Stream<Item = Reply> + use<> {
    let (replies, receiver) = mpsc::channel(REPLIES_MAX);
    let pipeline = Pipeline {
        door: door.clone(),
        replies: replies.clone(),
        running: FuturesUnordered::new(),
        ended: VecDeque::new(),
        waiting: HashMap::new(),
        held: 0,
    };
    let door = door.clone();
    let stopping = stopping(door.health.clone());
    let end = deadline.asked.then_some(deadline.at);
    tokio::spawn(async move {
        let (work, door) = (pipeline.run(incoming, stopping), door);
        let late = async {
            match end {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            () = replies.closed() => return,
            () = late => Err(Status::from(Error::Deadline)),
            error = door.ended() => Err(Status::from(error)),
            result = work => result,
        };
        if let Err(status) = result {
            let _ = replies.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

/// Resolves when the node begins to stop.
async fn stopping(health: Health) {
    let stopped = |phase: &Phase| *phase >= Phase::Stopping;
    if health.watch().wait_for(stopped).await.is_err() {
        std::future::pending().await
    }
}

/// An update that was read.
struct Job {
    sequence: u64,
    change: convert::Change<Update>,
    deadline: Instant,
}

struct Done {
    device: DeviceKey,
    reply: v1::StreamUpdatesResponse,
    /// It may yet be carried out.
    is_open: bool,
}

struct Pipeline {
    door: Door,
    replies: mpsc::Sender<Reply>,
    /// One update per device.
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Those that ended while a reply waited for the reader.
    ended: VecDeque<Done>,
    /// Later updates of the devices that have one running; a device without is not in the map.
    waiting: HashMap<DeviceKey, VecDeque<Job>>,
    held: usize,
}

impl Pipeline {
    /// Ends with `Ok` when the sender has finished and everything is answered.
    async fn run(
        mut self,
        mut incoming: Streaming<v1::StreamUpdatesRequest>,
        stopping: impl Future<Output = ()>,
    ) -> Result<(), Status> {
        let mut stopping = pin!(stopping);
        let (mut open, mut stopped) = (true, false);
        while open || self.held > 0 {
            let readable = open && self.held < self.door.stream_updates_max;
            tokio::select! {
                biased;
                () = stopping.as_mut(), if open => (open, stopped) = (false, true),
                Some(done) = next(&mut self.ended, &mut self.running), if self.held > 0 => {
                    self.finish(done).await?;
                }
                message = incoming.message(), if readable => match message {
                    Ok(Some(request)) => self.take(request).await?,
                    Ok(None) => open = false,
                    Err(status) => {
                        return Err(library_error(&status).map_or(status, Status::from));
                    }
                },
            }
        }
        match stopped {
            true => Err(Status::from(Error::Unavailable("the node is stopping"))),
            false => Ok(()),
        }
    }

    async fn take(&mut self, request: v1::StreamUpdatesRequest) -> Result<(), Status> {
        let sequence = request.sequence;
        let update = request
            .update
            .ok_or_else(|| Error::invalid("update", "must be given"));
        let change =
            update.and_then(|update| convert::update(update, &self.door.caller, &self.door.limits));
        let change = match change {
            Ok(change) => change,
            Err(error) => return self.reply(answer(sequence, Err(error))).await,
        };
        let deadline = Instant::now() + self.door.default_deadline;
        let job = Job {
            sequence,
            change,
            deadline,
        };
        self.held += 1;
        match self.waiting.get_mut(&job.change.device) {
            Some(queue) => queue.push_back(job),
            None => {
                self.waiting
                    .insert(job.change.device.clone(), VecDeque::new());
                self.start(job);
            }
        }
        Ok(())
    }

    async fn finish(&mut self, done: Done) -> Result<(), Status> {
        self.held -= 1;
        if done.is_open {
            return self.refuse_later(done).await;
        }
        match self
            .waiting
            .get_mut(&done.device)
            .and_then(VecDeque::pop_front)
        {
            Some(next) => self.start(next),
            None => {
                self.waiting.remove(&done.device);
            }
        }
        self.reply(done.reply).await
    }

    /// Refuses what waited behind an update whose outcome nobody knows.
    async fn refuse_later(&mut self, done: Done) -> Result<(), Status> {
        let later = self.waiting.remove(&done.device).unwrap_or_default();
        self.reply(done.reply).await?;
        for job in later {
            self.held -= 1;
            let refused = Err(Error::Unavailable(BEHIND_UNKNOWN));
            self.reply(answer(job.sequence, refused)).await?;
        }
        Ok(())
    }

    fn start(&mut self, job: Job) {
        let door = self.door.clone();
        self.running.push(Box::pin(async move {
            let Job {
                sequence,
                change,
                deadline,
            } = job;
            let device = change.device.clone();
            // Every way that it can go keeps the deadline itself.
            let result = single::apply(&door, change, Order::ByCaller, deadline).await;
            let is_open = matches!(result, Err(Error::OutcomeUnknown | Error::Deadline));
            Done {
                device,
                reply: answer(sequence, result),
                is_open,
            }
        }));
    }

    /// An error when nobody reads the replies any more. What is in flight goes on while a reply waits for its
    /// reader: it holds permits that others wait for, and gives them back only when it is polled.
    async fn reply(&mut self, reply: v1::StreamUpdatesResponse) -> Result<(), Status> {
        let gone = |_| Status::cancelled("the stream of replies was closed");
        let mut room = pin!(self.replies.reserve());
        let room = loop {
            tokio::select! {
                biased;
                room = room.as_mut() => break room.map_err(gone)?,
                Some(done) = self.running.next() => self.ended.push_back(done),
            }
        };
        room.send(Ok(reply));
        Ok(())
    }
}

/// The next update that has ended, if any is in flight.
async fn next(
    ended: &mut VecDeque<Done>,
    running: &mut FuturesUnordered<BoxFuture<'static, Done>>,
) -> Option<Done> {
    match ended.pop_front() {
        Some(done) => Some(done),
        None => running.next().await,
    }
}

fn answer(
    sequence: u64,
    result: Result<v1::UpdateShadowResponse, Error>,
) -> v1::StreamUpdatesResponse {
    v1::StreamUpdatesResponse {
        sequence,
        result: Some(convert::update_result(result, None)),
    }
}
