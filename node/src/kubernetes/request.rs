//! One GET to the API, on a TLS connection of its own.

use std::fmt;
use std::sync::Arc;

use axum::http::Request;
use axum::http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use bytes::Bytes;
use http_body_util::Empty;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::inquiry::{self, Answer};

use super::Error;
use super::account::Account;

/// Kubernetes keeps no object that is larger than 1.5 MiB.
const BODY_BYTES_MAX: usize = 2 << 20;

/// Asks for a path. The caller limits the time; dropped midway, it leaves nothing behind.
pub(super) async fn get(
    host: &str,
    port: u16,
    account: Account,
    path: &str,
) -> Result<Answer, Error> {
    let address = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let failed = |what: &dyn fmt::Display| Error::NotReached {
        address: address.clone(),
        what: what.to_string(),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
    let config = tls(account.roots).map_err(|error| failed(&error))?;
    let request = Request::get(path)
        .header(HOST, &address)
        .header(AUTHORIZATION, account.authorization)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("antumbra/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| failed(&error))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| failed(&error))?;
    let answer = inquiry::exchange(stream, request, BODY_BYTES_MAX).await;
    answer.map_err(|error| failed(&error))
}

/// The authority may change at any time, so nothing of a connection is kept for the next one.
fn tls(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    // Named here and not taken from the process: a library must not choose for us.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
