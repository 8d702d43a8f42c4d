//! From a survey to `antumbra.cluster.v1` messages. Pure.

use antumbra_proto::cluster::v1;

use crate::cluster::state::{Life, ShardPhase, ShardRecord};
use crate::cluster::{META_SHARD, NodeId, NodeInfo};

use super::survey::{Heard, Seen, Survey};

/// All nodes, in the order of their numbers.
pub(super) fn nodes(survey: &Survey) -> Vec<v1::Node> {
    let nodes = survey.state.nodes.iter();
    nodes.map(|(id, info)| node(survey, *id, info)).collect()
}

/// All shards, in the order of their numbers.
pub(super) fn shards(survey: &Survey) -> Vec<v1::Shard> {
    let shards = survey.state.shards.iter();
    shards
        .map(|(id, record)| shard(survey, *id, record))
        .collect()
}

/// One shard.
pub(super) fn shard(survey: &Survey, id: u32, record: &ShardRecord) -> v1::Shard {
    let leader = survey.leader(id);
    let replicas: Vec<v1::Replica> = record
        .replicas
        .iter()
        .map(|(replica, node)| self::replica(survey, id, record, *replica, *node))
        .collect();
    let term = match leader {
        Some(leader) => leader.report.term,
        None => replicas
            .iter()
            .map(|replica| replica.term)
            .max()
            .unwrap_or(0),
    };
    let (first_hash, last_hash) = match record.range().is_empty() {
        true => (0, 0),
        false => (record.first_hash, record.last_hash),
    };
    v1::Shard {
        shard: id,
        first_hash,
        last_hash,
        phase: match record.phase {
            ShardPhase::Creating => v1::ShardPhase::Creating,
            ShardPhase::Active => v1::ShardPhase::Active,
        }
        .into(),
        leader: leader.map_or_else(String::new, |leader| survey.name(leader.node)),
        preferred_leader: survey.name(record.preferred),
        term,
        has_quorum: survey.voters(id).has_quorum(),
        replicas,
    }
}

/// What is not as it should be, a sentence each.
pub(super) fn concerns(survey: &Survey) -> Vec<String> {
    let mut concerns = Vec::new();
    for (id, info) in &survey.state.nodes {
        match survey.state.life(*id) {
            Life::Active => {}
            Life::Draining => concerns.push(format!("{} is draining", info.name)),
            Life::Leaving => concerns.push(format!("{} is leaving the cluster", info.name)),
        }
        match survey.heard(*id) {
            Heard::Replicas(_) => {}
            Heard::NotServing(why) => {
                concerns.push(format!("{} does not serve: {why}", info.name));
            }
            Heard::Silence(why) => concerns.push(format!("{} does not answer: {why}", info.name)),
        }
    }
    let (mut thin, mut new) = (Vec::new(), Vec::new());
    for (id, record) in &survey.state.shards {
        let title = title(*id);
        let voters = survey.voters(*id);
        if survey.leader(*id).is_none() {
            concerns.push(format!("{title} has no leader"));
        }
        if !voters.has_quorum() {
            let (up, all) = (voters.up, voters.all);
            let text = format!("{title} has no quorum: {up} of {all} voters are up");
            concerns.push(text);
        } else if voters.up < voters.all {
            thin.push(id.to_string());
        }
        if record.phase == ShardPhase::Creating {
            new.push(id.to_string());
        }
        for replica in &record.retiring {
            let node = record.replicas.get(replica);
            let node = node.map_or_else(String::new, |node| format!(" of {}", survey.name(*node)));
            let text = format!("replica {replica}{node} is on its way out of {title}");
            concerns.push(text);
        }
    }
    let together = [
        (thin, "a quorum is up, and not every replica"),
        (new, "not reported since it was placed"),
    ];
    for (shards, what) in together {
        if !shards.is_empty() {
            concerns.push(format!("shards {}: {what}", shards.join(", ")));
        }
    }
    concerns
}

/// What a shard is called in sentences.
fn title(shard: u32) -> String {
    match shard == META_SHARD.0 {
        true => "shard 0 (the cluster's own state)".to_owned(),
        false => format!("shard {shard}"),
    }
}

fn node(survey: &Survey, id: NodeId, info: &NodeInfo) -> v1::Node {
    let (reachable, reason) = match survey.heard(id) {
        Heard::Replicas(_) => (true, String::new()),
        Heard::NotServing(why) => (true, why.clone()),
        Heard::Silence(why) => (false, why.clone()),
    };
    let shards = || survey.state.shards.iter();
    let on = shards().filter(|(_, record)| record.replica_on(id).is_some());
    let led = shards().filter(|(shard, _)| {
        let leader = survey.leader(**shard);
        leader.is_some_and(|leader| leader.node == id)
    });
    v1::Node {
        name: info.name.clone(),
        number: id.0,
        incarnation: info.incarnation.to_string(),
        peer_address: info.peer.clone(),
        grpc_address: info.grpc.clone(),
        http_address: info.http.clone(),
        reachable,
        reason,
        replicas: count(on),
        leaderships: count(led),
        is_gateway: !info.storage,
        life: match survey.state.life(id) {
            Life::Active => v1::NodeLife::Active,
            Life::Draining => v1::NodeLife::Draining,
            Life::Leaving => v1::NodeLife::Leaving,
        }
        .into(),
        zone: info.zone.clone(),
        capacity: info.capacity.get().into(),
    }
}

fn replica(
    survey: &Survey,
    shard: u32,
    record: &ShardRecord,
    replica: u64,
    node: NodeId,
) -> v1::Replica {
    let standing = match (
        record.retiring.contains(&replica),
        record.arriving.contains(&replica),
    ) {
        (true, _) => v1::ReplicaStanding::Retiring,
        (false, true) => v1::ReplicaStanding::Arriving,
        (false, false) => v1::ReplicaStanding::Voter,
    };
    let silent = |role: v1::ReplicaRole| v1::Replica {
        replica,
        node: survey.name(node),
        role: role.into(),
        standing: standing.into(),
        lag: survey.lag(shard, replica, node),
        ..v1::Replica::default()
    };
    match survey.seen(shard, replica, node) {
        Seen::Absent => silent(v1::ReplicaRole::Absent),
        Seen::Unreachable => silent(v1::ReplicaRole::Unreachable),
        Seen::Running(report) => v1::Replica {
            term: report.term,
            last_log_index: report.last_log,
            committed_index: report.committed,
            applied_index: report.applied,
            ..silent(role(&report.role))
        },
    }
}

/// A role that only a newer node knows is shown as unspecified.
fn role(name: &str) -> v1::ReplicaRole {
    match name {
        "starting" => v1::ReplicaRole::Starting,
        "follower" => v1::ReplicaRole::Follower,
        "leader" => v1::ReplicaRole::Leader,
        "stopped" => v1::ReplicaRole::Stopped,
        _ => v1::ReplicaRole::Unspecified,
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
