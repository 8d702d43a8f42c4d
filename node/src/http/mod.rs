//! The HTTP door: the AWS `iot-data` operations for devices, and health and metrics for operators.
//!
//! Bodies, heads and times are bounded. Every reply has a request id; every error is JSON.

mod body;
pub mod connections;
mod iotdata;
mod operations;
mod prestop;
mod reply;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Clock;
use antumbra_shadow::{Limits, Time};
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Response};
use axum::middleware::{self, Next};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::access::Gate;
use crate::cluster::Office;
use crate::error::Error;
use crate::health::Health;
use crate::metrics::{Answered, Exporter, LINEARIZABLE, NO_READ};
use crate::shadows::{Caller, Shadows};
use crate::telemetry::REQUESTS;
use crate::tls::Tls;
use crate::trace;

use iotdata::Deadline;

/// Most HTTP connections at one time.
const CONNECTIONS_MAX: usize = 16_384;

/// What the HTTP door needs. Cloning shares it.
#[derive(Clone)]
pub struct Door {
    /// The use cases.
    pub shadows: Shadows,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// Who calls: at first whoever shows nothing where the door is open, then who the request is from.
    pub caller: Arc<Caller>,
    /// The limits of the default tenant.
    pub limits: Limits,
    /// Whether the node serves.
    pub health: Health,
    /// What the node knows of its cluster.
    pub office: Arc<Office>,
    /// The text of `/metrics`; `None` when another recorder collects them.
    pub metrics: Option<Exporter>,
    /// Wall clock, for the time that replies carry.
    pub clock: Arc<dyn Clock>,
    /// Deadline of a request.
    pub default_deadline: Duration,
    /// Largest request body that is read.
    pub body_bytes_max: u64,
    /// Where gRPC is served, for the page at `/`.
    pub grpc_address: SocketAddr,
}

impl Door {
    fn now(&self) -> Time {
        Time(self.clock.now_ms())
    }
}

/// Every path of this door.
pub fn router(door: Door) -> Router {
    Router::new()
        .merge(iotdata::routes(&door))
        .route("/", get(operations::index))
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz))
        .route("/startupz", get(operations::startupz))
        .route("/metrics", get(operations::metrics))
        .route(prestop::PATH, get(prestop::prestop))
        .fallback(|| async { reply::error(&Error::UnknownPath, "") })
        .method_not_allowed_fallback(|| async { reply::error(&Error::MethodNotAllowed, "") })
        .layer(middleware::from_fn_with_state(door.clone(), around))
        .with_state(door)
}

/// Serves the door until `shutdown`, then lets requests in flight finish. Dropping the future
/// closes every connection. With `tls` nothing else is spoken.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) {
    let settings = connections::Settings {
        protocol: connections::Protocol::Http1,
        tls,
        connections_max: CONNECTIONS_MAX,
    };
    connections::serve(listener, router(door), settings, shutdown).await;
}

/// What every request gets: a deadline, a request id, and a place in the metrics and in the log.
async fn around(State(door): State<Door>, mut request: Request, next: Next) -> Response<Body> {
    let start = Instant::now();
    let deadline = start + door.default_deadline;
    let operation = operation(&request);
    let request_id = trace::request_id(request.headers());
    let span = trace::request(&request_id);
    request.extensions_mut().insert(Deadline(deadline));

    // The use cases keep the deadline themselves and know better what it cut off; this is for
    // whatever else takes time.
    let grace = deadline + Duration::from_millis(100);
    let answer = timeout_at(grace, next.run(request)).instrument(span.clone());
    let mut response = match answer.await {
        Ok(response) => response,
        Err(_) => reply::error(&Error::Deadline, ""),
    };

    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(reply::REQUEST_ID, value);
    }
    let code = response.status().as_u16();
    span.in_scope(|| tracing::info!(target: REQUESTS, operation, code, "http request"));
    Answered {
        api: "http",
        op: operation,
        consistency: match operation {
            "GetThingShadow" | "ListNamedShadowsForThing" => LINEARIZABLE,
            _ => NO_READ,
        },
        code: code.to_string().into(),
        took: start.elapsed(),
    }
    .record();
    response
}

/// The name of what is asked for, from a closed list.
fn operation(request: &Request) -> &'static str {
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("", MatchedPath::as_str);
    match (path, request.method().as_str()) {
        (iotdata::SHADOW_PATH, "GET" | "HEAD") => "GetThingShadow",
        (iotdata::SHADOW_PATH, "POST") => "UpdateThingShadow",
        (iotdata::SHADOW_PATH, "DELETE") => "DeleteThingShadow",
        (iotdata::LIST_PATH, "GET" | "HEAD") => "ListNamedShadowsForThing",
        (iotdata::CONNECTION_PATH, "GET" | "HEAD") => "GetConnection",
        (iotdata::CONNECTION_PATH, "DELETE") => "DeleteConnection",
        ("/" | "/livez" | "/readyz" | "/startupz" | "/metrics", "GET" | "HEAD") => "operations",
        (prestop::PATH, "GET" | "HEAD") => "operations",
        _ => "other",
    }
}
