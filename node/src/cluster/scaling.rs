//! Scale-in without an operator: the leader of the meta shard follows the replicas of the StatefulSet whose pods
//! the nodes are. A node that it does not need any more is sent away, one at a time, by the same commands as an
//! operator would give, so that the next leader goes on with what was begun.
//!
//! - `charter`: who may join and leave by himself; what `cluster.membership` means.
//! - `governor`: the StatefulSet as a node reads it.
//! - `reads`, `decision`, `view`: from what was read and what the nodes say to what comes next; pure.
//! - `look`: what the nodes say.
//! - `outlook`: what a node that is about to be stopped has before it.
//!
//! Nobody is sent away because its process stops: Kubernetes does not tell a pod whether it is restarted or
//! scaled away. Whoever is about to be stopped only waits (`antumbra prestop`).

pub(crate) mod charter;
mod decision;
mod governor;
mod look;
pub(crate) mod outlook;
mod reads;
mod view;

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Role, Shard};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::office::{Office, PROPOSE_TIMEOUT};
use super::state::{ClusterState, MetaCommand, MetaReply, NodeId};

use decision::{Decision, Why, decide};
use governor::Governor;
use reads::Reads;

/// How often the leader reads the StatefulSet.
const INTERVAL: Duration = Duration::from_secs(5);

/// Has the cluster have the nodes that the StatefulSet needs. Runs on every replica of the meta shard, acts on
/// the leader.
pub(super) struct Scaler {
    shard: Shard,
    office: Arc<Office>,
    governor: Arc<Governor>,
}

impl Scaler {
    /// Nothing where no StatefulSet decides.
    pub(super) fn new(shard: &Shard, office: &Arc<Office>) -> Option<Scaler> {
        let governor = office.charter().governor()?;
        Some(Scaler {
            shard: shard.clone(),
            office: Arc::clone(office),
            governor: Arc::clone(governor),
        })
    }

    /// Ends with `stop`, between two commands or within one that the next leader repeats.
    pub(super) async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.look_again_and_again()).await;
    }

    async fn look_again_and_again(self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        let (mut reads, mut led) = (Reads::default(), None);
        loop {
            ticks.tick().await;
            let Role::Leader { term } = *self.shard.role().borrow() else {
                self.governor.tell(None);
                led = None;
                continue;
            };
            // What was read in another term may be from before a long sleep.
            if led.replace(term) != Some(term) {
                reads = Reads::default();
            }
            let asked_at = begun.elapsed();
            reads.note(asked_at, self.governor.read().await);
            let Some(state) = self.office.state().borrow().clone() else {
                continue;
            };
            let view = look::look(&self.office, self.governor.set_name(), &state).await;
            let decision = decide(begun.elapsed(), &reads, &view);
            let why = self.carry_out(term, &state, decision).await;
            self.governor.tell(why);
        }
    }

    /// Gives the command, if there is one. Says why nothing was done although there was something to do.
    async fn carry_out(&self, term: u64, state: &ClusterState, decision: Decision) -> Option<Why> {
        let who = |node: NodeId| state.nodes.get(&node).map(|info| info.who());
        let (command, node, what) = match decision {
            Decision::Nothing => return None,
            Decision::Wait(why) => return Some(why),
            Decision::SendAway(node) => {
                let who = who(node)?;
                let name = who.name.clone();
                (
                    MetaCommand::Decommission(who),
                    name,
                    "the StatefulSet does not need this node any more: it is sent away",
                )
            }
            Decision::TakeBack(node) => {
                let who = who(node)?;
                let name = who.name.clone();
                (MetaCommand::Resume(who), name, "this node stays after all")
            }
        };
        // Bound to the term: whoever was replaced has read nothing since.
        let proposed = self.shard.propose(term, command.encode().into());
        let reply = match timeout(PROPOSE_TIMEOUT, proposed).await {
            Ok(Ok(proposed)) => MetaReply::decode(&proposed.reply),
            Ok(Err(error)) => {
                warn!(node, %error, "a change of the membership cannot be noted");
                return None;
            }
            // It is looked at again, and then it is done or not.
            Err(_) => None,
        };
        match reply {
            Some(MetaReply::Refused(why)) => Some(Why::Refused { node, why }),
            Some(_) => {
                info!(node, "{what}");
                None
            }
            None => {
                warn!(
                    node,
                    "it is not known whether a change of the membership was noted"
                );
                None
            }
        }
    }
}
