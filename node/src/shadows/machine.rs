//! The state machine of a data shard: `shadow::apply` on RocksDB rows.
//!
//! Document, feed records, index rows and accounting of an entry go into the engine's one write
//! batch (invariant 6). Apply is total: what cannot be decoded is a rejection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use antumbra_raft::{
    Commands, EntryPosition, Error, HashRange, Machine, Replies, ShardId, WriteTx,
};
use antumbra_shadow::{
    self as shadow, Change, DecodeError, DeviceEntry, Entry, FeedRow, Outcome, Position, RULES,
    RULES_OF_SHARED_ROWS, Rejection, RowKey, Rows, Time, Twins, encode_outcomes,
};

use crate::cluster::pin;

use super::account::{Account, Mark};
use super::keys;
use super::port::Port;
use super::relay::Relay;
use super::restore;

/// Applies the commands of one shard and tells twins and watchers.
pub struct ShadowMachine {
    /// The hashes that the shard owns.
    range: HashRange,
    /// Rows were restored that nobody has been told of.
    restored: AtomicBool,
    relay: Arc<Relay>,
    /// Set while the shard that the twins propose to runs; without it no twin can be alive.
    twins: ArcSwapOption<Twins<Port>>,
}

impl ShadowMachine {
    pub(crate) fn new(range: HashRange, relay: Arc<Relay>) -> ShadowMachine {
        ShadowMachine {
            range,
            restored: AtomicBool::new(false),
            relay,
            twins: ArcSwapOption::empty(),
        }
    }

    /// Connects the twins of the shard.
    pub(crate) fn attach(&self, twins: Twins<Port>) {
        self.twins.store(Some(Arc::new(twins)));
    }

    /// Lets the twins go, which hold the shard, which holds this machine.
    pub(crate) fn detach(&self) {
        self.twins.store(None);
    }

    /// Restored rows have no records in the feed, so it begins anew behind them.
    fn restore(&self, entry: &mut EntryApply<'_, '_>, command: &[u8]) -> Result<Bytes, Error> {
        // Before the cut, which takes it along.
        entry.end_row();
        let applied = restore::apply(entry.tx, self.range, command)?;
        if applied.has_written() {
            let (shard, index) = (entry.at.shard, entry.at.index);
            Account::load(entry.tx, shard)?.cut(entry.tx, shard, index)?;
            self.restored.store(true, Ordering::Relaxed);
        }
        Ok(applied.encode())
    }
}

impl Machine for ShadowMachine {
    type Change = Change;

    fn apply(
        &self,
        tx: &mut WriteTx<'_>,
        at: EntryPosition,
        commands: Commands<'_>,
        replies: Replies,
        changes: &mut Vec<Arc<Change>>,
    ) -> Result<Vec<Bytes>, Error> {
        let mut entry = EntryApply::new(tx, at, replies, changes);
        let one = |command| match restore::is_command(command) {
            true => self.restore(&mut entry, command),
            false => entry.apply(command),
        };
        let replies = commands.map(one).collect();
        entry.finish()?;
        replies
    }

    fn applied(&self, shard: ShardId, index: u64, changes: Vec<Arc<Change>>) {
        // Before anything says that this index is reached: no watcher may pass by what was restored.
        if self.restored.swap(false, Ordering::Relaxed) {
            self.reset(shard);
        }
        if let Some(twins) = &*self.twins.load() {
            twins.applied(index, &changes);
        }
        self.relay.publish(index, changes);
    }

    fn pin(&self, command: &[u8]) -> Option<u64> {
        pin::parse(command)
    }

    fn reset(&self, _shard: ShardId) {
        if let Some(twins) = &*self.twins.load() {
            twins.reset();
        }
        self.relay.reset();
    }
}

/// What applying one entry writes beside the rows of its devices.
struct EntryApply<'a, 'tx> {
    tx: &'a mut WriteTx<'tx>,
    at: EntryPosition,
    replies: Replies,
    changes: &'a mut Vec<Arc<Change>>,
    /// Where its next change lies in the feed.
    next: Position,
    /// What it adds to the feed.
    feed: Mark,
    /// The row of the feed that takes more records, and the place of its first.
    row: Option<(Position, FeedRow)>,
}

impl<'a, 'tx> EntryApply<'a, 'tx> {
    fn new(
        tx: &'a mut WriteTx<'tx>,
        at: EntryPosition,
        replies: Replies,
        changes: &'a mut Vec<Arc<Change>>,
    ) -> EntryApply<'a, 'tx> {
        EntryApply {
            tx,
            at,
            replies,
            changes,
            next: Position::first(at.index),
            feed: Mark {
                written_bytes: 0,
                time: Time(0),
            },
            row: None,
        }
    }

    fn apply(&mut self, command: &[u8]) -> Result<Bytes, Error> {
        if pin::parse(command).is_some() {
            return Ok(Bytes::new());
        }
        let outcomes = match Entry::decode(command) {
            Ok(Entry::Device(entry)) => self.apply_device(&entry)?,
            Ok(Entry::TrimFeed(trim)) => {
                // What is being applied now is never trimmed: the feed must stay readable behind it.
                let upto = trim.upto_index.min(self.at.index.saturating_sub(1));
                Account::load(self.tx, self.at.shard)?.trim(self.tx, self.at.shard, upto)?;
                Vec::new()
            }
            // Others apply it: a reply would be another one here.
            Err(DecodeError::LaterRules { rules }) => {
                return Err(Error::rules_too_new(rules, RULES));
            }
            Err(_) => vec![Outcome::Rejected(Rejection::Undecodable)],
        };
        Ok(match self.replies {
            Replies::Awaited => encode_outcomes(&outcomes).into(),
            Replies::Unheard => Bytes::new(),
        })
    }

    fn apply_device(&mut self, entry: &DeviceEntry) -> Result<Vec<Outcome>, Error> {
        let applied = shadow::apply::apply(&mut TxRows(self.tx), self.next, entry)?;
        let mut outcomes = Vec::with_capacity(applied.len());
        for command in applied {
            outcomes.push(command.outcome);
            for change in command.changes {
                self.record(entry.rules, &change);
                self.feed.time = self.feed.time.max(change.time);
                self.next.sequence = change.position.sequence + 1;
                self.changes.push(Arc::new(change));
            }
        }
        Ok(outcomes)
    }

    /// Adds the record of a change to the feed.
    fn record(&mut self, rules: u16, change: &Change) {
        if rules < RULES_OF_SHARED_ROWS {
            self.end_row();
            self.write_row(change.position, change.encode_record());
            return;
        }
        let (_, row) = self
            .row
            .get_or_insert_with(|| (change.position, FeedRow::new()));
        row.push(change);
        if row.is_full() {
            self.end_row();
        }
    }

    /// What comes next in the feed begins another row.
    fn end_row(&mut self) {
        if let Some((first, row)) = self.row.take() {
            self.write_row(first, row.into_bytes());
        }
    }

    fn write_row(&mut self, first: Position, row: Vec<u8>) {
        let key = keys::feed(self.at.shard, first);
        self.feed.written_bytes += (key.as_bytes().len() + row.len()) as u64;
        self.tx.put(key, row);
    }

    /// Accounts for the feed once: a mark says how much there was after the whole entry.
    fn finish(mut self) -> Result<(), Error> {
        self.end_row();
        if self.feed.written_bytes > 0 {
            let account = Account::load(self.tx, self.at.shard)?;
            account.record(self.tx, self.at.shard, self.at.index, self.feed);
        }
        Ok(())
    }
}

/// The rows that `apply` sees: the engine's transaction under typed keys.
struct TxRows<'a, 'tx>(&'a mut WriteTx<'tx>);

impl Rows for TxRows<'_, '_> {
    type Error = Error;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Error> {
        self.0.get(&keys::row(key))
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.0.put(keys::row(key), value);
    }

    fn delete(&mut self, key: &RowKey) {
        self.0.delete(keys::row(key));
    }

    fn damaged(&self, key: &RowKey) -> Error {
        Error::state_damaged(format!("a row of apply cannot be read: {key:?}"))
    }
}
