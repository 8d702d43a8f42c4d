//! `antumbra.cluster.v1.Cluster`: how the cluster is, for operators.
//!
//! Whatever node is asked asks all others, side by side and for a short time; a node that does not
//! answer is part of the report. Nothing here changes shadows, but for the restore of a snapshot.

mod dump;
mod explain;
mod log_filter;
mod maintenance;
mod messages;
mod restore;
mod status;
mod survey;
mod transfer;
mod verify;

use std::pin::Pin;
use std::time::Duration;

use antumbra_proto::cluster::v1;
use antumbra_proto::cluster::v1::cluster_server::Cluster;
use futures::Stream;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Door, access, deadline};
use crate::access::AdminVerb;

/// An answer leaves so long before the deadline of the caller, who else would not get it.
const MARGIN: Duration = Duration::from_millis(200);

type Reply<T> = Result<Response<T>, Status>;

/// `antumbra.cluster.v1.Cluster`.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) door: Door,
}

macro_rules! unary {
    ($self:ident, $request:ident, $verb:ident, $handler:path) => {{
        let deadline = deadline::of(&$request).at;
        let door = $self.door.of_operator(&$request, AdminVerb::$verb)?;
        let reply = $handler(&door, $request.into_inner(), deadline).await;
        reply.map(Response::new).map_err(Status::from)
    }};
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Reply<v1::GetStatusResponse> {
        unary!(self, request, ReadCluster, status::overview)
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Reply<v1::ListNodesResponse> {
        unary!(self, request, ReadCluster, status::nodes)
    }

    async fn list_shards(
        &self,
        request: Request<v1::ListShardsRequest>,
    ) -> Reply<v1::ListShardsResponse> {
        unary!(self, request, ReadCluster, status::shards)
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Reply<v1::TransferLeadershipResponse> {
        unary!(self, request, OperateCluster, transfer::transfer)
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Reply<v1::DrainResponse> {
        unary!(self, request, OperateCluster, maintenance::drain)
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Reply<v1::ResumeResponse> {
        unary!(self, request, OperateCluster, maintenance::resume)
    }

    async fn decommission(
        &self,
        request: Request<v1::DecommissionRequest>,
    ) -> Reply<v1::DecommissionResponse> {
        unary!(self, request, OperateCluster, maintenance::decommission)
    }

    async fn r#move(&self, request: Request<v1::MoveRequest>) -> Reply<v1::MoveResponse> {
        unary!(self, request, OperateCluster, maintenance::r#move)
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Reply<v1::ExplainResponse> {
        unary!(self, request, ReadCluster, explain::explain)
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Reply<v1::VerifyResponse> {
        unary!(self, request, OperateCluster, verify::verify)
    }

    type DumpShardStream =
        Pin<Box<dyn Stream<Item = Result<v1::DumpShardResponse, Status>> + Send>>;

    async fn dump_shard(
        &self,
        request: Request<v1::DumpShardRequest>,
    ) -> Reply<Self::DumpShardStream> {
        let deadline = deadline::of(&request);
        let door = self.door.of_operator(&request, AdminVerb::OperateCluster)?;
        let parts = dump::dump(&door, request.into_inner(), deadline).await?;
        Ok(Response::new(Box::pin(access::guarded(door, parts))))
    }

    async fn restore_rows(
        &self,
        request: Request<v1::RestoreRowsRequest>,
    ) -> Reply<v1::RestoreRowsResponse> {
        self.door.gate.memory().admit()?;
        unary!(self, request, OperateCluster, restore::restore)
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Reply<v1::SetLogFilterResponse> {
        unary!(self, request, OperateCluster, log_filter::set)
    }
}

/// When the work must be done, so that the answer is there at the deadline.
fn soon(deadline: Instant) -> Instant {
    deadline.checked_sub(MARGIN).unwrap_or(deadline)
}

/// What is left until then.
fn remaining(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
