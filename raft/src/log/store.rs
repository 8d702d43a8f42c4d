//! The port below the writer: the durable rows of all shards of a node.

use std::ops::ControlFlow;

use crate::error::Error;
use crate::ids::ShardId;
use crate::types::{Entry, LogId, Payload, Vote};
use crate::vitals::StoreVitals;

use super::weight;

/// Durable storage of the logs of all shards.
///
/// # For correctness
/// - [`LogStore::commit`] is atomic and returns only once the batch is durable. Batches come one after
///   another with rising numbers; the changes of one are applied in their order.
/// - Once a batch failed, nothing is written any more.
/// - Reads see every batch that was committed before they began.
/// - A store that finds that it lost or changed what it made durable says so, at open or at a read.
pub(crate) trait LogStore: Send + Sync + 'static {
    /// The number of the last durable batch; 0 when there is none.
    fn last_batch(&self) -> u64;

    /// Applies a batch. Blocks on the disk.
    fn commit(&self, batch: &Batch) -> Result<(), Error>;

    /// Reads what is known of a shard beside its entries.
    fn rows(&self, shard: ShardId) -> Result<ShardRows, Error>;

    /// Visits the entries of a shard from index `first` in rising order, with their stored size,
    /// until the visitor breaks or no entry is left. Blocks on the disk.
    fn entries(
        &self,
        shard: ShardId,
        first: u64,
        visit: &mut dyn FnMut(Entry, usize) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// Notes durably, apart from the rows, that batch `number` is durable, and looks for errors in
    /// the background. Blocks on the disk.
    fn seal(&self, number: u64) -> Result<(), Error>;

    /// Looks for errors in the background, and renews the note of [`LogStore::seal`] where needed.
    fn check(&self) -> Result<(), Error>;

    /// What the store says of itself; nothing where it has nothing to say.
    fn vitals(&self) -> Option<StoreVitals> {
        None
    }

    /// Leaves the store so that the next open has nothing to replay.
    fn close(&self, number: u64) -> Result<(), Error>;
}

/// What is written with one sync.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Rises by one with each batch.
    pub(crate) number: u64,
    pub(crate) changes: Vec<Change>,
}

impl Batch {
    /// How many entries it adds, how many commands are in them, and what they weigh.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for change in &self.changes {
            let Action::Append(appended) = &change.action else {
                continue;
            };
            counts.entries += appended.len();
            for entry in appended {
                counts.bytes += weight(entry);
                counts.commands += commands(entry);
            }
        }
        counts
    }
}

impl Change {
    /// Commands that it appends.
    pub(super) fn commands(&self) -> usize {
        match &self.action {
            Action::Append(appended) => appended.iter().map(commands).sum(),
            _ => 0,
        }
    }
}

fn commands(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Normal(command) => command.count(),
        Payload::Blank | Payload::Membership(_) => 0,
    }
}

/// What a batch adds to the log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) entries: usize,
    pub(crate) commands: usize,
    pub(crate) bytes: usize,
}

/// One change of one shard.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) shard: ShardId,
    pub(crate) action: Action,
}

/// What happens to a shard's rows.
#[derive(Debug)]
pub(crate) enum Action {
    /// Entries are added at the end.
    Append(Vec<Entry>),
    /// The vote is replaced.
    Vote(Vote),
    /// The committed position is replaced.
    Committed(LogId),
    /// Entries from this index on are removed.
    Truncate { from: u64 },
    /// Entries from `from` up to and including `upto` are removed.
    Purge { from: u64, upto: LogId },
    /// Everything of the shard is removed.
    Clear,
}

/// What is known of a shard beside its entries.
#[derive(Debug, Default, Clone)]
pub(crate) struct ShardRows {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
}
