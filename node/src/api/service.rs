//! The service: unwraps requests, hands them to the use case's file, wraps replies.

use std::pin::Pin;

use antumbra_proto::v1;
use antumbra_proto::v1::shadows_server::Shadows;
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Door, access, batch, deadline, list, single, stream, watch};

type Reply<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// `antumbra.v1.Shadows`.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) door: Door,
}

macro_rules! unary {
    ($self:ident, $request:ident, $handler:path) => {{
        let deadline = deadline::of(&$request).at;
        let door = $self.door.of(&$request)?;
        let reply = $handler(&door, $request.into_inner(), deadline).await;
        reply.map(Response::new).map_err(Status::from)
    }};
}

#[tonic::async_trait]
impl Shadows for Service {
    async fn get_shadow(
        &self,
        request: Request<v1::GetShadowRequest>,
    ) -> Reply<v1::GetShadowResponse> {
        deadline::note_consistency(&request, request.get_ref().consistency());
        unary!(self, request, single::get)
    }

    async fn batch_get_shadows(
        &self,
        request: Request<v1::BatchGetShadowsRequest>,
    ) -> Reply<v1::BatchGetShadowsResponse> {
        unary!(self, request, batch::get)
    }

    async fn update_shadow(
        &self,
        request: Request<v1::UpdateShadowRequest>,
    ) -> Reply<v1::UpdateShadowResponse> {
        self.door.gate.memory().admit()?;
        unary!(self, request, single::update)
    }

    async fn batch_update_shadows(
        &self,
        request: Request<v1::BatchUpdateShadowsRequest>,
    ) -> Reply<v1::BatchUpdateShadowsResponse> {
        self.door.gate.memory().admit()?;
        unary!(self, request, batch::update)
    }

    async fn delete_shadow(
        &self,
        request: Request<v1::DeleteShadowRequest>,
    ) -> Reply<v1::DeleteShadowResponse> {
        self.door.gate.memory().admit()?;
        unary!(self, request, single::delete)
    }

    async fn list_shadows(
        &self,
        request: Request<v1::ListShadowsRequest>,
    ) -> Reply<v1::ListShadowsResponse> {
        unary!(self, request, list::shadows)
    }

    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Reply<v1::ListDevicesResponse> {
        unary!(self, request, list::devices)
    }

    type WatchShadowsStream = Events<v1::WatchShadowsResponse>;

    async fn watch_shadows(
        &self,
        request: Request<v1::WatchShadowsRequest>,
    ) -> Reply<Self::WatchShadowsStream> {
        self.door.gate.memory().admit()?;
        let deadline = deadline::of(&request);
        let door = self.door.of(&request)?;
        let events = watch::watch(&door, request.into_inner(), deadline)?;
        Ok(Response::new(Box::pin(access::guarded(door, events))))
    }

    type StreamUpdatesStream = Events<v1::StreamUpdatesResponse>;

    async fn stream_updates(
        &self,
        request: Request<Streaming<v1::StreamUpdatesRequest>>,
    ) -> Reply<Self::StreamUpdatesStream> {
        self.door.gate.memory().admit()?;
        let deadline = deadline::of(&request);
        let door = self.door.of(&request)?;
        let replies = stream::updates(&door, request.into_inner(), deadline);
        Ok(Response::new(Box::pin(replies)))
    }
}
