//! The use cases that all doors share: update, read, delete, list and watch shadows.
//!
//! A device's hash names its shard; commands go to the twins of that shard on its leader, reads to a
//! replica behind a barrier, watches to the shard's feed: on this node where it has a replica, else
//! on another. What a door is told is honest: a failure says whether the change was certainly not
//! applied.
//!
//! This module must not know any door: no gRPC, no HTTP, no dialect.

mod account;
mod answer;
mod attached;
mod caller;
mod context;
mod cursor;
mod dump;
mod errand;
mod events;
mod feed;
mod forward;
mod keys;
mod list;
mod machine;
mod metrics;
mod opaque;
mod outbox;
mod port;
mod question;
mod read;
mod relay;
mod restore;
mod route;
mod scan;
mod shown;
mod table;
#[cfg(test)]
mod tests;
mod trim;
mod wanted;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use antumbra_raft::{Clock, ForwardError, Node, ShardId};
use antumbra_shadow::{
    BatchItem, Delete, DeviceKey, Draft, Kind, Limits, Outcome, Position, RequestId, Time,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::watch::Sender as Announcer;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Gate;
use crate::error::Error;

pub use caller::{Caller, OWN_TENANT_PREFIX};
pub(crate) use events::Source;
pub use events::{
    ResetReason, WatchChange, WatchEvent, WatchMessage, WatchRequest, WatchSelection, WatchStream,
};
pub use forward::Peers;
pub(crate) use forward::{Reader, Writer};
pub(crate) use keys::decode_row as row_key;
#[cfg(test)]
pub(crate) use keys::device_row as device_row_key;
pub use list::{DevicePage, ListRequest, ShadowPage, ShadowSummary};
pub use machine::ShadowMachine;
pub use port::Port;
pub use read::{Consistency, Read, ReadOptions};
pub use route::{Place, SHARDS_MAX, ShardMap};
pub use table::ShardPlace;

pub(crate) use context::{Order, ShardContext};
pub(crate) use cursor::ClusterMark;
pub(crate) use dump::Dump;
pub(crate) use metrics::describe as describe_metrics;
pub(crate) use port::Faults;
pub(crate) use relay::{Relay, RelayLimits};
pub(crate) use trim::{TrimLimits, Trimmer};
pub(crate) use wanted::{Want, Wanted, mark_of};

use attached::Attachments;
use cursor::Cursor;
use forward::Hints;
use shown::Shown;
use table::Table;

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
    /// How long a watch that cannot begin waits for a shard to have a leader or to be reached.
    pub patience: Duration,
    /// Requests of other nodes that may be served at one time.
    pub served_max: usize,
}

impl Default for ShadowsConfig {
    fn default() -> ShadowsConfig {
        ShadowsConfig {
            watchers_max: 4096,
            opening_scans_max: 16,
            watch_events_max: 1024,
            bookmark_interval: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(30),
            served_max: 16 * 1024,
        }
    }
}

/// What the use cases need of the node.
pub(crate) struct Wiring {
    /// The name of this node.
    pub(crate) node: String,
    pub(crate) clock: Arc<dyn Clock>,
    /// The way to other nodes.
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) config: ShadowsConfig,
    /// Ends the watches.
    pub(crate) stop: CancellationToken,
}

/// The use cases over all shards of the cluster. Cloning shares them.
#[derive(Clone)]
pub struct Shadows {
    inner: Arc<Inner>,
}

struct Inner {
    node: String,
    clock: Arc<dyn Clock>,
    peers: Arc<dyn Peers>,
    /// Known before the first table; without a table there are no cursors.
    cluster: OnceLock<ClusterMark>,
    config: ShadowsConfig,
    table: ArcSwap<Table>,
    /// All nodes of the cluster, by name, gateways included.
    nodes: ArcSwap<BTreeMap<String, Node>>,
    /// Counts the tables, so that watches learn of a new one.
    tables: Announcer<u64>,
    hints: Hints,
    shown: Shown,
    /// Knows how fast tenants may change shadows; without it they may as fast as they can.
    gate: OnceLock<Arc<Gate>>,
    watchers: Arc<Semaphore>,
    /// What gateways on other nodes want of the replicas here.
    attachments: Arc<Attachments>,
    opening_scans: Arc<Semaphore>,
    /// Requests of other nodes that may still be taken.
    served: Semaphore,
    stop: CancellationToken,
}

impl Shadows {
    /// Use cases that know no shard yet: every call is unavailable until the first
    /// [`Shadows::set_table`].
    pub(crate) fn new(wiring: Wiring) -> Shadows {
        let Wiring {
            node,
            clock,
            peers,
            config,
            stop,
        } = wiring;
        let inner = Inner {
            node,
            clock,
            peers,
            cluster: OnceLock::new(),
            table: ArcSwap::default(),
            nodes: ArcSwap::default(),
            tables: Announcer::new(0),
            hints: Hints::default(),
            shown: Shown::default(),
            gate: OnceLock::new(),
            watchers: Arc::new(Semaphore::new(config.watchers_max)),
            attachments: Arc::default(),
            opening_scans: Arc::new(Semaphore::new(config.opening_scans_max)),
            served: Semaphore::new(config.served_max),
            config,
            stop,
        };
        Shadows {
            inner: Arc::new(inner),
        }
    }

    /// Says which cluster this is: cursors are good on every node of it and on no other. To be
    /// called once, before the first [`Shadows::set_table`].
    pub(crate) fn belong_to(&self, cluster: ClusterMark) {
        let first = self.inner.cluster.set(cluster).is_ok();
        debug_assert!(first, "a node belongs to one cluster");
    }

    /// Has a gate say how fast each tenant may change shadows. To be called once, before the doors
    /// open.
    pub(crate) fn obey(&self, gate: &Arc<Gate>) {
        let first = self.inner.gate.set(Arc::clone(gate)).is_ok();
        debug_assert!(first, "a node has one gate");
    }

    fn cluster(&self) -> ClusterMark {
        self.inner.cluster.get().copied().unwrap_or_default()
    }

    /// Replaces what is known of the shards. `local` has the replicas on this node that may serve:
    /// recovered, and caught up once. Calls under way finish with what they have; watches move over
    /// to a replica that came, and away from one that went, without a gap or a repeat.
    pub(crate) fn set_table(
        &self,
        places: Vec<ShardPlace>,
        local: BTreeMap<ShardId, ShardContext>,
    ) {
        let table = Table::new(places, local);
        let known = |shard| table.nodes(shard).next().is_some();
        self.inner.hints.keep(known);
        self.inner.table.store(Arc::new(table));
        self.inner.tables.send_modify(|count| *count += 1);
    }

    /// Replaces what is known of the nodes of the cluster.
    pub(crate) fn set_nodes(&self, nodes: impl Iterator<Item = Node>) {
        let by_name = nodes.map(|node| (node.name.clone(), node));
        self.inner.nodes.store(Arc::new(by_name.collect()));
    }

    /// Carries one command out on a device and gives its outcome, accepted or rejected. It counts
    /// against the rate of the tenant.
    ///
    /// May be dropped midway; the command may then have been applied or not.
    pub async fn update(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        draft: Draft,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        self.update_in_order(caller, device, draft, Order::ByTwin, deadline)
            .await
    }

    /// The same, and says who keeps the order of the device's commands: with [`Order::ByCaller`] the leader's
    /// node needs no twin, and what others send for the device meanwhile comes before it or behind it.
    ///
    /// May be dropped midway; the command may then have been applied or not, and with [`Order::ByCaller`] it
    /// may yet be.
    pub(crate) async fn update_in_order(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        draft: Draft,
        order: Order,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        caller.may_change(device, &draft.kind)?;
        if let Some(gate) = self.inner.gate.get() {
            gate.count_changes(&device.tenant, changes_in(&draft.kind))?;
        }
        let tenant = caller.tenant.as_ref();
        self.carry_out(tenant, device, draft, order, deadline).await
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

    /// The cursor text for a position in the feed of a device's shard; empty while no shard is known.
    pub fn cursor(&self, device: &DeviceKey, position: Position) -> String {
        let shard = self.table().shard_of(device);
        shard.map_or_else(
            |_| String::new(),
            |shard| Cursor::text_at(shard, position, self.cluster()),
        )
    }

    /// The shard map, once it is known.
    pub fn map(&self) -> Option<ShardMap> {
        self.table().map().ok().cloned()
    }

    /// Twins that are alive now, on all shards of this node.
    pub fn live_twins(&self) -> usize {
        let table = self.table();
        table.contexts().map(|context| context.twins.live()).sum()
    }

    /// Commands that wait or are in flight, on all shards that this node leads.
    pub fn waiting_commands(&self) -> usize {
        let table = self.table();
        table
            .contexts()
            .map(|context| context.twins.waiting())
            .sum()
    }

    /// The other nodes of the cluster, by name.
    pub(crate) fn other_nodes(&self) -> Vec<Node> {
        let nodes = self.inner.nodes.load();
        let others = nodes.values().filter(|node| node.name != self.inner.node);
        others.cloned().collect()
    }

    /// Sends another node something that is neither command nor question, and waits until it has it.
    /// May be dropped midway.
    pub(crate) async fn tell_node(
        &self,
        node: &Node,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(), ForwardError> {
        self.ask_node(node, body, timeout).await.map(|_| ())
    }

    /// The same with the answer.
    pub(crate) async fn ask_node(
        &self,
        node: &Node,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, ForwardError> {
        self.inner.peers.forward(node, body, timeout).await
    }

    /// The replicas on this node.
    pub(crate) fn contexts(&self) -> Vec<ShardContext> {
        self.table().contexts().cloned().collect()
    }

    fn table(&self) -> Arc<Table> {
        self.inner.table.load_full()
    }
}

/// Shadows that a command changes.
fn changes_in(kind: &Kind) -> usize {
    match kind {
        Kind::Update(_) | Kind::Delete(_) => 1,
        Kind::Batch(items) => items.len(),
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
