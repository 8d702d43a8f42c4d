//! TLS towards a server: which authority is trusted, and the certificate to show.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::cli::problem::{Exit, Problem};
use crate::cli::tls::client_config;

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
        let shown = self.cert.as_deref().zip(self.key.as_deref());
        client_config(ca, shown, PROTOCOL)
    }
}
