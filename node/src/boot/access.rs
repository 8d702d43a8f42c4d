//! What the configuration says about who may come in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use antumbra_shadow::{Tenant, Time};

use crate::access::certificate::{Authorities, CertificateSettings, Registration};
use crate::access::jwt::{ClaimNames, JwtSettings, KeySet, KeySetError};
use crate::access::record::{CredentialRecord, Record, Secret};
use crate::access::token::{HashError, PasswordHash, Token, draw_salt};
use crate::access::{AccessSettings, Gate, RoleName};
use crate::config::{self, Config};

/// Why the access rules cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file cannot be read.
    #[error("cannot read {path} (`{option}`): {source}")]
    Read {
        /// Which option names it.
        option: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The keys of the issuer cannot be used.
    #[error("`access.jwt_keys_file`: {0}")]
    Keys(#[from] KeySetError),
    /// The token for the beginning is none.
    #[error(
        "`access.bootstrap_token_file` holds no token. `antumbra credential bootstrap` makes one"
    )]
    Token,
    /// The token cannot be hashed.
    #[error("`access.bootstrap_token_file`: {0}")]
    Hash(#[from] HashError),
    /// The system has no randomness.
    #[error("the system has no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// The gate of the node, and the records that its configuration has. Reads files.
pub(super) fn open(
    config: &Config,
    authorities: Option<Authorities>,
    clock: Arc<dyn antumbra_raft::Clock>,
) -> Result<(Arc<Gate>, Vec<Record>), AccessError> {
    let access = &config.access;
    let fixed = bootstrap(&access.bootstrap_token_file)?;
    let settings = AccessSettings {
        mode: config.mode,
        certificate: CertificateSettings {
            rules: config::certificate_rules(&access.certificate_rules).unwrap_or_default(),
            registration: match access.certificates_registered {
                true => Registration::Required,
                false => Registration::Optional,
            },
            ..CertificateSettings::default()
        },
        issuers: issuer(access)?.into_iter().collect(),
        signature_skew: access.signature_skew,
    };
    let gate = Gate::new(settings, authorities, clock)?;
    Ok((Arc::new(gate), fixed.into_iter().collect()))
}

/// The credential of a token that the configuration names: with it the first others are made.
fn bootstrap(file: &str) -> Result<Option<Record>, AccessError> {
    if file.is_empty() {
        return Ok(None);
    }
    let text = read("access.bootstrap_token_file", file)?;
    let token = Token::parse(text.trim().as_bytes()).map_err(|_| AccessError::Token)?;
    Ok(Some(Record::Credential(CredentialRecord {
        secret: Secret::Password(PasswordHash::make(token.secret(), draw_salt()?)?),
        id: token.record,
        tenant: Tenant::default_tenant(),
        device: None,
        role: RoleName::admin(),
        // The oldest: no record can take its name.
        created: Time(0),
        expires: None,
        revoked: None,
    })))
}

fn issuer(access: &config::Access) -> Result<Option<JwtSettings>, AccessError> {
    if access.jwt_issuer.is_empty() {
        return Ok(None);
    }
    let keys = KeySet::parse(&read("access.jwt_keys_file", &access.jwt_keys_file)?)?;
    let claim = |name: &str| (!name.is_empty()).then(|| name.into());
    Ok(Some(JwtSettings {
        issuer: access.jwt_issuer.as_str().into(),
        audiences: vec![access.jwt_audience.as_str().into()],
        algorithms: config::algorithms(&access.jwt_algorithms).unwrap_or_default(),
        leeway: access.jwt_leeway,
        keys: Arc::new(keys),
        claims: ClaimNames {
            device: access.jwt_device_claim.as_str().into(),
            tenant: claim(&access.jwt_tenant_claim),
            role: claim(&access.jwt_role_claim),
        },
        tenant: Tenant::parse(&access.jwt_tenant).ok(),
        role: RoleName::device(),
        roles: RoleName::nameable(),
    }))
}

fn read(option: &'static str, path: &str) -> Result<String, AccessError> {
    let path = Path::new(path);
    std::fs::read_to_string(path).map_err(|source| AccessError::Read {
        option,
        path: path.to_owned(),
        source,
    })
}
