//! One shard as the use cases see it.

use std::sync::Arc;

use antumbra_raft::{HashRange, Role, Shard, ShardId};
use antumbra_shadow::{DeviceKey, Document, Draft, Failure, Outcome, Twins};
use bytes::Bytes;
use tokio::time::Instant;
use tracing::error;

use crate::error::Error;

use super::caller::OWN_TENANT_PREFIX;
use super::port::{Port, barrier_failure};
use super::relay::Relay;

/// A replica with its twins and watchers. Cloning shares them.
#[derive(Clone)]
pub(crate) struct ShardContext {
    pub(crate) range: HashRange,
    pub(crate) shard: Shard,
    pub(crate) twins: Twins<Port>,
    pub(crate) relay: Arc<Relay>,
}

/// Who sees to it that the commands of one device are applied in the order in which they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The twin of the device: several commands may come at a time, from whomever.
    ByTwin,
    /// The caller: it sends the next command of the device when it has the outcome of this one. To a twin
    /// that is busy it goes all the same.
    ByCaller,
}

impl ShardContext {
    pub(crate) fn id(&self) -> ShardId {
        self.shard.id()
    }

    /// Whether this replica leads the shard, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        matches!(*self.shard.role().borrow(), Role::Leader { .. })
    }

    /// Whether this replica has stopped for good.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.shard.role().borrow() == Role::Stopped
    }

    /// Whether both are the same run of the same replica.
    pub(crate) fn is_same(&self, other: &ShardContext) -> bool {
        Arc::ptr_eq(&self.relay, &other.relay)
    }

    /// Carries a command out, through the twin of its device unless none is busy and the caller keeps the order.
    /// Records of the nodes need no twin either: they are written seldom, by one node at a time, and nothing
    /// is delivered from them.
    pub(crate) async fn submit(
        &self,
        device: &DeviceKey,
        draft: Draft,
        order: Order,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let is_record = device.tenant.as_str().starts_with(OWN_TENANT_PREFIX);
        match order {
            Order::ByTwin if !is_record => self.twins.submit(device, draft, deadline).await,
            Order::ByTwin | Order::ByCaller => self.twins.carry_out(device, draft, deadline).await,
        }
    }

    /// Waits until everything acknowledged before the call is applied here, whichever role the
    /// replica has. May be dropped midway.
    pub(crate) async fn barrier(&self) -> Result<u64, Error> {
        self.shard
            .barrier()
            .await
            .map_err(|error| Error::from(barrier_failure(&error)))
    }
}

/// Runs a scan of RocksDB beside the async runtime. Dropping the future lets the scan finish.
pub(crate) async fn blocking<T, F>(scan: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    tokio::task::spawn_blocking(scan)
        .await
        .unwrap_or(Err(Error::Internal("a scan panicked")))
}

/// What a reader is told when the engine fails a read.
pub(crate) fn read_failed(error: antumbra_raft::Error) -> Error {
    error!(%error, "read shard rows");
    if error.is_damage() {
        Error::Damaged
    } else {
        Error::from(Failure::Unavailable("the replica cannot read its data"))
    }
}

/// Decodes the stored form of a document.
pub(crate) fn decode_document(bytes: Bytes) -> Result<Document, Error> {
    Document::decode(bytes).map_err(|error| {
        error!(%error, "decode a document");
        Error::Damaged
    })
}

/// A key or row that cannot be read back is damage: we wrote it.
pub(crate) fn readable<T>(decoded: Option<T>) -> Result<T, Error> {
    decoded.ok_or_else(|| {
        error!("a stored key or row cannot be read back");
        Error::Damaged
    })
}
