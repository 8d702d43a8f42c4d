//! All rows of a shard at one moment, for a snapshot of the cluster.
//!
//! Everything that was acknowledged before the call is in it: a barrier first, then one pinned view. The
//! feed is left out, and the places in it: cursors of one cluster mean nothing in another.

use std::collections::VecDeque;

use antumbra_raft::{Key, PinnedView, ShardId};
use antumbra_shadow::{RowKey, Tenant, detach};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::error;

use crate::error::Error;
use crate::snapshot::{Counts, Row, Tally};

use super::context::{ShardContext, read_failed, readable};
use super::scan::Outlet;
use super::{Shadows, keys};

/// Rows of one table that are held in memory.
const ROWS_PER_STEP: usize = 64;

/// Bytes of the rows that are sent together, unless a single row has more.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// What comes of a dump, in this order. A channel that closes before `Done` means that the reader took
/// nothing for too long.
#[derive(Debug)]
pub(crate) enum Dump {
    /// The state that follows is that of this applied index.
    Begin { index: u64, time_ms: u64 },
    /// The next rows. Those of one device follow each other, its counters first.
    Rows(Vec<Row>),
    /// All rows were sent, and what they amount to.
    Done(Counts),
}

impl Shadows {
    /// Reads all rows of a shard from the replica on this node, but for those of one tenant.
    /// `ConditionFailed` when there is no replica here. Dropping the receiver ends it; may be dropped midway.
    pub(crate) async fn dump(
        &self,
        shard: ShardId,
        omitted: Tenant,
    ) -> Result<mpsc::Receiver<Result<Dump, Error>>, Error> {
        let context = self.table().local(shard).cloned();
        let context = context.ok_or_else(|| Error::ConditionFailed {
            condition: format!("{} has no replica of shard {shard}", self.inner.node).into(),
        })?;
        // As many as there may be other long scans, which these wait for no more than the others do.
        let turn = self.inner.opening_scans.clone().try_acquire_owned();
        let turn = turn.map_err(|_| Error::Overloaded)?;
        context.barrier().await?;
        let (outlet, receiver) = Outlet::open(self.inner.config.stall_timeout);
        let job = Job {
            context,
            omitted,
            time_ms: self.inner.clock.now_ms(),
            _turn: turn,
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = job.send_rows(&outlet) {
                outlet.send(Err(error));
            }
        });
        Ok(receiver)
    }
}

/// One dump.
struct Job {
    context: ShardContext,
    omitted: Tenant,
    time_ms: u64,
    _turn: OwnedSemaphorePermit,
}

impl Job {
    fn send_rows(&self, outlet: &Outlet<Dump>) -> Result<(), Error> {
        let (view, index) = self.context.shard.pinned().map_err(read_failed)?;
        let time_ms = self.time_ms;
        if !outlet.send(Ok(Dump::Begin { index, time_ms })) {
            return Ok(());
        }
        let mut tables = keys::row_tables(self.context.range).map(Table::of);
        let mut tally = Tally::default();
        let mut batch = Batch::default();
        while let Some((key, value)) = next(&mut tables, &view)? {
            let name = readable(keys::decode_row(&key))?;
            let device = device_of(&name);
            if device.tenant == self.omitted {
                continue;
            }
            let value = detach(&name, &value).map_err(|error| {
                error!(shard = %self.context.id(), %error, "decode a row");
                Error::Damaged
            })?;
            let row = Row { key, value };
            tally.add(&row, matches!(name, RowKey::Document(..)));
            if let Some(rows) = batch.add(row, matches!(name, RowKey::Device(_)))
                && !outlet.send(Ok(Dump::Rows(rows)))
            {
                return Ok(());
            }
        }
        let rest = batch.rows;
        if rest.is_empty() || outlet.send(Ok(Dump::Rows(rest))) {
            outlet.send(Ok(Dump::Done(tally.counts())));
        }
        Ok(())
    }
}

pub(super) fn device_of(key: &RowKey) -> &antumbra_shadow::DeviceKey {
    match key {
        RowKey::Device(device)
        | RowKey::Document(device, _)
        | RowKey::Request(device, _)
        | RowKey::RequestOrder(device, _) => device,
    }
}

/// Rows that are sent together. The rows of a device stay together where they fit.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    bytes: usize,
    /// Where the last device begins: rows before, and their bytes.
    whole: (usize, usize),
}

impl Batch {
    /// Adds a row; gives what is to be sent before it.
    fn add(&mut self, row: Row, begins_device: bool) -> Option<Vec<Row>> {
        if begins_device {
            self.whole = (self.rows.len(), self.bytes);
        }
        let mut full = None;
        if self.bytes + row.bytes() > BATCH_BYTES_MAX && !self.rows.is_empty() {
            // A device that is larger than a batch is cut where the batch is full.
            let (rows, bytes) = match self.whole {
                (0, _) => (self.rows.len(), self.bytes),
                whole => whole,
            };
            let rest = self.rows.split_off(rows);
            full = Some(std::mem::replace(&mut self.rows, rest));
            self.bytes -= bytes;
            self.whole = (0, 0);
        }
        self.bytes += row.bytes();
        self.rows.push(row);
        full
    }
}

/// The rows of one table that are still to be read.
struct Table {
    from: Key,
    end: Key,
    rows: VecDeque<(Bytes, Bytes)>,
    is_read: bool,
}

impl Table {
    fn of((from, end): (Key, Key)) -> Table {
        Table {
            from,
            end,
            rows: VecDeque::new(),
            is_read: false,
        }
    }

    fn fill(&mut self, view: &PinnedView<'_>) -> Result<(), Error> {
        if !self.rows.is_empty() || self.is_read {
            return Ok(());
        }
        let rows = view.scan(&self.from, &self.end, ROWS_PER_STEP);
        let rows = rows.map_err(read_failed)?;
        self.is_read = rows.len() < ROWS_PER_STEP;
        if let Some((last, _)) = rows.last() {
            self.from = keys::row(&readable(keys::decode_row(last))?).successor();
        }
        self.rows = rows.into();
        Ok(())
    }
}

/// The next row of all tables, in the order of hash, tenant, device.
fn next(tables: &mut [Table; 4], view: &PinnedView<'_>) -> Result<Option<(Bytes, Bytes)>, Error> {
    for table in tables.iter_mut() {
        table.fill(view)?;
    }
    let behind_kind = |table: &Table| table.rows.front().map(|(key, _)| key.slice(1..));
    let filled = tables.iter_mut().filter(|table| !table.rows.is_empty());
    let first = filled.min_by_key(|table| behind_kind(table));
    Ok(first.and_then(|table| table.rows.pop_front()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: usize) -> Row {
        Row {
            key: Bytes::new(),
            value: vec![0; bytes].into(),
        }
    }

    /// A restore can tell a whole device from a part only where the whole is in one batch.
    #[test]
    fn rows_of_a_device_stay_together_where_they_fit() {
        let mut batch = Batch::default();
        let third = BATCH_BYTES_MAX / 3;
        assert!(batch.add(row(third), true).is_none());
        assert!(batch.add(row(third), false).is_none());
        assert!(batch.add(row(third), true).is_none());
        let sent = batch.add(row(third), false);
        assert_eq!(sent.map(|rows| rows.len()), Some(2));
        assert_eq!(batch.rows.len(), 2);
        assert_eq!(batch.bytes, 2 * third);
        // The device goes on until it is too large.
        assert!(batch.add(row(third), false).is_none());
        let sent = batch.add(row(third), false);
        assert_eq!(sent.map(|rows| rows.len()), Some(3));
        assert_eq!(batch.bytes, third);
    }

    #[test]
    fn row_that_is_larger_than_a_batch_goes_alone() {
        let mut batch = Batch::default();
        assert!(batch.add(row(1), true).is_none());
        let sent = batch.add(row(2 * BATCH_BYTES_MAX), true);
        assert_eq!(sent.map(|rows| rows.len()), Some(1));
        let sent = batch.add(row(1), true);
        assert_eq!(sent.map(|rows| rows.len()), Some(1));
        assert_eq!(batch.bytes, 1);
    }
}
