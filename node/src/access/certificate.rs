//! Whom the certificate of a TLS client is for, by a table of rules.
//!
//! The TLS layer has verified the chain before this is asked. What a rule does not find it leaves
//! to the next; what two rules or two names of a certificate say differently makes it nobody's.

mod authority;
mod rule;

use std::fmt;
use std::str::FromStr;

use antumbra_shadow::{DeviceId, Tenant, Time};
use aws_lc_rs::digest;
use x509_parser::asn1_rs::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::roles::RoleName;
use super::{Denied, hexadecimal};

pub use self::authority::{Authorities, AuthorityError, AuthorityRule, Vouched};
pub use self::rule::{Field, Pattern, Rule, RuleError};

/// The longest certificate that is read, in bytes. Good ones have one or two kilobytes.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// SHA-256 of a certificate (DER), as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text is not a SHA-256 fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 fingerprint has 32 bytes in hexadecimal, with or without colons")]
pub struct FingerprintError;

impl Fingerprint {
    /// That of a certificate (DER).
    pub fn of(certificate: &[u8]) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Fingerprint(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal::encode(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let pairs = text.split(':').collect::<Vec<_>>();
        if pairs.len() > 1 && (pairs.len() != 32 || pairs.iter().any(|pair| pair.len() != 2)) {
            return Err(FingerprintError);
        }
        let digits = pairs.concat().to_ascii_lowercase();
        let bytes = hexadecimal::decode(digits.as_bytes()).ok_or(FingerprintError)?;
        Ok(Fingerprint(bytes))
    }
}

/// What the operator chose about certificates.
#[derive(Debug, Clone)]
pub struct CertificateSettings {
    /// Where a certificate says whom it is for (default: `common_name = device`).
    pub rules: Vec<Rule>,
    /// Whether a certificate must be registered as a credential (default: it need not).
    pub registration: Registration,
    /// The tenant of certificates that name none (default: `default`).
    pub tenant: Tenant,
    /// The role of certificates of devices that name none (default: `device`).
    pub role: RoleName,
    /// The roles that a certificate may name (default: `device`, `backend`, `reader`).
    pub roles: Vec<RoleName>,
}

/// Whether a certificate must be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// It need not: what the authority signed is good.
    #[default]
    Optional,
    /// It must: the authority alone lets nobody in.
    Required,
}

impl Default for CertificateSettings {
    fn default() -> CertificateSettings {
        CertificateSettings {
            rules: vec![Rule::CommonName(Field::Device)],
            registration: Registration::default(),
            tenant: Tenant::default_tenant(),
            role: RoleName::device(),
            roles: RoleName::nameable(),
        }
    }
}

/// What a certificate says. What it does not say is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The tenant that it names.
    pub tenant: Option<Tenant>,
    /// The device that it names.
    pub device: Option<DeviceId>,
    /// The role that it names.
    pub role: Option<RoleName>,
    /// When it ends.
    pub expires: Time,
}

impl Subject {
    /// Reads a certificate (DER) by the rules.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not valid now, or a rule finds a name that is none or finds two.
    pub fn read(certificate: &[u8], rules: &[Rule], now: Time) -> Result<Subject, Denied> {
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return Err(Denied::TooLarge);
        }
        let unreadable = Denied::Malformed("the certificate cannot be read");
        let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable);
        }
        let validity = parsed.validity();
        let time = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
        if now.0 < time(validity.not_before.timestamp()) {
            return Err(Denied::NotYetValid);
        }
        let expires = Time(time(validity.not_after.timestamp()));
        if expires <= now {
            return Err(Denied::Expired);
        }
        let mut found = Found::default();
        for rule in rules {
            apply(rule, &parsed, &mut found)?;
        }
        Ok(Subject {
            fingerprint: Fingerprint::of(certificate),
            tenant: found.parse(Field::Tenant, Tenant::parse)?,
            device: found.parse(Field::Device, DeviceId::parse)?,
            role: found.parse(Field::Role, RoleName::parse)?,
            expires,
        })
    }
}

/// What the rules found so far, by [`Field`].
#[derive(Default)]
struct Found([Option<String>; 3]);

impl Found {
    fn note(&mut self, field: Field, text: &str) -> Result<(), Denied> {
        match &self.0[field as usize] {
            None => self.0[field as usize] = Some(text.to_owned()),
            Some(earlier) if earlier == text => {}
            Some(_) => return Err(Denied::Malformed("the certificate has two names")),
        }
        Ok(())
    }

    fn parse<T, E>(
        &self,
        field: Field,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Denied> {
        let text = self.0[field as usize].as_deref();
        let parsed = text.map(|text| parse(text).map_err(|_| Denied::Malformed(field.bad())));
        parsed.transpose()
    }
}

fn apply(rule: &Rule, certificate: &X509Certificate<'_>, found: &mut Found) -> Result<(), Denied> {
    match rule {
        Rule::CommonName(field) => note_all(certificate, &OID_X509_COMMON_NAME, *field, found),
        Rule::Organisation(field) => {
            note_all(certificate, &OID_X509_ORGANIZATION_NAME, *field, found)
        }
        Rule::OrganisationalUnit(field) => {
            note_all(certificate, &OID_X509_ORGANIZATIONAL_UNIT, *field, found)
        }
        Rule::Dns(pattern) | Rule::Uri(pattern) => {
            let unreadable = Denied::Malformed("the alternative names cannot be read");
            let names = certificate
                .subject_alternative_name()
                .map_err(|_| unreadable)?;
            for name in names.map_or(&[][..], |names| &names.value.general_names) {
                let text = match (rule, name) {
                    (Rule::Dns(_), GeneralName::DNSName(text)) => text,
                    (Rule::Uri(_), GeneralName::URI(text)) => text,
                    _ => continue,
                };
                for (field, value) in pattern.read(text).into_iter().flatten() {
                    found.note(field, value)?;
                }
            }
            Ok(())
        }
    }
}

fn note_all(
    certificate: &X509Certificate<'_>,
    attribute: &Oid<'static>,
    field: Field,
    found: &mut Found,
) -> Result<(), Denied> {
    for attribute in certificate.subject().iter_by_oid(attribute) {
        let text = attribute.as_str();
        found.note(field, text.map_err(|_| Denied::Malformed(field.bad()))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
