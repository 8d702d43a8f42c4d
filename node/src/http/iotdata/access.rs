//! Who sends a request: a token, a signature as AWS software development kits make it, or the
//! certificate of the connection.
//!
//! A signature covers the body, so the body of a signed request is read before the request is judged;
//! as much of it as any body may have. Where the door is open to everybody, signatures are not looked
//! at: there a program for AWS works with whatever keys it has.

use std::sync::Arc;

use antumbra_shadow::Tenant;
use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use bytes::Bytes;

use super::Deadline;
use crate::access::sigv4::{self, SignedRequest};
use crate::access::{Principal, Visitor};
use crate::api::bearer;
use crate::error::Error;
use crate::http::{Door, body, reply};
use crate::shadows::Caller;

/// Wraps every request of this door about shadows.
pub(super) async fn around(
    State(door): State<Door>,
    request: Request,
    next: Next,
) -> Response<Body> {
    match judge(&door, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => reply::error(&error, ""),
    }
}

/// Finds out who sends a request and writes it down there.
async fn judge(door: &Door, request: Request) -> Result<Request, Error> {
    let (mut parts, mut body) = request.into_parts();
    let mut shown = parts.headers.get_all(AUTHORIZATION).iter();
    let shown = (shown.next().cloned(), shown.next().cloned());
    let is_signed = sigv4::is_signed(&signed(&parts, &headers(&parts), [0; 32]));
    let visitor = parts.extensions.get::<Visitor>().cloned();
    let visitor = visitor.unwrap_or_default();
    let principal = match shown {
        _ if is_signed && door.gate.is_open() && !visitor.must_prove => None,
        _ if is_signed => {
            let deadline = parts.extensions.get::<Deadline>().copied();
            let Deadline(deadline) = deadline.ok_or(Error::Internal("no deadline"))?;
            let bytes = body::read(&parts.headers, body, door.body_bytes_max, deadline).await?;
            let principal = check(door, &parts, &bytes)?;
            body = Body::from(bytes);
            Some(principal)
        }
        (None, _) => door.gate.visitor(&visitor)?,
        (Some(shown), None) => {
            let token = bearer(shown.as_bytes()).ok_or(Error::Unauthenticated)?;
            Some(door.gate.bearer(token).await?)
        }
        _ => return Err(Error::Unauthenticated),
    };
    let caller = match principal {
        Some(principal) => {
            let actor = format!("http:{}", principal.name);
            Arc::new(Caller::of(actor, Arc::new(principal)))
        }
        None => Arc::clone(&door.caller),
    };
    parts.extensions.insert(caller);
    Ok(Request::from_parts(parts, body))
}

fn check(door: &Door, parts: &Parts, bytes: &Bytes) -> Result<Principal, Error> {
    let mut body_hash = [0; 32];
    body_hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    door.gate.signed(&signed(parts, &headers(parts), body_hash))
}

fn headers(parts: &Parts) -> Vec<(&str, &[u8])> {
    let headers = parts.headers.iter();
    headers
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}

fn signed<'a>(
    parts: &'a Parts,
    headers: &'a [(&'a str, &'a [u8])],
    body_hash: [u8; 32],
) -> SignedRequest<'a> {
    SignedRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers,
        body_hash,
    }
}

impl Door {
    /// The door as this caller sees it, and the tenant that it works in.
    pub(super) fn of(self, caller: Arc<Caller>) -> (Door, Tenant) {
        let tenant = caller.tenant.clone().unwrap_or_else(Tenant::default_tenant);
        let limits = self.gate.limits(&tenant, self.limits);
        let door = Door {
            limits,
            caller,
            ..self
        };
        (door, tenant)
    }
}
