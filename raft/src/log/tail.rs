//! What the node knows of one shard's log without the disk: bounds, vote, and the newest entries.
//!
//! Entries are readable here the moment they are handed to the writer. An entry leaves the memory only
//! when it is durable; then readers find it in the store.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::error::Error;
use crate::ids::ShardId;
use crate::types::{Entry, LogId, Payload, Vote};

use super::store::ShardRows;

/// What an entry weighs in memory beside its command.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// One shard's log as of now.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) shard: ShardId,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The committed position is newer than what the writer took.
    committed_unwritten: bool,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the first entry of the log; equal to `end` when there is none.
    start: u64,
    /// Index after the last entry.
    end: u64,
    /// Index after the last entry that is known to be durable.
    durable_end: u64,
    /// The newest entries, up to `end`.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How often entries were cut off the end: what was appended before is not what is there now.
    truncations: u64,
    /// How often entries went away at either end: a read from the store begins anew.
    removals: u64,
    /// Nothing above may be purged; nothing at all while there is none.
    purge_gate: Option<u64>,
}

/// Tells the tail, once a batch is durable, which of its entries are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appended {
    end: u64,
    truncations: u64,
}

/// The part of a range that the memory has, and what must come from the store.
#[derive(Debug)]
pub(super) struct Plan {
    /// Indexes to read from the store; they come before `entries`.
    pub(super) stored: std::ops::Range<u64>,
    pub(super) entries: Vec<Entry>,
    removals: u64,
}

impl Tail {
    /// A shard as the store has it. `entries` are its newest ones, in order.
    pub(super) fn new(
        shard: ShardId,
        bytes_max: usize,
        rows: ShardRows,
        start: u64,
        entries: VecDeque<Entry>,
    ) -> Tail {
        let end = entries.back().map_or(start, |last| last.log_id.index + 1);
        let state = State {
            vote: rows.vote,
            committed: rows.committed,
            committed_unwritten: false,
            last: entries.back().map(|last| last.log_id).or(rows.purged),
            purged: rows.purged,
            start,
            end,
            durable_end: end,
            bytes: entries.iter().map(weight).sum(),
            entries,
            truncations: 0,
            removals: 0,
            purge_gate: None,
        };
        let tail = Tail {
            shard,
            bytes_max,
            state: Mutex::new(state),
        };
        tail.state.lock().evict(bytes_max);
        tail
    }

    pub(super) fn vote(&self) -> Option<Vote> {
        self.state.lock().vote
    }

    pub(super) fn set_vote(&self, vote: Vote) {
        self.state.lock().vote = Some(vote);
    }

    pub(super) fn committed(&self) -> Option<LogId> {
        self.state.lock().committed
    }

    pub(super) fn set_committed(&self, committed: Option<LogId>) {
        let mut state = self.state.lock();
        state.committed_unwritten |= committed != state.committed;
        state.committed = committed;
    }

    /// The committed position, if it is newer than what was written and does not go beyond the
    /// entries that are durable or, up to `batch_end`, will be with the same batch.
    pub(super) fn take_committed(&self, batch_end: u64) -> Option<LogId> {
        let mut state = self.state.lock();
        let durable_end = state.durable_end.max(batch_end);
        let committed = state.committed.filter(|id| id.index < durable_end)?;
        std::mem::take(&mut state.committed_unwritten).then_some(committed)
    }

    /// Purged position and last position.
    pub(super) fn bounds(&self) -> (Option<LogId>, Option<LogId>) {
        let state = self.state.lock();
        (state.purged, state.last)
    }

    pub(super) fn is_blank(&self) -> bool {
        let state = self.state.lock();
        state.vote.is_none() && state.last.is_none()
    }

    pub(super) fn set_purge_gate(&self, index: u64) {
        let mut state = self.state.lock();
        state.purge_gate = state.purge_gate.max(Some(index));
    }

    /// Adds entries at the end; they are readable when this returns. Refuses a hole.
    pub(super) fn append(&self, entries: &[Entry]) -> Result<Appended, Error> {
        let mut state = self.state.lock();
        if let (Some(first), None, None) = (entries.first(), state.last, state.purged) {
            // A blank log begins where its first entry is.
            (state.start, state.end) = (first.log_id.index, first.log_id.index);
            state.durable_end = state.end;
        }
        for (index, entry) in (state.end..).zip(entries) {
            if entry.log_id.index != index {
                return Err(Error::Hole {
                    shard: self.shard,
                    expected: index,
                    found: entry.log_id.index,
                });
            }
        }
        for entry in entries {
            state.bytes += weight(entry);
            state.last = Some(entry.log_id);
            state.end += 1;
            state.entries.push_back(entry.clone());
        }
        Ok(Appended {
            end: state.end,
            truncations: state.truncations,
        })
    }

    /// A batch is durable: its entries may leave the memory. Entries that were cut off meanwhile do
    /// not count for those that took their place.
    pub(super) fn durable(&self, appended: Appended) {
        let mut state = self.state.lock();
        if appended.truncations == state.truncations {
            state.durable_end = state.durable_end.max(appended.end);
        }
        state.evict(self.bytes_max);
    }

    /// Cuts off what comes after `last`; gives the index from which the store must cut too.
    pub(super) fn truncate(&self, last: Option<LogId>) -> u64 {
        let mut state = self.state.lock();
        let end = last
            .map_or(0, |id| id.index + 1)
            .clamp(state.start, state.end);
        if end == state.end {
            return end;
        }
        while state.end > end {
            state.end -= 1;
            if let Some(entry) = state.entries.pop_back() {
                state.bytes -= weight(&entry);
            }
        }
        state.last = if end > state.start {
            last
        } else {
            state.purged
        };
        state.durable_end = state.durable_end.min(end);
        state.truncations += 1;
        state.removals += 1;
        end
    }

    /// Removes entries up to and including `upto`, which may lie beyond the end. Gives the index from
    /// which the store must remove, or `None` when there is nothing to do. Refused above the gate.
    pub(super) fn purge(&self, upto: LogId) -> Result<Option<u64>, Error> {
        let mut state = self.state.lock();
        if state
            .purged
            .is_some_and(|purged| purged.index >= upto.index)
        {
            return Ok(None);
        }
        if state.purge_gate.is_none_or(|gate| upto.index > gate) {
            return Err(Error::PurgeRefused {
                shard: self.shard,
                upto: upto.index,
                gate: state.purge_gate,
            });
        }
        // Where the last purge ended, so that range deletes do not pile up on each other.
        let from = state.purged.map_or(0, |purged| purged.index + 1);
        state.purged = Some(upto);
        state.start = upto.index + 1;
        state.end = state.end.max(state.start);
        state.durable_end = state.durable_end.max(state.start);
        if state.end == state.start {
            state.last = Some(upto);
        }
        while state
            .entries
            .front()
            .is_some_and(|first| first.log_id.index <= upto.index)
        {
            state.pop_front();
        }
        state.removals += 1;
        Ok(Some(from))
    }

    /// Forgets everything, for a new replica of the shard.
    pub(super) fn clear(&self) {
        let mut state = self.state.lock();
        *state = State {
            vote: None,
            committed: None,
            committed_unwritten: false,
            purged: None,
            last: None,
            start: 0,
            end: 0,
            durable_end: 0,
            entries: VecDeque::new(),
            bytes: 0,
            truncations: state.truncations + 1,
            removals: state.removals + 1,
            purge_gate: None,
        };
    }

    /// What of `from..to` the memory has, up to `bytes_max` but at least one entry, and what must
    /// be read from the store first.
    pub(super) fn plan(&self, from: u64, to: u64, bytes_max: usize) -> Plan {
        let state = self.state.lock();
        let (from, to) = (from.max(state.start), to.min(state.end));
        let held = state.end - state.entries.len() as u64;
        let mut bytes = 0;
        let mut entries = Vec::new();
        for index in from.max(held)..to {
            let entry = &state.entries[(index - held) as usize];
            bytes += weight(entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Plan {
            stored: from..to.min(held).max(from),
            entries,
            removals: state.removals,
        }
    }

    /// Whether nothing was removed since the plan was made: what the store gave then fits to it.
    pub(super) fn holds(&self, plan: &Plan) -> bool {
        self.state.lock().removals == plan.removals
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.entries.len(), state.bytes)
    }
}

impl State {
    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && self
                .entries
                .front()
                .is_some_and(|first| first.log_id.index < self.durable_end)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= weight(&entry);
        }
    }
}

/// What an entry weighs in memory.
pub(crate) fn weight(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        Payload::Normal(command) => command.parts().1.len(),
        _ => 0,
    };
    payload + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
