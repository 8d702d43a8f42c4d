//! The state machine of a data shard: `shadow::apply` on RocksDB rows.
//!
//! Document, feed records, index rows and accounting of an entry go into the engine's one write
//! batch (invariant 6). Apply is total: what cannot be decoded is a rejection.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use antumbra_raft::{EntryPosition, Error, Machine, ShardId, WriteTx};
use antumbra_shadow::{
    self as shadow, Change, DeviceEntry, Entry, FeedRecord, Outcome, Rejection, RowKey, Rows,
    Twins, encode_outcomes,
};

use crate::cluster::pin;

use super::account::{Account, Mark};
use super::keys;
use super::port::Port;
use super::relay::Relay;

/// Applies the commands of one shard and tells twins and watchers.
pub struct ShadowMachine {
    relay: Arc<Relay>,
    /// Set while the shard that the twins propose to runs; without it no twin can be alive.
    twins: ArcSwapOption<Twins<Port>>,
}

impl ShadowMachine {
    pub(crate) fn new(relay: Arc<Relay>) -> ShadowMachine {
        ShadowMachine {
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
}

impl Machine for ShadowMachine {
    type Change = Change;

    fn apply(
        &self,
        tx: &mut WriteTx<'_>,
        at: EntryPosition,
        command: &[u8],
        changes: &mut Vec<Arc<Change>>,
    ) -> Result<Bytes, Error> {
        if pin::parse(command).is_some() {
            return Ok(Bytes::new());
        }
        let outcomes = match Entry::decode(command) {
            Ok(Entry::Device(entry)) => apply_device(tx, at, &entry, changes)?,
            Ok(Entry::TrimFeed(trim)) => {
                // What is being applied now is never trimmed: the feed must stay readable behind it.
                let upto = trim.upto_index.min(at.index.saturating_sub(1));
                Account::load(tx, at.shard)?.trim(tx, at.shard, upto)?;
                Vec::new()
            }
            Err(_) => vec![Outcome::Rejected(Rejection::Undecodable)],
        };
        Ok(encode_outcomes(&outcomes).into())
    }

    fn applied(&self, _shard: ShardId, index: u64, changes: Vec<Arc<Change>>) {
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

fn apply_device(
    tx: &mut WriteTx<'_>,
    at: EntryPosition,
    entry: &DeviceEntry,
    changes: &mut Vec<Arc<Change>>,
) -> Result<Vec<Outcome>, Error> {
    let applied = shadow::apply::apply(&mut TxRows(tx), at.index, entry)?;
    let mut outcomes = Vec::with_capacity(applied.len());
    let mut feed = Mark {
        written_bytes: 0,
        time: shadow::Time(0),
    };
    for command in applied {
        outcomes.push(command.outcome);
        for change in command.changes {
            feed.written_bytes += write_record(tx, at.shard, &change);
            feed.time = feed.time.max(change.time);
            changes.push(Arc::new(change));
        }
    }
    if feed.written_bytes > 0 {
        Account::load(tx, at.shard)?.record(tx, at.shard, at.index, feed);
    }
    Ok(outcomes)
}

/// Writes the feed record of a change and gives its size.
fn write_record(tx: &mut WriteTx<'_>, shard: ShardId, change: &Change) -> u64 {
    let key = keys::feed(shard, change.position);
    let record = FeedRecord::from(change).encode();
    let bytes = key.as_bytes().len() + record.len();
    tx.put(key, record);
    bytes as u64
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
