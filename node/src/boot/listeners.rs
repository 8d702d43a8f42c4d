//! The sockets of the doors.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;

use super::Error;

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 8_192;

/// The sockets of the doors, bound before any data is opened: a port that is taken must not cost a
/// replay, and clients that come early wait in the backlog.
#[derive(Debug)]
pub struct Listeners {
    /// The gRPC door.
    pub grpc: TcpListener,
    /// The HTTP door.
    pub http: TcpListener,
    /// The MQTT door.
    pub mqtt: TcpListener,
    /// The MQTT door with TLS, where there is one.
    pub mqtts: Option<TcpListener>,
    /// The link to other nodes.
    pub peer: TcpListener,
}

impl Listeners {
    /// Binds the addresses of the configuration.
    pub async fn bind(config: &Config) -> Result<Listeners, Error> {
        Ok(Listeners {
            grpc: bind("gRPC", config.api.listen).await?,
            http: bind("HTTP", config.http.listen).await?,
            mqtt: bind_deep("MQTT", config.mqtt.listen)?,
            mqtts: match config.mqtt.tls_listen.parse() {
                Ok(address) => Some(bind_deep("MQTT with TLS", address)?),
                // Empty; anything else was refused with the configuration.
                Err(_) => None,
            },
            peer: bind("peer", config.peer.listen).await?,
        })
    }

    pub(super) fn addresses(&self) -> Result<Addresses, Error> {
        Ok(Addresses {
            grpc: local_address("gRPC", &self.grpc)?,
            http: local_address("HTTP", &self.http)?,
            mqtt: local_address("MQTT", &self.mqtt)?,
            mqtts: match &self.mqtts {
                Some(listener) => Some(local_address("MQTT with TLS", listener)?),
                None => None,
            },
            peer: local_address("peer", &self.peer)?,
        })
    }
}

/// Where the doors are, with the ports that were really bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The gRPC door.
    pub grpc: SocketAddr,
    /// The HTTP door.
    pub http: SocketAddr,
    /// The MQTT door.
    pub mqtt: SocketAddr,
    /// The MQTT door with TLS, if there is one.
    pub mqtts: Option<SocketAddr>,
    /// The link to other nodes.
    pub peer: SocketAddr,
}

async fn bind(door: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| Error::Listen {
        door,
        address,
        source: Arc::new(source),
    })
}

/// Binds a door at which many may knock at once: they wait in a longer backlog.
fn bind_deep(door: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| Error::Listen {
        door,
        address,
        source: Arc::new(source),
    })
}

pub(super) fn local_address(
    door: &'static str,
    listener: &TcpListener,
) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|source| Error::Listen {
        door,
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        source: Arc::new(source),
    })
}
