//! The AWS `iot-data` operations on shadows: `GetThingShadow`, `UpdateThingShadow`,
//! `DeleteThingShadow` and `ListNamedShadowsForThing`, as the AWS SDKs call them.
//!
//! A caller is in the tenant that its token or signature says. Requests are checked in the order
//! caller, names, body, shadow.

mod access;
mod change;
mod connection;
mod list;
mod read;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use antumbra_shadow::{DeviceId, DeviceKey, RequestId, ShadowName, Tenant};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, Response};
use axum::middleware;
use axum::routing::get;
use tokio::time::Instant;

use super::{Door, reply};

pub(super) use connection::CONNECTION_PATH;

use crate::dialect::aws;
use crate::error::Error;
use crate::shadows::Caller;

/// Header in which AWS SDKs name one call: the same for its retries, another for the next call.
const INVOCATION_ID: &str = "amz-sdk-invocation-id";

/// One shadow of a thing.
pub(super) const SHADOW_PATH: &str = "/things/{thing}/shadow";
/// The named shadows of a thing.
pub(super) const LIST_PATH: &str = "/api/things/shadow/ListNamedShadowsForThing/{thing}";

/// The routes of this door.
pub(super) fn routes(door: &Door) -> Router<Door> {
    Router::new()
        .route(
            SHADOW_PATH,
            get(read_shadow).post(update_shadow).delete(delete_shadow),
        )
        .route(LIST_PATH, get(list_named_shadows))
        .route(
            CONNECTION_PATH,
            get(connection::get).delete(connection::delete),
        )
        .route_layer(middleware::from_fn_with_state(door.clone(), access::around))
}

/// When the answer must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

/// A request as the handlers see it.
struct Call {
    door: Door,
    device: DeviceKey,
    shadow: ShadowName,
    request_id: Option<RequestId>,
    deadline: Instant,
}

type ThingPath = Result<Path<String>, PathRejection>;
type Parameters = Query<HashMap<String, String>>;

async fn read_shadow(
    State(door): State<Door>,
    thing: ThingPath,
    Query(parameters): Parameters,
    Extension(deadline): Extension<Deadline>,
    Extension(caller): Extension<Arc<Caller>>,
    headers: HeaderMap,
) -> Response<Body> {
    match Call::new(door.of(caller), thing, &parameters, deadline, &headers) {
        Ok(call) => call.reply(read::get(&call).await),
        Err(error) => reply::error(&error, ""),
    }
}

async fn update_shadow(
    State(door): State<Door>,
    thing: ThingPath,
    Query(parameters): Parameters,
    Extension(deadline): Extension<Deadline>,
    Extension(caller): Extension<Arc<Caller>>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let bytes_max = door.body_bytes_max;
    match Call::new(door.of(caller), thing, &parameters, deadline, headers) {
        Ok(call) => call.reply(change::update(&call, headers, body).await),
        Err(error) => {
            // A client that is still sending would lose the answer with the connection.
            let _ = crate::http::body::read(headers, body, bytes_max, deadline.0).await;
            reply::error(&error, "")
        }
    }
}

async fn delete_shadow(
    State(door): State<Door>,
    thing: ThingPath,
    Query(parameters): Parameters,
    Extension(deadline): Extension<Deadline>,
    Extension(caller): Extension<Arc<Caller>>,
    headers: HeaderMap,
) -> Response<Body> {
    match Call::new(door.of(caller), thing, &parameters, deadline, &headers) {
        Ok(call) => call.reply(change::delete(&call).await),
        Err(error) => reply::error(&error, ""),
    }
}

async fn list_named_shadows(
    State(door): State<Door>,
    thing: ThingPath,
    Query(parameters): Parameters,
    Extension(deadline): Extension<Deadline>,
    Extension(caller): Extension<Arc<Caller>>,
    headers: HeaderMap,
) -> Response<Body> {
    // `name` means nothing to this operation.
    match Call::new(door.of(caller), thing, &HashMap::new(), deadline, &headers) {
        Ok(call) => call.reply(list::list(&call, &parameters).await),
        Err(error) => reply::error(&error, ""),
    }
}

impl Call {
    fn new(
        (door, tenant): (Door, Tenant),
        thing: ThingPath,
        parameters: &HashMap<String, String>,
        deadline: Deadline,
        headers: &HeaderMap,
    ) -> Result<Call, Error> {
        let invalid_thing = || Error::invalid("thingName", "Invalid thing name");
        let Path(thing) = thing.map_err(|_| invalid_thing())?;
        let device = DeviceId::parse(&thing).map_err(|_| invalid_thing())?;
        Ok(Call {
            door,
            device: DeviceKey { tenant, device },
            shadow: shadow_name(parameters)?,
            request_id: invocation_id(headers),
            deadline: deadline.0,
        })
    }

    fn reply(&self, result: Result<String, Error>) -> Response<Body> {
        match result {
            Ok(document) => reply::document(document),
            Err(error) => {
                let label = aws::shadow_label(self.device.device.as_str(), self.shadow.as_str());
                reply::error(&error, &label)
            }
        }
    }
}

/// The shadow that `?name=` names; the classic one without it.
fn shadow_name(parameters: &HashMap<String, String>) -> Result<ShadowName, Error> {
    match parameters
        .get("name")
        .map(|name| (name, ShadowName::parse(name)))
    {
        None => Ok(ShadowName::classic()),
        Some((name, Ok(shadow))) if !name.is_empty() => Ok(shadow),
        Some(_) => Err(Error::invalid("name", Cow::Borrowed("Invalid shadow name"))),
    }
}

/// What makes a retry of an SDK safe: it carries the id of the first attempt.
fn invocation_id(headers: &HeaderMap) -> Option<RequestId> {
    RequestId::parse(headers.get(INVOCATION_ID)?.to_str().ok()?).ok()
}
