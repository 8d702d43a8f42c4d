//! How the log lines of one request are found: each stands in a span that says which request it is of.
//!
//! `request_id` is what the door calls the request. `command` is the request id that the caller gave a
//! command; it travels with the command, so it is also in the lines of the node that leads.

use antumbra_shadow::RequestId;
use axum::http::{HeaderMap, HeaderName};
use tracing::field::Empty;
use tracing::{Span, info_span};
use uuid::Uuid;

/// Where a caller may say what its request is called, and where the gRPC door says it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken from a caller.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// What a request is called: as its caller says, if that can stand in a log line, else as nothing else
/// is called.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let said = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    match said.filter(|said| is_usable(said)) {
        Some(said) => said.to_owned(),
        None => Uuid::new_v4().to_string(),
    }
}

fn is_usable(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
}

/// The span of a request at a door.
pub(crate) fn request(request_id: &str) -> Span {
    info_span!("request", request_id, command = Empty)
}

/// Says in the span of the request which command it carries, where the caller has named it.
pub(crate) fn note_command(command: Option<&RequestId>) {
    if let Some(command) = command {
        Span::current().record("command", command.as_str());
    }
}

/// The span of a command that another node sent here. None where nobody has named it.
pub(crate) fn forwarded(command: Option<&RequestId>) -> Span {
    match command {
        Some(command) => info_span!("forwarded", command = command.as_str()),
        None => Span::none(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What could forge a log line, or fill it, is not taken.
    #[test]
    fn request_id_is_taken_only_if_it_is_plain_and_short() {
        let of = |said: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, said.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(of("order-7:retry_2.a"), "order-7:retry_2.a");
        let long = "a".repeat(REQUEST_ID_BYTES_MAX + 1);
        for bad in ["", "a b", "a\"b", "{}", &long] {
            let drawn = of(bad);
            assert!(Uuid::parse_str(&drawn).is_ok(), "{bad:?} gives {drawn}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
