//! How the doors of pods are connected to where they speak TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a connection may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Connects to doors whose certificates an authority signed for `localhost`.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Trusts the authority in a PEM file, and speaks this protocol above TLS (as ALPN says), if any.
    pub fn trusting(authority: &Path, protocol: Option<&str>) -> Result<Tls> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority)?)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocol
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    /// Connects to a door. May be dropped midway.
    pub async fn connect(&self, door: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let connecting = async {
            let stream = TcpStream::connect(door).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost")?;
            Ok(self.0.connect(name, stream).await?)
        };
        timeout(LIMIT, connecting).await?
    }

    /// The certificate that a door shows now.
    pub async fn certificate(&self, door: SocketAddr) -> Result<Vec<u8>> {
        let stream = self.connect(door).await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let first = shown.first().context("no certificate")?;
        Ok(first.to_vec())
    }
}
