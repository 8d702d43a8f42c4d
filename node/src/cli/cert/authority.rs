//! The authority of a cluster, as `antumbra cert ca` wrote it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cli::problem::{Exit, Problem};
use crate::peer::CertificateName;

use super::files::Pair;

/// Name of its files.
pub(super) const NAME: &str = "ca";

/// A certificate that can sign, with its key.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
    cluster: Option<String>,
    ends: u64,
}

impl Authority {
    /// Reads `ca.pem` and `ca.key`.
    pub(super) fn read(directory: &Path) -> Result<Authority, Problem> {
        let pair = Pair::in_directory(directory, NAME);
        let pem = read(&pair.certificate)?;
        let key =
            KeyPair::from_pem(&read(&pair.key)?).map_err(|error| unusable(&pair.key, error))?;

        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| unusable(&pair.certificate, "it holds no certificate in PEM form"))?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| unusable(&pair.certificate, error))?;
        if !parsed.is_ca() {
            return Err(unusable(&pair.certificate, "it is not an authority's"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(unusable(&pair.key, "it is not the key of ca.pem"));
        }
        let cluster = parsed.subject().iter_organization().next();
        let cluster = cluster.and_then(|name| name.as_str().ok());
        let ends = parsed.validity().not_after.timestamp();
        Ok(Authority {
            cluster: cluster.map(str::to_owned),
            ends: u64::try_from(ends).unwrap_or_default(),
            issuer: Issuer::from_ca_cert_der(&certificate, key)
                .map_err(|error| unusable(&pair.certificate, error))?,
            certificate: pair.certificate,
        })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Its certificate, which nodes need.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// When it ends, in seconds since the Unix epoch.
    pub(super) fn ends(&self) -> u64 {
        self.ends
    }

    /// The cluster it was made for.
    pub(super) fn cluster(&self) -> Result<String, Problem> {
        let cluster = self.cluster.clone();
        let cluster = cluster.filter(|cluster| CertificateName::is_node_name(cluster));
        cluster.ok_or_else(|| {
            unusable(
                &self.certificate,
                "its organisation is not the name of a cluster",
            )
            .try_this("--cluster NAME")
        })
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    fs::read_to_string(path).map_err(|error| {
        Problem::new(Exit::Usage, format!("cannot read {}", path.display()))
            .why(error)
            .try_this("make an authority first: antumbra cert ca --out DIR")
    })
}

fn unusable(path: &Path, why: impl ToString) -> Problem {
    Problem::new(Exit::Usage, format!("cannot use {}", path.display())).why(why)
}
