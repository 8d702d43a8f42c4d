//! What the leader of a shard does for its group: makes its members those that the cluster's state
//! names, reports that they are, and gives the lead to the node that should have it.
//!
//! Every step can be repeated by the next leader. One change of members at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{ReplicaId, Role, Shard};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::control::{Answer, Request};
use super::office::{Office, PROPOSE_TIMEOUT};
use super::state::{ClusterState, Life, MetaCommand, MetaReply, NodeId, ShardRecord};

/// How often the leader looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a new replica may take until it has caught up; then it is tried again.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a change of members may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// A lead is given back only after it was quiet for so long, so that a node that comes and goes does
/// not take it along.
const SETTLED_FOR: Duration = Duration::from_secs(10);
/// After a failed attempt the lead stays for so long.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// How long a transfer may take.
pub(super) const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the node that is to lead may take to say that it is there.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// A replica that lags by more entries is not given the lead.
const LAG_MAX: u64 = 64;

/// Keeps the group of one shard. Runs on every replica, acts on the leader.
pub(super) struct Keeper {
    pub(super) shard: Shard,
    pub(super) office: Arc<Office>,
    pub(super) me: NodeId,
}

impl Keeper {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut states = self.office.state();
        let (mut led, mut quiet_since) = (None, Instant::now());
        let mut holdback = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = states.changed() => quiet_since = Instant::now(),
                _ = ticks.tick() => {}
            }
            let Role::Leader { term } = *self.shard.role().borrow() else {
                led = None;
                continue;
            };
            if led.replace(term) != Some(term) {
                quiet_since = Instant::now();
            }
            let Some(state) = states.borrow_and_update().clone() else {
                continue;
            };
            let Some(record) = state.shards.get(&self.shard.id().0).cloned() else {
                continue;
            };
            let work = async {
                if !self.settle(&state, &record).await {
                    return false;
                }
                let now = Instant::now();
                // Who is about to be stopped does not wait for a quiet time.
                let patience = match state.life(self.me) {
                    Life::Active => SETTLED_FOR,
                    Life::Draining | Life::Leaving => Duration::ZERO,
                };
                if now < holdback || now - quiet_since < patience {
                    return true;
                }
                self.give_back(&record).await
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // What is being waited for may never come: the replica was replaced once more.
                () = self.superseded(&record) => {}
                done = work => if !done {
                    holdback = Instant::now() + RETRY_AFTER;
                }
            }
        }
    }

    /// Resolves when other replicas are wanted than those of this record.
    async fn superseded(&self, record: &ShardRecord) {
        let id = self.shard.id().0;
        let mut states = self.office.state();
        let changed = states.wait_for(|state| {
            let now = state.as_ref().and_then(|state| state.shards.get(&id));
            now.is_some_and(|now| now.voters() != record.voters())
        });
        if changed.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Brings the group to what the record says and reports it. True when nothing is left to do.
    async fn settle(&self, state: &ClusterState, record: &ShardRecord) -> bool {
        let wanted: BTreeSet<ReplicaId> = record.voters().into_keys().collect();
        let exact = self.shard.has_committed(&wanted);
        if exact && record.is_settled() {
            return true;
        }
        if !exact && !self.change(state, record, &wanted).await {
            return false;
        }
        if !self.is_so(&wanted).await {
            return false;
        }
        let command = MetaCommand::Settled {
            shard: self.shard.id().0,
            replicas: wanted.iter().map(|id| id.0).collect(),
        };
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        match self.office.propose(command, deadline).await {
            Ok(MetaReply::Refused(why)) | Err(why) => {
                debug!(shard = %self.shard.id(), why, "report a settled shard");
                false
            }
            Ok(_) => true,
        }
    }

    /// Whether a quorum has just said that this replica leads, and these are the committed members. Once it is
    /// reported, the data of all others are removed: a leader that has been replaced must not report.
    async fn is_so(&self, wanted: &BTreeSet<ReplicaId>) -> bool {
        let leads = *self.shard.role().borrow();
        let confirmed = matches!(leads, Role::Leader { .. }) && self.shard.barrier().await.is_ok();
        confirmed && *self.shard.role().borrow() == leads && self.shard.has_committed(wanted)
    }

    async fn change(
        &self,
        state: &ClusterState,
        record: &ShardRecord,
        wanted: &BTreeSet<ReplicaId>,
    ) -> bool {
        let shard = self.shard.id();
        let members = self.shard.members().into_iter();
        let voting = members.filter(|member| member.voter);
        let voting: BTreeSet<ReplicaId> = voting.map(|member| member.replica).collect();
        for (replica, node) in record.voters() {
            let Some(node) = state
                .engine_node(node)
                .filter(|_| !voting.contains(&replica))
            else {
                continue;
            };
            info!(%shard, %replica, node = node.name, "add a replica");
            let added = self
                .shard
                .add_learner(replica, node, CATCH_UP_TIMEOUT)
                .await;
            if let Err(error) = added {
                warn!(%shard, %replica, %error, "add a replica");
                return false;
            }
        }
        let own = self.shard.replica();
        if wanted.contains(&own) {
            return self.change_voters(wanted).await;
        }
        // The lead goes before its replica does, and the next leader goes on. Nobody stands for election.
        if voting.is_disjoint(wanted) {
            let both = wanted.iter().copied().chain([own]).collect();
            if !self.change_voters(&both).await {
                return false;
            }
        }
        let preferred = record.replica_on(record.preferred);
        let moved = hand_over_to(&self.shard, |replica| wanted.contains(&replica), preferred).await;
        if !moved {
            warn!(%shard, "the lead cannot be handed over before its replica goes");
        }
        false
    }

    async fn change_voters(&self, voters: &BTreeSet<ReplicaId>) -> bool {
        let shard = self.shard.id();
        info!(%shard, ?voters, "change the members");
        let changed = self
            .shard
            .change_voters(voters.clone(), CHANGE_TIMEOUT)
            .await;
        if let Err(error) = &changed {
            warn!(%shard, %error, "change the members");
        }
        changed.is_ok()
    }

    /// Gives the lead to the node that should have it, if that is healthy. False after a failure.
    async fn give_back(&self, record: &ShardRecord) -> bool {
        let preferred = record.preferred;
        let Some(to) = record
            .replica_on(preferred)
            .filter(|_| preferred != self.me)
        else {
            return true;
        };
        let status = self.shard.status();
        let matched = status.matched.get(&to).copied();
        let is_close =
            matched.is_some_and(|at| at.saturating_add(LAG_MAX) >= status.last_log_index);
        if !is_close || !self.follows(preferred, to).await {
            return true;
        }
        let shard = self.shard.id();
        info!(%shard, to = %preferred, "give the lead to the node that should have it");
        let moved = self.shard.transfer_leadership(to, TRANSFER_TIMEOUT).await;
        if let Err(error) = &moved {
            info!(%shard, %error, "the lead stays");
        }
        moved.is_ok()
    }
}

impl Keeper {
    /// Whether the node says itself that its replica follows. What the leader remembers of it may be
    /// from before it went away, and a lead that is given to nobody is a second without writes.
    async fn follows(&self, node: NodeId, replica: ReplicaId) -> bool {
        let asked = self
            .office
            .ask_node(node, &Request::Replicas, ASK_TIMEOUT)
            .await;
        let Ok(Answer::Replicas(replicas)) = asked else {
            return false;
        };
        let report = replicas.get(&self.shard.id().0);
        report.is_some_and(|report| report.replica == replica.0 && report.role == "follower")
    }
}

/// Gives the lead of a shard to the replica that has most of its log, before this node stops.
pub(super) async fn hand_over(shard: &Shard) -> bool {
    hand_over_to(shard, |_| true, None).await
}

/// Gives the lead of a shard to one of some voters: the preferred one if it keeps up, else the one that has
/// most of the log. True when this replica leads no more, or there is nobody else.
async fn hand_over_to(
    shard: &Shard,
    allowed: impl Fn(ReplicaId) -> bool,
    preferred: Option<ReplicaId>,
) -> bool {
    for attempt in 0..2 {
        let status = shard.status();
        let own = shard.replica();
        let mut others: Vec<(u64, ReplicaId)> = shard
            .members()
            .into_iter()
            .filter(|member| member.voter && member.replica != own && allowed(member.replica))
            .map(|m| {
                (
                    status.matched.get(&m.replica).copied().unwrap_or(0),
                    m.replica,
                )
            })
            .collect();
        others.sort();
        // Equal ones take turns, so that one node does not get everything.
        let best = others.last().map_or(0, |(matched, _)| *matched);
        others.retain(|(matched, _)| *matched == best);
        if others.is_empty() {
            return true;
        }
        let (_, mut to) = others[(shard.id().0 as usize + attempt) % others.len()];
        let lag = |replica| {
            let matched = status.matched.get(&replica).copied().unwrap_or(0);
            status.last_log_index.saturating_sub(matched)
        };
        if let Some(replica) = preferred.filter(|id| attempt == 0 && *id != own && allowed(*id))
            && lag(replica) <= LAG_MAX
        {
            to = replica;
        }
        if shard
            .transfer_leadership(to, TRANSFER_TIMEOUT)
            .await
            .is_ok()
        {
            return true;
        }
    }
    false
}
