//! One HTTP/2 connection to another node.
//!
//! Not tonic's channel, which connects again behind our back and does not say whether a request was
//! sent: here a connection is opened once, ends once, and a request that never left is told from one
//! whose answer is missing.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use antumbra_proto::peer::v1::peer_client::PeerClient;
use axum::http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::handshake;
use super::limits::{
    CALL_CONNECTION_WINDOW_BYTES, CALL_WINDOW_BYTES, HEADER_BYTES_MAX, HTTP_FRAME_BYTES,
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LANE_CONNECTION_WINDOW_BYTES, LANE_WINDOW_BYTES,
    MESSAGE_BYTES_MAX,
};
use super::tls::{CertificateName, Tls};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One link.
    Lane,
    /// Control and follow calls.
    Calls,
}

/// An open connection. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
    certificate: Option<CertificateName>,
    driver: AbortHandle,
}

impl Connection {
    /// Opens a connection. With TLS whoever answers is a node of our cluster. The caller limits the
    /// time.
    pub(super) async fn open(
        address: &str,
        tls: &Tls,
        purpose: Purpose,
    ) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        match tls {
            Tls::None => Connection::over(stream, None, purpose).await,
            Tls::Files(certificates) => {
                let stream = certificates.connect(stream).await;
                let stream = stream.map_err(|error| format!("TLS handshake: {error}"))?;
                let (_, session) = stream.get_ref();
                let certificate = certificates.identify(session.peer_certificates())?;
                Connection::over(stream, Some(certificate), purpose).await
            }
        }
    }

    async fn over<S>(
        stream: S,
        certificate: Option<CertificateName>,
        purpose: Purpose,
    ) -> Result<Connection, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (window, connection_window) = match purpose {
            Purpose::Lane => (LANE_WINDOW_BYTES, LANE_CONNECTION_WINDOW_BYTES),
            Purpose::Calls => (CALL_WINDOW_BYTES, CALL_CONNECTION_WINDOW_BYTES),
        };
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(window)
            .initial_connection_window_size(connection_window)
            .max_frame_size(HTTP_FRAME_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| describe(&error))?;
        // Its error reaches whoever has a stream on it.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            certificate,
            driver: driver.abort_handle(),
        })
    }

    /// Who is at the other end, if the connection has TLS.
    pub(super) fn certificate(&self) -> Option<&CertificateName> {
        self.certificate.as_ref()
    }

    /// Whether no request can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The calls of the link. The connection must be kept until they have ended.
    pub(super) fn client(&self) -> PeerClient<Caller> {
        let origin = Uri::from_static("http://peer");
        PeerClient::with_origin(Caller(self.sender.clone()), origin)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Sends requests on a connection.
#[derive(Debug, Clone)]
pub(super) struct Caller(SendRequest<Body>);

impl Service<Request<Body>> for Caller {
    type Response = Response<Incoming>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, CallError>> + Send>>;

    /// Always: a closed connection is told by the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sending = self.0.try_send_request(request);
        Box::pin(async move {
            sending.await.map_err(|failure| match failure.message() {
                Some(_) => CallError::NotSent(failure.into_error()),
                None => CallError::Lost(failure.into_error()),
            })
        })
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// It never left: the connection was closed.
    NotSent(hyper::Error),
    /// It may have arrived.
    Lost(hyper::Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NotSent(_) => f.write_str("the connection is closed"),
            CallError::Lost(_) => f.write_str("the connection was lost"),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::NotSent(source) | CallError::Lost(source) => Some(source),
        }
    }
}

/// What came of a call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It never left.
    NotSent(String),
    /// It may have arrived; there is no answer.
    Unknown(String),
    /// The other node said no.
    Refused(String),
}

impl Failure {
    pub(super) fn of(status: &Status) -> Failure {
        if handshake::is_refusal(status) {
            return Failure::Refused(status.message().to_owned());
        }
        let mut text = match status.source() {
            Some(source) => describe(source),
            None => status.message().to_owned(),
        };
        if status.code() == Code::Unimplemented {
            text = "what answers there is not a node".to_owned();
        }
        let sent = status.source().and_then(|source| source.downcast_ref());
        match sent {
            Some(CallError::NotSent(_)) => Failure::NotSent(text),
            Some(CallError::Lost(_)) | None => Failure::Unknown(text),
        }
    }

    pub(super) fn into_text(self) -> String {
        match self {
            Failure::NotSent(text) | Failure::Unknown(text) | Failure::Refused(text) => text,
        }
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// An error with its causes, each said once.
fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
