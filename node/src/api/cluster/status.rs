//! `GetStatus`, `ListNodes` and `ListShards`.

use antumbra_proto::cluster::v1;
use tokio::time::Instant;

use crate::api::Door;
use crate::error::Error;

use super::survey::Survey;
use super::{messages, soon};

pub(super) async fn overview(
    door: &Door,
    _: v1::GetStatusRequest,
    deadline: Instant,
) -> Result<v1::GetStatusResponse, Error> {
    let survey = Survey::take(&door.cluster, soon(deadline)).await?;
    Ok(v1::GetStatusResponse {
        cluster_id: survey.state.cluster_id.to_string(),
        cluster_name: door.cluster.cluster_name().to_owned(),
        answered_by: door.cluster.info().name.clone(),
        state_version: survey.state.version,
        nodes: messages::nodes(&survey),
        shards: messages::shards(&survey),
        serving: survey.state.shards.keys().all(|id| survey.serves(*id)),
        concerns: messages::concerns(&survey),
    })
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
