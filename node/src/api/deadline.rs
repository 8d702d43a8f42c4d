//! Deadlines, and the last look at every reply.
//!
//! The use cases get the deadline and keep it; what they do not see (a body that trickles in) is
//! cut off here. Errors that the gRPC library makes itself are given the form that ours have.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use axum::middleware::Next;
use metrics::{counter, histogram};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use super::Settings;
use crate::error::Error;
use crate::metrics::{REQUEST_SECONDS, REQUESTS_TOTAL};

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

/// Wraps every call.
pub(super) async fn around(
    State(settings): State<Settings>,
    mut request: Request,
    next: Next,
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
    request.extensions_mut().insert(deadline);

    let response = match timeout_at(deadline.at + GRACE, next.run(request)).await {
        Ok(response) => refined(response),
        Err(_) => Status::from(Error::Deadline).into_http(),
    };
    let code = response
        .extensions()
        .get::<Status>()
        .map_or(Code::Ok, Status::code);
    let code = (code as i32).to_string();
    counter!(REQUESTS_TOTAL, "door" => "grpc", "method" => method, "code" => code).increment(1);
    histogram!(REQUEST_SECONDS, "door" => "grpc", "method" => method)
        .record(start.elapsed().as_secs_f64());
    response
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
    const METHODS: [&str; 24] = [
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
        "Verify",
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
}
