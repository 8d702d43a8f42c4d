//! What the configuration says about who may come in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use antumbra_shadow::{Tenant, Time};
use parking_lot::Mutex;

use crate::access::certificate::{CertificateSettings, Registration};
use crate::access::jwt::{ClaimNames, JwtSettings, KeySet, KeySetError, Keys};
use crate::access::record::{CredentialRecord, Record, Secret};
use crate::access::token::{HashError, PasswordHash, Token, draw_salt};
use crate::access::{AccessSettings, Gate, RoleName};
use crate::config::{self, Config};
use crate::memory::Memory;
use crate::reload::{self, Reload};
use crate::shutdown::Running;

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

/// What the configuration says about who may come in.
pub(super) struct Access {
    pub(super) gate: Arc<Gate>,
    /// The records that the configuration has.
    pub(super) fixed: Vec<Record>,
    keys: Option<KeysFile>,
}

impl Access {
    /// Takes files that are replaced while the node runs.
    pub(super) fn keep_current(&self, running: &Running) {
        if let Some(keys) = &self.keys {
            let watch = reload::keep_current(keys.clone(), running.stop_watches.clone());
            running.doors.spawn(watch);
        }
    }
}

/// Puts what the configuration says into force. Reads files.
pub(super) fn open(
    config: &Config,
    clock: Arc<dyn antumbra_raft::Clock>,
) -> Result<Access, AccessError> {
    let access = &config.access;
    let fixed = bootstrap(&access.bootstrap_token_file)?;
    let (issuer, keys) = issuer(access)?.unzip();
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
        issuers: issuer.into_iter().collect(),
        signature_skew: access.signature_skew,
    };
    let ceiling = config.limits.memory_bytes_max.0;
    let memory = Memory::new(ceiling, config.test_switches.memory_file.clone());
    Ok(Access {
        gate: Arc::new(Gate::new(settings, clock)?.under(memory)),
        fixed: fixed.into_iter().collect(),
        keys,
    })
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

/// The issuer whose tokens are taken, and the file of its keys.
fn issuer(access: &config::Access) -> Result<Option<(JwtSettings, KeysFile)>, AccessError> {
    if access.jwt_issuer.is_empty() {
        return Ok(None);
    }
    let text = read(KEYS_FILE, &access.jwt_keys_file)?;
    let keys = Keys::new(KeySet::parse(&text)?);
    let file = KeysFile {
        path: access.jwt_keys_file.as_str().into(),
        text: Arc::new(Mutex::new(text)),
        keys: keys.clone(),
    };
    let claim = |name: &str| (!name.is_empty()).then(|| name.into());
    let settings = JwtSettings {
        issuer: access.jwt_issuer.as_str().into(),
        audiences: vec![access.jwt_audience.as_str().into()],
        algorithms: config::algorithms(&access.jwt_algorithms).unwrap_or_default(),
        leeway: access.jwt_leeway,
        keys,
        claims: ClaimNames {
            device: access.jwt_device_claim.as_str().into(),
            tenant: claim(&access.jwt_tenant_claim),
            role: claim(&access.jwt_role_claim),
        },
        tenant: Tenant::parse(&access.jwt_tenant).ok(),
        role: RoleName::device(),
        roles: RoleName::nameable(),
    };
    Ok(Some((settings, file)))
}

const KEYS_FILE: &str = "access.jwt_keys_file";

/// The file with the keys of an issuer.
#[derive(Clone)]
struct KeysFile {
    path: Arc<str>,
    /// What it held when it was last good.
    text: Arc<Mutex<String>>,
    keys: Keys,
}

impl Reload for KeysFile {
    type Error = AccessError;

    fn name(&self) -> &'static str {
        "keys of the issuer of tokens"
    }

    fn reload(&self) -> Result<bool, AccessError> {
        let mut current = self.text.lock();
        let text = read(KEYS_FILE, &self.path)?;
        if text == *current {
            return Ok(false);
        }
        self.keys.replace(KeySet::parse(&text)?);
        *current = text;
        Ok(true)
    }
}

fn read(option: &'static str, path: &str) -> Result<String, AccessError> {
    let path = Path::new(path);
    std::fs::read_to_string(path).map_err(|source| AccessError::Read {
        option,
        path: path.to_owned(),
        source,
    })
}
