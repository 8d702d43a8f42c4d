//! The port of whoever owns the meaning of the commands: the replicated state machine of a shard.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::Commands;
use crate::error::Error;
use crate::ids::ShardId;
use crate::state::WriteTx;

/// The place of an entry in the log of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPosition {
    /// Whose log.
    pub shard: ShardId,
    /// The term of the leader that wrote the entry.
    pub term: u64,
    /// Index in the log.
    pub index: u64,
}

/// Whether anybody on this node waits for the replies to the commands of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// Their proposer does.
    Awaited,
    /// Nobody: they were proposed elsewhere, or before a start. The replies may be left empty.
    Unheard,
}

/// Applies committed commands of one or more shards.
///
/// # For correctness
/// - `apply` is deterministic: the same rows and the same commands give the same writes and the same
///   replies, where they are awaited, on every replica and on every replay. It reads rows only through
///   the transaction.
/// - `apply` is total: what it cannot decode is a rejection inside the reply. `Err` is for failures
///   of the storage only and stops the replica. A panic is a bug and stops this replica only.
/// - Replay: after a crash the engine applies again every entry after the flushed position, on
///   exactly the rows of that position. `applied` is called for replayed entries too.
/// - Calls for one shard never overlap and come in log order.
pub trait Machine: Send + Sync + 'static {
    /// What a command changed, for observers.
    type Change: Send + Sync + 'static;

    /// Applies the committed commands of one entry in their order: writes their rows into `tx`, adds what
    /// observers shall see to `changes` and gives the reply to each.
    fn apply(
        &self,
        tx: &mut WriteTx<'_>,
        at: EntryPosition,
        commands: Commands<'_>,
        replies: Replies,
        changes: &mut Vec<Arc<Self::Change>>,
    ) -> Result<Vec<Bytes>, Error>;

    /// Everything up to `index` is readable in the state store; `changes` is what is new since the
    /// last call. Called before any barrier or proposer of the shard can see that position. Must
    /// not block.
    fn applied(&self, shard: ShardId, index: u64, changes: Vec<Arc<Self::Change>>);

    /// The rows of the shard were replaced by a snapshot: what was derived from them is stale.
    fn reset(&self, shard: ShardId);

    /// A command that asks to have the state right after its entry kept for a while, and under which number.
    /// Replicas that keep it at the same index can be compared by [`crate::Shard::checksum`].
    fn pin(&self, command: &[u8]) -> Option<u64> {
        let _ = command;
        None
    }
}

/// A machine without the type of its changes, so that openraft is instantiated here and only once.
pub(crate) trait ErasedMachine: Send + Sync {
    /// Begins a batch of entries of one shard.
    fn begin(&self) -> Box<dyn ApplyBatch + '_>;

    /// As [`Machine::reset`].
    fn reset(&self, shard: ShardId);

    /// As [`Machine::pin`].
    fn pin(&self, command: &[u8]) -> Option<u64>;
}

/// Entries that become visible together, with the changes that observers are told about.
pub(crate) trait ApplyBatch: Send {
    /// As [`Machine::apply`]; keeps the changes.
    fn apply(
        &mut self,
        tx: &mut WriteTx<'_>,
        at: EntryPosition,
        commands: Commands<'_>,
        replies: Replies,
    ) -> Result<Vec<Bytes>, Error>;

    /// As [`Machine::applied`], with all changes of the batch.
    fn applied(self: Box<Self>, shard: ShardId, index: u64);
}

impl<M: Machine> ErasedMachine for M {
    fn begin(&self) -> Box<dyn ApplyBatch + '_> {
        Box::new(Changes {
            machine: self,
            changes: Vec::new(),
        })
    }

    fn reset(&self, shard: ShardId) {
        Machine::reset(self, shard);
    }

    fn pin(&self, command: &[u8]) -> Option<u64> {
        Machine::pin(self, command)
    }
}

struct Changes<'a, M: Machine> {
    machine: &'a M,
    changes: Vec<Arc<M::Change>>,
}

impl<M: Machine> ApplyBatch for Changes<'_, M> {
    fn apply(
        &mut self,
        tx: &mut WriteTx<'_>,
        at: EntryPosition,
        commands: Commands<'_>,
        replies: Replies,
    ) -> Result<Vec<Bytes>, Error> {
        let changes = &mut self.changes;
        self.machine.apply(tx, at, commands, replies, changes)
    }

    fn applied(self: Box<Self>, shard: ShardId, index: u64) {
        self.machine.applied(shard, index, self.changes);
    }
}
