//! The listener of the link.

use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::peer::v1::peer_server::PeerServer;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::warn;

use crate::http::connections;

use super::PeerHandler;
use super::limits::{
    CONNECTIONS_MAX, FIRST_REQUEST_TIMEOUT, HEADER_BYTES_MAX, HTTP_FRAME_BYTES, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT, LANE_CONNECTION_WINDOW_BYTES, LANE_WINDOW_BYTES, MESSAGE_BYTES_MAX,
    SHUTDOWN_GRACE, STREAMS_MAX,
};
use super::me::Me;
use super::service::{Service, Visitor};
use super::tls::{CertificateName, Tls};

/// Streams that the peer reset before we looked at them, and that we reset for the peer's errors;
/// more close the connection.
const RESETS_MAX: usize = 64;
/// At most one warning about failed TLS handshakes in this time.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Serves other nodes until `shutdown`; then ends all links and follow streams, lets control
/// requests finish for a few seconds, and returns. Keeps the certificates of `tls` current
/// meanwhile. Dropping the future closes every connection.
pub async fn serve(
    listener: TcpListener,
    me: Me,
    tls: Tls,
    handler: Arc<dyn PeerHandler>,
    shutdown: CancellationToken,
) {
    let stop = shutdown.child_token();
    let stop_when_dropped = stop.clone().drop_guard();
    let service = Service::new(me, handler, stop.clone());
    let server = PeerServer::new(service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let door = Arc::new(Door {
        router: Routes::new(server).into_axum_router(),
        builder: builder(),
        tls: tls.clone(),
        stop: stop.clone(),
        warned: Mutex::new(None),
    });

    let accepting = connections::accept(listener, CONNECTIONS_MAX, stop.clone(), |stream| {
        Arc::clone(&door).serve(stream)
    });
    let accepting = async {
        let mut accepting = std::pin::pin!(accepting);
        tokio::select! {
            biased;
            () = accepting.as_mut() => {}
            () = stop.cancelled() => {
                let _ = timeout(SHUTDOWN_GRACE, async {
                    accepting.await;
                    service.finished().await;
                })
                .await;
            }
        }
    };
    tokio::join!(biased; accepting, tls.watch(stop.clone()));
    drop(stop_when_dropped);
}

/// What all connections share.
struct Door {
    router: Router,
    builder: Builder<TokioExecutor>,
    tls: Tls,
    stop: CancellationToken,
    /// When somebody who cannot speak TLS with us was last mentioned.
    warned: Mutex<Option<Instant>>,
}

impl Door {
    async fn serve(self: Arc<Door>, stream: TcpStream) {
        let Tls::Files(certificates) = &self.tls else {
            return self.speak(stream, None).await;
        };
        let address = stream.peer_addr();
        let accepted = timeout(FIRST_REQUEST_TIMEOUT, certificates.accept(stream)).await;
        let error = match accepted {
            Ok(Ok(stream)) => {
                let (_, session) = stream.get_ref();
                let certificate = certificates.identify(session.peer_certificates());
                return self.speak(stream, Some(certificate)).await;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no TLS handshake in time".to_owned(),
        };
        if self.may_warn() {
            let address = address
                .map(|address| address.to_string())
                .unwrap_or_default();
            warn!(address, error, "refuse a peer connection");
        }
    }

    /// Serves the calls of one connection. One that brings none is closed after a while: nothing
    /// else limits how long it may take to begin.
    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        certificate: Option<Result<CertificateName, String>>,
    ) {
        let gone = CancellationToken::new();
        let _gone_at_the_end = gone.clone().drop_guard();
        let visitor = Visitor {
            certificate,
            called: Arc::new(Notify::new()),
            hang_up: CancellationToken::new(),
            gone,
        };
        let router = self.router.clone().layer(Extension(visitor.clone()));
        let speaking = connections::speak(stream, router, &self.builder, &self.stop);
        let silent = async {
            let call = timeout(FIRST_REQUEST_TIMEOUT, visitor.called.notified());
            if call.await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = speaking => {}
            () = visitor.hang_up.cancelled() => {}
            () = silent => {}
        }
    }

    fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock();
        let due = warned.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL);
        if due {
            *warned = Some(Instant::now());
        }
        due
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(false)
        .initial_stream_window_size(LANE_WINDOW_BYTES)
        .initial_connection_window_size(LANE_CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
