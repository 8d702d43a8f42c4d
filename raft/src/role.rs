//! What a replica is at the moment.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{ReadPolicy, ServerState};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ReplicaId;
use crate::metrics::record_lead;
use crate::replica::ShardRaft;
use crate::state::Progress;

/// Pause before a new leader asks its quorum again.
const CONFIRM_RETRY: Duration = Duration::from_millis(20);

/// What a replica is at the moment. A watcher may miss short-lived roles, but never the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Nothing is known yet.
    #[default]
    Starting,
    /// Somebody else leads, or nobody.
    Follower {
        /// Who leads, when known.
        leader: Option<ReplicaId>,
    },
    /// This replica leads and may serve: a quorum has confirmed the term, and everything of
    /// earlier terms is applied.
    Leader {
        /// The term, to which proposals are bound.
        term: u64,
    },
    /// The replica has stopped for good.
    Stopped,
}

/// Keeps the role of one replica up to date until it stops.
pub(crate) struct RoleKeeper {
    pub(crate) raft: ShardRaft,
    pub(crate) progress: Arc<Progress>,
    pub(crate) failure: Failure,
    pub(crate) role: watch::Sender<Role>,
}

impl RoleKeeper {
    pub(crate) async fn run(self) {
        let mut metrics = self.raft.server_metrics();
        let mut led = None;
        loop {
            let (state, term, leader) = {
                let now = metrics.borrow_watched();
                (now.state, now.vote.leader_id.term, now.current_leader)
            };
            let confirming = state == ServerState::Leader && led != Some(term);
            match state {
                ServerState::Leader => {}
                ServerState::Shutdown => break,
                _ => {
                    led = None;
                    let leader = leader.map(ReplicaId);
                    self.set(Role::Follower { leader });
                }
            }
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() { break },
                () = self.progress.stopped().cancelled() => break,
                confirmed = self.confirm(), if confirming => if confirmed {
                    led = Some(term);
                    self.set(Role::Leader { term });
                },
            }
        }
        self.stopped();
    }

    /// True once a quorum agrees that this replica leads and it has applied all of earlier terms.
    async fn confirm(&self) -> bool {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => {
                let index = read.read_log_id().index();
                self.progress.wait_applied(index).await
            }
            Err(_) => {
                tokio::time::sleep(CONFIRM_RETRY).await;
                false
            }
        }
    }

    fn set(&self, role: Role) {
        let shard = self.progress.shard;
        self.role.send_if_modified(|current| {
            let changed = *current != role;
            if changed {
                info!(%shard, ?role, "role changed");
                if matches!(role, Role::Leader { .. }) {
                    record_lead(shard);
                }
                *current = role;
            }
            changed
        });
    }

    /// openraft is gone: says so, and stops the node when the reason is not this replica's own.
    fn stopped(&self) {
        self.progress.stop();
        let shard = self.progress.shard;
        let state = self.raft.metrics().borrow_watched().running_state.clone();
        match state {
            Err(Fatal::StorageError(error)) => {
                let what = error.to_string();
                if self.progress.is_reported() {
                    warn!(%shard, error = what, "replica stopped");
                } else {
                    let error = Arc::new(Error::Replica { shard, what });
                    self.failure.stop_node(&error);
                }
            }
            Err(Fatal::Panicked) => warn!(%shard, "replica panicked"),
            Err(Fatal::Stopped) | Ok(()) => {}
        }
        self.set(Role::Stopped);
    }
}
