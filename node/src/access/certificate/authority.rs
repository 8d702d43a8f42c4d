//! Which authority signed a certificate, and for which tenant it may speak.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use antumbra_shadow::{Tenant, Time};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CERTIFICATE_BYTES_MAX, Denied, Fingerprint};

/// The longest chain that a client may send; TLS libraries themselves stop near it.
const CHAIN_MAX: usize = 8;

/// For which tenant an authority may speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityRule {
    /// Which authority.
    pub fingerprint: Fingerprint,
    /// The only tenant of its certificates; nothing when it may name every tenant.
    pub tenant: Option<Tenant>,
}

/// The authorities that clients are trusted by, each with its tenant.
///
/// For correctness: when the table has a rule at all, an authority without a rule is trusted by
/// nobody. A forgotten line then shuts a door and does not open all of them.
pub struct Authorities {
    entries: Vec<Authority>,
}

struct Authority {
    fingerprint: Fingerprint,
    subject: Box<[u8]>,
    tenant: Option<Tenant>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why a table of authorities is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// It is no certificate.
    #[error("the certificate {0} of an authority cannot be read")]
    Unreadable(Fingerprint),
    /// It cannot be the root of trust.
    #[error("the authority {fingerprint} cannot be used: {reason}")]
    Refused {
        /// Which one.
        fingerprint: Fingerprint,
        /// Why not.
        reason: String,
    },
    /// A rule for an authority that is not trusted.
    #[error("there is no authority {0}")]
    NoAuthority(Fingerprint),
    /// Two rules for one authority.
    #[error("there are two rules for the authority {0}")]
    Twice(Fingerprint),
}

/// Which authority vouches for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The authority.
    pub fingerprint: Fingerprint,
    /// The only tenant it may name, when it is bound to one.
    pub tenant: Option<Tenant>,
}

impl Authorities {
    /// Puts the certificates of the authorities (DER) and the rules together. Without rules every
    /// authority may name every tenant.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be a root of trust, or the rules do not fit.
    pub fn new(
        roots: &[CertificateDer<'_>],
        rules: &[AuthorityRule],
    ) -> Result<Authorities, AuthorityError> {
        for (index, rule) in rules.iter().enumerate() {
            let same = |other: &AuthorityRule| other.fingerprint == rule.fingerprint;
            if rules[..index].iter().any(same) {
                return Err(AuthorityError::Twice(rule.fingerprint));
            }
            if !roots
                .iter()
                .any(|root| Fingerprint::of(root) == rule.fingerprint)
            {
                return Err(AuthorityError::NoAuthority(rule.fingerprint));
            }
        }
        let mut entries = Vec::new();
        for root in roots {
            let fingerprint = Fingerprint::of(root);
            let rule = rules.iter().find(|rule| rule.fingerprint == fingerprint);
            if rules.is_empty() || rule.is_some() {
                let tenant = rule.and_then(|rule| rule.tenant.clone());
                entries.push(Authority::new(root, fingerprint, tenant)?);
            }
        }
        Ok(Authorities { entries })
    }

    /// Which authority vouches for the chain that a client sent, its own certificate first.
    ///
    /// # Errors
    ///
    /// When none does, or two do and are bound differently.
    pub fn find(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<Vouched, Denied> {
        let (leaf, rest) = chain.split_first().ok_or(Denied::Missing)?;
        let long = |certificate: &CertificateDer<'_>| certificate.len() > CERTIFICATE_BYTES_MAX;
        if chain.len() > CHAIN_MAX || chain.iter().any(long) {
            return Err(Denied::TooLarge);
        }
        let mut issuers = Vec::with_capacity(chain.len());
        for certificate in chain {
            let (_, parsed) = X509Certificate::from_der(certificate)
                .map_err(|_| Denied::Malformed("the certificate cannot be read"))?;
            issuers.push(parsed.issuer().as_raw().to_vec());
        }
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        // The name is looked at first: signatures are dear, and tenants may be many.
        let mut good = self.entries.iter().filter(|authority| {
            let named = issuers.iter().any(|issuer| **issuer == *authority.subject);
            let verify = || authority.verifier.verify_client_cert(leaf, rest, now);
            named && verify().is_ok()
        });
        let first = good.next().ok_or(Denied::UnknownIssuer)?;
        if good.any(|other| other.tenant != first.tenant) {
            return Err(Denied::Malformed("two authorities vouch differently"));
        }
        Ok(Vouched {
            fingerprint: first.fingerprint,
            tenant: first.tenant.clone(),
        })
    }
}

impl Authority {
    fn new(
        root: &CertificateDer<'_>,
        fingerprint: Fingerprint,
        tenant: Option<Tenant>,
    ) -> Result<Authority, AuthorityError> {
        let (_, parsed) =
            X509Certificate::from_der(root).map_err(|_| AuthorityError::Unreadable(fingerprint))?;
        let subject = parsed.subject().as_raw().into();
        let refused = |reason: String| AuthorityError::Refused {
            fingerprint,
            reason,
        };
        let mut roots = RootCertStore::empty();
        roots
            .add(root.clone().into_owned())
            .map_err(|error| refused(error.to_string()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        Ok(Authority {
            fingerprint,
            subject,
            tenant,
            verifier,
        })
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.iter();
        let entries = entries.map(|authority| (authority.fingerprint, &authority.tenant));
        f.debug_map().entries(entries).finish()
    }
}
