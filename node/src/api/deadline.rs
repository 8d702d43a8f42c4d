//! Deadlines, and the last look at every reply.
//!
//! The use cases get the deadline and keep it; what they do not see (a body that trickles in) is
//! cut off here. Errors that the gRPC library makes itself are given the form that ours have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antumbra_proto::v1::Consistency;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Instrument, info};

use super::Settings;
use crate::error::Error;
use crate::metrics::{Answered, LINEARIZABLE, LOCAL, NO_READ};
use crate::telemetry::REQUESTS;
use crate::trace;

/// How much longer than its deadline a call may take to say what became of it.
const GRACE: Duration = Duration::from_millis(50);
/// The longest deadline that is kept; longer ones are cut to it.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);

/// When the answer to a call must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// The moment.
    pub(super) at: Instant,
    /// The caller asked for it; else it is the default, which does not end streams.
    pub(super) asked: bool,
}

/// Takes the deadline out of a request.
pub(super) fn of<T>(request: &tonic::Request<T>) -> Deadline {
    let deadline = request.extensions().get::<Deadline>().copied();
    deadline.unwrap_or_else(|| Deadline {
        at: Instant::now() + Duration::from_secs(10),
        asked: false,
    })
}

/// Set by whoever reads what the replica here has, for the metrics.
#[derive(Debug, Clone, Default)]
struct IsLocal(Arc<AtomicBool>);

/// Notes how consistent the read is that a call asks for.
pub(super) fn note_consistency<T>(request: &tonic::Request<T>, asked: Consistency) {
    if let Some(is_local) = request.extensions().get::<IsLocal>() {
        let local = asked == Consistency::Local;
        is_local.0.store(local, Ordering::Relaxed);
    }
}

/// Wraps every call.
pub(super) async fn around<B, F: Future<Output = Response<Body>>>(
    settings: Settings,
    mut request: Request<B>,
    next: impl FnOnce(Request<B>) -> F,
) -> Response<Body> {
    let start = Instant::now();
    let method = method(request.uri().path());
    let asked = match grpc_timeout(request.headers()) {
        Ok(asked) => asked,
        Err(error) => return Status::from(error).into_http(),
    };
    let deadline = Deadline {
        at: start + asked.unwrap_or(settings.default_deadline).min(DEADLINE_MAX),
        asked: asked.is_some(),
    };
    let is_local = IsLocal::default();
    let request_id = trace::request_id(request.headers());
    let span = trace::request(&request_id);
    request.extensions_mut().insert(deadline);
    request.extensions_mut().insert(is_local.clone());

    let answer = timeout_at(deadline.at + GRACE, next(request)).instrument(span.clone());
    let mut response = match answer.await {
        Ok(response) => refined(response),
        Err(_) => Status::from(Error::Deadline).into_http(),
    };
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(trace::REQUEST_ID, value);
    }
    let code = response
        .extensions()
        .get::<Status>()
        .map_or(Code::Ok, Status::code);
    span.in_scope(|| info!(target: REQUESTS, method, code = name_of(code), "grpc request"));
    Answered {
        api: "grpc",
        op: method,
        consistency: match method {
            "GetShadow" if is_local.0.load(Ordering::Relaxed) => LOCAL,
            "GetShadow" | "BatchGetShadows" | "ListShadows" | "ListDevices" => LINEARIZABLE,
            _ => NO_READ,
        },
        code: name_of(code).into(),
        took: start.elapsed(),
    }
    .record();
    response
}

/// A status code as the gRPC specification writes it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Gives a reply that the library refused by itself the form of our errors.
fn refined(response: Response<Body>) -> Response<Body> {
    match response
        .extensions()
        .get::<Status>()
        .and_then(library_error)
    {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

/// What an error of the gRPC library means for the caller, when it is one that the library words
/// in its own way: a message that is no protobuf, or holds text that is not UTF-8, and one that is
/// too large.
pub(super) fn library_error(status: &Status) -> Option<Error> {
    if !status.details().is_empty() {
        return None;
    }
    let message = status.message();
    match status.code() {
        Code::Internal if message.starts_with("failed to decode Protobuf message") => {
            Some(Error::invalid("request", message.to_owned()))
        }
        Code::OutOfRange if message.contains("message length too large") => {
            let mut numbers = message
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|digits| digits.parse().ok());
            Some(Error::TooLarge {
                what: "request",
                bytes: numbers.next().unwrap_or(0),
                max: numbers.next().unwrap_or(0),
            })
        }
        _ => None,
    }
}

/// Reads the header `grpc-timeout`: up to eight digits and a unit.
fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let bad = || {
        Error::invalid(
            "grpc-timeout",
            "is not up to 8 digits and one of H M S m u n",
        )
    };
    let text = value.to_str().map_err(|_| bad())?;
    let (digits, unit) = text
        .split_at_checked(text.len().wrapping_sub(1))
        .ok_or_else(bad)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let amount: u64 = digits.parse().map_err(|_| bad())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(bad()),
    }))
}

/// The method of a path, from a closed list.
fn method(path: &str) -> &'static str {
    const SERVICES: [&str; 3] = [
        "/antumbra.v1.Shadows/",
        "/antumbra.cluster.v1.Cluster/",
        "/antumbra.admin.v1.Admin/",
    ];
    const METHODS: [&str; 31] = [
        "GetShadow",
        "BatchGetShadows",
        "UpdateShadow",
        "BatchUpdateShadows",
        "DeleteShadow",
        "ListShadows",
        "ListDevices",
        "WatchShadows",
        "StreamUpdates",
        "GetStatus",
        "ListNodes",
        "ListShards",
        "TransferLeadership",
        "Explain",
        "Drain",
        "Resume",
        "Decommission",
        "Move",
        "Verify",
        "DumpShard",
        "RestoreRows",
        "SetLogFilter",
        "CreateTenant",
        "ListTenants",
        "DeleteTenant",
        "CreateCredential",
        "ListCredentials",
        "RevokeCredential",
        "PutRole",
        "ListRoles",
        "DeleteRole",
    ];
    let mut services = SERVICES.into_iter();
    let Some(name) = services.find_map(|service| path.strip_prefix(service)) else {
        return "other";
    };
    METHODS
        .into_iter()
        .find(|method| *method == name)
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The header is read as the gRPC protocol says, and a wrong one is refused, not guessed.
    #[test]
    fn reads_the_timeout_header() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            grpc_timeout(&headers)
        };
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(read(text).unwrap(), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "123456789S", "-1S", "1s", "1.5S", " 1S"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_eq!(grpc_timeout(&HeaderMap::new()).unwrap(), None);
    }

    /// Every call has a name in the metrics.
    #[test]
    fn names_every_method_of_our_services() {
        let set = antumbra_proto::FILE_DESCRIPTOR_SET;
        let set: prost_types::FileDescriptorSet = prost::Message::decode(set).unwrap();
        let mut methods = 0;
        for file in set.file.iter().filter(|file| !file.service.is_empty()) {
            for service in &file.service {
                for called in &service.method {
                    let (service, called) = (service.name(), called.name());
                    let path = format!("/{}.{service}/{called}", file.package());
                    assert_eq!(method(&path), called, "{path}");
                    methods += 1;
                }
            }
        }
        assert!(methods >= 31, "{methods} methods");
        assert_eq!(method("/antumbra.v1.Shadows/Explode"), "other");
        assert_eq!(method("/elsewhere/GetShadow"), "other");
    }
}
