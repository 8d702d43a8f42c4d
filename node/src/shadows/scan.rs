//! Long reads for watches, on threads that may block.
//!
//! The opening documents of a shard come from one pinned view, so that they and the position where
//! live changes begin belong together (design flow 3). Records of the feed are immutable, so
//! catching up pins a view only for the length of one step.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{HashRange, Key, PinnedView, ShardId};
use antumbra_shadow::{
    DecodeError, DeviceKey, Document, FeedRecord, FeedRow, Position, ShadowName,
};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::error;

use crate::error::Error;

use super::account::Account;
use super::context::{ShardContext, blocking, decode_document, read_failed, readable};
use super::cursor::end_of;
use super::keys;
use super::relay::Interest;

/// Rows that one step holds in memory.
const ROWS_PER_STEP: usize = 64;

/// Counters of devices that one step holds in memory.
const DEVICES_PER_STEP: usize = 1024;

/// Feed records that one step of catching up looks at.
const RECORDS_SCANNED_MAX: usize = 8192;

/// Bytes of feed records that one step of catching up collects.
const RECORDS_BYTES_MAX: usize = 1 << 20;

/// A document at the start of a watch.
#[derive(Debug)]
pub(crate) struct OpeningDocument {
    pub(crate) device: DeviceKey,
    pub(crate) shadow: ShadowName,
    pub(crate) document: Document,
}

/// What the opening scan of a shard sends. A channel that closes before `Done` means that the
/// reader took nothing for too long.
#[derive(Debug)]
pub(crate) enum Opening {
    Documents(Vec<OpeningDocument>),
    /// All documents were sent; they are those of this applied index.
    Done {
        index: u64,
    },
}

/// Starts reading the current documents of a shard. Dropping the receiver ends the scan.
pub(crate) fn open(
    context: ShardContext,
    interest: Interest,
    stall_timeout: Duration,
) -> mpsc::Receiver<Result<Opening, Error>> {
    let (outlet, receiver) = Outlet::open(stall_timeout);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send_documents(&context, &interest, &outlet) {
            outlet.send(Err(error));
        }
    });
    receiver
}

/// The way from the blocking thread to the reader.
pub(super) struct Outlet<T> {
    sender: mpsc::Sender<Result<T, Error>>,
    runtime: Handle,
    stall_timeout: Duration,
}

impl<T> Outlet<T> {
    /// A way out of this runtime's blocking threads, with room for one item.
    pub(super) fn open(stall_timeout: Duration) -> (Outlet<T>, mpsc::Receiver<Result<T, Error>>) {
        let (sender, receiver) = mpsc::channel(1);
        let outlet = Outlet {
            sender,
            runtime: Handle::current(),
            stall_timeout,
        };
        (outlet, receiver)
    }

    /// Whether the reader took it in time.
    pub(super) fn send(&self, item: Result<T, Error>) -> bool {
        let sent = timeout(self.stall_timeout, self.sender.send(item));
        matches!(self.runtime.block_on(sent), Ok(Ok(())))
    }
}

fn send_documents(
    context: &ShardContext,
    interest: &Interest,
    outlet: &Outlet<Opening>,
) -> Result<(), Error> {
    let (view, index) = context.shard.pinned().map_err(read_failed)?;
    let scan = OpeningScan {
        view,
        interest,
        outlet,
    };
    let range = context.range;
    let is_read = match interest {
        Interest::Devices(devices) => {
            let here = devices.iter().filter(|d| range.contains(d.hash()));
            scan.send_all(here.map(documents_of))?
        }
        Interest::Prefix { tenant, prefix } => {
            scan.send_starting(range, &keys::behind_hash_of(tenant, prefix))?
        }
        Interest::Wanted(_) | Interest::Attached(_) => {
            let from = keys::documents_from(range.start);
            scan.send_all([(from, keys::documents_end(range.end))])?
        }
    };
    if is_read {
        outlet.send(Ok(Opening::Done { index }));
    }
    Ok(())
}

/// The key range of the documents of a device.
fn documents_of(device: &DeviceKey) -> (Key, Key) {
    let first = keys::documents_of(device);
    let end = first.prefix_end();
    (first, end)
}

/// Reads the current documents of a shard for one reader.
struct OpeningScan<'a> {
    view: PinnedView<'a>,
    interest: &'a Interest,
    outlet: &'a Outlet<Opening>,
}

impl OpeningScan<'_> {
    /// Sends the documents of interest in some key ranges. Says whether the reader goes on reading.
    fn send_all(&self, ranges: impl IntoIterator<Item = (Key, Key)>) -> Result<bool, Error> {
        for (from, end) in ranges {
            if !self.send(from, &end)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send(&self, mut from: Key, end: &Key) -> Result<bool, Error> {
        loop {
            let rows = self.view.scan(&from, end, ROWS_PER_STEP);
            let rows = rows.map_err(read_failed)?;
            let exhausted = rows.len() < ROWS_PER_STEP;
            let mut documents = Vec::new();
            for (key, value) in rows {
                let (device, shadow) = readable(keys::decode_document(&key))?;
                from = keys::document(&device, &shadow).successor();
                if !self.interest.matches(&device) {
                    continue;
                }
                let document = decode_document(value)?;
                if !document.is_deleted() {
                    documents.push(OpeningDocument {
                        device,
                        shadow,
                        document,
                    });
                }
            }
            let is_read = !self.outlet.sender.is_closed()
                && (documents.is_empty() || self.outlet.send(Ok(Opening::Documents(documents))));
            if exhausted || !is_read {
                return Ok(is_read);
            }
        }
    }

    /// The same for all devices whose keys go on so behind the hash. They are looked for among the counters of
    /// devices, small rows next to each other: documents that nobody asked for are not read.
    fn send_starting(&self, range: HashRange, wanted: &[u8]) -> Result<bool, Error> {
        let end = keys::devices_end(range.end);
        let mut from = keys::devices_from(range.start);
        loop {
            let rows = self.view.scan(&from, &end, DEVICES_PER_STEP);
            let rows = rows.map_err(read_failed)?;
            let is_read = self.send_all(readable(documents_starting(&rows, wanted))?)?;
            if !is_read || self.outlet.sender.is_closed() {
                return Ok(false);
            }
            let Some((last, _)) = rows.last() else {
                return Ok(true);
            };
            from = keys::device_row(&readable(keys::decode_device(last))?).successor();
        }
    }
}

/// Where the documents of the wanted devices lie: one range for all that follow each other with no other device
/// between them. `None` for a key that is none of a device.
fn documents_starting(devices: &[(Bytes, Bytes)], wanted: &[u8]) -> Option<Vec<(Key, Key)>> {
    let mut ranges: Vec<(Key, Key)> = Vec::new();
    let mut is_next = false;
    for (key, _) in devices {
        let follows = std::mem::replace(&mut is_next, keys::behind_hash(key).starts_with(wanted));
        if !is_next {
            continue;
        }
        let range = documents_of(&keys::decode_device(key)?);
        match ranges.last_mut().filter(|_| follows) {
            Some((_, end)) => *end = range.1,
            None => ranges.push(range),
        }
    }
    Some(ranges)
}

/// What one step of catching up gave.
#[derive(Debug)]
pub(crate) enum CaughtUp {
    /// The next records of interest; with them everything up to `upto` is known.
    Records {
        records: Vec<(Position, Arc<FeedRecord>)>,
        upto: Position,
        /// The feed goes on behind `upto`.
        more: bool,
    },
    /// Records behind the position are gone.
    Trimmed,
    /// The feed never got as far as the position.
    Unknown,
}

/// Reads feed records behind `after`. May be dropped midway.
pub(crate) async fn catch_up(
    context: ShardContext,
    interest: Interest,
    after: Position,
) -> Result<CaughtUp, Error> {
    blocking(move || read_feed(&context, &interest, after)).await
}

fn read_feed(
    context: &ShardContext,
    interest: &Interest,
    after: Position,
) -> Result<CaughtUp, Error> {
    let shard = context.id();
    let (view, index) = context.shard.pinned().map_err(read_failed)?;
    if after.index > index {
        return Ok(CaughtUp::Unknown);
    }
    let account = match view.get(&keys::account(shard)).map_err(read_failed)? {
        Some(row) => readable(Account::decode(&row))?,
        None => Account::default(),
    };
    if is_trimmed(after, account.trimmed_index) {
        return Ok(CaughtUp::Trimmed);
    }
    let end = keys::feed_end(shard);
    let mut from = row_of(&view, shard, next_position(after))?;
    let mut taken = Step {
        upto: after,
        ..Step::default()
    };
    loop {
        let rows = view.scan(&from, &end, ROWS_PER_STEP).map_err(read_failed)?;
        let exhausted = rows.len() < ROWS_PER_STEP;
        for (key, row) in rows {
            let first = readable(keys::decode_feed(&key))?;
            from = keys::feed(shard, first).successor();
            taken.take(first, &row, interest).map_err(|error| {
                error!(%shard, %error, "decode a row of the feed");
                Error::Damaged
            })?;
            if taken.is_full() {
                return Ok(taken.caught_up(true));
            }
        }
        if exhausted {
            taken.upto = end_of(index).max(taken.upto);
            return Ok(taken.caught_up(false));
        }
    }
}

/// The row that has the record at a place, or where it would be. A row begins with the place of its first
/// record, and ends with the entry at the latest.
fn row_of(view: &PinnedView<'_>, shard: ShardId, at: Position) -> Result<Key, Error> {
    let wanted = keys::feed(shard, at);
    let entry = keys::feed(shard, Position::first(at.index));
    match view.last_key(&entry, &wanted).map_err(read_failed)? {
        Some(key) => Ok(keys::feed(shard, readable(keys::decode_feed(&key))?)),
        None => Ok(wanted),
    }
}

/// What one step of catching up has taken from the feed so far.
#[derive(Default)]
struct Step {
    records: Vec<(Position, Arc<FeedRecord>)>,
    upto: Position,
    bytes: usize,
    scanned: usize,
}

impl Step {
    /// Takes what is of interest in a row and lies behind what is known.
    fn take(
        &mut self,
        first: Position,
        row: &[u8],
        interest: &Interest,
    ) -> Result<(), DecodeError> {
        for (sequence, stored) in (first.sequence..).zip(FeedRow::split(row)?) {
            let at = Position { sequence, ..first };
            if at <= self.upto {
                continue;
            }
            self.upto = at;
            self.scanned += 1;
            let record = FeedRecord::decode(stored)?;
            if interest.matches(&record.device) {
                self.bytes += stored.len();
                self.records.push((at, Arc::new(record)));
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.scanned >= RECORDS_SCANNED_MAX || self.bytes >= RECORDS_BYTES_MAX
    }

    fn caught_up(self, more: bool) -> CaughtUp {
        CaughtUp::Records {
            records: self.records,
            upto: self.upto,
            more,
        }
    }
}

/// Whether a record behind `after` may have been trimmed.
fn is_trimmed(after: Position, trimmed_index: u64) -> bool {
    trimmed_index > 0 && after < end_of(trimmed_index)
}

fn next_position(position: Position) -> Position {
    match position.sequence.checked_add(1) {
        Some(sequence) => Position {
            sequence,
            ..position
        },
        None => Position {
            index: position.index.saturating_add(1),
            sequence: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, sequence: u32) -> Position {
        Position { index, sequence }
    }

    #[test]
    fn position_behind_an_entry_is_the_next_entry() {
        assert_eq!(next_position(at(4, 0)), at(4, 1));
        assert_eq!(next_position(end_of(4)), at(5, 0));
        assert_eq!(next_position(end_of(u64::MAX)), at(u64::MAX, 0));
    }

    /// A cursor within the last trimmed entry may have missed the rest of that entry.
    #[test]
    fn cursor_is_trimmed_unless_it_covers_everything_that_is_gone() {
        assert!(!is_trimmed(at(0, 0), 0));
        assert!(is_trimmed(at(6, 3), 7));
        assert!(is_trimmed(at(7, 3), 7));
        assert!(!is_trimmed(end_of(7), 7));
        assert!(!is_trimmed(at(8, 0), 7));
    }
}
