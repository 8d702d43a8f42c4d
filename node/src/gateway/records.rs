//! Session records: which client is connected where, and what outlives its connection.
//!
//! A record is a document of [`RECORDS_TENANT`], so it is replicated, fenced and announced like any
//! other: its version is the epoch of the session, a write that expects an older epoch fails, and
//! every gateway follows the changes and so learns that a client has come elsewhere (design flow 4).
//! A session without anything to keep and without presence writes none.

use std::borrow::Cow;

use antumbra_shadow::json::{self, DuplicateKeys};
use antumbra_shadow::{
    Conditions, Delete, DeviceId, DeviceKey, Document, Draft, Kind, Limits, Outcome, Patch,
    RequestId, Section, SectionInput, ShadowName, Tenant, Update,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use crate::access::hexadecimal;
use crate::error::Error;
use crate::shadows::{Caller, ReadOptions, Shadows};

/// The tenant of the records; no door reaches it.
pub(crate) const RECORDS_TENANT: &str = ":sessions";

/// The same as a name.
pub(crate) fn records_tenant() -> Tenant {
    // A test reads it; the other tenant would be told too much and never too little.
    Tenant::parse(RECORDS_TENANT).unwrap_or_default()
}

/// A record is never larger: fifty filters of the longest kind.
const RECORD_BYTES_MAX: u32 = 128 * 1024;

/// Names a client within a tenant: a hash of both texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientKey(u128);

impl ClientKey {
    /// The key of a client.
    pub(crate) fn new(tenant: &Tenant, client_id: &str) -> ClientKey {
        let mut bytes = Vec::with_capacity(tenant.as_str().len() + 1 + client_id.len());
        bytes.extend_from_slice(tenant.as_str().as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(client_id.as_bytes());
        ClientKey(xxh3_128(&bytes))
    }

    /// The key as bytes.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The key of such bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<ClientKey> {
        Some(ClientKey(u128::from_be_bytes(bytes.try_into().ok()?)))
    }

    /// Where its record is.
    pub(crate) fn device(self) -> Option<DeviceKey> {
        Some(DeviceKey {
            tenant: records_tenant(),
            device: DeviceId::parse(&format!("{:032x}", self.0)).ok()?,
        })
    }

    /// The client whose record has this name.
    pub(crate) fn of_record(device: &DeviceKey) -> Option<ClientKey> {
        if device.tenant.as_str() != RECORDS_TENANT {
            return None;
        }
        let key = u128::from_str_radix(device.device.as_str(), 16);
        key.ok().map(ClientKey)
    }
}

/// How a record stands in its document: one text. As members of their own its values would each carry
/// a time and a version, in the document, in the change and in what undoes it.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(rename = "r")]
    record: Cow<'a, str>,
}

/// What is kept of a session. The short names are part of the stored form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Format of the record.
    #[serde(rename = "v")]
    format: u8,
    /// Tenant of the client.
    #[serde(rename = "t")]
    pub(crate) tenant: Tenant,
    /// Client id.
    #[serde(rename = "c")]
    pub(crate) client_id: String,
    /// Names the connection; another for each.
    #[serde(rename = "s")]
    pub(crate) session: Uuid,
    /// The node it is, or was, connected to.
    #[serde(rename = "n")]
    pub(crate) node: String,
    /// The process of that node.
    #[serde(rename = "b")]
    pub(crate) boot: Uuid,
    /// Whether it is connected.
    #[serde(rename = "on")]
    pub(crate) connected: bool,
    /// Since when it is, or is not, in milliseconds since the Unix epoch.
    #[serde(rename = "at")]
    pub(crate) since_ms: u64,
    /// Seconds that the session outlives the connection; `u32::MAX` for ever.
    #[serde(rename = "x")]
    pub(crate) expiry_s: u32,
    /// Keep-alive in force, in seconds; 0 for none.
    #[serde(rename = "k")]
    pub(crate) keep_alive_s: u32,
    /// The device, when the client is one.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<DeviceId>,
    /// Who it is: the fingerprint of a certificate or the name of a credential.
    #[serde(rename = "p")]
    pub(crate) principal: String,
    /// From where it connected.
    #[serde(rename = "ip", default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<std::net::IpAddr>,
    /// Whether the connection continues the session of the one before.
    #[serde(rename = "z")]
    pub(crate) resumed: bool,
    /// Why it is not connected any more: a number of [`super::presence`].
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<u8>,
    /// Epoch of the last connection, known when it has ended.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    /// Subscriptions, in hexadecimal.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    subscriptions: Option<String>,
    /// State of the dialect, in hexadecimal.
    #[serde(rename = "ds", default, skip_serializing_if = "Option::is_none")]
    dialect: Option<String>,
}

/// What identifies a new connection.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    pub(crate) tenant: Tenant,
    pub(crate) client_id: String,
    pub(crate) session: Uuid,
    pub(crate) node: String,
    pub(crate) boot: Uuid,
    pub(crate) since_ms: u64,
    pub(crate) expiry_s: u32,
    pub(crate) keep_alive_s: u32,
    pub(crate) device: Option<DeviceId>,
    pub(crate) principal: String,
    pub(crate) address: Option<std::net::IpAddr>,
}

const FORMAT_V1: u8 = 1;

impl Record {
    /// The record of a connection that begins, with nothing kept yet.
    pub(crate) fn begin(beginning: Beginning) -> Record {
        Record {
            format: FORMAT_V1,
            tenant: beginning.tenant,
            client_id: beginning.client_id,
            session: beginning.session,
            node: beginning.node,
            boot: beginning.boot,
            connected: true,
            since_ms: beginning.since_ms,
            expiry_s: beginning.expiry_s,
            keep_alive_s: beginning.keep_alive_s,
            device: beginning.device,
            principal: beginning.principal,
            address: beginning.address,
            resumed: false,
            reason: None,
            epoch: None,
            subscriptions: None,
            dialect: None,
        }
    }

    /// The client.
    pub(crate) fn key(&self) -> ClientKey {
        ClientKey::new(&self.tenant, &self.client_id)
    }

    /// Reads a document; `None` when it is no record, or of a newer format.
    pub(crate) fn read(document: &Document) -> Option<Record> {
        if document.is_deleted() {
            return None;
        }
        let text = document.state_json(Section::Reported, &[])?;
        let stored: Stored<'_> = serde_json::from_str(&text).ok()?;
        let record: Record = serde_json::from_str(&stored.record).ok()?;
        (record.format == FORMAT_V1).then_some(record)
    }

    /// Whether another connection may have the client id of this one: it is of the same device, whatever
    /// proves that now (certificates are renewed), or of the same credential.
    pub(crate) fn is_of(&self, other: &Record) -> bool {
        match (&self.device, &other.device) {
            (Some(device), Some(other)) => device == other,
            _ => self.principal == other.principal,
        }
    }

    /// The subscriptions, as [`Record::keep`] was given them.
    pub(crate) fn subscriptions(&self) -> Vec<u8> {
        from_hex(self.subscriptions.as_deref())
    }

    /// The state of the dialect.
    pub(crate) fn dialect(&self) -> Vec<u8> {
        from_hex(self.dialect.as_deref())
    }

    /// Whether the session has outlived its connection for too long at `now_ms`.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        let lives_ms = u64::from(self.expiry_s) * 1_000;
        !self.connected
            && self.expiry_s != u32::MAX
            && now_ms.saturating_sub(self.since_ms) >= lives_ms
    }

    /// Keeps what outlives the connection.
    pub(crate) fn keep(&mut self, subscriptions: &[u8], dialect: &[u8]) {
        self.subscriptions = to_hex(subscriptions);
        self.dialect = to_hex(dialect);
    }

    /// The connection is over.
    pub(crate) fn end(&mut self, reason: u8, epoch: u64, now_ms: u64) {
        self.connected = false;
        self.reason = Some(reason);
        self.epoch = Some(epoch);
        self.since_ms = now_ms;
        if self.expiry_s == 0 {
            self.keep(&[], &[]);
        }
    }

    /// The patch that makes a document this record.
    fn patch(&self) -> Result<Patch, Error> {
        const BROKEN: Error = Error::Internal("a session record cannot be written");
        let record = serde_json::to_string(self).map_err(|_| BROKEN)?;
        let record = Cow::Owned(record);
        let text = serde_json::to_vec(&Stored { record }).map_err(|_| BROKEN)?;
        let value = json::parse(&text, DuplicateKeys::Reject, json::NESTING_CEILING);
        let value = value.map_err(|_| BROKEN)?;
        let reported = SectionInput::Merge(&value);
        Patch::build(SectionInput::Absent, reported, &limits()).map_err(|_| BROKEN)
    }
}

/// Reads and writes records.
#[derive(Clone)]
pub(crate) struct Records {
    shadows: Shadows,
    caller: Caller,
}

/// What a record must be for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Anything: the write takes the session over.
    Anything,
    /// What was written last, by this connection: else another one has come.
    Epoch(u64),
}

impl Records {
    pub(crate) fn new(shadows: Shadows) -> Records {
        Records {
            shadows,
            caller: Caller::node("gateway"),
        }
    }

    /// The record of a client, as it is now.
    pub(crate) async fn read(
        &self,
        client: ClientKey,
        deadline: Instant,
    ) -> Result<Option<(Record, u64)>, Error> {
        let device = client.device().ok_or(UNNAMED)?;
        let options = ReadOptions::default();
        let classic = ShadowName::classic();
        let read = self
            .shadows
            .get(&self.caller, &device, &classic, options, deadline);
        match read.await {
            Ok(read) => {
                let version = read.document.version();
                Ok(Record::read(&read.document).map(|record| (record, version)))
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets a record that is as it was at an epoch.
    pub(crate) async fn forget(
        &self,
        client: ClientKey,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(), Error> {
        let device = client.device().ok_or(UNNAMED)?;
        let kind = Kind::Delete(Delete {
            shadow: ShadowName::classic(),
            conditions: Conditions {
                expected_version: Some(epoch),
                ..Conditions::default()
            },
        });
        let draft = Draft::new(self.caller.actor.clone(), kind);
        let updated = self.shadows.update(&self.caller, &device, draft, deadline);
        match updated.await? {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Rejected(rejection) => Err(rejection.into()),
        }
    }

    /// Writes a record and gives the epoch that it begins. Repeated until the outcome is known, or
    /// until the deadline. `VersionConflict` when another connection has come.
    pub(crate) async fn write(
        &self,
        record: &Record,
        expect: Expect,
        deadline: Instant,
    ) -> Result<u64, Error> {
        let device = record.key().device().ok_or(UNNAMED)?;
        let conditions = Conditions {
            expected_version: match expect {
                Expect::Anything => None,
                Expect::Epoch(epoch) => Some(epoch),
            },
            ..Conditions::default()
        };
        let kind = Kind::Update(Update {
            shadow: ShadowName::classic(),
            patch: record.patch()?,
            conditions,
        });
        let mut draft = Draft::new(self.caller.actor.clone(), kind);
        draft.limits = limits();
        draft.request_id = RequestId::parse(&Uuid::new_v4().to_string()).ok();
        let outcome = self
            .shadows
            .update(&self.caller, &device, draft, deadline)
            .await?;
        match outcome {
            Outcome::Accepted(items) => {
                let item = items.first();
                item.map(|item| item.version)
                    .ok_or(Error::Internal("accepted without an item"))
            }
            Outcome::Rejected(rejection) => Err(rejection.into()),
        }
    }
}

const UNNAMED: Error = Error::Internal("a session record has no name");

fn limits() -> Limits {
    Limits {
        document_bytes_max: RECORD_BYTES_MAX,
        ..Limits::default()
    }
}

fn to_hex(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| hexadecimal::encode(bytes))
}

fn from_hex(text: Option<&str>) -> Vec<u8> {
    let bytes = text.and_then(|text| hexadecimal::decode_all(text.as_bytes()));
    bytes.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn record() -> Record {
        Record::begin(Beginning {
            tenant: Tenant::default(),
            client_id: "pump/7 ü".into(),
            session: Uuid::nil(),
            node: "node-1".into(),
            boot: Uuid::nil(),
            since_ms: 5_000,
            expiry_s: 60,
            keep_alive_s: 30,
            device: DeviceId::parse("pump").ok(),
            principal: "open".into(),
            address: None,
        })
    }

    /// Golden text: records outlive an upgrade.
    #[test]
    fn record_has_its_frozen_text() {
        let mut record = record();
        record.keep(&[0, 171], &[]);
        let text = serde_json::to_string(&record).unwrap();
        let nil = Uuid::nil();
        assert_eq!(
            text,
            format!(
                r#"{{"v":1,"t":"default","c":"pump/7 ü","s":"{nil}","n":"node-1","b":"{nil}","on":true,"at":5000,"x":60,"k":30,"d":"pump","p":"open","z":false,"f":"00ab"}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert_eq!(record.subscriptions(), [0, 171]);
        assert!(record.dialect().is_empty());
    }

    /// A session that has ended must not come back.
    #[test]
    fn session_is_over_when_its_expiry_has_passed() {
        let mut record = record();
        assert!(!record.is_over(u64::MAX));
        record.end(1, 4, 10_000);
        assert!(!record.is_over(69_999));
        assert!(record.is_over(70_000));
        record.expiry_s = u32::MAX;
        assert!(!record.is_over(u64::MAX));
        record.expiry_s = 0;
        record.keep(&[1], &[1]);
        record.end(1, 4, 10_000);
        assert!(record.is_over(10_000));
        assert!(record.subscriptions().is_empty());
    }

    /// A device keeps its client id when its certificate is renewed; another one cannot take it.
    #[test]
    fn client_id_belongs_to_the_device_that_used_it() {
        let before = record();
        let mut renewed = record();
        renewed.principal = "another certificate".into();
        assert!(before.is_of(&renewed));
        renewed.device = DeviceId::parse("valve").ok();
        assert!(!before.is_of(&renewed));
        renewed.device = None;
        assert!(!before.is_of(&renewed));
    }

    /// Tenants have different clients under one id, and the name of a record leads back to it.
    #[test]
    fn client_is_found_by_tenant_and_id() {
        let (one, other) = (Tenant::default(), Tenant::parse("other").unwrap());
        let key = ClientKey::new(&one, "a");
        assert_ne!(key, ClientKey::new(&other, "a"));
        assert_ne!(key, ClientKey::new(&one, "b"));
        let device = key.device().unwrap();
        assert_eq!(ClientKey::of_record(&device), Some(key));
        let elsewhere = DeviceKey::new(one, device.device.clone());
        assert_eq!(ClientKey::of_record(&elsewhere), None);
    }
}
