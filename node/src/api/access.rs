//! Who calls: the token of a call, or the certificate of its connection, judged before the call is
//! looked at.
//!
//! Health and reflection are open to everybody: they say nothing about a tenant.

use std::sync::Arc;

use antumbra_shadow::Tenant;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Request, Response};
use futures::Stream;
use futures::stream::{self, StreamExt};
use tonic::Status;
use tonic::body::Body;

use super::Door;
use crate::access::{AdminVerb, Gate, Visitor};
use crate::error::Error;
use crate::shadows::Caller;

/// Services that anybody may call.
const OPEN: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

/// What is needed to judge a call.
#[derive(Clone)]
pub(super) struct Judge {
    pub(super) gate: Arc<Gate>,
    /// Who shows nothing, where the door is open.
    pub(super) anyone: Arc<Caller>,
}

/// Wraps every call.
pub(super) async fn around<B, F: Future<Output = Response<Body>>>(
    judge: &Judge,
    mut request: Request<B>,
    next: impl FnOnce(Request<B>) -> F,
) -> Response<Body> {
    let path = request.uri().path();
    if OPEN.iter().any(|service| path.starts_with(service)) {
        return next(request).await;
    }
    let visitor = request.extensions().get::<Visitor>().cloned();
    let visitor = visitor.unwrap_or_default();
    match judge.caller(request.headers(), &visitor).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next(request).await
        }
        Err(error) => Status::from(error).into_http(),
    }
}

impl Judge {
    async fn caller(&self, headers: &HeaderMap, visitor: &Visitor) -> Result<Arc<Caller>, Error> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let principal = match (shown.next(), shown.next()) {
            (None, _) => self.gate.visitor(visitor)?,
            (Some(shown), None) => {
                let token = bearer(shown.as_bytes()).ok_or(Error::Unauthenticated)?;
                Some(self.gate.bearer(token).await?)
            }
            _ => return Err(Error::Unauthenticated),
        };
        Ok(match principal {
            Some(principal) => {
                let actor = format!("grpc:{}", principal.name);
                Arc::new(Caller::of(actor, Arc::new(principal)))
            }
            None => Arc::clone(&self.anyone),
        })
    }
}

/// The token in a header `authorization: Bearer TOKEN`.
pub(crate) fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked(b"bearer ".len())?;
    let token = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

impl Door {
    /// The door as whoever sent this request sees it.
    pub(super) fn of<T>(&self, request: &tonic::Request<T>) -> Result<Door, Error> {
        let caller = request.extensions().get::<Arc<Caller>>();
        let caller = Arc::clone(caller.ok_or(Error::Unauthenticated)?);
        let tenant = caller.tenant.clone().unwrap_or_else(Tenant::default_tenant);
        Ok(Door {
            limits: self.gate.limits(&tenant, self.limits),
            caller,
            ..self.clone()
        })
    }

    /// The same for what is done to the cluster.
    pub(super) fn of_operator<T>(
        &self,
        request: &tonic::Request<T>,
        verb: AdminVerb,
    ) -> Result<Door, Error> {
        let door = self.of(request)?;
        door.caller.may_administer(verb)?;
        Ok(door)
    }

    /// Resolves when the caller may no longer do what it does. May be dropped midway.
    pub(super) async fn ended(&self) -> Error {
        match self.caller.principal() {
            Some(principal) => {
                let principal = (**principal).clone();
                Arc::clone(&self.gate).ended(principal).await;
                Error::Unauthenticated
            }
            None => std::future::pending().await,
        }
    }
}

/// A stream of replies that ends when the caller may no longer hear them.
pub(super) fn guarded<T: Send + 'static>(
    door: Door,
    replies: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    let ended = Box::pin(async move { door.ended().await });
    let replies = Box::pin(replies);
    stream::unfold(Some((replies, ended)), |state| async move {
        let (mut replies, mut ended) = state?;
        tokio::select! {
            biased;
            error = &mut ended => Some((Err(Status::from(error)), None)),
            reply = replies.next() => Some((reply?, Some((replies, ended)))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One scheme, in any case, and a token.
    #[test]
    fn reads_the_bearer_header() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for bad in [&b"Bearer"[..], b"Bearer ", b"Basic abc", b"abc", b""] {
            assert_eq!(bearer(bad), None);
        }
    }
}
