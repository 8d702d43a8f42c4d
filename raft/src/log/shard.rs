//! The log of one shard as openraft sees it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, ControlFlow, Range, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ShardId;
use crate::types::{Entry, LogId, TypeConfig, Vote};

use super::queue::{Completion, Place, Queue, Request};
use super::store::{Action, Change, LogStore};
use super::tail::{Tail, weight};
use super::writer::fail;

/// What one limited read returns at most, unless a single entry is larger.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log of one shard. Cloning shares it; clones serve openraft as readers.
#[derive(Clone)]
pub struct ShardLog {
    pub(super) tail: Arc<Tail>,
    pub(super) queue: Arc<Queue>,
    pub(super) store: Arc<dyn LogStore>,
    pub(super) failure: Failure,
    /// A defect for tests, [`Defects::votes_not_synced`](crate::config::Defects::votes_not_synced).
    pub(super) votes_not_synced: bool,
    pub(super) bytes_written: Arc<AtomicU64>,
}

impl ShardLog {
    /// Whether there is neither an entry nor a vote, nor a trace that there ever was.
    pub(crate) fn is_blank(&self) -> bool {
        self.tail.is_blank()
    }

    /// Up to where the log was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.tail.bounds().0
    }

    /// The last entry, or what was purged when there is none.
    #[cfg(test)]
    pub(crate) fn last(&self) -> Option<LogId> {
        self.tail.bounds().1
    }

    /// Removes everything of the shard durably, for a new replica of it.
    pub(crate) async fn clear(&self) -> Result<(), Arc<Error>> {
        self.write(|tail| {
            tail.clear();
            Action::Clear
        })
        .await
    }

    /// Waits until everything that was queued for the shard is durable.
    pub(crate) async fn settle(&self) -> Result<(), Arc<Error>> {
        self.write(|_| Action::Append(Vec::new())).await
    }

    /// Queues a change. When the writer has stopped, the completion is told at once.
    fn push(&self, place: Place, action: Action, completion: Completion) {
        let request = Request {
            tail: Arc::clone(&self.tail),
            change: Change {
                shard: self.tail.shard,
                action,
            },
            completion,
            place,
        };
        if let Err((request, error)) = self.queue.push(request) {
            fail(request.completion, &error);
        }
    }

    /// Queues a change, made once there is room, and waits until it is durable.
    async fn write(&self, action: impl FnOnce(&Tail) -> Action) -> Result<(), Arc<Error>> {
        let place = self.queue.reserve(0).await?;
        let (done, written) = oneshot::channel();
        let action = action(&self.tail);
        self.push(place, action, Completion::Waiter(done));
        written.await.unwrap_or_else(|_| Err(Error::Stopped.into()))
    }

    /// Entries of a range: what the log contains of it, up to `bytes_max` but at least one entry.
    async fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        loop {
            let mut plan = self.tail.plan(range.start, range.end, bytes_max);
            if plan.stored.is_empty() {
                return Ok(plan.entries);
            }
            let (store, shard) = (Arc::clone(&self.store), self.tail.shard);
            let stored = plan.stored.clone();
            let reading = move || read_stored(&*store, shard, stored, bytes_max);
            let read = tokio::task::spawn_blocking(reading)
                .await
                .map_err(|_| Error::Stopped)?;
            let (mut entries, bytes) = read.map_err(|error| self.failure.report(error))?;
            if !self.tail.holds(&plan) {
                // Entries were removed meanwhile: what was read may be gone or replaced.
                continue;
            }
            let complete = entries.len() as u64 == plan.stored.end - plan.stored.start;
            let limited = bytes >= bytes_max && !entries.is_empty();
            if complete && !limited {
                let mut bytes = bytes;
                entries.extend(plan.entries.drain(..).take_while(|entry| {
                    bytes += weight(entry);
                    bytes <= bytes_max
                }));
            } else if !limited {
                return Err(self.failure.report(Error::log_damaged(format!(
                    "entries {:?} of shard {shard} are not all there",
                    plan.stored
                ))));
            }
            return Ok(entries);
        }
    }
}

/// Reads consecutive entries until the range or the bytes are used up.
fn read_stored(
    store: &dyn LogStore,
    shard: ShardId,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<(Vec<Entry>, usize), Error> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let mut expected = range.start;
    store.entries(shard, range.start, &mut |entry, _| {
        if expected >= range.end || entry.log_id.index != expected {
            return ControlFlow::Break(());
        }
        expected += 1;
        bytes += weight(&entry);
        entries.push(entry);
        if bytes >= bytes_max {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok((entries, bytes))
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for ShardLog {
    /// Reads block by block, so that a long replay does not sit in memory as a whole.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let state = Some((self.clone(), bounds(&range)));
        let blocks = stream::unfold(state, |state| async {
            let (log, range) = state?;
            match log.read(range.clone(), READ_BYTES_MAX).await {
                Ok(entries) => {
                    let last = entries.last()?.log_id.index;
                    let items: Vec<_> = entries.into_iter().map(Ok).collect();
                    Some((items, Some((log, last + 1..range.end))))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        Box::pin(futures::StreamExt::flat_map(blocks, stream::iter))
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(bounds(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.tail.vote())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<TypeConfig> for ShardLog {
    type LogReader = ShardLog;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (last_purged_log_id, last_log_id) = self.tail.bounds();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> ShardLog {
        self.clone()
    }

    /// Returns once the vote is durable. Readers see it from then on.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if !self.votes_not_synced {
            self.write(|_| Action::Vote(*vote))
                .await
                .map_err(io::Error::other)?;
        }
        self.tail.set_vote(*vote);
        Ok(())
    }

    /// Writes nothing by itself: the position rides in the shard's next batch.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.tail.set_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.tail.committed())
    }

    /// Returns once the entries are readable and queued; waits only for room in the queue.
    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let bytes: usize = entries.iter().map(weight).sum();
        let place = self.queue.reserve(bytes).await.map_err(io::Error::other)?;
        // No await from here on: what is readable is queued.
        let appended = self.tail.append(&entries)?;
        self.bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
        let completion = Completion::Flushed(callback, appended);
        self.push(place, Action::Append(entries), completion);
        Ok(())
    }

    /// Returns once the truncation is durable.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.write(|tail| Action::Truncate {
            from: tail.truncate(last_log_id),
        })
        .await
        .map_err(io::Error::other)
    }

    /// Queued, not waited for: after a crash the entries may be there again, which is legal.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let place = self.queue.reserve(0).await.map_err(io::Error::other)?;
        if let Some(from) = self.tail.purge(log_id)? {
            let upto = log_id;
            self.push(place, Action::Purge { from, upto }, Completion::Nobody);
        }
        Ok(())
    }
}
