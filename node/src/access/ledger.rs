//! Where records are kept: documents of [`RECORDS_TENANT`], one each, so they are replicated and
//! announced like any other.
//!
//! The document of a record has one member with all of its text, so a write replaces the record as
//! a whole. Its name is a hash of what the record is about: nobody can choose it, and two records
//! of one name are one document.

use antumbra_shadow::json::{self, DuplicateKeys, Value};
use antumbra_shadow::{
    Conditions, Delete, DeviceId, DeviceKey, Document, Draft, Kind, Limits, Outcome, Patch,
    RequestId, Section, SectionInput, ShadowName, Tenant, Update,
};
use aws_lc_rs::digest;
use tokio::time::Instant;
use uuid::Uuid;

use super::hexadecimal;
use super::record::{CredentialId, Record};
use super::roles::RoleName;
use crate::error::Error;
use crate::shadows::{Caller, ListRequest, ReadOptions, Shadows};

/// The tenant of the records; no door reaches it.
pub(crate) const RECORDS_TENANT: &str = ":access";
/// The largest document of a record: its text may have to be escaped.
const DOCUMENT_BYTES_MAX: u32 = 128 * 1024;
const MEMBER: &str = "record";

/// The name of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Tenant(Tenant),
    Credential(CredentialId),
    Role(Tenant, RoleName),
}

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    Tenants,
    Credentials,
    Roles,
}

impl Kinds {
    fn prefix(self) -> &'static str {
        match self {
            Kinds::Tenants => "tenant:",
            Kinds::Credentials => "credential:",
            Kinds::Roles => "role:",
        }
    }
}

impl Name {
    /// The name of a record.
    pub(crate) fn of(record: &Record) -> Name {
        match record {
            Record::Tenant(record) => Name::Tenant(record.name.clone()),
            Record::Credential(record) => Name::Credential(record.id.clone()),
            Record::Role(record) => {
                // Roles of all tenants are kept as those of a tenant that nobody can name.
                let all = || Tenant::parse(RECORDS_TENANT).unwrap_or_default();
                let tenant = record.tenant.clone().unwrap_or_else(all);
                Name::Role(tenant, record.role.name.clone())
            }
        }
    }

    fn device(&self) -> Option<DeviceKey> {
        let (kind, parts) = match self {
            Name::Tenant(name) => (Kinds::Tenants, [name.as_str(), ""]),
            Name::Credential(id) => (Kinds::Credentials, [id.as_str(), ""]),
            Name::Role(tenant, name) => (Kinds::Roles, [tenant.as_str(), name.as_str()]),
        };
        // No name has a zero byte, so the parts cannot run together.
        let hash = digest::digest(&digest::SHA256, parts.join("\0").as_bytes());
        let hash = hexadecimal::encode(hash.as_ref());
        let device = DeviceId::parse(&format!("{}{hash}", kind.prefix())).ok()?;
        let tenant = Tenant::parse(RECORDS_TENANT).ok()?;
        Some(DeviceKey { tenant, device })
    }
}

/// What a record must be for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It must not be there.
    Absent,
    /// It must be as it was read at this version.
    Version(u64),
}

/// Reads and writes records.
#[derive(Clone)]
pub(crate) struct Ledger {
    shadows: Shadows,
    caller: Caller,
}

impl Ledger {
    pub(crate) fn new(shadows: Shadows) -> Ledger {
        Ledger {
            shadows,
            caller: Caller::node("access"),
        }
    }

    /// A record and its version, as it is now.
    pub(crate) async fn read(
        &self,
        name: &Name,
        deadline: Instant,
    ) -> Result<Option<(Record, u64)>, Error> {
        self.read_at(&name.device().ok_or(UNNAMED)?, deadline).await
    }

    async fn read_at(
        &self,
        device: &DeviceKey,
        deadline: Instant,
    ) -> Result<Option<(Record, u64)>, Error> {
        let (options, classic) = (ReadOptions::default(), ShadowName::classic());
        let read = self
            .shadows
            .get(&self.caller, device, &classic, options, deadline);
        match read.await {
            Ok(read) => {
                let version = read.document.version();
                Ok(record_in(&read.document).map(|record| (record, version)))
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page of the records of a kind, in no order that means anything, and the token of the
    /// next page; it is empty on the last one.
    pub(crate) async fn list(
        &self,
        kind: Kinds,
        page: ListRequest<'_>,
        deadline: Instant,
    ) -> Result<(Vec<Record>, String), Error> {
        let tenant = Tenant::parse(RECORDS_TENANT).map_err(|_| UNNAMED)?;
        let listed =
            self.shadows
                .list_devices(&self.caller, &tenant, kind.prefix(), page, deadline);
        let listed = listed.await?;
        let reads = listed.devices.into_iter().map(|device| {
            let device = DeviceKey::new(tenant.clone(), device);
            async move { self.read_at(&device, deadline).await }
        });
        let read = futures::future::try_join_all(reads).await?;
        let records = read.into_iter().flatten().map(|(record, _)| record);
        Ok((records.collect(), listed.next_page_token))
    }

    /// Writes a record. `VersionConflict` when it is not as expected. May be dropped midway; the
    /// record may then have been written or not.
    pub(crate) async fn write(
        &self,
        record: &Record,
        expect: Expect,
        deadline: Instant,
    ) -> Result<(), Error> {
        let kind = Kind::Update(Update {
            shadow: ShadowName::classic(),
            patch: patch(record)?,
            conditions: conditions(expect),
        });
        self.submit(&Name::of(record), kind, deadline).await
    }

    /// Forgets a record; that there is none is as good.
    pub(crate) async fn forget(&self, name: &Name, deadline: Instant) -> Result<(), Error> {
        let kind = Kind::Delete(Delete {
            shadow: ShadowName::classic(),
            conditions: Conditions::default(),
        });
        match self.submit(name, kind, deadline).await {
            Err(Error::NotFound) => Ok(()),
            done => done,
        }
    }

    async fn submit(&self, name: &Name, kind: Kind, deadline: Instant) -> Result<(), Error> {
        let device = name.device().ok_or(UNNAMED)?;
        let mut draft = Draft::new(self.caller.actor.clone(), kind);
        draft.limits = limits();
        draft.request_id = RequestId::parse(&Uuid::new_v4().to_string()).ok();
        let outcome = self.shadows.update(&self.caller, &device, draft, deadline);
        match outcome.await? {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Rejected(rejection) => Err(rejection.into()),
        }
    }
}

/// The record in a document; `None` when it is none, or was deleted.
pub(super) fn record_in(document: &Document) -> Option<Record> {
    if document.is_deleted() {
        return None;
    }
    record_of(&document.state_json(Section::Reported, &[])?)
}

/// The record in the JSON of `reported`.
pub(super) fn record_of(reported: &str) -> Option<Record> {
    let value: serde_json::Value = serde_json::from_str(reported).ok()?;
    Record::parse(value.get(MEMBER)?.as_str()?).ok()
}

fn patch(record: &Record) -> Result<Patch, Error> {
    let object = serde_json::json!({ MEMBER: record.to_text() }).to_string();
    let value: Value = json::parse(
        object.as_bytes(),
        DuplicateKeys::Reject,
        json::NESTING_CEILING,
    )
    .map_err(|_| Error::Internal("a record cannot be written"))?;
    Patch::build(SectionInput::Absent, SectionInput::Merge(&value), &limits()).map_err(Error::from)
}

fn conditions(expect: Expect) -> Conditions {
    Conditions {
        expected_version: match expect {
            Expect::Absent => Some(0),
            Expect::Version(version) => Some(version),
        },
        ..Conditions::default()
    }
}

fn limits() -> Limits {
    Limits {
        document_bytes_max: DOCUMENT_BYTES_MAX,
        ..Limits::default()
    }
}

const UNNAMED: Error = Error::Internal("a record has no name");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use antumbra_shadow::Time;

    use super::*;
    use crate::access::record::{TenantLimits, TenantRecord};

    /// Records are found again after an upgrade: the names of their documents never change.
    #[test]
    fn documents_have_their_frozen_names() {
        let tenant = Tenant::parse("acme").unwrap();
        let role = RoleName::parse("pump").unwrap();
        let names = [
            Name::Tenant(tenant.clone()),
            Name::Credential(CredentialId::parse("acme").unwrap()),
            Name::Role(tenant, role),
        ];
        let names = names.map(|name| name.device().unwrap().device.to_string());
        let acme = "db9eb2ca502cc51f95c05f848622076028f9fb4bfb9ab8807310a86a85cfff8c";
        let pump = "bb5115672993102e1bf83e0cd5bc36f6718aaddba2105c7d6804f1a4cdc00af8";
        let frozen = [("tenant", acme), ("credential", acme), ("role", pump)];
        assert_eq!(names, frozen.map(|(kind, hash)| format!("{kind}:{hash}")));
    }

    /// What is written is what is read.
    #[test]
    fn record_comes_back_from_its_patch() {
        let record = Record::Tenant(TenantRecord {
            name: Tenant::parse("acme").unwrap(),
            created: Time(5),
            limits: TenantLimits::default(),
        });
        let text = patch(&record).unwrap().section_json(Section::Reported);
        assert_eq!(record_of(&text.unwrap()), Some(record));
        assert_eq!(record_of("{}"), None);
    }
}
