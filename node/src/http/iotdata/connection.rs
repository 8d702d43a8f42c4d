//! `GetConnection` and `DeleteConnection`: whether a client is connected, and its end.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::Response;

use super::{Deadline, Parameters};
use crate::dialect::Object;
use crate::error::Error;
use crate::gateway::{Client, Clients};
use crate::http::{Door, reply};
use crate::shadows::Caller;

/// One client.
pub(in crate::http) const CONNECTION_PATH: &str = "/connections/{client}";

type ClientPath = Result<Path<String>, PathRejection>;

/// What is known of a client; `NotFound` when nothing is.
pub(super) async fn get(
    State(door): State<Door>,
    client: ClientPath,
    Extension(deadline): Extension<Deadline>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Response<Body> {
    let named = allowed(&caller).and_then(|()| name(client));
    let (door, tenant) = door.of(caller);
    let label = named.clone().unwrap_or_default();
    let found = match named {
        Ok(client) => {
            let clients = Clients::new(&door.shadows);
            clients.get(&tenant, &client, deadline.0).await
        }
        Err(error) => Err(error),
    };
    answer(found.map(|client| body(&client)), &label)
}

/// Closes the connection of a client, and with `cleanSession=true` ends its session.
pub(super) async fn delete(
    State(door): State<Door>,
    client: ClientPath,
    Query(parameters): Parameters,
    Extension(deadline): Extension<Deadline>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Response<Body> {
    let named = allowed(&caller).and_then(|()| name(client));
    let (door, tenant) = door.of(caller);
    let label = named.clone().unwrap_or_default();
    let closed = match (named, flag(&parameters, "cleanSession")) {
        (Ok(client), Ok(is_clean)) => {
            let clients = Clients::new(&door.shadows);
            let now = door.now();
            clients
                .disconnect(&tenant, &client, is_clean, now, deadline.0)
                .await
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    answer(closed.map(|()| String::new()), &label)
}

/// Whoever may hear of clients that come and go may ask about them, and may send them away.
fn allowed(caller: &Caller) -> Result<(), Error> {
    match caller.principal() {
        Some(principal) if !principal.role.presence => Err(Error::PermissionDenied),
        _ => Ok(()),
    }
}

fn name(client: ClientPath) -> Result<String, Error> {
    match client {
        Ok(Path(client)) if !client.is_empty() => Ok(client),
        _ => Err(Error::invalid("clientId", "Invalid client id")),
    }
}

fn flag(parameters: &HashMap<String, String>, name: &'static str) -> Result<bool, Error> {
    match parameters.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::invalid(name, "must be true or false")),
    }
}

fn answer(result: Result<String, Error>, client: &str) -> Response<Body> {
    match result {
        Ok(body) => reply::document(body),
        Err(error) => reply::error(&error, client),
    }
}

fn body(client: &Client) -> String {
    let mut object = Object::new();
    object.raw("connected", if client.connected { "true" } else { "false" });
    if let Some(device) = &client.device {
        object.string("thingName", device.as_str());
    }
    object.raw(
        "cleanSession",
        if client.expiry_s == 0 {
            "true"
        } else {
            "false"
        },
    );
    object.number("keepAliveDuration", client.keep_alive_s.into());
    let since = match client.connected {
        true => "connectedSince",
        false => "disconnectedSince",
    };
    object.number(since, client.since.milliseconds());
    if let Some(reason) = client.reason {
        object.string("disconnectReason", reason);
    }
    object.number("sessionExpiry", client.expiry_s.into());
    object.finish()
}
