//! One replica as its owner sees it: propose, barrier, read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::barrier::{Barrier, BarrierError};
use crate::config::Defects;
use crate::error::Error;
use crate::failure::Failure;
use crate::hold::LogHold;
use crate::ids::{HashRange, ReplicaId, ShardId};
use crate::proposals::Proposals;
use crate::replica::ShardRaft;
use crate::role::Role;
use crate::state::{
    Key, PinnedView, Position, Progress, SnapshotData, StateChecksum, StateStore, View, stage,
};
use crate::types::{LogId, SnapshotMeta, TypeConfig, Vote};

/// No command is longer: it must fit into one message to the followers, beside what goes with it.
pub const COMMAND_BYTES_MAX: usize = 4 << 20;

/// Pause before a replica that starts asks again whether it is up to date.
const RECOVERY_RETRY: Duration = Duration::from_millis(20);

/// One replica on this node. Cloning is cheap; the replica lives until the host shuts down.
#[derive(Clone)]
pub struct Shard {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) raft: ShardRaft,
    pub(crate) store: Arc<StateStore>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) role: watch::Receiver<Role>,
    pub(crate) barrier: Barrier,
    pub(crate) defects: Defects,
    pub(crate) proposals: Proposals,
    /// A follower that was not heard for longer does not get the lead: the lease of a leader.
    pub(crate) patience: Duration,
    pub(crate) failure: Failure,
    /// For whom the log is not purged.
    pub(crate) hold: Mutex<LogHold>,
    /// Membership changes come one after another.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Everything that runs for this replica and holds the stores.
    pub(crate) running: TaskTracker,
}

/// A command that was committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Index of its entry.
    pub index: u64,
    /// What the machine answered.
    pub reply: Bytes,
}

/// Why there is no outcome. Only the first two say that the command was certainly not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead in that term, or cannot reach its quorum. Certainly not applied.
    #[error("this replica does not lead in that term")]
    NotLeader,
    /// Too many proposals are in flight, or the command is longer than [`COMMAND_BYTES_MAX`]. Certainly
    /// not applied.
    #[error("too many proposals in flight")]
    Overloaded,
    /// The command may have been applied, or may yet be.
    #[error("the outcome is unknown")]
    Unknown,
    /// The replica has stopped. The command may have been applied.
    #[error("the replica has stopped")]
    Stopped,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.id())
    }
}

impl Shard {
    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.inner.progress.shard
    }

    /// This replica's id in the group.
    pub fn replica(&self) -> ReplicaId {
        self.inner.progress.replica
    }

    /// The hashes that the shard owns.
    pub fn range(&self) -> HashRange {
        self.inner.progress.range
    }

    /// What this replica is, followed by a watch.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.inner.role.clone()
    }

    /// Commits and applies a command, if this replica leads in `term`.
    ///
    /// Which failures are certain was read in openraft's source: it answers `ForwardToLeader` only before
    /// it gives the command a place in the log (another term than expected, not the leader, handing over,
    /// no quorum within the lease). An entry that was appended and is later cut off, or covered by a
    /// snapshot, is answered with `LogEntryDiscarded`: another replica may have committed it, so that
    /// is unknown, as is a responder that is dropped.
    ///
    /// Under load several commands become one entry, in the order in which they came.
    ///
    /// Dropping the future midway leaves the outcome unknown; the proposal still counts as in
    /// flight until openraft is done with it.
    pub async fn propose(&self, term: u64, command: Bytes) -> Result<Proposed, ProposeError> {
        let outcome = self.inner.proposals.propose(term, command).await;
        let outcome = outcome.unwrap_or_else(|| Err(self.lost()));
        self.inner.proposals.count(&outcome);
        outcome
    }

    /// Waits until everything that any client was told before this call is applied here, and gives
    /// the applied index: on the leader by asking its quorum, on others by asking the leader. Concurrent
    /// calls share one round trip. Ends by itself within seconds. May be dropped midway.
    pub async fn barrier(&self) -> Result<u64, BarrierError> {
        if self.inner.defects.stale_reads {
            return Ok(self.applied_index());
        }
        self.inner.barrier.wait().await
    }

    /// The checksum of the state that a command asked to keep under a number ([`Machine::pin`]), or `None`
    /// when this replica has not applied it yet or has let it go. Dropping the future midway lets the
    /// hashing finish.
    ///
    /// [`Machine::pin`]: crate::Machine::pin
    pub async fn checksum(&self, pin: u64) -> Result<Option<StateChecksum>, Error> {
        self.inner.progress.pins.checksum(pin).await
    }

    /// Rounds to the quorum or the leader that barriers have taken so far.
    pub fn barrier_rounds(&self) -> u64 {
        self.inner.barrier.rounds()
    }

    /// Index of the last applied entry whose changes observers have been told.
    pub fn applied_index(&self) -> u64 {
        self.inner.progress.applied_index()
    }

    /// Index up to which the state store has been flushed; the log may be purged up to here.
    pub fn flushed_index(&self) -> u64 {
        self.inner.progress.flushed().index()
    }

    /// Waits until everything that any client was told before this call is applied here, the part of the
    /// log that was on disk at the start above all. Before that even a local read could be older than what
    /// was once served here. A read index that is taken once, and not openraft's `wait_for_recovery`: that
    /// runs after the end of the log, which under steady writes moves on for ever. May be dropped midway.
    pub async fn recovered(&self, timeout: Duration) -> Result<(), Error> {
        let asking = async {
            loop {
                match self.inner.barrier.wait().await {
                    Ok(_) => return Ok(()),
                    Err(BarrierError::Stopped) => return Err(Error::Stopped),
                    Err(_) => tokio::time::sleep(RECOVERY_RETRY).await,
                }
            }
        };
        let late = Error::Timeout {
            action: "replay the log",
        };
        tokio::time::timeout(timeout, asking)
            .await
            .unwrap_or(Err(late))
    }

    /// The current state.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.inner.store), self.id())
    }

    /// The value of one ranged row, through the cache, and the index of the last entry that is in exactly
    /// the state that it is of.
    pub fn read(&self, key: &Key) -> Result<(u64, Option<Bytes>), Error> {
        self.inner.progress.read(&self.inner.store, key)
    }

    /// The state frozen now, and the index of the last entry that is in it.
    pub fn pinned(&self) -> Result<(PinnedView<'_>, u64), Error> {
        self.inner.progress.pin(&self.inner.store)
    }

    /// A snapshot of the shard for another replica, or `None` when nothing is applied yet.
    pub async fn snapshot(&self) -> Result<Option<(SnapshotMeta, SnapshotData)>, Error> {
        let snapshot = self.inner.raft.get_snapshot().await;
        let snapshot = snapshot.map_err(|_| Error::Stopped)?;
        Ok(snapshot.map(|snapshot| (snapshot.meta, snapshot.snapshot)))
    }

    /// Takes in a snapshot that a leader sends with its vote. It is verified and staged on disk
    /// first: one that is refused changes nothing and does not stop the replica. One at a time: another
    /// one waits for its turn.
    ///
    /// Dropping the future midway is safe; a marked install is finished at the next start.
    pub async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        data: SnapshotData,
    ) -> Result<SnapshotResponse<TypeConfig>, Error> {
        let inner = Arc::clone(&self.inner);
        let turn = Arc::clone(&inner.progress.installing).lock_owned().await;
        let position = Position::from_meta(&meta);
        let staging = move || {
            let staged = stage(&inner.store, &inner.progress, &position, data)?;
            Ok::<_, Error>(SnapshotData::staged(staged.holding(turn)))
        };
        let staged = tokio::task::spawn_blocking(staging)
            .await
            .map_err(|_| Error::Stopped)??;
        let snapshot = SnapshotOf::<TypeConfig, SnapshotData> {
            meta,
            snapshot: staged,
        };
        let installed = self.inner.raft.install_full_snapshot(vote, snapshot).await;
        installed.map_err(|_| Error::Stopped)
    }

    /// The openraft handle. Nodes have no use for it.
    pub fn raft(&self) -> &ShardRaft {
        &self.inner.raft
    }

    /// The leader counts an entry as durable here that is not in the log: what was synced is gone, and with
    /// it what this replica's vote is worth. The node stops.
    pub(crate) fn entries_lost(&self, counted: &LogId) {
        let what = format!(
            "the leader of shard {} has been told that entry {} is durable here, and it is not there",
            self.id(),
            counted.index
        );
        self.inner.failure.note(&Arc::new(Error::log_damaged(what)));
    }

    fn lost(&self) -> ProposeError {
        if self.inner.progress.stopped().is_cancelled() {
            ProposeError::Stopped
        } else {
            ProposeError::Unknown
        }
    }
}
