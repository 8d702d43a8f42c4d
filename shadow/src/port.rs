//! What the twins of a shard need from the shard engine, as a trait that the node implements, and
//! the failures that come back.

use std::future::Future;

use bytes::Bytes;

use crate::document::Document;
use crate::id::{DeviceKey, ShadowName, Time};

/// Why a command or a read has no outcome. It is our fault, never the caller's; a caller's fault
/// is a [`Rejection`](crate::Rejection).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// One of our own queues is full. The command was certainly not applied.
    #[error("too many commands are waiting; nothing was applied")]
    Overloaded,
    /// This replica does not lead the shard in that term. The command was certainly not applied.
    #[error("this replica does not lead the shard; nothing was applied")]
    NotLeader,
    /// Refused or given up before anything was sent. The command was certainly not applied.
    #[error("unavailable: {0}; nothing was applied")]
    Unavailable(&'static str),
    /// The result was lost: the command may have been applied, or may yet be.
    #[error("the outcome is unknown: the command may have been applied")]
    Unknown,
    /// The deadline passed while the outcome was awaited. A command that was sent may have been
    /// applied, or may yet be.
    #[error("the deadline passed: the command may have been applied")]
    Deadline,
    /// The replica found damage on its disk and stopped.
    #[error("the replica found damage and stopped")]
    Damaged,
}

impl Failure {
    /// Whether a command that failed so was certainly not applied and never will be.
    pub fn is_certain(&self) -> bool {
        matches!(
            self,
            Failure::Overloaded | Failure::NotLeader | Failure::Unavailable(_)
        )
    }
}

/// The replica of one shard, as its twins see it.
///
/// # For correctness
/// - `propose` binds the entry to `term`: in another term it is refused and never applied. It gives
///   a certain failure ([`Failure::is_certain`]) only when the entry is not and never will be in
///   the log; everything else is [`Failure::Unknown`].
/// - Every applied entry is announced by [`Twins::applied`](crate::Twins::applied), in log order,
///   before a barrier can return its index.
/// - `load` gives a document as it is at exactly the returned applied index, and sees everything
///   at or below any index that a barrier returned before.
pub trait ShardPort: Send + Sync + 'static {
    /// The leader's clock.
    fn now(&self) -> Time;

    /// The version of the rules that the leader stamps into entries: one that every node with replicas has
    /// announced. Never goes back.
    fn rules(&self) -> u16;

    /// Puts an entry into the shard's log, bound to a term, and gives the encoded outcomes of its
    /// commands once it is applied. Dropping the future does not take the entry back.
    fn propose(
        &self,
        term: u64,
        entry: Bytes,
    ) -> impl Future<Output = Result<Bytes, Failure>> + Send;

    /// Proves that this replica led the shard after the call began and waits until everything
    /// committed by then is applied. Gives the applied index. May be dropped midway.
    fn barrier(&self) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Reads a document from the replica's own state, with the applied index it was read at. Takes
    /// no barrier. May be dropped midway.
    fn load(
        &self,
        device: &DeviceKey,
        shadow: &ShadowName,
    ) -> impl Future<Output = Result<(u64, Option<Document>), Failure>> + Send;
}
