//! What all nodes say at about the same moment, and what follows from it. Asking is the only thing
//! that is not pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use crate::cluster::control::ReplicaReport;
use crate::cluster::office::Office;
use crate::cluster::state::ShardRecord;
use crate::cluster::{Answer, ClusterState, NodeId, Request};
use crate::error::Error;
use crate::peer::ControlError;

/// A node that takes longer does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// The state of the cluster with what every node said of its replicas.
pub(super) struct Survey {
    pub(super) state: Arc<ClusterState>,
    heard: BTreeMap<NodeId, Heard>,
}

/// What came from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// What its replicas are doing, by shard.
    Replicas(BTreeMap<u32, ReplicaReport>),
    /// It answered that it does not serve, and why.
    NotServing(String),
    /// Nothing, and why.
    Silence(String),
}

/// One replica as its node reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// It runs.
    Running(&'a ReplicaReport),
    /// Its node answers and does not run it.
    Absent,
    /// Its node does not answer.
    Unreachable,
}

impl Seen<'_> {
    /// Whether the replica can vote now.
    fn is_up(&self) -> bool {
        matches!(self, Seen::Running(report) if matches!(report.role.as_str(), "leader" | "follower"))
    }
}

/// The replica that leads a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader<'a> {
    pub(super) node: NodeId,
    pub(super) replica: u64,
    pub(super) report: &'a ReplicaReport,
}

impl Survey {
    /// Asks every node. May be dropped midway.
    pub(super) async fn take(office: &Arc<Office>, deadline: Instant) -> Result<Survey, Error> {
        let state = office.state().borrow().clone();
        let state = state.ok_or(Error::Unavailable("this node belongs to no cluster yet"))?;
        let limit = ANSWER_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let asked = state.nodes.keys().map(|node| ask(office, *node, limit));
        let heard = state.nodes.keys().copied().zip(join_all(asked).await);
        Ok(Survey {
            heard: heard.collect(),
            state,
        })
    }

    #[cfg(test)]
    pub(super) fn of(state: ClusterState, heard: BTreeMap<NodeId, Heard>) -> Survey {
        let state = Arc::new(state);
        Survey { state, heard }
    }

    /// What a node said.
    pub(super) fn heard(&self, node: NodeId) -> &Heard {
        static NEVER: Heard = Heard::Silence(String::new());
        self.heard.get(&node).unwrap_or(&NEVER)
    }

    /// The name of a node; a number that nobody has is shown as it is.
    pub(super) fn name(&self, node: NodeId) -> String {
        let info = self.state.nodes.get(&node);
        info.map_or_else(|| format!("node number {node}"), |info| info.name.clone())
    }

    /// One replica of a shard as its node reports it.
    pub(super) fn seen(&self, shard: u32, replica: u64, node: NodeId) -> Seen<'_> {
        match self.heard(node) {
            Heard::Replicas(reports) => match reports.get(&shard) {
                // A node that lost its data has a former replica in the state and a new one.
                Some(report) if report.replica == replica => Seen::Running(report),
                _ => Seen::Absent,
            },
            Heard::NotServing(_) => Seen::Absent,
            Heard::Silence(_) => Seen::Unreachable,
        }
    }

    /// The replica that leads. A former leader may still think so: the highest term is right.
    pub(super) fn leader(&self, shard: u32) -> Option<Leader<'_>> {
        let record = self.state.shards.get(&shard)?;
        let leading = record.replicas.iter().filter_map(|(replica, node)| {
            let Seen::Running(report) = self.seen(shard, *replica, *node) else {
                return None;
            };
            (report.role == "leader").then_some(Leader {
                node: *node,
                replica: *replica,
                report,
            })
        });
        leading.max_by_key(|leader| leader.report.term)
    }

    /// How many voters a shard should have, and how many of them are up.
    pub(super) fn voters(&self, shard: u32) -> Voters {
        let record = self.state.shards.get(&shard);
        let voters = record.map(ShardRecord::voters).unwrap_or_default();
        let up = voters
            .iter()
            .filter(|(replica, node)| self.seen(shard, replica.0, **node).is_up());
        Voters {
            up: up.count(),
            all: voters.len(),
        }
    }

    /// Entries of the leader's log that a replica does not have applied, or, where only the leader
    /// can be asked, that it is not known to have.
    pub(super) fn lag(&self, shard: u32, replica: u64, node: NodeId) -> Option<u64> {
        let leader = self.leader(shard)?.report;
        let has = match self.seen(shard, replica, node) {
            Seen::Running(report) => report.applied,
            Seen::Absent | Seen::Unreachable => leader.matched.get(&replica).copied().unwrap_or(0),
        };
        Some(leader.last_log.saturating_sub(has))
    }

    /// Whether a shard has a leader and a quorum.
    pub(super) fn serves(&self, shard: u32) -> bool {
        self.leader(shard).is_some() && self.voters(shard).has_quorum()
    }
}

/// Voters of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Voters {
    pub(super) up: usize,
    pub(super) all: usize,
}

impl Voters {
    /// Whether more than half of them are up.
    pub(super) fn has_quorum(self) -> bool {
        self.up * 2 > self.all
    }
}

async fn ask(office: &Arc<Office>, node: NodeId, limit: Duration) -> Heard {
    let asked = office.ask_node(node, &Request::Replicas, limit);
    match timeout(limit, asked).await {
        Ok(Ok(Answer::Replicas(reports))) => Heard::Replicas(reports),
        Ok(Ok(Answer::Refused(why))) => Heard::NotServing(why),
        Ok(Ok(_)) => Heard::NotServing("its answer is to another question".to_owned()),
        Ok(Err(error)) => Heard::Silence(cause(error)),
        Err(_) => Heard::Silence(format!("no answer within {} ms", limit.as_millis())),
    }
}

/// Why a question has no answer. Whether it was sent does not matter for one that changes nothing.
pub(super) fn cause(error: ControlError) -> String {
    match error {
        ControlError::NotSent(why) | ControlError::Unknown(why) => why,
        ControlError::Refused(why) => format!("it refuses: {why}"),
    }
}

#[cfg(test)]
pub(super) mod tests;
