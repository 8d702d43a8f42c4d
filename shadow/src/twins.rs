//! The twins of one shard: the handle through which a door's commands and reads reach them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::change::Change;
use crate::command::{DeviceEntry, Draft, Entry};
use crate::document::Document;
use crate::id::{DeviceKey, ShadowName};
use crate::outcome::Outcome;
use crate::port::{Failure, ShardPort};
use crate::twin::roster::{Passage, Roster};
use crate::twin::{GRACE, decode, precheck};

/// Why a command is refused whose deadline passed before it was sent.
const DEADLINE_IN_QUEUE: &str = "the deadline passed before the command was sent";

/// The bounds of the twins of one shard.
#[derive(Debug, Clone)]
pub struct TwinsConfig {
    /// Twins that live at one time (default 50,000; about 7 KB each). Over it the least recently
    /// used one is stopped; when the oldest are busy, a command for a further device is refused.
    pub live_max: usize,
    /// Bytes of documents that they cache together (default 64 MiB). Over it documents are read
    /// from the state store.
    pub live_bytes_max: usize,
    /// How long a twin lives without being used (default 60 s).
    pub idle_stop: Duration,
    /// Commands that wait or are in flight in the shard (default 8,192).
    pub permits: usize,
    /// Bytes of the commands that wait or are in flight in the shard (default 64 MiB).
    pub permit_bytes_max: usize,
    /// Commands that wait or are in flight for one device (default 1,024).
    pub permits_per_device: usize,
    /// Commands in one entry (default 128).
    pub group_max: usize,
    /// Bytes of the commands in one entry (default 1 MiB). A larger command goes alone.
    pub group_bytes_max: usize,
}

impl Default for TwinsConfig {
    fn default() -> Self {
        Self {
            live_max: 50_000,
            live_bytes_max: 64 << 20,
            idle_stop: Duration::from_secs(60),
            permits: 8_192,
            permit_bytes_max: 64 << 20,
            permits_per_device: 1_024,
            group_max: 128,
            group_bytes_max: 1 << 20,
        }
    }
}

/// The twins of one shard. Cheap to clone; all clones are the same twins.
pub struct Twins<P> {
    roster: Arc<Roster<P>>,
}

impl<P> Clone for Twins<P> {
    fn clone(&self) -> Self {
        Self {
            roster: self.roster.clone(),
        }
    }
}

impl<P: ShardPort> Twins<P> {
    /// Makes the handle of a replica that does not lead yet. Starts nothing. The metrics recorder
    /// must be installed before.
    pub fn new(port: Arc<P>, config: TwinsConfig) -> Self {
        Self {
            roster: Roster::new(port, config),
        }
    }

    /// The replica leads the shard in this term: commands are taken from now on. Twins of an
    /// earlier term are stopped as by [`Twins::step_down`].
    pub fn lead(&self, term: u64) {
        self.roster.lead(term);
    }

    /// The replica does not lead any more. All twins stop: commands that were not sent fail with
    /// [`Failure::NotLeader`], those in flight with [`Failure::Unknown`] unless their outcome comes
    /// within a second.
    pub fn step_down(&self) {
        self.roster.step_down();
    }

    /// Submits one command and waits for its outcome. Commands submitted one after another for one
    /// device are applied in that order.
    ///
    /// Over a bound it fails at once with [`Failure::Overloaded`]. A deadline that passes before
    /// the command was sent takes it out of the queue and gives [`Failure::Unavailable`]; after
    /// that it gives [`Failure::Deadline`], and the command may have been applied. Dropping the
    /// future is like a deadline: a command that was not sent never will be.
    ///
    /// Must be called within a tokio runtime.
    pub async fn submit(
        &self,
        device: &DeviceKey,
        draft: Draft,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        if let Some(early) = self.decide_early(&draft, deadline) {
            return early;
        }
        let mut claim = self.roster.enqueue(device, draft)?;
        match timeout_at(deadline, &mut claim.reply).await {
            Ok(Ok(reply)) => reply,
            // The twin went without an answer: the ticket tells what had become of the command.
            Ok(Err(_)) if claim.cancel() => Err(self.roster.why_unsent()),
            Ok(Err(_)) => Err(Failure::Unknown),
            Err(_) if claim.cancel() => Err(self.cancelled()),
            Err(_) => claim.reply.try_recv().unwrap_or(Err(Failure::Deadline)),
        }
    }

    /// Carries one command out without a twin: for callers that keep the commands of a device in order
    /// themselves, the next one after the outcome of this one, and for what is written so seldom that
    /// starting an actor would cost more than the command. Commands of one device that are under way
    /// together are applied in any order; a twin that is idle or starts meanwhile hears of the change. What
    /// came by another way and still waits in a busy twin is not passed: the command goes there too.
    ///
    /// Fails as [`Twins::submit`] does, except that without a twin the bound of one device does not
    /// count: the caller has one. Dropping the future does not take the command back.
    pub async fn carry_out(
        &self,
        device: &DeviceKey,
        draft: Draft,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        if let Some(early) = self.decide_early(&draft, deadline) {
            return early;
        }
        let Some(passage) = self.roster.admit(device, &draft)? else {
            return self.submit(device, draft, deadline).await;
        };
        let Passage {
            term,
            stopped,
            permit,
        } = passage;
        let port = self.roster.port();
        let entry = Entry::Device(DeviceEntry {
            rules: port.rules(),
            device: device.clone(),
            commands: vec![draft.stamp(port.now())],
        });
        self.roster.metrics().entries.increment(1);
        self.roster.metrics().commands.increment(1);
        let given_up = async {
            stopped.await;
            sleep(GRACE).await;
        };
        let proposed = tokio::select! {
            biased;
            proposed = port.propose(term, entry.encode()) => proposed,
            () = given_up => Err(Failure::Unknown),
            () = sleep_until(deadline) => Err(Failure::Deadline),
        };
        // Before the answer, so that a caller with an answer can come again.
        drop(permit);
        let outcome = proposed.and_then(only_outcome);
        if outcome == Err(Failure::Unknown) {
            self.roster.metrics().unknown.increment(1);
        }
        outcome
    }

    /// What needs neither twin nor shard.
    fn decide_early(&self, draft: &Draft, deadline: Instant) -> Option<Result<Outcome, Failure>> {
        if deadline <= Instant::now() {
            return Some(Err(self.cancelled()));
        }
        let checked = precheck::check(draft).err();
        checked.map(|rejection| Ok(Outcome::Rejected(rejection)))
    }

    fn cancelled(&self) -> Failure {
        self.roster.metrics().cancelled.increment(1);
        Failure::Unavailable(DEADLINE_IN_QUEUE)
    }

    /// Reads a document, linearizably: it contains every change that was acknowledged before the
    /// call. A tombstone is a document too. Asks a live twin and otherwise the state store; starts
    /// no twin. May be dropped midway.
    pub async fn read(
        &self,
        device: &DeviceKey,
        shadow: &ShadowName,
        deadline: Instant,
    ) -> Result<Option<Document>, Failure> {
        match timeout_at(deadline, self.read_behind_barrier(device, shadow)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Deadline),
        }
    }

    async fn read_behind_barrier(
        &self,
        device: &DeviceKey,
        shadow: &ShadowName,
    ) -> Result<Option<Document>, Failure> {
        let port = self.roster.port();
        port.barrier().await?;
        // Asked after the barrier, so all changes up to it are in the mailbox before the question.
        let Some(mut question) = self.roster.ask(device, shadow) else {
            return Ok(port.load(device, shadow).await?.1);
        };
        if let Some(document) = question.answer().await {
            return Ok(Some(document));
        }
        // The twin was registered before this load begins, so it hears of every later change.
        let (index, document) = port.load(device, shadow).await?;
        if let Some(document) = &document {
            question.teach(shadow.clone(), index, document.clone());
        }
        Ok(document)
    }

    /// Tells the live twins of the changes of applied entries up to `index`, in log order. Called
    /// inside the shard's apply, once the changes are readable and before a barrier can return
    /// `index`. Never blocks.
    pub fn applied(&self, index: u64, changes: &[Arc<Change>]) {
        debug_assert!(changes.iter().all(|change| change.position.index <= index));
        self.roster.applied(changes);
    }

    /// A snapshot was installed under the twins: everything they know is dropped. All of them
    /// stop; commands that were not sent fail with [`Failure::Unavailable`], those in flight with
    /// [`Failure::Unknown`].
    pub fn reset(&self) {
        self.roster.reset();
    }

    /// Whether a device has a live twin now.
    pub fn is_live(&self, device: &DeviceKey) -> bool {
        self.roster.has(device)
    }

    /// Twins that run, those included that are about to stop.
    pub fn live(&self) -> usize {
        self.roster.live()
    }

    /// Commands that wait or are in flight.
    pub fn waiting(&self) -> usize {
        self.roster.waiting()
    }

    /// Bytes of documents that the twins cache.
    pub fn cached_bytes(&self) -> usize {
        self.roster.cached_bytes()
    }

    /// Stops all twins for good, as by [`Twins::step_down`], and waits until they are gone. May be
    /// dropped midway and called again.
    pub async fn stop(&self) {
        self.roster.close().await;
    }
}

/// The outcome of an entry with one command.
fn only_outcome(reply: Bytes) -> Result<Outcome, Failure> {
    let outcomes = decode(&reply, 1).and_then(|mut outcomes| outcomes.pop());
    outcomes.ok_or(Failure::Unknown)
}
