//! Health, metrics, and the page that names the doors.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Response, StatusCode, header};

use crate::health::{Check, all_good};

use super::{Door, reply};

/// `/`: where to go from here.
pub(super) async fn index(State(door): State<Door>, headers: HeaderMap) -> Response<Body> {
    let http = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("this port");
    // The host is what the caller sent: keep only what a host name can hold.
    let http: String = http
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '[' | ']' | ' '))
        .take(256)
        .collect();
    let text = format!(
        "Antumbra {version}: device shadows, strongly consistent.\n\
         \n\
         gRPC   {grpc}   antumbra.v1.Shadows, health, reflection\n\
         HTTP   {http}   AWS iot-data:\n\
         \x20      GET, POST, DELETE /things/{{thing}}/shadow[?name={{shadow}}]\n\
         \x20      GET /api/things/shadow/ListNamedShadowsForThing/{{thing}}\n\
         \x20      GET /livez /readyz /startupz /metrics\n",
        version = env!("CARGO_PKG_VERSION"),
        grpc = door.grpc_address,
    );
    reply::text(StatusCode::OK, text)
}

/// `/livez`: the process works; when it does not, restart it.
pub(super) async fn livez(State(door): State<Door>, query: RawQuery) -> Response<Body> {
    answer(&door.health.live(), query)
}

/// `/readyz`: requests are served.
pub(super) async fn readyz(State(door): State<Door>, query: RawQuery) -> Response<Body> {
    answer(&door.health.ready(), query)
}

/// `/startupz`: the start is over.
pub(super) async fn startupz(State(door): State<Door>, query: RawQuery) -> Response<Body> {
    answer(&door.health.started(), query)
}

/// `/metrics` in the Prometheus text format.
pub(super) async fn metrics(State(door): State<Door>) -> Response<Body> {
    match &door.metrics {
        Some(exporter) => reply::text(StatusCode::OK, exporter.render()),
        None => reply::text(StatusCode::NOT_FOUND, "metrics are collected elsewhere\n"),
    }
}

/// `ok`, or every check that fails; with `?verbose` every check.
fn answer(checks: &[Check], RawQuery(query): RawQuery) -> Response<Body> {
    let is_verbose = query.is_some_and(|query| query.split('&').any(|part| part == "verbose"));
    let is_good = all_good(checks);
    let lines = checks.iter().filter_map(|check| match &check.problem {
        Some(problem) => Some(format!("[-] {}: {problem}\n", check.name)),
        None => is_verbose.then(|| format!("[+] {}\n", check.name)),
    });
    let mut text: String = lines.collect();
    match is_good {
        true => {
            text.push_str("ok\n");
            reply::text(StatusCode::OK, text)
        }
        false => {
            text.push_str("not ready\n");
            reply::text(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}
