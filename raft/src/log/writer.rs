//! The one writer of a node: group commit over all shards.
//!
//! # For correctness
//! - Requests are written in the order in which they were queued, so votes and entries of a shard are
//!   never reordered.
//! - One batch at a time; its completions fire only after [`LogStore::commit`] has returned, which is
//!   after the sync.
//! - After a failure nothing more is written: whether the failed batch is on disk is unknown, and a
//!   write behind it could make a hole look whole.
//!
//! Time line: queue [A1 vote2 B1] → batch 7 = {number, A1, vote2, B1} → write and sync → A1, vote2,
//! B1 are told → what was queued meanwhile is batch 8.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Defects;
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ShardId;
use crate::metrics::{record_batch, record_seal};

use super::queue::{Completion, Place, Queue, Request, Taken};
use super::store::{Action, Batch, Change, LogStore};
use super::tail::Tail;

/// A quiet writer seals after this long.
const SEAL_WHEN_QUIET: Duration = Duration::from_millis(20);
/// A busy writer seals this often.
const SEAL_WHEN_BUSY: Duration = Duration::from_millis(100);
/// An idle writer looks after the store this often.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// While several commands come at a time, batches begin no closer together than this. A sync, and what follows from
/// it on this node and on others, costs about the same for one command as for fifty: what little each waits
/// longer, all of them save. A batch then waits for as many commands as the last one had, at most this
/// much more for each of them, up to a maximum. Who writes alone never waits.
const GATHER: Duration = Duration::from_millis(2);
const GATHER_PER_COMMAND: Duration = Duration::from_micros(100);
const GATHER_MAX: Duration = Duration::from_millis(5);

/// How much later the defect [`Defects::early_acknowledgement`] writes what it has reported.
const EARLY_BY: Duration = Duration::from_millis(50);

/// The logs that are open on this node.
pub(super) type Tails = Mutex<BTreeMap<ShardId, Arc<Tail>>>;

/// When the batch that is being written was begun; `None` between two.
pub(super) type Writing = Mutex<Option<Instant>>;

pub(super) struct Writer {
    store: Arc<dyn LogStore>,
    queue: Arc<Queue>,
    tails: Arc<Tails>,
    failure: Failure,
    batch_bytes: usize,
    written: u64,
    sealed: u64,
    sealed_at: Instant,
    /// When the last batch began, and its commands.
    last: (Instant, usize),
    writing: Arc<Writing>,
    defects: Defects,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn LogStore>,
        queue: Arc<Queue>,
        tails: Arc<Tails>,
        failure: Failure,
        batch_bytes: usize,
    ) -> Writer {
        let written = store.last_batch();
        Writer {
            store,
            queue,
            tails,
            failure,
            batch_bytes,
            written,
            sealed: written,
            sealed_at: Instant::now(),
            last: (Instant::now(), 0),
            writing: Arc::default(),
            defects: Defects::default(),
        }
    }

    /// The same, with defects that tests have switched on.
    pub(super) fn with(self, defects: Defects) -> Writer {
        Writer { defects, ..self }
    }

    /// Tells whether the disk still answers.
    pub(super) fn writing(&self) -> Arc<Writing> {
        Arc::clone(&self.writing)
    }

    /// Runs until the log is closed or dropped, or the store fails.
    pub(super) fn run(mut self) {
        let mut guard = StopGuard {
            queue: Arc::clone(&self.queue),
            failure: self.failure.clone(),
            ended: None,
        };
        loop {
            self.gather();
            let went_on = match self.queue.take(self.batch_bytes, self.patience()) {
                Taken::Requests(requests) => self.write(requests),
                Taken::Idle => self.idle(),
                Taken::Abandoned => Err(Arc::new(Error::Stopped)),
                Taken::Close(done) => {
                    let closed = self.close();
                    let _ = done.send(closed);
                    Err(Arc::new(Error::Stopped))
                }
            };
            if let Err(error) = went_on {
                guard.ended = Some(error);
                return;
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.sealed < self.written {
            SEAL_WHEN_QUIET
        } else {
            CHECK_INTERVAL
        }
    }

    /// Lets the next batch grow.
    fn gather(&self) {
        let (begun, commands) = self.last;
        let due = begun + interval(commands);
        if Instant::now() >= due {
            return;
        }
        if let Some(left) = (begun + GATHER).checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        self.queue.gather(commands, due);
    }

    fn write(&mut self, requests: Vec<Request>) -> Result<(), Arc<Error>> {
        let (changes, mut completions) = self.batch(requests);
        if self.defects.early_acknowledgement {
            for waiting in completions.drain(..) {
                complete(&waiting.tail, waiting.completion);
            }
            std::thread::sleep(EARLY_BY);
        }
        let batch = Batch {
            number: self.written + 1,
            changes,
        };
        let begun = Instant::now();
        let counts = batch.counts();
        self.last = (begun, counts.commands);
        *self.writing.lock() = Some(begun);
        let committed = self.store.commit(&batch);
        *self.writing.lock() = None;
        match committed {
            Ok(()) => {
                self.written = batch.number;
                record_batch(begun.elapsed(), counts);
                for waiting in completions {
                    complete(&waiting.tail, waiting.completion);
                }
                self.seal_if_busy()
            }
            Err(error) => {
                // The node learns the reason before any shard acts on it.
                let error = self.noted(error);
                for waiting in completions {
                    fail(waiting.completion, &error);
                }
                Err(error)
            }
        }
    }

    /// The changes of a batch, in order, with the committed positions that ride along.
    fn batch(&self, requests: Vec<Request>) -> (Vec<Change>, Vec<Waiting>) {
        let mut ends: BTreeMap<ShardId, (Arc<Tail>, u64)> = BTreeMap::new();
        let mut changes = Vec::with_capacity(requests.len() + 1);
        let mut completions = Vec::with_capacity(requests.len());
        for request in requests {
            let shard = request.change.shard;
            let end = ends
                .entry(shard)
                .or_insert_with(|| (Arc::clone(&request.tail), 0));
            if let Action::Append(entries) = &request.change.action
                && let Some(last) = entries.last()
            {
                end.1 = last.log_id.index + 1;
            }
            changes.push(request.change);
            completions.push(Waiting {
                tail: request.tail,
                completion: request.completion,
                _place: request.place,
            });
        }
        for (shard, (tail, end)) in ends {
            if let Some(committed) = tail.take_committed(end) {
                changes.push(Change {
                    shard,
                    action: Action::Committed(committed),
                });
            }
        }
        (changes, completions)
    }

    fn idle(&mut self) -> Result<(), Arc<Error>> {
        if self.sealed < self.written {
            return self.seal();
        }
        self.store.check().map_err(|error| self.noted(error))
    }

    fn seal_if_busy(&mut self) -> Result<(), Arc<Error>> {
        if self.sealed_at.elapsed() >= SEAL_WHEN_BUSY {
            self.seal()
        } else {
            Ok(())
        }
    }

    fn seal(&mut self) -> Result<(), Arc<Error>> {
        self.store
            .seal(self.written)
            .map_err(|error| self.noted(error))?;
        record_seal();
        self.sealed = self.written;
        self.sealed_at = Instant::now();
        Ok(())
    }

    /// Writes what still waits for a batch to ride in, then closes the store.
    fn close(&mut self) -> Result<(), Arc<Error>> {
        let tails: Vec<_> = self.tails.lock().values().cloned().collect();
        let committed = |tail: Arc<Tail>| {
            Some(Change {
                shard: tail.shard,
                action: Action::Committed(tail.take_committed(0)?),
            })
        };
        let changes: Vec<_> = tails.into_iter().filter_map(committed).collect();
        self.commit_rest(changes).map_err(|error| self.noted(error))
    }

    fn noted(&self, error: Error) -> Arc<Error> {
        let error = Arc::new(error);
        self.failure.note(&error);
        error
    }

    fn commit_rest(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        if !changes.is_empty() {
            let batch = Batch {
                number: self.written + 1,
                changes,
            };
            self.store.commit(&batch)?;
            self.written = batch.number;
        }
        self.store.close(self.written)
    }
}

/// From the beginning of a batch of so many commands to the next one, at most.
fn interval(commands: usize) -> Duration {
    if commands < 2 {
        return Duration::ZERO;
    }
    let commands = u32::try_from(commands).unwrap_or(u32::MAX);
    (GATHER + GATHER_PER_COMMAND.saturating_mul(commands)).min(GATHER_MAX)
}

/// A request whose change is being written. It keeps its place in the queue meanwhile: the bound holds
/// for what is being written too.
struct Waiting {
    tail: Arc<Tail>,
    completion: Completion,
    _place: Place,
}

fn complete(tail: &Tail, completion: Completion) {
    match completion {
        Completion::Flushed(flushed, appended) => {
            tail.durable(appended);
            flushed.io_completed(Ok(()));
        }
        Completion::Waiter(waiter) => {
            let _ = waiter.send(Ok(()));
        }
        Completion::Nobody => {}
    }
}

/// Tells that a request is not durable, and never will be.
pub(super) fn fail(completion: Completion, error: &Arc<Error>) {
    match completion {
        Completion::Flushed(flushed, _) => {
            flushed.io_completed(Err(std::io::Error::other(Arc::clone(error))));
        }
        Completion::Waiter(waiter) => {
            let _ = waiter.send(Err(Arc::clone(error)));
        }
        Completion::Nobody => {}
    }
}

/// However the writer ends, nobody waits for it in vain.
struct StopGuard {
    queue: Arc<Queue>,
    failure: Failure,
    /// Why the writer ended; `None` when it panicked.
    ended: Option<Arc<Error>>,
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        let error = self.ended.take().unwrap_or_else(|| {
            let panicked = Arc::new(Error::Stopped);
            self.failure.stop_node(&panicked);
            panicked
        });
        for request in self.queue.stop(&error) {
            fail(request.completion, &error);
        }
    }
}

#[cfg(test)]
mod tests;
