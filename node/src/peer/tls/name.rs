//! Who a certificate is for.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const SCHEME: &str = "antumbra://";
const NAME_BYTES_MAX: usize = 63;

/// What holds a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A node of the cluster.
    Node,
    /// A client of the doors. It cannot open peer links.
    Client,
}

/// Who a certificate is for, as its alternative name `antumbra://<cluster>/node/<name>` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateName {
    /// Name of the cluster.
    pub cluster: String,
    /// Node or client.
    pub holder: Holder,
    /// Name of the node or client.
    pub name: String,
}

/// Why a certificate does not say who it is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It cannot be parsed.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has no such alternative name.
    #[error("the certificate has no URI antumbra://CLUSTER/node/NAME")]
    Missing,
    /// It has more than one.
    #[error("the certificate has several URIs antumbra://…")]
    Several,
    /// Its alternative name is not formed like that.
    #[error("`{0}` is not antumbra://CLUSTER/node/NAME")]
    Malformed(String),
}

impl CertificateName {
    /// The name in a certificate (DER).
    pub fn of(certificate: &[u8]) -> Result<CertificateName, NameError> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| NameError::Unreadable)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| NameError::Unreadable)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
        let uri = uris.next().ok_or(NameError::Missing)?;
        if uris.next().is_some() {
            return Err(NameError::Several);
        }
        uri.parse()
    }

    /// Whether a text can be the name of a node or of a cluster: 1-63 characters of `a-z`, `0-9`
    /// and `-`, as in the configuration.
    pub fn is_node_name(text: &str) -> bool {
        is_name(
            text,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'),
        )
    }

    /// Whether a text can be the name of a client: 1-63 characters of `a-z`, `A-Z`, `0-9`, `.`, `_`
    /// and `-`.
    pub fn is_client_name(text: &str) -> bool {
        is_name(text, |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
        })
    }
}

fn is_name(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed)
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = match self.holder {
            Holder::Node => "node",
            Holder::Client => "client",
        };
        write!(f, "{SCHEME}{}/{holder}/{}", self.cluster, self.name)
    }
}

impl FromStr for CertificateName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<CertificateName, NameError> {
        let malformed = || NameError::Malformed(text.to_owned());
        let path = text.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let mut parts = path.split('/');
        let (cluster, holder, name) = match (parts.next(), parts.next(), parts.next()) {
            (Some(cluster), Some(holder), Some(name)) => (cluster, holder, name),
            _ => return Err(malformed()),
        };
        let (holder, good_name) = match holder {
            "node" => (Holder::Node, CertificateName::is_node_name(name)),
            "client" => (Holder::Client, CertificateName::is_client_name(name)),
            _ => return Err(malformed()),
        };
        if !good_name || !CertificateName::is_node_name(cluster) || parts.next().is_some() {
            return Err(malformed());
        }
        Ok(CertificateName {
            cluster: cluster.to_owned(),
            holder,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["node-1".to_owned()]).unwrap();
        for uri in uris {
            let uri = SanType::URI((*uri).try_into().unwrap());
            params.subject_alt_names.push(uri);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    /// What is written into a certificate is what is read out of it.
    #[test]
    fn reads_the_name_of_a_certificate() {
        let uri = "antumbra://fleet-7/node/node-1";
        let name = CertificateName::of(&certificate(&["https://a", uri])).unwrap();
        assert_eq!(name.to_string(), uri);
        assert_eq!(
            (name.cluster.as_str(), name.holder),
            ("fleet-7", Holder::Node)
        );
        let client = "antumbra://fleet-7/client/Ann.B_2".parse::<CertificateName>();
        assert_eq!(client.unwrap().holder, Holder::Client);
    }

    /// A certificate that could be read in two ways is nobody's.
    #[test]
    fn refuses_what_is_ambiguous_or_malformed() {
        let of = |uris: &[&str]| CertificateName::of(&certificate(uris)).unwrap_err();
        assert_eq!(of(&[]), NameError::Missing);
        let two = ["antumbra://a/node/x", "antumbra://a/node/y"];
        assert_eq!(of(&two), NameError::Several);
        assert_eq!(CertificateName::of(b"no"), Err(NameError::Unreadable));
        for text in [
            "antumbra://a/node",
            "antumbra://a/node/",
            "antumbra:///node/x",
            "antumbra://a/node/x/y",
            "antumbra://a/node/x?y",
            "antumbra://a/node/X",
            "antumbra://a/other/x",
            "antumbra://a%2fb/node/x",
        ] {
            let malformed = Err(NameError::Malformed(text.to_owned()));
            assert_eq!(text.parse::<CertificateName>(), malformed, "{text}");
        }
    }
}
