//! TLS towards a server: which authority is trusted, and the certificate to show.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::cli::problem::{Exit, Problem};

/// What servers that serve several protocols at one port tell MQTT by.
const PROTOCOL: &[u8] = b"mqtt";

/// Files in PEM form.
#[derive(Debug, Clone, Default, clap::Args, serde::Serialize, serde::Deserialize)]
pub(crate) struct TlsFiles {
    /// Authority that signed the server's certificate, for mqtts://
    #[arg(long, value_name = "FILE", help_heading = "MQTT options")]
    ca: Option<PathBuf>,
    /// Certificate to show to the server
    #[arg(
        long,
        value_name = "FILE",
        requires = "key",
        help_heading = "MQTT options"
    )]
    cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert",
        help_heading = "MQTT options"
    )]
    key: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads the files.
    pub(crate) fn load(&self) -> Result<Arc<ClientConfig>, Problem> {
        let Some(ca) = &self.ca else {
            return Err(Problem::new(Exit::Usage, "cannot use mqtts://")
                .why("no authority is trusted")
                .try_this("--ca FILE"));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(ca, error))?;
        }
        // Named here and not taken from the process: a library must not choose for us.
        let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder
            .map_err(|error| unusable(ca, error))?
            .with_root_certificates(roots);
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let read_key = PrivateKeyDer::from_pem_slice(&read(key)?);
                let read_key = read_key.map_err(|error| unusable(key, error))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, read_key)
                    .map_err(|error| unusable(cert, error))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Arc::new(config))
    }
}

/// At least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(path, "it holds no certificate in PEM form")),
        Err(error) => Err(unusable(path, error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, why: impl ToString) -> Problem {
    Problem::new(Exit::Usage, format!("cannot use {}", path.display())).why(why)
}
