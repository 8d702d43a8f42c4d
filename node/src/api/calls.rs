//! What becomes of a call before a service sees it: it gets a deadline and a name, its caller is judged, and
//! it goes where its path says.
//!
//! Calls of shadows go to their service straight away: a router and a chain of middlewares took a tenth of the
//! processor time of a read (`docs/performance-history.md`).

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use antumbra_proto::v1::shadows_server::{SERVICE_NAME, ShadowsServer};
use axum::Router;
use axum::http::{Request, Response};
use bytes::Bytes;
use tonic::body::Body;
use tower::{BoxError, Service};

use super::{Settings, access, deadline, service};

/// Every service of the gRPC door. Cloning shares them.
#[derive(Clone)]
pub struct Calls(Arc<Shared>);

struct Shared {
    settings: Settings,
    judge: access::Judge,
    shadows: ShadowsServer<service::Service>,
    others: Router,
}

impl Calls {
    pub(super) fn new(
        settings: Settings,
        judge: access::Judge,
        shadows: ShadowsServer<service::Service>,
        others: Router,
    ) -> Calls {
        Calls(Arc::new(Shared {
            settings,
            judge,
            shadows,
            others,
        }))
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let Calls(shared) = &self;
        let judged =
            |request| access::around(&shared.judge, request, |request| shared.route(request));
        deadline::around(shared.settings, request, judged).await
    }
}

impl Shared {
    async fn route<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        if is_of_shadows(request.uri().path()) {
            let Ok(response) = self.shadows.clone().call(request).await;
            return response;
        }
        let Ok(response) = self.others.clone().call(request).await;
        response.map(Body::new)
    }
}

fn is_of_shadows(path: &str) -> bool {
    let method = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(SERVICE_NAME));
    method.is_some_and(|method| method.starts_with('/'))
}

impl<B> Service<Request<B>> for Calls
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async { Ok(answer.await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing but a method of the service is taken for one.
    #[test]
    fn calls_of_shadows_are_told_by_their_path() {
        assert!(is_of_shadows("/antumbra.v1.Shadows/GetShadow"));
        assert!(is_of_shadows("/antumbra.v1.Shadows/"));
        for other in [
            "",
            "/",
            "antumbra.v1.Shadows/GetShadow",
            "/antumbra.v1.Shadows",
            "/antumbra.v1.Shadowss/GetShadow",
            "/antumbra.cluster.v1.Cluster/GetStatus",
        ] {
            assert!(!is_of_shadows(other), "{other}");
        }
    }
}
