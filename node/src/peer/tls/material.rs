//! One state of the certificate files, checked and ready for use.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tls::pem::{self, PemError};

use super::TlsFiles;
use super::name::{CertificateName, Holder, NameError};
use super::verifier::AuthorityVerifier;

/// gRPC needs HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is of no use.
    #[error(transparent)]
    File(#[from] PemError),
    /// A certificate or key is refused, for example because the two do not belong together.
    #[error("{path} cannot be used: {source}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The authority did not sign the certificate, or the certificate is not valid now.
    #[error("{certificate} is not good for {authority}: {source}")]
    Untrusted {
        /// Which certificate.
        certificate: PathBuf,
        /// By which authority.
        authority: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The certificate does not say which node it is for.
    #[error("{path}: {source}")]
    Name {
        /// Which certificate.
        path: PathBuf,
        /// What is wrong.
        source: NameError,
    },
    /// The certificate is for somebody else.
    #[error("{path} is the certificate of {found}, and this is {node}")]
    WrongNode {
        /// Which certificate.
        path: PathBuf,
        /// Whose it is.
        found: CertificateName,
        /// Name of this node.
        node: String,
    },
    /// A part of TLS cannot be set up.
    #[error("set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// The bytes of the three files.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

/// What new connections use.
pub(super) struct Material {
    contents: Contents,
    /// Who we are.
    pub(super) name: CertificateName,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// When our certificate ends, in seconds since the Unix epoch.
    ends: u64,
}

impl Material {
    /// The files as they are now.
    pub(super) fn load(files: &TlsFiles, node: &str) -> Result<Material, TlsError> {
        Material::new(Contents::read(files)?, files, node)
    }

    /// The files as they are now, if they are not as they were.
    pub(super) fn reload(
        files: &TlsFiles,
        node: &str,
        current: &Material,
    ) -> Result<Option<Material>, TlsError> {
        let contents = Contents::read(files)?;
        if contents == current.contents {
            return Ok(None);
        }
        Material::new(contents, files, node).map(Some)
    }

    /// How long our certificate is still good.
    pub(super) fn seconds_left(&self) -> u64 {
        self.ends.saturating_sub(UnixTime::now().as_secs())
    }

    fn new(contents: Contents, files: &TlsFiles, node: &str) -> Result<Material, TlsError> {
        let chain = pem::certificates(&files.certificate, &contents.certificate)?;
        let roots = Arc::new(pem::roots(&files.authority, &contents.authority)?);
        let key = pem::private_key(&files.key, &contents.key)?;
        let (name, ends) = name_and_end(files, &chain[0], node)?;

        // Named here and not taken from the process: a library must not choose for us.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let clients = clients.build().map_err(|error| TlsError::Refused {
            path: files.authority.clone(),
            source: rustls::Error::General(error.to_string()),
        })?;
        let servers = Arc::new(AuthorityVerifier {
            roots,
            provider: Arc::clone(&provider),
        });
        check_trust(files, &chain, clients.as_ref(), servers.as_ref())?;

        let server = server_config(&provider, clients, chain.clone(), key.clone_key());
        let client = client_config(&provider, servers, chain, key);
        let refused = |source| TlsError::Refused {
            path: files.key.clone(),
            source,
        };
        Ok(Material {
            contents,
            name,
            server: Arc::new(server.map_err(refused)?),
            client: Arc::new(client.map_err(refused)?),
            ends,
        })
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
        Ok(Contents {
            certificate: pem::read(&files.certificate)?,
            key: pem::read(&files.key)?,
            authority: pem::read(&files.authority)?,
        })
    }
}

/// Whose our certificate is, which must be this node, and when it ends.
fn name_and_end(
    files: &TlsFiles,
    certificate: &CertificateDer<'_>,
    node: &str,
) -> Result<(CertificateName, u64), TlsError> {
    let path = || files.certificate.clone();
    let unusable = |source| TlsError::Name {
        path: path(),
        source,
    };
    let name = CertificateName::of(certificate).map_err(unusable)?;
    if name.holder != Holder::Node || name.name != node {
        return Err(TlsError::WrongNode {
            path: path(),
            found: name,
            node: node.to_owned(),
        });
    }
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| unusable(NameError::Unreadable))?;
    let ends = parsed.validity().not_after.timestamp();
    Ok((name, u64::try_from(ends).unwrap_or_default()))
}

/// What the other nodes will check, so that a wrong file is found here and not there.
fn check_trust(
    files: &TlsFiles,
    chain: &[CertificateDer<'_>],
    clients: &dyn ClientCertVerifier,
    servers: &dyn ServerCertVerifier,
) -> Result<(), TlsError> {
    let untrusted = |source| TlsError::Untrusted {
        certificate: files.certificate.clone(),
        authority: files.authority.clone(),
        source,
    };
    let (end, rest) = (&chain[0], &chain[1..]);
    let now = UnixTime::now();
    let client = clients.verify_client_cert(end, rest, now);
    client.map_err(untrusted)?;
    let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let server = servers.verify_server_cert(end, rest, &name, &[], now);
    server.map_err(untrusted)?;
    Ok(())
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A resumed session would carry an old certificate past a new authority.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    servers: Arc<dyn ServerCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(servers)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}
