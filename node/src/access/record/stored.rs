//! The frozen shapes of records, apart from the types that the node uses.

use antumbra_shadow::{DeviceId, Tenant, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{
    AccessKeyId, CredentialId, CredentialRecord, RECORD_BYTES_MAX, Record, RecordError, RoleRecord,
    Secret, TenantLimits, TenantRecord,
};
use crate::access::roles::{NamedRole, RoleName, RoleV1};
use crate::access::sigv4::SigningSecret;
use crate::access::strict::{Object, object};

const TENANT_V1: &str = "tenant/1";
const CREDENTIAL_V1: &str = "credential/1";
const ROLE_V1: &str = "role/1";

/// The tag, which every record has whatever else it holds.
#[derive(Deserialize)]
struct Tagged {
    #[serde(default)]
    format: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantV1 {
    format: String,
    name: Tenant,
    created: Time,
    #[serde(default, deserialize_with = "object")]
    limits: TenantLimits,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialV1 {
    format: String,
    id: CredentialId,
    tenant: Tenant,
    secret: SecretV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceId>,
    role: RoleName,
    created: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<Time>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SecretV1 {
    Password(#[serde(deserialize_with = "object")] PasswordV1),
    AccessKey(#[serde(deserialize_with = "object")] AccessKeyV1),
    Certificate(#[serde(deserialize_with = "object")] CertificateV1),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordV1 {
    hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessKeyV1 {
    id: AccessKeyId,
    secret: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateV1 {
    fingerprint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordRoleV1 {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenant>,
    name: RoleName,
    #[serde(deserialize_with = "object")]
    role: RoleV1,
    created: Time,
}

pub(super) fn parse(text: &str) -> Result<Record, RecordError> {
    if text.len() > RECORD_BYTES_MAX {
        return Err(RecordError::TooLong);
    }
    let tagged: Tagged = read(text)?;
    let format = tagged.format.ok_or(RecordError::NoFormat)?;
    match &*format {
        TENANT_V1 => read::<TenantV1>(text).map(|stored| Record::Tenant(stored.into())),
        CREDENTIAL_V1 => credential(read(text)?).map(Record::Credential),
        ROLE_V1 => role(read(text)?).map(Record::Role),
        _ => Err(RecordError::UnknownFormat(format)),
    }
}

pub(super) fn text(record: &Record) -> String {
    let text = match record {
        Record::Tenant(record) => serde_json::to_string(&TenantV1::from(record)),
        Record::Credential(record) => serde_json::to_string(&CredentialV1::from(record)),
        Record::Role(record) => serde_json::to_string(&RecordRoleV1::from(record)),
    };
    text.expect("a record has only texts as keys")
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, RecordError> {
    let read = serde_json::from_str(text).map(|Object(value)| value);
    read.map_err(|error| RecordError::Syntax {
        line: error.line(),
        column: error.column(),
    })
}

fn credential(stored: CredentialV1) -> Result<CredentialRecord, RecordError> {
    let secret = match stored.secret {
        SecretV1::Password(PasswordV1 { hash }) => {
            Secret::Password(hash.parse().map_err(|_| RecordError::Value("hash"))?)
        }
        SecretV1::AccessKey(AccessKeyV1 { id, secret }) => Secret::AccessKey {
            access_key: id,
            secret: SigningSecret::parse(&secret).ok_or(RecordError::Value("secret"))?,
        },
        SecretV1::Certificate(CertificateV1 { fingerprint }) => {
            let fingerprint = fingerprint.parse();
            Secret::Certificate(fingerprint.map_err(|_| RecordError::Value("fingerprint"))?)
        }
    };
    Ok(CredentialRecord {
        id: stored.id,
        tenant: stored.tenant,
        secret,
        device: stored.device,
        role: stored.role,
        created: stored.created,
        expires: stored.expires,
        revoked: stored.revoked,
    })
}

fn role(stored: RecordRoleV1) -> Result<RoleRecord, RecordError> {
    Ok(RoleRecord {
        tenant: stored.tenant,
        role: NamedRole::from_document(stored.name, stored.role)?,
        created: stored.created,
    })
}

impl From<TenantV1> for TenantRecord {
    fn from(stored: TenantV1) -> TenantRecord {
        TenantRecord {
            name: stored.name,
            created: stored.created,
            limits: stored.limits,
        }
    }
}

impl From<&TenantRecord> for TenantV1 {
    fn from(record: &TenantRecord) -> TenantV1 {
        TenantV1 {
            format: TENANT_V1.to_owned(),
            name: record.name.clone(),
            created: record.created,
            limits: record.limits,
        }
    }
}

impl From<&CredentialRecord> for CredentialV1 {
    fn from(record: &CredentialRecord) -> CredentialV1 {
        let secret = match &record.secret {
            Secret::Password(hash) => SecretV1::Password(PasswordV1 {
                hash: hash.to_string(),
            }),
            Secret::AccessKey { access_key, secret } => SecretV1::AccessKey(AccessKeyV1 {
                id: access_key.clone(),
                secret: secret.reveal().to_owned(),
            }),
            Secret::Certificate(fingerprint) => SecretV1::Certificate(CertificateV1 {
                fingerprint: fingerprint.to_string(),
            }),
        };
        CredentialV1 {
            format: CREDENTIAL_V1.to_owned(),
            id: record.id.clone(),
            tenant: record.tenant.clone(),
            secret,
            device: record.device.clone(),
            role: record.role.clone(),
            created: record.created,
            expires: record.expires,
            revoked: record.revoked,
        }
    }
}

impl From<&RoleRecord> for RecordRoleV1 {
    fn from(record: &RoleRecord) -> RecordRoleV1 {
        RecordRoleV1 {
            format: ROLE_V1.to_owned(),
            tenant: record.tenant.clone(),
            name: record.role.name.clone(),
            role: RoleV1::from(&record.role),
            created: record.created,
        }
    }
}
