//! What the operator chose about who may come in. Plain values: files are read by whoever has them.

use std::time::Duration;

use super::certificate::CertificateSettings;
use super::jwt::{JwtSettings, LEEWAY_MAX};
use super::sigv4;

/// Who may come in, and by what proof.
#[derive(Debug, Clone)]
pub struct AccessSettings {
    /// Whether a caller must prove who it is.
    pub mode: Mode,
    /// About certificates of TLS clients.
    pub certificate: CertificateSettings,
    /// Issuers of tokens that are trusted; none when no foreign tokens are taken.
    pub issuers: Vec<JwtSettings>,
    /// How far the time of a signed request may be from ours (default 5 minutes, at most 15).
    pub signature_skew: Duration,
}

/// Whether a caller must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It must.
    #[default]
    Closed,
    /// Callers who show nothing come in as backends of the tenant `default`. For development.
    Open,
}

impl Default for AccessSettings {
    fn default() -> AccessSettings {
        AccessSettings {
            mode: Mode::default(),
            certificate: CertificateSettings::default(),
            issuers: Vec::new(),
            signature_skew: sigv4::SKEW,
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Nothing says whom a certificate is for.
    #[error("there is no rule for certificates")]
    NoRules,
    /// An issuer without a name.
    #[error("an issuer has no name")]
    NoIssuer,
    /// Two issuers of one name.
    #[error("the issuer `{0}` stands there twice")]
    IssuerTwice(Box<str>),
    /// An issuer whose tokens may be for anybody.
    #[error("the issuer `{0}` has no audience")]
    NoAudience(Box<str>),
    /// An issuer whose tokens cannot be checked.
    #[error("the issuer `{0}` has no algorithm")]
    NoAlgorithm(Box<str>),
    /// A leeway with which tokens hardly end.
    #[error("the leeway of the issuer `{0}` is more than 5 minutes")]
    Leeway(Box<str>),
    /// A skew with which signed requests can be repeated for long.
    #[error("signed requests may be at most 15 minutes old")]
    Skew,
}

impl AccessSettings {
    /// All that is wrong with the settings.
    pub fn check(&self) -> Vec<SettingsError> {
        let mut problems = Vec::new();
        if self.certificate.rules.is_empty() {
            problems.push(SettingsError::NoRules);
        }
        if self.signature_skew > sigv4::SKEW_MAX {
            problems.push(SettingsError::Skew);
        }
        for (index, settings) in self.issuers.iter().enumerate() {
            let issuer = &settings.issuer;
            if issuer.is_empty() {
                problems.push(SettingsError::NoIssuer);
            }
            if self.issuers[..index]
                .iter()
                .any(|other| other.issuer == *issuer)
            {
                problems.push(SettingsError::IssuerTwice(issuer.clone()));
            }
            if settings.audiences.is_empty() {
                problems.push(SettingsError::NoAudience(issuer.clone()));
            }
            if settings.algorithms.is_empty() {
                problems.push(SettingsError::NoAlgorithm(issuer.clone()));
            }
            if settings.leeway > LEEWAY_MAX {
                problems.push(SettingsError::Leeway(issuer.clone()));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The door is shut when nobody says otherwise.
    #[test]
    fn is_closed_by_default() {
        let settings = AccessSettings::default();
        assert_eq!(settings.mode, Mode::Closed);
        assert_eq!(settings.check(), []);
    }

    /// All problems are told at once.
    #[test]
    fn tells_all_problems_at_once() {
        let mut settings = AccessSettings {
            signature_skew: Duration::from_secs(901),
            ..AccessSettings::default()
        };
        settings.certificate.rules.clear();
        assert_eq!(
            settings.check(),
            [SettingsError::NoRules, SettingsError::Skew]
        );
    }
}
