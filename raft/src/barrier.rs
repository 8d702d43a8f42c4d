//! Read barriers: concurrent readers share one read-index round and one wait on apply.
//!
//! A reader joins the round that starts after it asked, never one under way: that round's read
//! index may be older than a write that was acknowledged before the reader asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::machine::Machine;
use crate::replica::ShardRaft;
use crate::state::Progress;

/// Readers that wait for a round; more are told to come back later.
pub(crate) const WAITERS_MAX: usize = 16 * 1024;

/// Why a read may not be served here now. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// Another replica leads, or nobody.
    #[error("this replica does not lead")]
    NotLeader,
    /// Too many readers wait.
    #[error("too many readers wait")]
    Overloaded,
    /// A quorum did not answer in time.
    #[error("a quorum did not answer in time")]
    Unavailable,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

type Waiter = oneshot::Sender<Result<u64, BarrierError>>;

/// Asks for barriers; cloning shares the task.
#[derive(Clone)]
pub(crate) struct Barrier {
    waiters: mpsc::Sender<Waiter>,
    rounds: Arc<AtomicU64>,
}

/// The task that runs the rounds of one shard. It ends with the last handle.
pub(crate) struct BarrierService<M: Machine> {
    raft: ShardRaft<M>,
    progress: Arc<Progress>,
    waiters: mpsc::Receiver<Waiter>,
    rounds: Arc<AtomicU64>,
}

impl Barrier {
    pub(crate) fn new<M: Machine>(
        raft: ShardRaft<M>,
        progress: Arc<Progress>,
        waiters_max: usize,
    ) -> (Barrier, BarrierService<M>) {
        let (sender, waiters) = mpsc::channel(waiters_max);
        let rounds = Arc::new(AtomicU64::new(0));
        let service = BarrierService {
            raft,
            progress,
            waiters,
            rounds: Arc::clone(&rounds),
        };
        let barrier = Barrier {
            waiters: sender,
            rounds,
        };
        (barrier, service)
    }

    /// Waits until everything that was acknowledged before the call is applied here; gives the
    /// applied index. May be dropped midway.
    pub(crate) async fn wait(&self) -> Result<u64, BarrierError> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.try_send(sender).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BarrierError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => BarrierError::Stopped,
        })?;
        receiver.await.unwrap_or(Err(BarrierError::Stopped))
    }

    /// Rounds so far.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }
}

impl<M: Machine> BarrierService<M> {
    pub(crate) async fn run(mut self) {
        let stopped = self.progress.stopped().clone();
        let mut waiting: Vec<Waiter> = Vec::new();
        loop {
            let received = tokio::select! {
                biased;
                () = stopped.cancelled() => break,
                received = self.waiters.recv_many(&mut waiting, WAITERS_MAX) => received,
            };
            if received == 0 {
                break;
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
            let result = self.round().await;
            for waiter in waiting.drain(..) {
                // A reader that has gone needs no answer.
                let _ = waiter.send(result);
            }
        }
    }

    async fn round(&self) -> Result<u64, BarrierError> {
        let read = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let index = match read {
            Ok(read) => read.read_log_id().index(),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                return Err(BarrierError::NotLeader);
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                return Err(BarrierError::Unavailable);
            }
            Err(RaftError::Fatal(_)) => return Err(BarrierError::Stopped),
        };
        if self.progress.wait_applied(index).await {
            Ok(self.progress.applied_index())
        } else {
            Err(BarrierError::Stopped)
        }
    }
}
