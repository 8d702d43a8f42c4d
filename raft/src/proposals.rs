//! Proposals of one shard on its leader.
//!
//! What an entry costs - its place in the log of three replicas, a message, an answer - it costs once, however
//! many commands it carries. So at most [`FLIGHTS_MAX`] entries are under way at one time; what comes
//! meanwhile waits, and goes together into the next one. Who comes alone never waits.
//!
//! Commands of one term get their places in the log in the order in which they came, also those whose
//! proposer has gone without an outcome: what he sends next cannot pass them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, MutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::command::Command;
use crate::metrics::ProposalCounters;
use crate::replica::ShardRaft;
use crate::shard::{COMMAND_BYTES_MAX, ProposeError, Proposed};

/// Proposals of one shard that wait for their outcome; more are told to come back later.
pub(crate) const PROPOSALS_MAX: usize = 16 * 1024;

/// Bytes of those proposals; more are told to come back later.
const PROPOSAL_BYTES_MAX: usize = 64 << 20;

/// Entries of a shard that are under way at one time: the fewer, the more commands share one, and the
/// longer a command waits where the way to the followers is long.
const FLIGHTS_MAX: usize = 4;

/// Commands of one entry.
const GROUP_COMMANDS_MAX: usize = 512;

/// Bytes of the commands of one entry, unless the first one alone is longer.
const GROUP_BYTES_MAX: usize = 256 << 10;

/// Gives commands to openraft, several at a time. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Proposals {
    inner: Arc<Inner>,
}

struct Inner {
    raft: ShardRaft,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    gathered: Mutex<Gathered>,
    /// Held while a group is taken and given to openraft, so that no later one passes it.
    turn: Turn<()>,
    counters: ProposalCounters,
}

#[derive(Default)]
struct Gathered {
    waiting: VecDeque<Waiting>,
    /// Entries that are under way.
    flights: usize,
}

/// A command without an outcome. It keeps its permits until then, also when its proposer has gone.
struct Waiting {
    term: u64,
    command: Bytes,
    reply: oneshot::Sender<Outcome>,
    _permits: [OwnedSemaphorePermit; 2],
}

type Outcome = Result<Proposed, ProposeError>;

impl Proposals {
    pub(crate) fn new(raft: ShardRaft) -> Proposals {
        let inner = Inner {
            raft,
            places: Arc::new(Semaphore::new(PROPOSALS_MAX)),
            bytes: Arc::new(Semaphore::new(PROPOSAL_BYTES_MAX)),
            gathered: Mutex::default(),
            turn: Turn::default(),
            counters: ProposalCounters::new(),
        };
        Proposals {
            inner: Arc::new(inner),
        }
    }

    /// Commits and applies a command. `None`: nothing more will be heard of it, and what became of it is
    /// not known. Dropping the future midway takes nothing back.
    pub(crate) async fn propose(&self, term: u64, command: Bytes) -> Option<Outcome> {
        let Some(permits) = self.admit(&command) else {
            return Some(Err(ProposeError::Overloaded));
        };
        let (reply, outcome) = oneshot::channel();
        let waiting = Waiting {
            term,
            command,
            reply,
            _permits: permits,
        };
        if let Some(flight) = self.gather(waiting) {
            tokio::spawn(flight.run());
        }
        outcome.await.ok()
    }

    /// Counts what a proposer is told.
    pub(crate) fn count(&self, outcome: &Outcome) {
        self.inner.counters.count(outcome);
    }

    fn admit(&self, command: &Bytes) -> Option<[OwnedSemaphorePermit; 2]> {
        if command.len() > COMMAND_BYTES_MAX {
            return None;
        }
        let place = Arc::clone(&self.inner.places).try_acquire_owned().ok()?;
        let bytes = u32::try_from(command.len()).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.inner.bytes).try_acquire_many_owned(bytes);
        Some([place, bytes.ok()?])
    }

    /// Lets a command wait, and gives the flight that is to take it where none will.
    fn gather(&self, waiting: Waiting) -> Option<Flight> {
        let mut gathered = self.inner.gathered.lock();
        gathered.waiting.push_back(waiting);
        if gathered.flights >= FLIGHTS_MAX {
            return None;
        }
        gathered.flights += 1;
        Some(Flight {
            inner: Arc::clone(&self.inner),
            has_landed: false,
        })
    }
}

impl Gathered {
    /// What waits, from the first on, as far as it fits into one entry of one term.
    fn next_group(&mut self) -> Vec<Waiting> {
        let Some(term) = self.waiting.front().map(|first| first.term) else {
            return Vec::new();
        };
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.command.len();
            waiting.term == term && bytes <= GROUP_BYTES_MAX
        };
        let count = self.waiting.iter().take_while(fits).count().max(1);
        let group = self
            .waiting
            .drain(..count.min(GROUP_COMMANDS_MAX))
            .collect();
        if self.waiting.is_empty() {
            // A burst must not leave its memory behind.
            self.waiting = VecDeque::new();
        }
        group
    }
}

/// One entry that is under way, and after it what has gathered meanwhile.
struct Flight {
    inner: Arc<Inner>,
    has_landed: bool,
}

impl Flight {
    async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        while !self.has_landed {
            let turn = inner.turn.lock().await;
            let group = self.take_next();
            if let Some(first) = group.first() {
                carry(&inner.raft, first.term, group, turn).await;
            }
        }
    }

    /// Takes what waits; lands when nothing does.
    fn take_next(&mut self) -> Vec<Waiting> {
        let mut gathered = self.inner.gathered.lock();
        let group = gathered.next_group();
        if group.is_empty() {
            // Under the same lock: whoever comes next finds a place, or somebody who takes it along.
            gathered.flights -= 1;
            self.has_landed = true;
        }
        group
    }
}

impl Drop for Flight {
    /// One that ends midway takes nobody along any more: those who wait learn that nothing is known.
    fn drop(&mut self) {
        if !self.has_landed {
            let mut gathered = self.inner.gathered.lock();
            gathered.flights -= 1;
            gathered.waiting = VecDeque::new();
        }
    }
}

/// Proposes a group as one entry and tells each of it what became of its command, if that is known. The
/// turn is given back as soon as openraft has the group.
async fn carry(raft: &ShardRaft, term: u64, group: Vec<Waiting>, turn: MutexGuard<'_, ()>) {
    let command = Command::of(group.iter().map(|waiting| waiting.command.clone()));
    let (responder, reply) = ProgressResponder::complete_only();
    let write = raft.write(command).with_leader(term);
    let written = write.responder(responder).await;
    drop(turn);
    let outcome = match written {
        Ok(()) => reply.await,
        Err(_) => return fail(group, ProposeError::Stopped),
    };
    match outcome {
        Ok(Ok(done)) if done.data.0.len() == group.len() => {
            let index = done.log_id.index;
            for (waiting, reply) in group.into_iter().zip(done.data.0) {
                // The proposer may have gone.
                let _ = waiting.reply.send(Ok(Proposed { index, reply }));
            }
        }
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => fail(group, ProposeError::NotLeader),
        Ok(_) => fail(group, ProposeError::Unknown),
        Err(_) => drop(group),
    }
}

fn fail(group: Vec<Waiting>, error: ProposeError) {
    for waiting in group {
        let _ = waiting.reply.send(Err(error));
    }
}
