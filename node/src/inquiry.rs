//! One HTTP/1.1 request on a connection of its own, for the few questions that the program asks others.

use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// Heads of answers are small.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection ends too early, or what comes is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The body ends too early or is too large.
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// Sends a request and reads the answer. The caller limits the time; dropped midway, it leaves nothing behind.
pub(crate) async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    body_bytes_max: usize,
) -> Result<Answer, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // Its error reaches the request.
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), body_bytes_max).collect();
    let body = body.await.map_err(Error::Body)?.to_bytes();
    Ok(Answer { status, body })
}
