//! The use cases that all doors share: update, read, delete, list and watch shadows.
//!
//! A device's hash names its shard; commands go to the twins of that shard, reads to the twin or
//! the state store behind a barrier, watches to the shard's feed. What a door is told is honest: a
//! failure says whether the change was certainly not applied.
//!
//! This module must not know any door: no gRPC, no HTTP, no dialect.

mod account;
mod context;
mod cursor;
mod events;
mod keys;
mod list;
mod machine;
mod metrics;
mod opaque;
mod outbox;
mod port;
mod read;
mod relay;
mod route;
mod scan;
#[cfg(test)]
mod tests;
mod trim;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::ShardId;
use antumbra_shadow::{
    BatchItem, Delete, DeviceKey, Draft, Kind, Limits, Outcome, Position, RequestId, Tenant, Time,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

pub use events::{
    ResetReason, WatchChange, WatchEvent, WatchMessage, WatchRequest, WatchSelection, WatchStream,
};
pub use list::{DevicePage, ListRequest, ShadowPage, ShadowSummary};
pub use machine::ShadowMachine;
pub use port::Port;
pub use read::{Consistency, Read, ReadOptions};
pub use route::{Place, SHARDS_MAX, ShardMap};

pub(crate) use context::ShardContext;
pub(crate) use cursor::ClusterMark;
pub(crate) use metrics::describe as describe_metrics;
pub(crate) use port::Faults;
pub(crate) use relay::{Relay, RelayLimits};
pub(crate) use trim::{TrimLimits, Trimmer};

use cursor::Cursor;

/// Who asks. Without authentication every caller is [`Caller::anyone`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What the feed says about who made a change.
    pub actor: String,
    /// The only tenant the caller may touch; `None` means all of them.
    pub tenant: Option<Tenant>,
}

impl Caller {
    /// A caller that nobody has authenticated, named after its door.
    pub fn anyone(door: &str) -> Caller {
        Caller {
            actor: door.to_owned(),
            tenant: None,
        }
    }

    fn may_touch(&self, tenant: &Tenant) -> Result<(), Error> {
        match &self.tenant {
            Some(own) if own != tenant => Err(Error::PermissionDenied),
            _ => Ok(()),
        }
    }
}

/// What belongs to a command beside what it changes.
#[derive(Debug, Clone)]
pub struct CommandHeader {
    /// Recognises a retry.
    pub request_id: Option<RequestId>,
    /// When a request with this id was first sent, as the caller says.
    pub issued: Option<Time>,
    /// Echoed to observers.
    pub client_token: Option<String>,
    /// The limits of the tenant.
    pub limits: Limits,
}

/// Settings of the use cases.
#[derive(Debug, Clone)]
pub struct ShadowsConfig {
    /// Watches that may run at one time.
    pub watchers_max: usize,
    /// Watches that may send their opening documents at one time; others wait for their turn.
    pub opening_scans_max: usize,
    /// Events of one watch that may wait for its reader.
    pub watch_events_max: usize,
    /// A watch is told that it is alive and complete so often.
    pub bookmark_interval: Duration,
    /// A reader of opening documents that takes nothing for so long has to start over.
    pub stall_timeout: Duration,
}

impl Default for ShadowsConfig {
    fn default() -> ShadowsConfig {
        ShadowsConfig {
            watchers_max: 4096,
            opening_scans_max: 16,
            watch_events_max: 1024,
            bookmark_interval: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// The use cases over all shards of this node. Cloning shares them.
#[derive(Clone)]
pub struct Shadows {
    inner: Arc<Inner>,
}

struct Inner {
    map: ShardMap,
    shards: BTreeMap<ShardId, ShardContext>,
    cluster: ClusterMark,
    config: ShadowsConfig,
    watchers: Arc<Semaphore>,
    opening_scans: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Shadows {
    /// Puts the shards of a node together. `stop` ends the watches.
    ///
    /// # Panics
    /// When `shards` lacks a shard of the map.
    pub(crate) fn new(
        map: ShardMap,
        shards: BTreeMap<ShardId, ShardContext>,
        cluster: ClusterMark,
        config: ShadowsConfig,
        stop: CancellationToken,
    ) -> Shadows {
        let complete = map.places().iter().all(|p| shards.contains_key(&p.shard));
        assert!(complete, "every shard of the map is on this node");
        let inner = Inner {
            map,
            shards,
            cluster,
            watchers: Arc::new(Semaphore::new(config.watchers_max)),
            opening_scans: Arc::new(Semaphore::new(config.opening_scans_max)),
            config,
            stop,
        };
        Shadows {
            inner: Arc::new(inner),
        }
    }

    /// Carries one command out on a device and gives its outcome, accepted or rejected.
    ///
    /// May be dropped midway; the command may then have been applied or not.
    pub async fn update(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        draft: Draft,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        caller.may_touch(&device.tenant)?;
        let twins = &self.shard_of(device).twins;
        Ok(twins.submit(device, draft, deadline).await?)
    }

    /// Carries several changes of one device out as one: all are applied or none.
    ///
    /// May be dropped midway; the changes may then have been applied or not.
    pub async fn update_many(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        header: CommandHeader,
        items: Vec<BatchItem>,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let draft = header.draft(caller, Kind::Batch(items));
        self.update(caller, device, draft, deadline).await
    }

    /// Deletes one shadow and leaves a tombstone.
    ///
    /// May be dropped midway; the shadow may then be deleted or not.
    pub async fn delete(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        header: CommandHeader,
        delete: Delete,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let draft = header.draft(caller, Kind::Delete(delete));
        self.update(caller, device, draft, deadline).await
    }

    /// The cursor text for a position in the feed of a device's shard.
    pub fn cursor(&self, device: &DeviceKey, position: Position) -> String {
        Cursor::at(self.inner.map.route(device.hash()), position).encode(self.inner.cluster)
    }

    /// The shard map of this node.
    pub fn map(&self) -> &ShardMap {
        &self.inner.map
    }

    /// Twins that are alive now, on all shards.
    pub fn live_twins(&self) -> usize {
        self.contexts().map(|context| context.twins.live()).sum()
    }

    pub(crate) fn contexts(&self) -> impl Iterator<Item = &ShardContext> {
        self.inner.shards.values()
    }

    fn shard_of(&self, device: &DeviceKey) -> &ShardContext {
        &self.inner.shards[&self.inner.map.route(device.hash())]
    }
}

impl CommandHeader {
    /// The command that changes something as `kind` says.
    pub fn draft(self, caller: &Caller, kind: Kind) -> Draft {
        Draft {
            actor: caller.actor.clone(),
            request_id: self.request_id,
            issued: self.issued,
            client_token: self.client_token,
            limits: self.limits,
            kind,
        }
    }
}
