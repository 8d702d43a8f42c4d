//! The files of a service account, as the kubelet puts them into a container and keeps them current.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use axum::http::HeaderValue;
use rustls::RootCertStore;

use crate::tls::pem;

use super::Error;

/// Tokens and names have a few kilobytes at most.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Longest name of a namespace.
const NAMESPACE_CHARS_MAX: usize = 63;

/// A service account as its files are now.
pub(super) struct Account {
    /// The header that proves who asks. Never shown.
    pub(super) authorization: HeaderValue,
    /// The namespace of the pod.
    pub(super) namespace: String,
    /// Who vouches for the API.
    pub(super) roots: RootCertStore,
}

impl Account {
    /// Reads the three files. Blocks on the disk.
    pub(super) fn read(directory: &Path) -> Result<Account, Error> {
        let token = text(&directory.join("token"))?;
        let authorization = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut authorization = authorization
            .map_err(|_| unusable(&directory.join("token"), "it holds no token".to_owned()))?;
        authorization.set_sensitive(true);
        let path = directory.join("namespace");
        let namespace = text(&path)?;
        // It becomes a part of a path.
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if namespace.len() > NAMESPACE_CHARS_MAX || !namespace.chars().all(allowed) {
            return Err(unusable(
                &path,
                "it holds no name of a namespace".to_owned(),
            ));
        }
        let path = directory.join("ca.crt");
        let roots = pem::roots(&path, &pem::read(&path)?)?;
        Ok(Account {
            authorization,
            namespace,
            roots,
        })
    }
}

/// The text of a file without what surrounds it; never empty.
fn text(path: &Path) -> Result<String, Error> {
    let read = || {
        let mut text = String::new();
        let file = File::open(path)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error: std::io::Error| unusable(path, error.to_string()))?;
    match text.trim() {
        "" => Err(unusable(path, "it is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

fn unusable(path: &Path, what: String) -> Error {
    Error::Account {
        path: path.to_owned(),
        what,
    }
}
