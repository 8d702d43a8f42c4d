//! Answers about this node's replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_raft::{Host, Role, Shard, ShardId};
use antumbra_shadow::{DeviceId, DeviceKey, Tenant};
use tokio::time::Instant;

use crate::shadows::{Caller, ListRequest, ShardContext};

use super::control::{Answer, ChecksumReport, ReplicaReport, Request, TwinReport};
use super::keeper::TRANSFER_TIMEOUT;
use super::office::{Serving, led};
use super::pin;
use super::state::{ClusterState, NodeId};

/// Shadows of a device that are reported.
const SHADOWS_MAX: usize = 100;
/// How long reading their versions may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn answer(serving: &Serving, state: &ClusterState, request: Request) -> Answer {
    match request {
        Request::Replicas => Answer::Replicas(replicas(&serving.host, state)),
        Request::Transfer { shard, to } => transfer(&serving.host, state, shard, to).await,
        Request::Checksum { shard, pin } => checksum(&serving.host, shard, pin).await,
        Request::Pin { shard, pin } => have_pinned(&serving.host, shard, pin).await,
        Request::Twin { tenant, device } => twin(serving, &tenant, &device).await,
        _ => Answer::Refused("not about replicas".into()),
    }
}

fn replicas(host: &Host, state: &ClusterState) -> BTreeMap<u32, ReplicaReport> {
    let shards = state.shards.keys();
    let running = shards.filter_map(|id| Some((*id, host.shard(ShardId(*id))?)));
    running.map(|(id, shard)| (id, replica(&shard))).collect()
}

fn replica(shard: &Shard) -> ReplicaReport {
    let status = shard.status();
    let role = match status.role {
        Role::Starting => "starting",
        Role::Follower { .. } => "follower",
        Role::Leader { .. } => "leader",
        Role::Stopped => "stopped",
    };
    let matched = status.matched.iter().map(|(id, index)| (id.0, *index));
    ReplicaReport {
        replica: shard.replica().0,
        role: role.to_owned(),
        leader: shard.leader().map(|(_, node)| node.name),
        term: status.term,
        last_log: status.last_log_index,
        committed: status.committed_index,
        applied: status.applied_index,
        matched: matched.collect(),
    }
}

async fn transfer(host: &Host, state: &ClusterState, shard: u32, to: NodeId) -> Answer {
    let Some(record) = state.shards.get(&shard) else {
        return Answer::Refused(format!("there is no shard {shard}"));
    };
    let Some(replica) = record.replica_on(to) else {
        return Answer::Refused(format!("node {to} has no replica of shard {shard}"));
    };
    let Some((shard, _)) = led(host, shard) else {
        let leader = host.shard(ShardId(shard)).and_then(|shard| shard.leader());
        return Answer::NotLeader(leader.map(|(_, node)| node.name));
    };
    if shard.replica() == replica {
        return Answer::Done;
    }
    match shard.transfer_leadership(replica, TRANSFER_TIMEOUT).await {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Refused(error.to_string()),
    }
}

async fn checksum(host: &Host, shard: u32, pin: u64) -> Answer {
    let Some(shard) = host.shard(ShardId(shard)) else {
        return Answer::Refused(format!("no replica of shard {shard} here"));
    };
    match shard.checksum(pin).await {
        Ok(found) => Answer::Checksum(found.map(|found| ChecksumReport {
            index: found.index,
            rows: found.rows,
            sum: found.hash,
        })),
        Err(error) => Answer::Refused(error.to_string()),
    }
}

async fn have_pinned(host: &Host, shard: u32, pin: u64) -> Answer {
    let Some((shard, term)) = led(host, shard) else {
        return Answer::NotLeader(None);
    };
    match shard.propose(term, pin::command(pin)).await {
        Ok(_) => Answer::Done,
        Err(error) => Answer::Refused(error.to_string()),
    }
}

async fn twin(serving: &Serving, tenant: &str, device: &str) -> Answer {
    let (Ok(tenant), Ok(device)) = (Tenant::parse(tenant), DeviceId::parse(device)) else {
        return Answer::Refused("not a device".into());
    };
    let device = DeviceKey { tenant, device };
    let contexts = serving.shadows.contexts().into_iter();
    let mut owners = contexts.filter(|context| context.range.contains(device.hash()));
    let leads = |context: &ShardContext| {
        let role = *context.shard.role().borrow();
        matches!(role, Role::Leader { .. })
    };
    let Some(context) = owners.next().filter(leads) else {
        return Answer::NotLeader(None);
    };
    let page = ListRequest {
        page_size: SHADOWS_MAX,
        page_token: "",
    };
    let deadline = Instant::now() + LIST_TIMEOUT;
    let caller = Caller::anyone("cluster");
    let listed = serving
        .shadows
        .list_shadows(&caller, &device, page, deadline)
        .await;
    match listed {
        Ok(page) => Answer::Twin(TwinReport {
            live: context.twins.is_live(&device),
            versions: page
                .shadows
                .into_iter()
                .map(|shadow| (shadow.name.as_str().to_owned(), shadow.version))
                .collect(),
        }),
        Err(error) => Answer::Refused(error.to_string()),
    }
}
