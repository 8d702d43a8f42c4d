//! TLS of the MQTT door: our certificate, and the authorities whose clients may come in with theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::access::certificate::{Authorities, AuthorityError};

/// What clients of AWS IoT, of other brokers, and of proxies offer; who offers nothing is taken, too.
const PROTOCOLS: [&[u8]; 3] = [b"x-amzn-mqtt-ca", b"mqtt", b"http/1.1"];
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at one time, per core: each takes a third of a millisecond of one.
const HANDSHAKES_PER_CORE: usize = 64;

/// Where the certificates are: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that clients see, followed by the intermediate ones if there are any.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign clients; without it no client shows a certificate.
    pub client_authority: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no {what} in PEM form")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is looked for.
        what: &'static str,
    },
    /// The certificate and the key do not fit, or an authority is none.
    #[error("{path} cannot be used: {reason}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// Makes TLS connections of plain ones.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    knows_clients: bool,
}

impl Tls {
    /// Reads the files. Blocks while it does.
    pub(crate) fn open(files: &TlsFiles) -> Result<(Tls, Option<Authorities>), TlsError> {
        let chain = certificates(&files.certificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|_| TlsError::Content {
                path: files.key.clone(),
                what: "private key",
            })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let refused = |path: &Path, reason: String| TlsError::Refused {
            path: path.to_owned(),
            reason,
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(&files.certificate, error.to_string()))?;
        let (builder, authorities) = match &files.client_authority {
            None => (builder.with_no_client_auth(), None),
            Some(path) => {
                let found = certificates(path)?;
                let authorities = Authorities::new(&found, &[])
                    .map_err(|error: AuthorityError| refused(path, error.to_string()))?;
                let mut roots = RootCertStore::empty();
                for certificate in found {
                    roots
                        .add(certificate)
                        .map_err(|error| refused(path, error.to_string()))?;
                }
                let clients =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        // A client without one may have a password.
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| refused(path, error.to_string()))?;
                (
                    builder.with_client_cert_verifier(clients),
                    Some(authorities),
                )
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| refused(&files.certificate, error.to_string()))?;
        let knows_clients = authorities.is_some();
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let tls = Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            handshakes: Arc::new(Semaphore::new(cores * HANDSHAKES_PER_CORE)),
            knows_clients,
        };
        Ok((tls, authorities))
    }

    /// Whether clients show certificates here, so that nobody comes in without any proof.
    pub(crate) fn knows_clients(&self) -> bool {
        self.knows_clients
    }

    /// Shakes hands. `None` when the client is none of ours, or too slow.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let shaken = timeout(HANDSHAKE_TIMEOUT, async {
            let _turn = self.handshakes.acquire().await.ok()?;
            self.acceptor.accept(stream).await.ok()
        });
        shaken.await.ok().flatten()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::Content {
        path: path.to_owned(),
        what: "certificate",
    })
}
