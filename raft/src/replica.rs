//! Starts openraft for one replica.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use openraft::errors::Fatal;
use openraft::{Config, Raft, RaftNetworkFactory, SnapshotPolicy};

use crate::config::HostConfig;
use crate::error::Error;
use crate::ids::{HashRange, ReplicaId, ShardId};
use crate::log::ShardLog;
use crate::machine::Machine;
use crate::net::{Lane, Route, Transport};
use crate::state::ShardState;
use crate::types::{Node, TypeConfig};

/// openraft's handle of one replica.
pub type ShardRaft<M> = Raft<TypeConfig, ShardState<M>>;

/// Entries that one message to a follower may carry; the log bounds them by bytes too.
const PAYLOAD_ENTRIES_MAX: u64 = 1024;

/// Which replica to start.
#[derive(Debug, Clone)]
pub struct ShardSpec {
    /// The group.
    pub shard: ShardId,
    /// This node's replica of it.
    pub replica: ReplicaId,
    /// The hashes that the shard owns.
    pub range: HashRange,
    /// The voters of a new group.
    pub members: BTreeMap<ReplicaId, Node>,
    /// The group may be created here, if this replica has neither log nor vote.
    pub create: bool,
}

/// Gives openraft its network without the host knowing the type of the transport.
pub(crate) trait StartRaft<M: Machine>: Send + Sync {
    fn start(
        &self,
        shard: ShardId,
        replica: ReplicaId,
        config: Arc<Config>,
        log: ShardLog,
        state: ShardState<M>,
    ) -> BoxFuture<'static, Result<ShardRaft<M>, Fatal<TypeConfig>>>;
}

/// The transport of the node.
pub(crate) struct Network<T>(pub(crate) Arc<T>);

impl<M: Machine, T: Transport> StartRaft<M> for Network<T> {
    fn start(
        &self,
        shard: ShardId,
        replica: ReplicaId,
        config: Arc<Config>,
        log: ShardLog,
        state: ShardState<M>,
    ) -> BoxFuture<'static, Result<ShardRaft<M>, Fatal<TypeConfig>>> {
        let peers = Peers {
            transport: Arc::clone(&self.0),
            shard,
            from: replica,
        };
        Box::pin(Raft::new(replica.0, config, peers, log, state))
    }
}

/// The other replicas of one group.
struct Peers<T> {
    transport: Arc<T>,
    shard: ShardId,
    from: ReplicaId,
}

impl<T: Transport> Peers<T> {
    fn client(&self, to: u64, node: &Node, lane: Lane) -> T::Client {
        let route = Route {
            shard: self.shard,
            from: self.from,
            to: ReplicaId(to),
        };
        self.transport.client(route, node, lane)
    }
}

impl<T: Transport> RaftNetworkFactory<TypeConfig> for Peers<T> {
    type Network = T::Client;

    async fn new_client(&mut self, target: u64, node: &Node) -> T::Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> T::Client {
        self.client(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Node) -> T::Client {
        self.client(target, node, Lane::Snapshot)
    }
}

/// openraft's settings for one shard.
///
/// Snapshots are never made by policy: the flusher asks for one after each flush, which writes
/// nothing and states the flushed position, and openraft then purges the log up to it, less the
/// entries to keep. Leadership is never restored after a restart without a vote, because the
/// state store may have gone back to its last flush.
pub(crate) fn raft_config(config: &HostConfig, shard: ShardId) -> Result<Arc<Config>, Error> {
    let millis = |duration: std::time::Duration| duration.as_millis() as u64;
    let lease = millis(config.election_max);
    let settings = Config {
        cluster_name: format!("shard-{shard}"),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election_min),
        election_timeout_max: lease,
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: config.log_entries_kept,
        purge_batch_size: 1,
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        quorum_loss_probe_interval: Some(2 * lease),
        ..Config::default()
    };
    let settings = settings.validate().map_err(|error| Error::Config {
        setting: "heartbeat, election_min, election_max",
        what: error.to_string(),
    })?;
    Ok(Arc::new(settings))
}
