//! `CreateCredential`, `ListCredentials` and `RevokeCredential`.

use antumbra_proto::admin::v1;
use antumbra_shadow::Time;
use prost_types::Timestamp;
use tokio::task::spawn_blocking;
use tracing::info;
use uuid::Uuid;

use super::{Call, may_grant, may_manage, taken};
use crate::access::RoleName;
use crate::access::ledger::{Expect, Kinds, Name};
use crate::access::record::{CredentialId, CredentialRecord, Record, Secret};
use crate::access::sigv4::SigningSecret;
use crate::access::token::{PasswordHash, Token, draw_salt};
use crate::api::{convert, list::page_size};
use crate::error::Error;
use crate::shadows::ListRequest;

const NO_RANDOMNESS: Error = Error::Internal("the system has no randomness");

/// What is shown once.
#[derive(Default)]
struct Shown {
    token: String,
    secret_access_key: String,
}

pub(super) async fn create(
    call: &Call,
    request: v1::CreateCredentialRequest,
) -> Result<v1::CreateCredentialResponse, Error> {
    let tenant = convert::tenant(&request.tenant, call.caller(), "tenant")?;
    may_manage(call.caller(), &tenant)?;
    let id = match request.id.is_empty() {
        true => Uuid::new_v4().simple().to_string(),
        false => request.id.clone(),
    };
    let id = CredentialId::parse(&id).map_err(|error| Error::invalid("id", error.to_string()))?;
    let device = match request.device_id.is_empty() {
        true => None,
        false => Some(convert::device_id(&request.device_id, "device_id")?),
    };
    let role = match (request.role.as_str(), &device) {
        ("", Some(_)) => RoleName::device(),
        ("", None) => RoleName::backend(),
        (name, _) => {
            RoleName::parse(name).map_err(|error| Error::invalid("role", error.to_string()))?
        }
    };
    let expires = request.expires.map(time).transpose()?;
    call.must_exist(&tenant).await?;
    let named = call.role(&tenant, &role).await?;
    may_grant(call.caller(), &tenant, named.admin)?;
    let (secret, shown) = secret(&id, request).await?;
    let record = CredentialRecord {
        id: id.clone(),
        tenant,
        secret,
        device,
        role,
        created: call.door.gate.now(),
        expires,
        revoked: None,
    };
    let stored = Record::Credential(record.clone());
    let written = call.ledger.write(&stored, Expect::Absent, call.deadline);
    let exists = "the credential must not exist";
    written.await.map_err(|error| taken(error, exists))?;
    let (actor, tenant) = (&call.caller().actor, &record.tenant);
    info!(actor, %tenant, credential = %id, role = %record.role, "a credential is made");
    call.settles(|directory| directory.credential(&id).is_some())
        .await;
    Ok(v1::CreateCredentialResponse {
        credential: Some(wire(record)),
        token: shown.token,
        secret_access_key: shown.secret_access_key,
    })
}

async fn secret(
    id: &CredentialId,
    request: v1::CreateCredentialRequest,
) -> Result<(Secret, Shown), Error> {
    use v1::CredentialKind as Kind;
    let kind =
        Kind::try_from(request.kind).map_err(|_| Error::invalid("kind", "is not a known value"))?;
    let is_secret = matches!(kind, Kind::Unspecified | Kind::Secret);
    if !is_secret && !request.password.is_empty() {
        return Err(Error::invalid("password", "is for the kind SECRET"));
    }
    if kind != Kind::Certificate && !request.fingerprint.is_empty() {
        return Err(Error::invalid("fingerprint", "is for the kind CERTIFICATE"));
    }
    match kind {
        Kind::Unspecified | Kind::Secret => {
            let (bytes, token) = match request.password.is_empty() {
                true => {
                    let token = Token::draw(id.clone()).map_err(|_| NO_RANDOMNESS)?;
                    (token.secret().to_vec(), token.reveal())
                }
                false => (request.password.into_bytes(), String::new()),
            };
            let salt = draw_salt().map_err(|_| NO_RANDOMNESS)?;
            let hash = spawn_blocking(move || PasswordHash::make(&bytes, salt)).await;
            let hash = hash.map_err(|_| Error::Internal("hashing was interrupted"))?;
            let hash = hash.map_err(|error| Error::invalid("password", error.to_string()))?;
            let shown = Shown {
                token,
                ..Shown::default()
            };
            Ok((Secret::Password(hash), shown))
        }
        Kind::AccessKey => {
            let drawn = Token::draw(id.clone()).map_err(|_| NO_RANDOMNESS)?;
            let text = String::from_utf8_lossy(drawn.secret()).into_owned();
            let secret = SigningSecret::parse(&text);
            let secret = secret.ok_or(Error::Internal("a secret of a wrong form was drawn"))?;
            let access_key = format!("AK{}", Uuid::new_v4().simple().to_string().to_uppercase());
            let access_key = CredentialId::parse(&access_key)
                .map_err(|_| Error::Internal("a name of a wrong form was drawn"))?;
            let shown = Shown {
                secret_access_key: text,
                ..Shown::default()
            };
            Ok((Secret::AccessKey { access_key, secret }, shown))
        }
        Kind::Certificate => {
            let fingerprint = request.fingerprint.parse().map_err(
                |error: crate::access::certificate::FingerprintError| {
                    Error::invalid("fingerprint", error.to_string())
                },
            )?;
            Ok((Secret::Certificate(fingerprint), Shown::default()))
        }
    }
}

pub(super) async fn list(
    call: &Call,
    request: v1::ListCredentialsRequest,
) -> Result<v1::ListCredentialsResponse, Error> {
    let tenant = convert::tenant(&request.tenant, call.caller(), "tenant")?;
    may_manage(call.caller(), &tenant)?;
    let page = ListRequest {
        page_size: page_size(request.page_size)?,
        page_token: &request.page_token,
    };
    let listed = call.ledger.list(Kinds::Credentials, page, call.deadline);
    let (records, next_page_token) = listed.await?;
    let credentials = records.into_iter().filter_map(|record| match record {
        Record::Credential(record) if record.tenant == tenant => Some(wire(record)),
        _ => None,
    });
    Ok(v1::ListCredentialsResponse {
        credentials: credentials.collect(),
        next_page_token,
    })
}

pub(super) async fn revoke(
    call: &Call,
    request: v1::RevokeCredentialRequest,
) -> Result<v1::RevokeCredentialResponse, Error> {
    let id = CredentialId::parse(&request.id);
    let id = id.map_err(|error| Error::invalid("id", error.to_string()))?;
    let name = Name::Credential(id.clone());
    let found = call.ledger.read(&name, call.deadline).await?;
    let Some((Record::Credential(mut record), version)) = found else {
        // Who may see no credential learns nothing of this one.
        let own = convert::tenant("", call.caller(), "tenant")?;
        may_manage(call.caller(), &own)?;
        return Err(Error::NotFound);
    };
    may_manage(call.caller(), &record.tenant)?;
    if record.revoked.is_none() {
        record.revoked = Some(call.door.gate.now());
        let stored = Record::Credential(record.clone());
        let expect = Expect::Version(version);
        call.ledger.write(&stored, expect, call.deadline).await?;
    }
    let (actor, tenant) = (&call.caller().actor, &record.tenant);
    info!(actor, %tenant, credential = %id, "a credential is revoked");
    call.settles(|directory| {
        let known = directory.credential(&id);
        known.is_none_or(|known| known.revoked.is_some())
    })
    .await;
    Ok(v1::RevokeCredentialResponse {
        credential: Some(wire(record)),
    })
}

fn wire(record: CredentialRecord) -> v1::Credential {
    use v1::CredentialKind as Kind;
    let (kind, access_key_id, fingerprint) = match &record.secret {
        Secret::Password(_) => (Kind::Secret, String::new(), String::new()),
        Secret::AccessKey { access_key, .. } => {
            (Kind::AccessKey, access_key.to_string(), String::new())
        }
        Secret::Certificate(print) => (Kind::Certificate, String::new(), print.to_string()),
    };
    let device = record.device.map(|device| device.to_string());
    v1::Credential {
        id: record.id.to_string(),
        tenant: record.tenant.to_string(),
        kind: kind.into(),
        device_id: device.unwrap_or_default(),
        role: record.role.to_string(),
        created: Some(convert::timestamp(record.created)),
        expires: record.expires.map(convert::timestamp),
        revoked: record.revoked.map(convert::timestamp),
        access_key_id,
        fingerprint,
    }
}

fn time(timestamp: Timestamp) -> Result<Time, Error> {
    let bad = || Error::invalid("expires", "is not a time after 1970");
    let seconds = u64::try_from(timestamp.seconds).map_err(|_| bad())?;
    let nanos = u64::try_from(timestamp.nanos).map_err(|_| bad())?;
    let ms = seconds.checked_mul(1_000);
    let ms = ms.and_then(|ms| ms.checked_add(nanos / 1_000_000));
    ms.map(Time).ok_or_else(bad)
}
