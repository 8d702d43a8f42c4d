//! Tenants, credentials and roles as they are stored: JSON objects with a format tag.
//!
//! Decoding is strict: a key that is not known, a key twice and a value out of its bounds are
//! errors. A tag is never given another meaning; what is new gets a new tag.

mod stored;

use std::fmt;

use antumbra_shadow::{DeviceId, IdError, Limits, Tenant, Time};
use serde::{Deserialize, Serialize};

use super::certificate::Fingerprint;
use super::roles::{NamedRole, RoleError, RoleName};
use super::sigv4::SigningSecret;
use super::token::PasswordHash;

/// The longest text of a record, in bytes.
pub const RECORD_BYTES_MAX: usize = 40 * 1024;

/// The name of a credential, and what a client gives as user name: 1–128 characters of
/// `[a-zA-Z0-9:_-]`, as a device. Unique in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialId(DeviceId);

impl CredentialId {
    /// Checks the text and makes the name.
    ///
    /// # Errors
    ///
    /// When the text is none.
    pub fn parse(text: &str) -> Result<CredentialId, IdError> {
        DeviceId::parse(text).map(CredentialId)
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A tenant.
    Tenant(TenantRecord),
    /// A credential.
    Credential(CredentialRecord),
    /// A role.
    Role(RoleRecord),
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its name.
    pub name: Tenant,
    /// When it was made.
    pub created: Time,
    /// Where its limits are not those of the cluster.
    pub limits: TenantLimits,
}

/// Limits of one tenant; those that are none are as for the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantLimits {
    /// As [`Limits::document_bytes_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_bytes_max: Option<u32>,
    /// As [`Limits::depth_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth_max: Option<u32>,
    /// As [`Limits::shadows_per_device_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadows_per_device_max: Option<u32>,
    /// MQTT sessions that are connected at one time, on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_max: Option<u32>,
    /// Changes of shadows each second, at the doors of each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates_per_second_max: Option<u32>,
}

impl TenantLimits {
    /// The limits of the shadows of the tenant.
    pub fn over(&self, cluster: Limits) -> Limits {
        Limits {
            document_bytes_max: self
                .document_bytes_max
                .unwrap_or(cluster.document_bytes_max),
            depth_max: self.depth_max.unwrap_or(cluster.depth_max),
            shadows_per_device_max: self
                .shadows_per_device_max
                .unwrap_or(cluster.shadows_per_device_max),
            ..cluster
        }
    }
}

/// A credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRecord {
    /// Its name.
    pub id: CredentialId,
    /// The tenant whose caller shows it.
    pub tenant: Tenant,
    /// What the caller shows.
    pub secret: Secret,
    /// The device that it is for; backend callers have none.
    pub device: Option<DeviceId>,
    /// What it allows.
    pub role: RoleName,
    /// When it was made.
    pub created: Time,
    /// When it ends, if it does.
    pub expires: Option<Time>,
    /// When it was taken back. It is refused at once, whatever the clock of a node says. To forget
    /// the record is not enough for a certificate, which the authority vouches for still.
    pub revoked: Option<Time>,
}

/// What the caller with a credential shows. Printed without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password or token with this hash; the user name is the id of the credential.
    Password(PasswordHash),
    /// A signature with a secret that both sides know.
    AccessKey {
        /// The name of the secret in the request.
        access_key: AccessKeyId,
        /// The secret. It cannot be hashed, since we must sign with it too.
        secret: SigningSecret,
    },
    /// This certificate.
    Certificate(Fingerprint),
}

/// The name of a secret that signs requests: 1–128 characters of `[a-zA-Z0-9:_-]`.
pub type AccessKeyId = CredentialId;

/// A role of one tenant, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRecord {
    /// The tenant that has it; every tenant when there is none.
    pub tenant: Option<Tenant>,
    /// The role.
    pub role: NamedRole,
    /// When it was made.
    pub created: Time,
}

/// Why a text is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is longer than [`RECORD_BYTES_MAX`].
    #[error("a record has at most {RECORD_BYTES_MAX} bytes")]
    TooLong,
    /// It has no format tag.
    #[error("the record has no format")]
    NoFormat,
    /// Its format is not known: a newer version wrote it.
    #[error("the format `{0}` is not known")]
    UnknownFormat(String),
    /// It is not of its format. Where, not what: it may hold a secret.
    #[error("the record cannot be read: line {line}, column {column}")]
    Syntax {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// A value cannot be.
    #[error("the record has a bad {0}")]
    Value(&'static str),
    /// The role in it is none.
    #[error("the role in the record: {0}")]
    Role(#[from] RoleError),
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Record, RecordError> {
        stored::parse(text)
    }

    /// The text of the record. Reading it gives the same record. It may hold a secret.
    pub fn to_text(&self) -> String {
        stored::text(self)
    }
}

#[cfg(test)]
mod tests;
