//! Certificates and keys in PEM files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates and keys have a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// It cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It does not hold what it should.
    #[error("{path} holds no {what} in PEM form")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is looked for.
        what: &'static str,
    },
    /// A certificate in it cannot be the root of trust.
    #[error("{path} cannot be used: {source}")]
    Root {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// The bytes of a file. Blocks while it reads.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let read = || {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| PemError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The certificates in the text of a file; at least one.
pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| content(path, "certificate"))
}

/// The private key in the text of a file.
pub(crate) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| content(path, "private key"))
}

/// The certificates in the text of a file as roots of trust; at least one.
pub(crate) fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|source| PemError::Root {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

fn content(path: &Path, what: &'static str) -> PemError {
    PemError::Content {
        path: path.to_owned(),
        what,
    }
}
