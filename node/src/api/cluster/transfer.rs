//! `TransferLeadership`: has the leader of a shard hand over, and waits until the other node leads.

use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::cluster::v1;
use tokio::time::{Instant, sleep};

use crate::api::Door;
use crate::cluster::office::Office;
use crate::cluster::{Answer, NodeId, Request};
use crate::error::Error;
use crate::peer::ControlError;

use super::survey::{Heard, Survey};
use super::{remaining, soon};

/// How long the leader may take to hand over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the new leader may take to say that it leads.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause before the nodes are asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the leader is looked for, when it changes meanwhile.
const ATTEMPTS: usize = 3;

pub(super) async fn transfer(
    door: &Door,
    request: v1::TransferLeadershipRequest,
    deadline: Instant,
) -> Result<v1::TransferLeadershipResponse, Error> {
    let (office, until) = (&door.cluster, soon(deadline));
    let shard = request.shard;
    for _ in 0..ATTEMPTS {
        let survey = Survey::take(office, until).await?;
        let to = target(&survey, shard, &request.node)?;
        let Some(leader) = survey.leader(shard) else {
            return Err(Error::Refused(format!("shard {shard} has no leader")));
        };
        if leader.node != to && !hand_over(office, leader.node, shard, to, until).await? {
            continue;
        }
        confirm(office, shard, to, until).await?;
        return Ok(v1::TransferLeadershipResponse {
            shard,
            leader: request.node,
        });
    }
    Err(Error::Refused(format!(
        "the leader of shard {shard} keeps changing"
    )))
}

/// The node that is to lead, if it can.
fn target(survey: &Survey, shard: u32, name: &str) -> Result<NodeId, Error> {
    let record = survey.state.shards.get(&shard);
    let record = record.ok_or_else(|| Error::invalid("shard", no_shard(survey, shard)))?;
    let with_replica = || {
        let nodes = record.voters().into_values();
        let mut names: Vec<_> = nodes.map(|node| survey.name(node)).collect();
        names.sort();
        names.join(", ")
    };
    let node = survey.state.node_named(name);
    let node = node.filter(|node| record.replica_on(*node).is_some());
    let Some(node) = node else {
        let what = format!(
            "`{name}` has no replica of shard {shard}; {} do",
            with_replica()
        );
        return Err(Error::invalid("node", what));
    };
    match survey.heard(node) {
        Heard::Silence(why) => Err(Error::Refused(format!("{name} does not answer: {why}"))),
        Heard::NotServing(why) => Err(Error::Refused(format!("{name} does not serve: {why}"))),
        Heard::Replicas(_) => Ok(node),
    }
}

/// What is said of a shard that does not exist.
pub(super) fn no_shard(survey: &Survey, shard: u32) -> String {
    let last = survey.state.shards.keys().next_back().copied();
    format!(
        "there is no shard {shard}; they are 0 to {}",
        last.unwrap_or(0)
    )
}

/// True when the leader has handed over; false when it led no more.
async fn hand_over(
    office: &Arc<Office>,
    leader: NodeId,
    shard: u32,
    to: NodeId,
    until: Instant,
) -> Result<bool, Error> {
    let limit = remaining(until).min(HAND_OVER_TIMEOUT);
    let request = Request::Transfer { shard, to };
    match office.ask_node(leader, &request, limit).await {
        Ok(Answer::Done) => Ok(true),
        Ok(Answer::NotLeader(_)) => Ok(false),
        Ok(Answer::Refused(why)) => Err(Error::Refused(why)),
        Ok(_) => Err(Error::Internal("a node answered another question")),
        Err(ControlError::Unknown(_)) => Err(Error::OutcomeUnknown),
        Err(error @ (ControlError::NotSent(_) | ControlError::Refused(_))) => {
            Err(Error::Refused(error.to_string()))
        }
    }
}

/// Waits until the node says that it leads. A former leader learns late who does, so only the words of
/// the new one count.
async fn confirm(
    office: &Arc<Office>,
    shard: u32,
    to: NodeId,
    until: Instant,
) -> Result<(), Error> {
    let until = until.min(Instant::now() + CONFIRM_TIMEOUT);
    let mut leads = None;
    while Instant::now() < until {
        let answer = office
            .ask_node(to, &Request::Replicas, remaining(until))
            .await;
        if let Ok(Answer::Replicas(mut reports)) = answer
            && let Some(report) = reports.remove(&shard)
        {
            if report.role == "leader" {
                return Ok(());
            }
            leads = report.leader;
        }
        sleep(PAUSE).await;
    }
    match leads {
        Some(other) => Err(Error::Refused(format!("{other} leads shard {shard} now"))),
        None => Err(Error::OutcomeUnknown),
    }
}
