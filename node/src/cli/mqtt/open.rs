//! How a connection is opened: TCP, TLS, CONNECT.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::gateway::mqtt::wire::{Connect, Version};

use super::stream::Stream;
use super::{Connection, Endpoint, Error};

/// How often a source port is chosen anew when the system's choice is taken towards this server.
const PORTS_TRIED: usize = 5;

/// How to connect, whoever connects and wherever to.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Version to speak.
    pub(crate) version: Version,
    /// Forget the session that was there.
    pub(crate) clean_start: bool,
    /// Seconds that the session outlives the connection. MQTT 3.1.1 has no number: there a session
    /// without a clean start outlives it.
    pub(crate) session_expiry_s: u32,
    /// Longest silence in seconds; 0 for any.
    pub(crate) keep_alive_s: u16,
    /// User name.
    pub(crate) username: Option<String>,
    /// Password.
    pub(crate) password: Option<String>,
    /// Local address to connect from.
    pub(crate) source: Option<IpAddr>,
    /// TLS, for endpoints that want it.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// How long connecting may take.
    pub(crate) timeout: Duration,
}

/// Connects as `client_id`. May be dropped midway: then there is no connection.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    client_id: &str,
    settings: &Settings,
) -> Result<Connection, Error> {
    let opened = async {
        let stream = stream(endpoint, settings).await?;
        Connection::establish(stream, packet(client_id, settings)).await
    };
    let opened = timeout(settings.timeout, opened).await;
    opened.unwrap_or(Err(Error::TimedOut(settings.timeout)))
}

async fn stream(endpoint: &Endpoint, settings: &Settings) -> Result<Stream, Error> {
    let stream = tcp(endpoint, settings.source).await;
    let stream = stream.map_err(Error::Unreachable)?;
    // Packets are small and somebody waits for each.
    stream.set_nodelay(true).map_err(Error::Unreachable)?;
    if !endpoint.is_secure {
        return Ok(Stream::Plain(stream));
    }
    let missing = || Error::Insecure(io::Error::other("no authority is trusted"));
    let config = settings.tls.clone().ok_or_else(missing)?;
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|error| Error::Insecure(io::Error::other(error)))?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    secured
        .map(|stream| Stream::Secure(Box::new(stream)))
        .map_err(Error::Insecure)
}

/// A connection to the first address of the host that can be reached.
async fn tcp(endpoint: &Endpoint, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let addresses = lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        for _ in 0..PORTS_TRIED {
            match dial(address, source).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
            // The port that was drawn is still in use towards this server.
            let retry = matches!(
                last.kind(),
                io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
            );
            if !retry || source.is_none() {
                break;
            }
        }
    }
    Err(last)
}

async fn dial(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = source {
        // Ports of connections that ended a moment ago may be used again.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

fn packet(client_id: &str, settings: &Settings) -> Connect {
    Connect {
        version: settings.version,
        client_id: client_id.into(),
        clean_start: settings.clean_start,
        keep_alive_s: settings.keep_alive_s,
        username: settings.username.as_deref().map(Into::into),
        password: settings.password.clone().map(Bytes::from),
        will: None,
        session_expiry_s: settings.session_expiry_s,
        receive_max: None,
        packet_size_max: None,
        topic_alias_max: 0,
        request_response_information: false,
        request_problem_information: true,
        user_properties: Vec::new(),
        authentication_method: None,
    }
}
