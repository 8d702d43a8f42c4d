//! The live actor of one device. It owns the device's queue of commands and its cached documents.
//!
//! A command waits in the queue until no entry of this twin is in flight; then everything that
//! queued up goes into the next entry, in order, up to the bounds of a group. The actor never
//! waits: a small task, the courier, carries the entry to the shard, answers its callers and says so
//! in a message, so reads and changes are taken up meanwhile.
//!
//! A twin belongs to one term. It proposes only bound to that term, and the [`Roster`] stops it
//! when the role changes. What is in flight then is usually decided a moment later: the courier
//! waits that long without the twin. When the result of an entry is lost, the twin knows nothing
//! certain any more: all callers of that entry get "unknown", commands still queued are refused as
//! certainly not applied (their callers may come again at once; running them would be running them
//! after a command of unknown fate), and the twin stops. The next request starts a fresh one, which
//! knows nothing and loads documents behind a barrier as they are asked for. A panic ends a twin
//! likewise.

pub(crate) mod cache;
pub mod metrics;
pub(crate) mod precheck;
pub(crate) mod roster;
pub(crate) mod ticket;
pub(crate) mod vitals;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr};
use tokio::sync::oneshot;
use tracing::{debug, error};

use crate::change::Change;
use crate::command::{COMMANDS_PER_ENTRY_MAX, Command, DeviceEntry, Draft, Entry};
use crate::document::Document;
use crate::id::{DeviceKey, ShadowName, Time};
use crate::outcome::{Outcome, decode_outcomes};
use crate::port::{Failure, ShardPort};
use crate::twin::cache::Cache;
use crate::twin::roster::Life;
use crate::twin::ticket::{Pending, Reply, Waiter};
use crate::twin::vitals::ReadSlot;

/// Why a command that was still queued is refused when its twin stops.
pub(crate) const TWIN_STOPPED: &str = "the twin of the device was stopped before it was sent";

/// How long the result of an entry is awaited once the twins were stopped: a leader that hands over
/// still commits what it took, or learns that it was discarded.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Everything a twin is told. Each kind is bounded before it is sent: commands by permits, reads by
/// slots, loads by reads, changes by the commands that made them.
pub(crate) enum Message {
    /// A command to queue.
    Submit(Waiter),
    /// The callers of the entry in flight have been answered.
    Landed,
    /// The outcome of the entry in flight is lost; these wait for it.
    Lost(Vec<Pending>),
    /// Changes of this device, applied just now, in log order.
    Applied(Vec<Arc<Change>>),
    /// Asks for a cached document; none when it is not cached.
    Read {
        shadow: ShadowName,
        reply: oneshot::Sender<Option<Document>>,
        slot: ReadSlot,
    },
    /// A document that a reader loaded after it asked here in vain.
    Loaded {
        shadow: ShadowName,
        index: u64,
        document: Document,
    },
}

/// Whether the twin goes on after a message.
#[derive(PartialEq, Eq)]
enum Fate {
    Live,
    Stop,
}

/// The actor's behaviour; all its data is in [`State`].
pub(crate) struct Twin<P>(PhantomData<fn() -> P>);

impl<P> Twin<P> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P: ShardPort> Actor for Twin<P> {
    type Msg = Message;
    type State = State<P>;
    type Arguments = State<P>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        mut state: State<P>,
    ) -> Result<State<P>, ActorProcessingErr> {
        state.life.start();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State<P>,
    ) -> Result<(), ActorProcessingErr> {
        state.life.enter();
        let fate = state.handle(message, &myself);
        state.life.leave();
        if fate == Fate::Stop {
            myself.stop(None);
        }
        Ok(())
    }
}

/// What a twin knows.
pub(crate) struct State<P: ShardPort> {
    queue: VecDeque<Waiter>,
    /// Is there while an entry is in flight; tells its courier when the twin ends.
    flight: Option<oneshot::Sender<()>>,
    cache: Cache,
    /// The latest time this twin has seen for its device.
    time: Time,
    /// Last, so that the twin counts as live until the rest is gone.
    life: Life<P>,
}

impl<P: ShardPort> State<P> {
    pub(crate) fn new(life: Life<P>, cache: Cache) -> Self {
        Self {
            queue: VecDeque::new(),
            flight: None,
            cache,
            time: Time(0),
            life,
        }
    }

    fn handle(&mut self, message: Message, myself: &ActorRef<Message>) -> Fate {
        match message {
            Message::Submit(waiter) => {
                self.queue.push_back(waiter);
                self.launch(myself);
                Fate::Live
            }
            Message::Landed => {
                self.flight = None;
                self.launch(myself);
                Fate::Live
            }
            Message::Lost(waiters) => self.lose(waiters),
            Message::Applied(changes) => {
                for change in &changes {
                    self.time = self.time.max(change.time);
                    self.cache.applied(change);
                }
                Fate::Live
            }
            Message::Read {
                shadow,
                reply,
                slot,
            } => {
                // The reader may have gone.
                let _ = reply.send(self.cache.get(&shadow).cloned());
                drop(slot);
                Fate::Live
            }
            Message::Loaded {
                shadow,
                index,
                document,
            } => {
                self.time = self.time.max(document.updated());
                self.cache.loaded(shadow, index, document);
                Fate::Live
            }
        }
    }

    /// Sends what is queued as the next entry, unless one is in flight or the term is over.
    fn launch(&mut self, myself: &ActorRef<Message>) {
        if self.flight.is_some() || self.life.is_fenced() {
            return;
        }
        let (drafts, waiters) = self.next_group();
        if drafts.is_empty() {
            return;
        }
        let roster = self.life.roster();
        self.time = self.time.max(roster.port().now());
        let time = self.time;
        let commands: Vec<Command> = drafts.into_iter().map(|draft| draft.stamp(time)).collect();
        roster.metrics().entries.increment(1);
        roster.metrics().commands.increment(commands.len() as u64);
        let (rules, device) = (roster.port().rules(), self.life.device().clone());
        let entry = Entry::Device(DeviceEntry {
            rules,
            device,
            commands,
        })
        .encode();
        let courier = Courier {
            twin: myself.clone(),
            device: self.life.device().clone(),
            waiters,
        };
        let (port, term) = (roster.port().clone(), self.life.term());
        let (flight, twin_ended) = oneshot::channel();
        self.flight = Some(flight);
        tokio::spawn(async move {
            let given_up = async {
                let _ = twin_ended.await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                biased;
                result = port.propose(term, entry) => courier.deliver(result),
                () = given_up => courier.deliver(Err(Failure::Unknown)),
            }
        });
    }

    /// Takes the next commands off the queue and marks them as sent; cancelled ones vanish.
    fn next_group(&mut self) -> (Vec<Draft>, Vec<Pending>) {
        let config = self.life.roster().config();
        let group_max = config.group_max.clamp(1, COMMANDS_PER_ENTRY_MAX);
        let (mut drafts, mut waiters, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(next) = self.queue.front() {
            bytes = bytes.saturating_add(next.bytes());
            let is_full = drafts.len() >= group_max || bytes > config.group_bytes_max;
            if is_full && !drafts.is_empty() {
                break;
            }
            let sent = self.queue.pop_front().and_then(Waiter::send);
            if let Some((draft, pending)) = sent {
                drafts.push(draft);
                waiters.push(pending);
            }
        }
        if self.queue.is_empty() {
            // A burst must not leave its memory behind.
            self.queue = VecDeque::new();
        }
        (drafts, waiters)
    }

    /// The outcome of the entry is lost: nobody may reach this twin again, and it stops.
    fn lose(&mut self, waiters: Vec<Pending>) -> Fate {
        self.life.roster().metrics().unknown.increment(1);
        self.life.leave_roster();
        waiters
            .into_iter()
            .for_each(|waiter| waiter.answer(Err(Failure::Unknown)));
        let refusal = Failure::Unavailable(TWIN_STOPPED);
        self.queue
            .drain(..)
            .for_each(|waiter| waiter.refuse(refusal));
        Fate::Stop
    }
}

/// Brings the result of a proposal to its callers, and word of it to the twin. A courier that ends
/// midway says that the outcome is lost.
struct Courier {
    twin: ActorRef<Message>,
    device: DeviceKey,
    waiters: Vec<Pending>,
}

impl Courier {
    fn deliver(mut self, result: Result<Bytes, Failure>) {
        let answers: Vec<Reply> = match result {
            Ok(reply) => match decode(&reply, self.waiters.len()) {
                Some(outcomes) => outcomes.into_iter().map(Ok).collect(),
                None => return,
            },
            Err(failure) if failure.is_certain() => {
                debug!(device = %self.device, error = %failure, "entry refused");
                self.waiters.iter().map(|_| Err(failure)).collect()
            }
            Err(failure) => {
                debug!(device = %self.device, error = %failure, "outcome lost");
                return;
            }
        };
        for (waiter, answer) in self.waiters.drain(..).zip(answers) {
            waiter.answer(answer);
        }
        // A twin that has stopped launches nothing more.
        let _ = self.twin.send_message(Message::Landed);
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        if !self.waiters.is_empty() {
            lost(&self.twin, std::mem::take(&mut self.waiters));
        }
    }
}

/// The twin answers, once nobody can reach it any more; where it has stopped, nobody can.
fn lost(twin: &ActorRef<Message>, waiters: Vec<Pending>) {
    if let Err(MessagingErr::SendErr(Message::Lost(waiters))) =
        twin.send_message(Message::Lost(waiters))
    {
        let unknown = |waiter: Pending| waiter.answer(Err(Failure::Unknown));
        waiters.into_iter().for_each(unknown);
    }
}

pub(crate) fn decode(reply: &[u8], expected: usize) -> Option<Vec<Outcome>> {
    match decode_outcomes(reply) {
        Ok(outcomes) if outcomes.len() == expected => Some(outcomes),
        Ok(outcomes) => {
            let got = outcomes.len();
            error!(expected, got, "wrong number of outcomes of an entry");
            None
        }
        Err(error) => {
            error!(%error, "decode the outcomes of an entry");
            None
        }
    }
}
