//! TLS of the link: both sides show the certificate of their node and check the other's.
//!
//! Trust is in the authority of the cluster. A certificate says in a URI of its own which node of
//! which cluster it is for ([`CertificateName`]); addresses may change and are not looked at.
//!
//! The three files are read again when they change, see [`crate::reload`]. What is broken, does not
//! fit together, or is another node's is not taken. Connections that are open keep what they have;
//! every new one uses the newest.

mod material;
mod name;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::sync::CancellationToken;

use crate::reload::{Reload, keep_current};

use material::Material;

pub use material::TlsError;
pub use name::{CertificateName, Holder, NameError};

/// Where the certificates of a node are: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of this node, followed by the intermediate ones if there are any.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the authorities that sign the nodes of this cluster; several while one
    /// replaces another.
    pub authority: PathBuf,
}

/// Whether links are encrypted. Cloning shares the certificates.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Plain text: anybody who reaches the port is believed. For one machine.
    None,
    /// TLS 1.3, and both sides show a certificate.
    Files(Certificates),
}

impl Tls {
    /// Reads the certificates of the node with this name. Blocks while it reads three small files.
    pub fn open(files: TlsFiles, node: &str) -> Result<Tls, TlsError> {
        Certificates::open(files, node).map(Tls::Files)
    }

    /// Reads the files again; see [`Certificates::reload`]. Without TLS nothing is ever new.
    pub fn reload(&self) -> Result<bool, TlsError> {
        match self {
            Tls::None => Ok(false),
            Tls::Files(certificates) => certificates.reload(),
        }
    }

    /// Looks at the files every ten seconds until `shutdown`.
    pub(super) async fn watch(&self, shutdown: CancellationToken) {
        if let Tls::Files(certificates) = self {
            keep_current(certificates.clone(), shutdown).await;
        }
    }
}

/// The certificates of a node, kept current. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    node: String,
    current: ArcSwap<Material>,
    /// One reload at a time, so that an older state of the files never replaces a newer one.
    reloading: Mutex<()>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("files", &self.files)
            .field("name", &self.current.load().name)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    fn open(files: TlsFiles, node: &str) -> Result<Certificates, TlsError> {
        let current = Material::load(&files, node)?;
        Ok(Certificates(Arc::new(Inner {
            files,
            node: node.to_owned(),
            current: ArcSwap::from_pointee(current),
            reloading: Mutex::new(()),
        })))
    }

    /// Reads the files again and takes them if they changed: then `true`. On an error the
    /// certificates in force stay. Blocks while it reads three small files.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let _one_at_a_time = self.0.reloading.lock();
        let current = self.0.current.load_full();
        let reloaded = Material::reload(&self.0.files, &self.0.node, &current)?;
        let changed = reloaded.is_some();
        if let Some(material) = reloaded {
            self.0.current.store(Arc::new(material));
        }
        Ok(changed)
    }

    /// Shows our certificate to whoever connected and checks theirs against the authority.
    pub(super) async fn accept<S>(&self, stream: S) -> std::io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.current.load().server);
        TlsAcceptor::from(config).accept(stream).await
    }

    /// The same for a connection that we opened.
    pub(super) async fn connect<S>(&self, stream: S) -> std::io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.current.load().client);
        // Who is there is told by the certificate, and checked by the caller.
        let name = ServerName::try_from("peer").map_err(std::io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }

    /// Which node of our cluster the certificates of a connection are for; else why they are not
    /// good enough. Their signatures have been checked.
    pub(super) fn identify(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Result<CertificateName, String> {
        let end = chain.and_then(<[_]>::first).ok_or("no certificate")?;
        let name = CertificateName::of(end).map_err(|error| error.to_string())?;
        let current = self.0.current.load();
        if name.cluster != current.name.cluster {
            return Err(format!(
                "the certificate is of cluster `{}`, not of `{}`",
                name.cluster, current.name.cluster
            ));
        }
        match name.holder {
            Holder::Node => Ok(name),
            Holder::Client => Err(format!("the certificate is of client {}", name.name)),
        }
    }
}

impl Reload for Certificates {
    type Error = TlsError;

    fn name(&self) -> &'static str {
        "certificates of the peer link"
    }

    fn reload(&self) -> Result<bool, TlsError> {
        Certificates::reload(self)
    }

    fn seconds_left(&self) -> Option<u64> {
        Some(self.0.current.load().seconds_left())
    }
}
