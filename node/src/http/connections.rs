//! The accept loop of the doors: bounded connections, TLS where there is some, bounded headers,
//! timeouts for whoever is slow, and a stop that lets requests in flight finish.
//!
//! An error while accepting never ends the loop. HTTP/2 settings hold against floods of streams,
//! resets and headers.

use std::convert::Infallible;
use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{BoxError, Layer, Service};
use tracing::{debug, warn};

use crate::tls::Tls;

/// How long a new or idle connection may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to say that it speaks HTTP/2.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the HTTP/2 connection preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// Largest head of an HTTP/1 request, and largest header list of an HTTP/2 request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of an HTTP/1 request.
const HEADERS_MAX: usize = 64;
/// Most streams that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 1024;
/// Streams that the peer reset before we looked at them (rapid reset), and that we reset for the
/// peer's errors; more close the connection.
const RESETS_MAX: usize = 64;
/// Bytes that one stream, and one connection, may send ahead of us.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How often a quiet HTTP/2 peer is asked for a sign of life, and how long it may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the connections of a listener speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, as gRPC uses it.
    Http2,
}

/// How a listener is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What its connections speak, unless they choose HTTP/2 in the handshake of TLS.
    pub protocol: Protocol,
    /// TLS, where connections must speak it.
    pub tls: Option<Tls>,
    /// Most connections at one time; more are closed at once.
    pub connections_max: usize,
}

/// What answers the requests of connections, each with a clone.
pub trait Answers:
    Service<
        Request<Incoming>,
        Response = Response<<Self as Answers>::Reply>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of an answer.
    type Reply: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> Answers for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Reply = B;
}

/// Serves `service` on `listener` until `shutdown`; then stops listening, lets every connection
/// finish its requests, and returns. Dropping the future closes all connections at once.
pub async fn serve(
    listener: TcpListener,
    service: impl Answers,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let connections_max = settings.connections_max;
    let door = Arc::new(Door {
        service,
        http1: builder(Protocol::Http1),
        http2: builder(Protocol::Http2),
        settings,
        stop: shutdown.clone(),
    });
    let serve_one = |stream| Arc::clone(&door).serve(stream);
    accept(listener, connections_max, shutdown, serve_one).await;
}

/// What all connections of a listener share.
struct Door<S> {
    service: S,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    settings: Settings,
    stop: CancellationToken,
}

impl<S: Answers> Door<S> {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let Some(tls) = &self.settings.tls else {
            let (reader, writer) = stream.into_split();
            let (protocol, service) = (self.settings.protocol, self.service.clone());
            return self.speak(protocol, reader, writer, service).await;
        };
        let accepted = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            accepted = tls.accept(stream) => accepted,
        };
        let Some(accepted) = accepted else {
            return;
        };
        let protocol = match accepted.is_http2() {
            true => Protocol::Http2,
            false => self.settings.protocol,
        };
        let service = Extension(accepted.visitor).layer(self.service.clone());
        let (reader, writer) = split(accepted.stream);
        self.speak(protocol, reader, writer, service).await;
    }

    async fn speak(
        &self,
        protocol: Protocol,
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send + 'static,
        service: impl Answers,
    ) {
        match protocol {
            Protocol::Http1 => speak(join(reader, writer), service, &self.http1, &self.stop).await,
            Protocol::Http2 => {
                let Some(reader) = after_preface(reader, &self.stop).await else {
                    return;
                };
                speak(join(reader, writer), service, &self.http2, &self.stop).await;
            }
        }
    }
}

/// Runs `serve_one` for every connection of `listener`, at most `connections_max` at a time, until
/// `shutdown`; then stops listening, waits for those that run, and returns. Dropping the future
/// drops all of them.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    connections_max: usize,
    shutdown: CancellationToken,
    serve_one: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(connections_max));
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let abort_when_dropped = abort.clone().drop_guard();

    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            debug!("too many connections, close the new one");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = serve_one(stream);
        let abort = abort.clone();
        connections.spawn(async move {
            tokio::select! {
                biased;
                () = abort.cancelled() => {}
                () = connection => {}
            }
            drop(permit);
        });
    }

    drop(listener);
    connections.close();
    connections.wait().await;
    drop(abort_when_dropped);
}

/// Speaks HTTP on one connection to its end; from `shutdown` on it only finishes its requests.
pub(crate) async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: impl Answers,
    builder: &Builder<TokioExecutor>,
    shutdown: &CancellationToken,
) {
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut served = pin!(served);
    let result = tokio::select! {
        biased;
        result = served.as_mut() => result,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection ended");
    }
}

/// Waits until the peer has sent as many bytes as an HTTP/2 preface has, because the HTTP/2
/// server waits for them without a limit. What is given reads them again.
async fn after_preface<R: AsyncRead + Unpin>(
    mut reader: R,
    shutdown: &CancellationToken,
) -> Option<impl AsyncRead + Unpin + use<R>> {
    let mut bytes = [0; PREFACE_BYTES];
    let arrived = timeout(PREFACE_TIMEOUT, reader.read_exact(&mut bytes));
    tokio::select! {
        biased;
        () = shutdown.cancelled() => return None,
        arrived = arrived => arrived.ok()?.ok()?,
    };
    Some(Cursor::new(bytes).chain(reader))
}

fn builder(protocol: Protocol) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    }
}
