//! Replies of the HTTP door.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Response, StatusCode};
use serde_json::json;

use crate::error::{Error, Reason};

/// Where AWS clients read the class of an error.
pub(super) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
/// Where AWS clients read the id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// A document.
pub(super) fn document(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// An error as AWS clients read it: class in a header, `message` in the body. `shadow` is what a
/// missing shadow is called. The body has no `code`, which clients would take for the class.
pub(super) fn error(error: &Error, shadow: &str) -> Response<Body> {
    let row = error.row();
    let body = json!({ "message": error.aws_message(shadow), "reason": row.name });
    let mut response = document(body.to_string());
    *response.status_mut() =
        StatusCode::from_u16(row.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(ERROR_TYPE, HeaderValue::from_static(row.exception));
    if matches!(error.reason(), Reason::Overloaded | Reason::Unavailable) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
