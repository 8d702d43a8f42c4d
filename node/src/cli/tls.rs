//! TLS towards a server: which authority is trusted, and the certificate to show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::pem;

use super::Context;
use super::problem::{Exit, Problem};

/// What servers that serve several protocols at one port tell gRPC by.
const GRPC: &[u8] = b"h2";

/// Files in PEM form for the gRPC door.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// Authority that signed the certificate of the server, for https://
    /// [env: ANTUMBRA_TLS_AUTHORITY]
    #[arg(long, value_name = "FILE", help_heading = "Client options")]
    tls_authority: Option<PathBuf>,
    /// Certificate to show to the server [env: ANTUMBRA_TLS_CERTIFICATE]
    #[arg(long, value_name = "FILE", help_heading = "Client options")]
    tls_certificate: Option<PathBuf>,
    /// Private key of that certificate [env: ANTUMBRA_TLS_KEY]
    #[arg(long, value_name = "FILE", help_heading = "Client options")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Reads the files.
    pub(crate) fn load(&self, context: &Context) -> Result<Arc<ClientConfig>, Problem> {
        let [authority, certificate, key] = context.environment.tls_files();
        let given = |flag: &Option<PathBuf>, variable: Option<&str>| {
            flag.clone().or_else(|| variable.map(PathBuf::from))
        };
        let Some(authority) = given(&self.tls_authority, authority) else {
            return Err(Problem::new(Exit::Usage, "cannot use https://")
                .why("no authority is trusted")
                .try_this("--tls-authority FILE, with whoever signed the server's certificate"));
        };
        let certificate = given(&self.tls_certificate, certificate);
        let shown = match (certificate, given(&self.tls_key, key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Problem::new(Exit::Usage, "cannot show a certificate")
                    .why("--tls-certificate and --tls-key go together")
                    .try_this("both of them, or none"));
            }
        };
        let shown = shown.as_ref();
        let shown = shown.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        client_config(&authority, shown, GRPC)
    }
}

/// Reads an authority to trust, and a certificate to show with its key.
pub(crate) fn client_config(
    authority: &Path,
    shown: Option<(&Path, &Path)>,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, Problem> {
    let unusable =
        |error: pem::PemError| Problem::new(Exit::Usage, "cannot use the files for TLS").why(error);
    let refused = |path: &Path, error: rustls::Error| {
        Problem::new(Exit::Usage, format!("cannot use {}", path.display())).why(error)
    };
    let read = |path: &Path| pem::read(path).map_err(unusable);
    let roots = pem::roots(authority, &read(authority)?).map_err(unusable)?;
    let builder = builder(roots).map_err(|error| refused(authority, error))?;
    let mut config = match shown {
        Some((certificate, key)) => {
            let chain = pem::certificates(certificate, &read(certificate)?).map_err(unusable)?;
            let key = pem::private_key(key, &read(key)?).map_err(unusable)?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| refused(certificate, error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder(roots: RootCertStore) -> Result<Builder, rustls::Error> {
    // Named here and not taken from the process: a library must not choose for us.
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}
