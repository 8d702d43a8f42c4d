//! One state of the files of a door, checked and ready for use.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::access::certificate::Authorities;

use super::pem::{self, PemError};
use super::{TlsError, TlsFiles};

/// The bytes of the files.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authority: Option<Vec<u8>>,
}

/// What new connections use.
pub(super) struct Material {
    contents: Contents,
    pub(super) server: Arc<ServerConfig>,
    /// Who vouches for clients; nobody where no client shows a certificate.
    pub(super) authorities: Option<Arc<Authorities>>,
    /// When our certificate ends, in seconds since the Unix epoch.
    ends: u64,
}

impl Material {
    /// The files as they are now. The protocols are those that a client may choose from.
    pub(super) fn load(files: &TlsFiles, protocols: &[&[u8]]) -> Result<Material, TlsError> {
        Material::new(Contents::read(files)?, files, protocols)
    }

    /// The files as they are now, if they are not as they were.
    pub(super) fn reload(
        &self,
        files: &TlsFiles,
        protocols: &[&[u8]],
    ) -> Result<Option<Material>, TlsError> {
        let contents = Contents::read(files)?;
        if contents == self.contents {
            return Ok(None);
        }
        Material::new(contents, files, protocols).map(Some)
    }

    /// How long our certificate is still good.
    pub(super) fn seconds_left(&self) -> u64 {
        self.ends.saturating_sub(UnixTime::now().as_secs())
    }

    fn new(
        contents: Contents,
        files: &TlsFiles,
        protocols: &[&[u8]],
    ) -> Result<Material, TlsError> {
        let path = &files.certificate;
        let chain = pem::certificates(path, &contents.certificate)?;
        let key = pem::private_key(&files.key, &contents.key)?;
        let (_, parsed) = X509Certificate::from_der(&chain[0])
            .map_err(|_| refused(path, "the certificate cannot be read"))?;
        let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();

        // Named here and not taken from the process: a library must not choose for us.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(path, error))?;
        let authority = files.client_authority.as_deref();
        let authority = authority.zip(contents.client_authority.as_deref());
        let (builder, authorities) = match authority {
            None => (builder.with_no_client_auth(), None),
            Some((path, pem)) => {
                let found = pem::certificates(path, pem)?;
                let authorities =
                    Authorities::new(&found, &[]).map_err(|error| refused(path, error))?;
                let verifier = verifier(path, pem, provider)?;
                let builder = builder.with_client_cert_verifier(verifier);
                (builder, Some(Arc::new(authorities)))
            }
        };
        let mut server = builder
            .with_single_cert(chain, key)
            .map_err(|error| refused(path, error))?;
        server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Material {
            contents,
            server: Arc::new(server),
            authorities,
            ends,
        })
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Contents, PemError> {
        let authority = files.client_authority.as_deref();
        Ok(Contents {
            certificate: pem::read(&files.certificate)?,
            key: pem::read(&files.key)?,
            client_authority: authority.map(pem::read).transpose()?,
        })
    }
}

fn verifier(
    path: &Path,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(pem::roots(path, pem)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        // A client without one may have a token, and probes need nothing.
        .allow_unauthenticated()
        .build()
        .map_err(|error| refused(path, error))
}

fn refused(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::Refused {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
