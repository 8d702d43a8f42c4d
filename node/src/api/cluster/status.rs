//! `GetStatus`, `ListNodes` and `ListShards`.

use std::time::Duration;

use antumbra_proto::cluster::v1;
use tokio::time::Instant;

use crate::api::Door;
use crate::cluster::{Answer, META_SHARD, Request};
use crate::error::Error;

use super::survey::Survey;
use super::{messages, remaining, soon};

/// A leader that takes longer says nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn overview(
    door: &Door,
    _: v1::GetStatusRequest,
    deadline: Instant,
) -> Result<v1::GetStatusResponse, Error> {
    let survey = Survey::take(&door.cluster, soon(deadline)).await?;
    let mut concerns = messages::concerns(&survey);
    concerns.extend(scale_in(door, &survey, soon(deadline)).await);
    Ok(v1::GetStatusResponse {
        cluster_id: survey.state.cluster_id.to_string(),
        cluster_name: door.cluster.cluster_name().to_owned(),
        answered_by: door.cluster.info().name.clone(),
        state_version: survey.state.version,
        nodes: messages::nodes(&survey),
        shards: messages::shards(&survey),
        serving: survey.state.shards.keys().all(|id| survey.serves(*id)),
        concerns,
    })
}

/// What the leader of the meta shard says of a node that should be sent away, where a StatefulSet decides.
async fn scale_in(door: &Door, survey: &Survey, until: Instant) -> Option<String> {
    let leader = survey.leader(META_SHARD.0)?.node;
    if !door.cluster.charter().is_of_pods() {
        return None;
    }
    let limit = ANSWER_TIMEOUT.min(remaining(until));
    let asked = door.cluster.ask_node(leader, &Request::ScaleIn, limit);
    match asked.await {
        Ok(Answer::ScaleIn(Some(why))) => Some(format!("scale-in waits: {why}")),
        _ => None,
    }
}

pub(super) async fn nodes(
    door: &Door,
    _: v1::ListNodesRequest,
    deadline: Instant,
) -> Result<v1::ListNodesResponse, Error> {
    let survey = Survey::take(&door.cluster, soon(deadline)).await?;
    Ok(v1::ListNodesResponse {
        nodes: messages::nodes(&survey),
    })
}

pub(super) async fn shards(
    door: &Door,
    _: v1::ListShardsRequest,
    deadline: Instant,
) -> Result<v1::ListShardsResponse, Error> {
    let survey = Survey::take(&door.cluster, soon(deadline)).await?;
    Ok(v1::ListShardsResponse {
        shards: messages::shards(&survey),
    })
}
