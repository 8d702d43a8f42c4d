//! Who belongs to a shard and who leads it: what a replica knows of it, and how it is changed.
//!
//! Membership changes of a shard come one after another. Every change can be asked for again until it
//! is done: what has happened already is not done twice, and a change that a crash left half way (two
//! sets of voters at once) is finished by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

use crate::ids::ReplicaId;
use crate::role::Role;
use crate::shard::Shard;
use crate::types::{Node, TypeConfig};

/// One step of a change, and whether voters that leave stay as learners.
type Change = (ChangeMembers<u64, Node>, bool);

/// Pause before a change is tried again that another one stands in the way of.
const RETRY: Duration = Duration::from_millis(20);

/// One replica of a shard as its membership has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which replica.
    pub replica: ReplicaId,
    /// Where it lives.
    pub node: Node,
    /// Whether it votes, in either set while a change is under way.
    pub voter: bool,
}

/// How far a replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStatus {
    /// What it is.
    pub role: Role,
    /// The highest term that it knows.
    pub term: u64,
    /// Index of its last entry.
    pub last_log_index: u64,
    /// Index up to which it knows the log to be committed.
    pub committed_index: u64,
    /// Index of the last applied entry whose changes observers have been told.
    pub applied_index: u64,
    /// Index up to which its state is on disk.
    pub flushed_index: u64,
    /// Index up to which its log is purged: a replica that is further behind needs a snapshot.
    pub purged_index: u64,
    /// Index up to which each replica has the log of this leader; empty on others.
    pub matched: BTreeMap<ReplicaId, u64>,
}

/// Why the membership or the leader is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This replica does not lead, or cannot reach its quorum. Nothing was changed by this step.
    #[error("this replica does not lead")]
    NotLeader,
    /// Somebody who is not a member is to vote or lead, or nobody is to vote. Nothing was changed.
    #[error("a replica that is not a member is to vote or to lead, or nobody is to vote")]
    NotMember,
    /// The replica that is to lead has not answered lately. Nothing was changed.
    #[error("the replica that is to lead does not answer")]
    Unreachable,
    /// It is not finished; it may yet be, or half of it.
    #[error("the change was not finished in time")]
    Timeout,
    /// It may have been made.
    #[error("the outcome is unknown")]
    Unknown,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

impl Shard {
    /// Who leads, as far as this replica knows: it may have been replaced.
    pub fn leader(&self) -> Option<(ReplicaId, Node)> {
        let server = self.inner.raft.server_metrics();
        let now = server.borrow_watched();
        let id = now.current_leader?;
        let node = now.membership_config.membership().get_node(&id)?;
        Some((ReplicaId(id), node.clone()))
    }

    /// The members in order, as far as this replica knows; the newest ones may not be committed.
    pub fn members(&self) -> Vec<Member> {
        let server = self.inner.raft.server_metrics();
        let now = server.borrow_watched();
        let voters: BTreeSet<u64> = now.membership_config.voter_ids().collect();
        let member = |(id, node): (&u64, &Node)| Member {
            replica: ReplicaId(*id),
            node: node.clone(),
            voter: voters.contains(id),
        };
        now.membership_config.nodes().map(member).collect()
    }

    /// Whether a committed membership has exactly these voters and nobody else. Nothing on a replica that
    /// does not lead can say so for sure.
    pub fn has_committed(&self, voters: &BTreeSet<ReplicaId>) -> bool {
        let wanted = voters.iter().map(|replica| replica.0).collect();
        matches!(self.next_change(&wanted), Ok(None))
    }

    /// How far this replica is.
    pub fn status(&self) -> ShardStatus {
        let metrics = self.inner.raft.metrics();
        let now = metrics.borrow_watched();
        let matched = now.replication.iter().flatten();
        ShardStatus {
            role: *self.inner.role.borrow(),
            term: now.current_term,
            last_log_index: now.last_log_index.unwrap_or(0),
            committed_index: now.local_committed.map_or(0, |id| id.index),
            applied_index: self.applied_index(),
            flushed_index: self.flushed_index(),
            purged_index: now.purged.map_or(0, |id| id.index),
            matched: matched
                .map(|(id, matched)| (ReplicaId(*id), matched.map_or(0, |id| id.index)))
                .collect(),
        }
    }

    /// Hands the leadership to a voter and waits until this replica leads no more: usually, but not
    /// necessarily, the other one leads then. Meanwhile proposals are refused. Dropping the future midway
    /// stops nothing.
    pub async fn transfer_leadership(
        &self,
        to: ReplicaId,
        timeout: Duration,
    ) -> Result<(), MembershipError> {
        let mut server = self.inner.raft.server_metrics();
        {
            let now = server.borrow_watched();
            if now.state != ServerState::Leader {
                return Err(MembershipError::NotLeader);
            }
            if !now.membership_config.voter_ids().any(|id| id == to.0) {
                return Err(MembershipError::NotMember);
            }
        }
        if to == self.replica() {
            return Ok(());
        }
        if !self.is_heard(to) {
            return Err(MembershipError::Unreachable);
        }
        info!(shard = %self.id(), %to, "hand the leadership over");
        let asked = self.inner.raft.trigger().transfer_leader(to.0).await;
        asked.map_err(|_| MembershipError::Stopped)?;
        let deadline = Instant::now() + timeout;
        while server.borrow_watched().state == ServerState::Leader {
            match timeout_at(deadline, server.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(MembershipError::Stopped),
                Err(_) => return Err(MembershipError::Timeout),
            }
        }
        Ok(())
    }

    /// Whether a follower has answered this leader lately. openraft gives the lead to anybody, and takes no
    /// more writes until somebody has it.
    pub(crate) fn is_heard(&self, replica: ReplicaId) -> bool {
        let heard = self.heard_at(replica);
        heard.is_some_and(|at| at.elapsed() <= self.inner.patience)
    }

    /// Adds a replica that does not vote, unless it is a member, and waits until it has everything that
    /// was in the log when this was called. Dropping the future midway may leave it added.
    pub async fn add_learner(
        &self,
        replica: ReplicaId,
        node: Node,
        timeout: Duration,
    ) -> Result<(), MembershipError> {
        let deadline = Instant::now() + timeout;
        let adding = async {
            let _turn = self.inner.changing.lock().await;
            let adding = BTreeMap::from([(replica.0, node)]);
            while !self.members().iter().any(|m| m.replica == replica) {
                info!(shard = %self.id(), %replica, "add a learner");
                let change = ChangeMembers::AddNodes(adding.clone());
                self.change(change, true).await?;
            }
            Ok(())
        };
        within(deadline, adding).await?;
        let mut metrics = self.inner.raft.metrics();
        let wanted = metrics.borrow_watched().last_log_index;
        loop {
            {
                let now = metrics.borrow_watched();
                let Some(matched) = &now.replication else {
                    return Err(MembershipError::NotLeader);
                };
                let reached = matched.get(&replica.0).copied().flatten();
                if reached.map(|id| id.index) >= wanted {
                    return Ok(());
                }
            }
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(MembershipError::Stopped),
                Err(_) => return Err(MembershipError::Timeout),
            }
        }
    }

    /// Makes exactly these members the voters, and everybody else no member at all. Finishes a change that
    /// was left half way first. Those who leave are not told: stop their replicas.
    pub async fn change_voters(
        &self,
        voters: BTreeSet<ReplicaId>,
        timeout: Duration,
    ) -> Result<(), MembershipError> {
        let wanted: BTreeSet<u64> = voters.iter().map(|replica| replica.0).collect();
        let changing = async {
            let _turn = self.inner.changing.lock().await;
            while let Some((change, retain)) = self.next_change(&wanted)? {
                info!(shard = %self.id(), ?change, "change the membership");
                self.change(change, retain).await?;
            }
            Ok(())
        };
        within(Instant::now() + timeout, changing).await
    }

    /// The next step towards a set of voters; `None` once a committed membership has exactly them.
    fn next_change(&self, wanted: &BTreeSet<u64>) -> Result<Option<Change>, MembershipError> {
        let server = self.inner.raft.server_metrics();
        let now = server.borrow_watched();
        let effective = now.membership_config.membership();
        let committed = now.committed_membership_config.log_id() == now.membership_config.log_id();
        let voters: BTreeSet<u64> = effective.voter_ids().collect();
        if effective.get_joint_config().len() > 1 || voters != *wanted {
            let known = |id: &u64| effective.get_node(id).is_some();
            if wanted.is_empty() || !wanted.iter().all(known) {
                return Err(MembershipError::NotMember);
            }
            let change = ChangeMembers::ReplaceAllVoters(wanted.clone());
            return Ok(Some((change, false)));
        }
        let others: BTreeSet<u64> = effective.learner_ids().collect();
        if !others.is_empty() {
            return Ok(Some((ChangeMembers::RemoveNodes(others), false)));
        }
        if !committed && now.state != ServerState::Leader {
            return Err(MembershipError::NotLeader);
        }
        // What is not committed yet is proposed again; openraft lets it wait for its turn.
        let again = || (ChangeMembers::ReplaceAllVoters(wanted.clone()), false);
        Ok((!committed).then(again))
    }

    /// Proposes a change and waits until it is applied here; a joint one until it is finished. Waits where
    /// another change is not committed yet.
    async fn change(
        &self,
        change: ChangeMembers<u64, Node>,
        retain: bool,
    ) -> Result<(), MembershipError> {
        let changed = self.inner.raft.change_membership(change, retain).await;
        match changed {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(_)) => Err(MembershipError::Stopped),
            Err(RaftError::APIError(error)) => match refused(&error) {
                Some(error) => Err(error),
                None => {
                    sleep(RETRY).await;
                    Ok(())
                }
            },
        }
    }
}

/// Why a change is refused, or `None` when it may be tried again.
fn refused(error: &ClientWriteError<TypeConfig>) -> Option<MembershipError> {
    match error {
        ClientWriteError::ForwardToLeader(_) => Some(MembershipError::NotLeader),
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => None,
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::EmptyMembership(_) | ChangeMembershipError::LearnerNotFound(_),
        ) => Some(MembershipError::NotMember),
        _ => Some(MembershipError::Unknown),
    }
}

async fn within<T>(
    deadline: Instant,
    change: impl Future<Output = Result<T, MembershipError>>,
) -> Result<T, MembershipError> {
    let changed = timeout_at(deadline, change).await;
    changed.unwrap_or(Err(MembershipError::Timeout))
}
