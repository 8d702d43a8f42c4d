//! What the leader of the meta shard does for the cluster: looks where replicas and leaders should be
//! ([`super::placement`]) and has the next steps noted in the state, a few at a time. The leaders of the
//! shards carry them out ([`super::keeper`]), and report.
//!
//! It keeps nothing but when it last heard of each node: a new leader counts anew, so that a node is given
//! up late rather than early. Every step names what was seen; one that does not fit any more is refused, and
//! the next look gives another.

mod preview;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Role, Shard};
use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::control::{Answer, Request};
use super::office::{Office, PROPOSE_TIMEOUT};
use super::state::{ClusterState, MetaCommand, MetaReply, NodeId, NodeInfo};

pub(crate) use preview::preview;
use steps::describe;
pub(crate) use steps::next;

/// How often the leader looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A node that takes longer to say who it is was not heard.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps the cluster as it should be. Runs on every replica of the meta shard, acts on the leader.
pub(super) struct Reconciler {
    pub(super) shard: Shard,
    pub(super) office: Arc<Office>,
    /// A node that was not heard for so long is given up.
    pub(super) replace_after: Duration,
    /// Shards that may be under way at the same time.
    pub(super) moves_max: usize,
}

impl Reconciler {
    /// Ends with `stop`, between two steps or within one that the next leader repeats.
    pub(super) async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.look_again_and_again()).await;
    }

    async fn look_again_and_again(self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Heard::default();
        loop {
            ticks.tick().await;
            let role = *self.shard.role().borrow();
            let Role::Leader { term } = role else {
                heard = Heard::default();
                continue;
            };
            let Some(state) = self.office.state().borrow().clone() else {
                continue;
            };
            heard.of_term(term);
            self.listen(&state, &mut heard).await;
            let dead = heard.dead(Instant::now(), self.replace_after);
            for command in next(&state, &dead, self.moves_max) {
                if !self.carry_out(&state, command).await {
                    break;
                }
            }
        }
    }

    /// Asks every node who it is. One that answers for another data directory is not the one that is meant.
    async fn listen(&self, state: &ClusterState, heard: &mut Heard) {
        let request = Request::Hello {
            cluster: self.office.cluster_name().to_owned(),
        };
        let request = &request;
        let asked = state.nodes.iter().map(|(id, info)| async move {
            let is_me = info.incarnation == self.office.info().incarnation;
            let answers = is_me || self.answers(info, request).await;
            answers.then_some(*id)
        });
        let answered: Vec<NodeId> = join_all(asked).await.into_iter().flatten().collect();
        heard.note(state, &answered, Instant::now());
    }

    async fn answers(&self, info: &NodeInfo, request: &Request) -> bool {
        let answer = self.office.ask(&info.peer, request, HELLO_TIMEOUT).await;
        matches!(answer, Ok(Answer::Hello { node, .. }) if node.incarnation == info.incarnation)
    }

    /// False when the rest has to wait for another look.
    async fn carry_out(&self, state: &ClusterState, command: MetaCommand) -> bool {
        let what = describe(state, &command);
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        match self.office.propose(command, deadline).await {
            Ok(MetaReply::Refused(why)) => {
                debug!(what, why, "a step does not fit any more");
                false
            }
            Ok(_) => {
                info!(what, "the cluster changes");
                true
            }
            Err(why) => {
                warn!(what, why, "a step cannot be noted");
                false
            }
        }
    }
}

/// When each node was heard of, by the leader of one term.
#[derive(Debug, Default)]
struct Heard {
    term: u64,
    /// Since the beginning of the term, or since it was first seen, for one that never answered.
    last: BTreeMap<NodeId, Instant>,
}

impl Heard {
    fn of_term(&mut self, term: u64) {
        if self.term != term {
            *self = Heard {
                term,
                last: BTreeMap::new(),
            };
        }
    }

    fn note(&mut self, state: &ClusterState, answered: &[NodeId], now: Instant) {
        self.last.retain(|id, _| state.nodes.contains_key(id));
        for id in state.nodes.keys() {
            self.last.entry(*id).or_insert(now);
        }
        self.last.extend(answered.iter().map(|id| (*id, now)));
    }

    fn dead(&self, now: Instant, after: Duration) -> BTreeSet<NodeId> {
        let silent = self.last.iter().filter(|(_, at)| now - **at >= after);
        silent.map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests;
