//! From a blank directory to a cluster.
//!
//! Only the first seed by name proposes. It founds a cluster when every expected seed has promised
//! to belong to it; a promise is on the disk before it is given, and is given to one cluster only. A
//! seed that belongs to a cluster already wins: everybody else joins it. A proposer that starts again
//! proposes what was promised before. So two clusters are never founded from one list of seeds.
//!
//! Time line of three blank nodes: node-1 asks node-2 and node-3 who they are → both blank → node-1
//! draws a cluster id, promises it to itself, has it promised by both → creates the group of the meta
//! shard → its leader writes the first state → every node reads that it is a member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::sleep;
use tracing::{info, warn};
use uuid::Uuid;

use crate::identity;

use super::control::{Answer, Request, Standing};
use super::office::Office;
use super::state::{ClusterState, Founding, NodeId, NodeInfo};

/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// A seed answers within this time or counts as absent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a join may take: it is a write to the meta shard.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds between two lines in the log about what is missing.
const ROUNDS_PER_NOTE: u32 = 25;

/// What a new cluster should be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seeds and their peer addresses, this node included.
    pub seeds: BTreeMap<String, String>,
    /// Seeds that must promise.
    pub expect: usize,
    /// Replicas of every shard.
    pub replication_factor: u32,
    /// Data shards, by the number of nodes.
    pub shards: fn(Option<u32>, usize) -> u32,
    /// The number of data shards that the configuration asks for.
    pub shards_wanted: Option<u32>,
}

/// How the node begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Its cluster is being founded; `create`: this node creates the meta shard's group.
    Founding { founding: Founding, create: bool },
    /// It belongs to a cluster, and this is the last state that it knows.
    Member { state: ClusterState },
}

/// Asks the seeds until this node is a member, or all have promised to found a cluster. Ends by
/// itself only then; may be dropped midway and begun again. A blank pod that its StatefulSet does not need waits
/// until it does.
pub(crate) async fn run(plan: &Plan, office: &Arc<Office>) -> Result<Beginning, identity::Error> {
    let known = office.known_state()?;
    if let Some(state) = known.clone().filter(|_| office.info().storage) {
        return Ok(Beginning::Member { state });
    }
    let known = known.map_or_else(BTreeMap::new, |state| state.peer_addresses());
    if let (Standing::Blank, Some(governor)) = (office.standing(), office.charter().governor()) {
        governor.needed().await;
    }
    for round in 0_u32.. {
        let note = round % ROUNDS_PER_NOTE == 0;
        let beginning = match office.info().storage {
            true => attempt(plan, office, note).await?,
            false => come_back(plan, &known, office, note).await?,
        };
        if let Some(beginning) = beginning {
            return Ok(beginning);
        }
        sleep(ROUND_PAUSE).await;
    }
    unreachable!("a node does not wait for 2^32 rounds")
}

async fn attempt(
    plan: &Plan,
    office: &Arc<Office>,
    note: bool,
) -> Result<Option<Beginning>, identity::Error> {
    let me = office.info().clone();
    let others: Vec<(&String, &String)> =
        plan.seeds.iter().filter(|(n, _)| **n != me.name).collect();
    let asked = others
        .iter()
        .map(|(name, address)| hello(office, name, address));
    let answers: Vec<(String, Met)> = join_all(asked).await.into_iter().flatten().collect();

    let member = answers
        .iter()
        .find(|(_, met)| matches!(met.standing, Standing::Member { .. }));
    if let Some((address, _)) = member {
        return join(office, address).await;
    }
    // Only who keeps data can found a cluster.
    let answers: Vec<(String, Met)> = answers
        .into_iter()
        .filter(|(_, met)| met.node.storage)
        .collect();
    let standing = office.standing();
    let is_first = plan.seeds.keys().next().is_none_or(|n| *n == me.name);
    if !is_first {
        // The first seed proposes; until it does there is nothing to do.
        return Ok(match standing {
            Standing::Pledged(founding) => Some(Beginning::Founding {
                founding,
                create: false,
            }),
            _ => None,
        });
    }
    if answers.len() + 1 < plan.expect.max(1) {
        if note {
            let present = answers.len() + 1;
            info!(
                present,
                expected = plan.expect,
                "wait for the other seeds to found the cluster"
            );
        }
        return Ok(None);
    }
    let founding = proposal(plan, &me, standing, answers.iter().map(|(_, met)| met));
    found(office, founding, &answers).await
}

/// A gateway is let in at each start, by whoever it reaches: it may have been forgotten meanwhile. It
/// never founds a cluster.
async fn come_back(
    plan: &Plan,
    known: &BTreeMap<String, String>,
    office: &Arc<Office>,
    note: bool,
) -> Result<Option<Beginning>, identity::Error> {
    let me = &office.info().name;
    for (name, address) in plan.seeds.iter().chain(known) {
        if name == me {
            continue;
        }
        let Some((address, met)) = hello(office, name, address).await else {
            continue;
        };
        if !matches!(met.standing, Standing::Member { .. }) {
            continue;
        }
        if let Some(beginning) = join(office, &address).await? {
            return Ok(Some(beginning));
        }
    }
    if note {
        info!("wait for a node of the cluster that lets this gateway in");
    }
    Ok(None)
}

/// A seed that answered.
struct Met {
    node: NodeInfo,
    standing: Standing,
}

async fn hello(office: &Office, name: &str, address: &str) -> Option<(String, Met)> {
    let request = Request::Hello {
        cluster: office.cluster_name().to_owned(),
    };
    match office.ask(address, &request, ANSWER_TIMEOUT).await {
        Ok(Answer::Hello { node, standing }) if node.name == name => {
            Some((address.to_owned(), Met { node, standing }))
        }
        Ok(Answer::Hello { node, .. }) => {
            warn!(
                address,
                expected = name,
                found = node.name,
                "a seed has another name"
            );
            None
        }
        Ok(Answer::Refused(why)) => {
            warn!(address, why, "a seed refuses to talk");
            None
        }
        _ => None,
    }
}

/// What was promised before, or a new cluster.
fn proposal<'a>(
    plan: &Plan,
    me: &NodeInfo,
    standing: Standing,
    others: impl Iterator<Item = &'a Met> + Clone,
) -> Founding {
    if let Standing::Pledged(founding) = standing {
        return founding;
    }
    let promised = others.clone().find_map(|met| match &met.standing {
        Standing::Pledged(founding) => Some(founding.clone()),
        _ => None,
    });
    if let Some(founding) = promised {
        return founding;
    }
    let mut members: Vec<NodeInfo> = others.map(|met| met.node.clone()).collect();
    members.push(me.clone());
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Founding {
        cluster_id: Uuid::new_v4(),
        replication_factor: plan.replication_factor,
        shards: (plan.shards)(plan.shards_wanted, members.len()),
        members,
    }
}

/// Has the founding promised by everybody, this node first.
async fn found(
    office: &Arc<Office>,
    founding: Founding,
    answers: &[(String, Met)],
) -> Result<Option<Beginning>, identity::Error> {
    if let Err(why) = office.pledge(&founding).await? {
        warn!(
            why,
            "this node cannot promise what the other seeds have promised; \
             if the cluster never held data, empty the data directories of all seeds"
        );
        return Ok(None);
    }
    let request = Request::Pledge(founding.clone());
    let promises = answers
        .iter()
        .map(|(address, _)| office.ask(address, &request, ANSWER_TIMEOUT));
    for ((address, met), promise) in answers.iter().zip(join_all(promises).await) {
        match promise {
            Ok(Answer::Pledged) => {}
            Ok(Answer::Refused(why)) => {
                warn!(node = met.node.name, why, "a seed does not promise");
                return Ok(None);
            }
            _ => {
                info!(address, "a seed went away before it promised");
                return Ok(None);
            }
        }
    }
    info!(cluster = %founding.cluster_id, members = founding.members.len(), "found the cluster");
    Ok(Some(Beginning::Founding {
        founding,
        create: true,
    }))
}

async fn join(office: &Arc<Office>, address: &str) -> Result<Option<Beginning>, identity::Error> {
    let request = Request::Join(office.info().clone());
    match office.ask(address, &request, JOIN_TIMEOUT).await {
        Ok(Answer::Joined { node, state }) => {
            office.become_member(node, &state).await?;
            info!(cluster = %state.cluster_id, %node, "joined the cluster");
            Ok(Some(Beginning::Member { state }))
        }
        Ok(Answer::Refused(why)) => {
            warn!(address, why, "the cluster does not let this node in yet");
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The number of a node in a state.
pub(crate) fn number_of(state: &ClusterState, me: &NodeInfo) -> Option<NodeId> {
    let id = state.node_named(&me.name)?;
    let known = state.nodes.get(&id)?;
    (known.incarnation == me.incarnation).then_some(id)
}

/// Whether this is a gateway that the cluster has given up, and whose name nobody else has.
pub(crate) fn is_forgotten(state: &ClusterState, me: &NodeInfo) -> bool {
    !me.storage && state.node_named(&me.name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeInfo {
        NodeInfo {
            name: name.into(),
            incarnation: Uuid::from_u128(1),
            peer: String::new(),
            grpc: String::new(),
            http: String::new(),
            storage: true,
            zone: String::new(),
            capacity: std::num::NonZeroU16::MIN,
            rules: 1,
        }
    }

    fn plan() -> Plan {
        Plan {
            seeds: BTreeMap::new(),
            expect: 3,
            replication_factor: 3,
            shards: |_, nodes| nodes as u32,
            shards_wanted: None,
        }
    }

    fn met(name: &str, standing: Standing) -> Met {
        Met {
            node: node(name),
            standing,
        }
    }

    #[test]
    fn blank_seeds_found_a_new_cluster_in_the_order_of_names() {
        let others = [met("c", Standing::Blank), met("b", Standing::Blank)];
        let founding = proposal(&plan(), &node("a"), Standing::Blank, others.iter());
        let names: Vec<_> = founding.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(founding.shards, 3);
    }

    /// Also when it was promised by another seed only: the proposer may have lost its disk.
    #[test]
    fn what_was_promised_is_proposed_again() {
        let promised = Founding {
            cluster_id: Uuid::from_u128(9),
            replication_factor: 3,
            shards: 4,
            members: vec![node("a"), node("b")],
        };
        let others = [
            met("c", Standing::Blank),
            met("b", Standing::Pledged(promised.clone())),
        ];
        let again = proposal(&plan(), &node("a"), Standing::Blank, others.iter());
        assert_eq!(again, promised);
        let own = Standing::Pledged(promised.clone());
        assert_eq!(proposal(&plan(), &node("a"), own, [].iter()), promised);
    }
}
