//! The live actor of one device. It owns the device's queue of commands and its cached documents.
//!
//! A command waits in the queue until no entry of this device is in flight; then everything that
//! queued up goes into the next entry, in order, up to the bounds of a group. The actor never
//! waits: a small task carries the entry to the shard and the result back as a message, so reads
//! and changes are taken up meanwhile.
//!
//! A twin belongs to one term. It proposes only bound to that term, and the [`Roster`] stops it
//! when the role changes. When the result of an entry is lost, the twin knows nothing certain any
//! more: all callers of that entry get "unknown", commands still queued are refused as certainly
//! not applied (their callers may come again at once; running them would be running them after a
//! command of unknown fate), and the twin stops. The next request starts a fresh one, which knows
//! nothing and loads documents behind a barrier as they are asked for. A panic ends a twin likewise:
//! what was sent is unknown, what was queued is refused.

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

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::{debug, error};

use crate::change::Change;
use crate::command::{COMMANDS_PER_ENTRY_MAX, Command, DeviceEntry, Draft, Entry};
use crate::document::Document;
use crate::id::{ShadowName, Time};
use crate::outcome::{Outcome, decode_outcomes};
use crate::port::{Failure, ShardPort};
use crate::twin::cache::Cache;
use crate::twin::roster::Life;
use crate::twin::ticket::{Pending, Waiter};
use crate::twin::vitals::ReadSlot;

/// Why a command that was still queued is refused when its twin stops.
pub(crate) const TWIN_STOPPED: &str = "the twin of the device was stopped before it was sent";

/// Everything a twin is told. Each kind is bounded before it is sent: commands by permits, reads by
/// slots, loads by reads, changes by the commands that made them.
pub(crate) enum Message {
    /// A command to queue.
    Submit(Waiter),
    /// What became of the entry in flight.
    Proposed(Result<Bytes, Failure>),
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
    flight: Option<Flight>,
    cache: Cache,
    /// The latest time this twin has seen for its device.
    time: Time,
    /// Last, so that the twin counts as live until the rest is gone.
    life: Life<P>,
}

/// The entry in flight and who waits for it.
struct Flight {
    waiters: Vec<Pending>,
    courier: AbortHandle,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.courier.abort();
    }
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
            Message::Proposed(result) => self.land(result, myself),
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
        let (rules, device) = (roster.config().rules, self.life.device().clone());
        let entry = Entry::Device(DeviceEntry {
            rules,
            device,
            commands,
        })
        .encode();
        let courier = Courier {
            twin: Some(myself.clone()),
        };
        let (port, term) = (roster.port().clone(), self.life.term());
        let task = tokio::spawn(async move {
            let result = port.propose(term, entry).await;
            courier.deliver(result);
        });
        self.flight = Some(Flight {
            waiters,
            courier: task.abort_handle(),
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

    /// Takes the result of the entry in flight back to its callers.
    fn land(&mut self, result: Result<Bytes, Failure>, myself: &ActorRef<Message>) -> Fate {
        let Some(mut flight) = self.flight.take() else {
            return Fate::Live;
        };
        let waiters = std::mem::take(&mut flight.waiters);
        match result {
            Ok(reply) => match self.decode(&reply, waiters.len()) {
                Some(outcomes) => {
                    for (waiter, outcome) in waiters.into_iter().zip(outcomes) {
                        waiter.answer(Ok(outcome));
                    }
                }
                None => return self.lose(waiters),
            },
            Err(failure) if failure.is_certain() => {
                debug!(device = %self.life.device(), error = %failure, "entry refused");
                waiters
                    .into_iter()
                    .for_each(|waiter| waiter.answer(Err(failure)));
            }
            Err(failure) => {
                debug!(device = %self.life.device(), error = %failure, "outcome lost");
                return self.lose(waiters);
            }
        }
        self.launch(myself);
        Fate::Live
    }

    fn decode(&self, reply: &[u8], expected: usize) -> Option<Vec<Outcome>> {
        match decode_outcomes(reply) {
            Ok(outcomes) if outcomes.len() == expected => Some(outcomes),
            Ok(outcomes) => {
                error!(
                    expected,
                    got = outcomes.len(),
                    "wrong number of outcomes of an entry"
                );
                None
            }
            Err(error) => {
                error!(%error, "decode the outcomes of an entry");
                None
            }
        }
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

/// Carries the result of a proposal to the twin, and "unknown" when it never learns one.
struct Courier {
    twin: Option<ActorRef<Message>>,
}

impl Courier {
    fn deliver(mut self, result: Result<Bytes, Failure>) {
        if let Some(twin) = self.twin.take() {
            // A twin that has stopped has told its callers already.
            let _ = twin.send_message(Message::Proposed(result));
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        if let Some(twin) = self.twin.take() {
            let _ = twin.send_message(Message::Proposed(Err(Failure::Unknown)));
        }
    }
}
