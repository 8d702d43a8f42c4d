//! The accept loop of the MQTT door: bounded connections, at a bounded rate.
//!
//! A storm of connections waits in the backlog of the kernel, before anything of ours is spent on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::connection::Connection;
use super::door::{Door, Peer};
use super::metrics;
use super::mqtt::session::ServerCause;
use super::slot::Note;
use crate::access::Visitor;
use crate::rate::Rate;
use crate::tls::Tls;

/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a listener is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Most connections at one time; more are closed at once.
    pub(crate) connections_max: usize,
    /// Connections per second that are accepted; more wait.
    pub(crate) connect_rate_max: u32,
}

/// When a listener stops, in this order.
#[derive(Debug, Clone)]
pub(crate) struct Stops {
    /// No more clients are let in.
    pub(crate) accepting: CancellationToken,
    /// Those that are in are told that the node stops.
    pub(crate) serving: CancellationToken,
}

/// Serves clients on `listener` until it is stopped; then waits until they are gone.
pub(crate) async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    settings: Settings,
    tls: Option<Tls>,
    stops: Stops,
) {
    // Until changes are told, clients wait in the backlog: they would miss some.
    let mut synced = door.synced.subscribe();
    tokio::select! {
        biased;
        () = stops.accepting.cancelled() => return,
        _ = synced.wait_for(|synced| *synced) => {}
    }
    let permits = Arc::new(Semaphore::new(settings.connections_max));
    metrics::connections_max(settings.connections_max);
    let connections = TaskTracker::new();
    let mut rate = Rate::new(settings.connect_rate_max, Instant::now());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stops.accepting.cancelled() => break,
            accepted = accept(&listener, &mut rate) => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "accept a connection of a device");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if door.gate.memory().is_full() {
            debug!("no memory for a new connection, close it");
            metrics::refused("memory");
            continue;
        }
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            debug!("too many connections, close the new one");
            metrics::refused("too_many");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let door = Arc::clone(&door);
        // Spawned as it is: a future that only wraps the connection would have room for more than that.
        match &tls {
            None => {
                let peer = Peer {
                    address,
                    visitor: Visitor::default(),
                };
                connections.spawn(Connection::new(door, stream, peer, permit).run());
            }
            Some(tls) => {
                let greeting = greet(door, tls.clone(), (stream, address), permit);
                connections.spawn(serve_tls(Box::pin(greeting)));
            }
        }
    }
    drop(listener);
    connections.close();
    tokio::select! {
        biased;
        () = connections.wait() => return,
        () = stops.serving.cancelled() => {}
    }
    door.registry
        .tell_all(&Note::Close(ServerCause::ShuttingDown));
    connections.wait().await;
}

/// Serves a client from the beginning of its handshake. What that needs is gone when it is done.
async fn serve_tls(greeting: impl Future<Output = Option<BoxFuture<'static, ()>>> + Unpin) {
    let connection = greeting.await;
    if let Some(connection) = connection {
        connection.await;
    }
}

/// Shakes hands, and gives the rest of the connection.
async fn greet(
    door: Arc<Door>,
    tls: Tls,
    (stream, address): (TcpStream, SocketAddr),
    permit: OwnedSemaphorePermit,
) -> Option<BoxFuture<'static, ()>> {
    let Some(accepted) = tls.accept(stream).await else {
        metrics::refused("handshake");
        return None;
    };
    let peer = Peer {
        address,
        visitor: accepted.visitor,
    };
    let connection = Connection::new(door, accepted.stream, peer, permit);
    Some(Box::pin(connection.run()))
}

async fn accept(
    listener: &TcpListener,
    rate: &mut Rate,
) -> std::io::Result<(TcpStream, SocketAddr)> {
    sleep_until(rate.next()).await;
    let accepted = listener.accept().await;
    rate.take(1, Instant::now());
    accepted
}
