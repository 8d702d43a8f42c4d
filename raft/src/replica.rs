//! Which replica to start, and openraft's settings for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::{Config, Raft, SnapshotPolicy};

use crate::config::HostConfig;
use crate::error::Error;
use crate::ids::{HashRange, ReplicaId, ShardId};
use crate::state::ShardState;
use crate::types::{Node, TypeConfig};

/// openraft's handle of one replica.
pub type ShardRaft = Raft<TypeConfig, ShardState>;

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
