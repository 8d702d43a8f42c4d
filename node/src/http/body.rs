//! Reading request bodies without ever holding more than the limit.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;

/// How much of a body that is too large is read and thrown away, so that a client that sends it
/// whole before it listens still reads the reply. One that announces more is refused at once.
const DISCARD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads the body, at most `bytes_max` of it.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
    deadline: Instant,
) -> Result<Bytes, Error> {
    check_encoding(headers)?;
    let announced = announced(headers);
    if let Some(bytes) = announced.filter(|bytes| *bytes > DISCARD_BYTES_MAX.max(bytes_max)) {
        return Err(too_large(bytes, bytes_max));
    }
    match timeout_at(deadline, collect(body, bytes_max)).await {
        Ok(result) => result,
        Err(_) => Err(Error::invalid("body", "The body did not arrive in time")),
    }
}

async fn collect(mut body: Body, bytes_max: u64) -> Result<Bytes, Error> {
    let mut kept = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::invalid("body", "The body could not be read"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen += data.len() as u64;
        if seen > DISCARD_BYTES_MAX.max(bytes_max) {
            break;
        }
        if seen > bytes_max {
            kept = BytesMut::new();
        } else {
            kept.extend_from_slice(&data);
        }
    }
    if seen > bytes_max {
        Err(too_large(seen, bytes_max))
    } else {
        Ok(kept.freeze())
    }
}

fn too_large(bytes: u64, max: u64) -> Error {
    Error::TooLarge {
        what: "request body",
        bytes,
        max,
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Bodies are plain UTF-8: nothing is decompressed, and no other charset is read.
fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    for value in headers.get_all(CONTENT_ENCODING) {
        if !value.as_bytes().eq_ignore_ascii_case(b"identity") && !value.is_empty() {
            return Err(Error::UnsupportedEncoding);
        }
    }
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let content_type = content_type
        .to_str()
        .map_err(|_| Error::UnsupportedEncoding)?;
    let charset = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    });
    match charset {
        None => Ok(()),
        Some(name) if name.eq_ignore_ascii_case("utf-8") => Ok(()),
        Some(name) if name.eq_ignore_ascii_case("utf8") => Ok(()),
        Some(name) if name.eq_ignore_ascii_case("us-ascii") => Ok(()),
        Some(_) => Err(Error::UnsupportedEncoding),
    }
}
