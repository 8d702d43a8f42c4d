//! What each part of a node takes from the configuration.

use std::time::Duration;

use antumbra_raft::{HostConfig, SyncMode};
use antumbra_shadow::{Limits, TwinsConfig};

use crate::config::{Config, Shards};
use crate::identity::Identity;
use crate::shadows::TrimLimits;

/// Cores that one led shard of a node makes use of.
const CORES_PER_SHARD: usize = 4;

/// `shards = auto` never gives fewer.
const AUTO_SHARDS_MIN: usize = 3;

/// How often the feed is looked at for records that are too old or too many.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// Shards of a new data directory.
pub(super) fn shard_count(shards: Shards) -> u32 {
    match shards {
        Shards::Count(count) => count,
        Shards::Auto => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            u32::try_from((cores / CORES_PER_SHARD).max(AUTO_SHARDS_MIN)).unwrap_or(u32::MAX)
        }
    }
}

/// How the engine runs.
pub(super) fn host_config(config: &Config, identity: &Identity) -> HostConfig {
    let storage = &config.storage;
    let directory = config.node.data_dir.clone();
    let mut host = HostConfig::new(directory, identity.incarnation.into_bytes());
    host.create = !identity.created;
    host.flush_interval = storage.flush_interval;
    host.flush_log_bytes = storage.flush_log_bytes.0;
    host.tail_bytes = bytes(storage.tail_bytes.0);
    host.cache_bytes = bytes(storage.cache_bytes.0) / 2;
    host.block_cache_bytes = bytes(storage.cache_bytes.0) / 2;
    host.heartbeat = config.raft.heartbeat;
    host.election_min = config.raft.election_timeout_min;
    host.election_max = config.raft.election_timeout_max;
    host.sync = match config.test_switches.no_fsync {
        true => SyncMode::NoSyncForTests,
        false => SyncMode::Fsync,
    };
    host
}

/// What the twins of one of `shards` shards may take.
pub(super) fn twins_config(config: &Config, shards: usize) -> TwinsConfig {
    let limits = &config.limits;
    let shards = shards.max(1);
    TwinsConfig {
        live_max: (limits.twins_max as usize).div_ceil(shards),
        live_bytes_max: bytes(limits.twins_bytes_max.0) / shards,
        idle_stop: limits.twin_idle,
        permits: limits.commands_max as usize,
        permits_per_device: limits.commands_per_device_max as usize,
        group_max: limits.group_max as usize,
        ..TwinsConfig::default()
    }
}

/// What one of `shards` shards may keep of the feed.
pub(super) fn trim_limits(config: &Config, shards: u64) -> TrimLimits {
    TrimLimits {
        age_max: config.storage.feed_retention,
        bytes_max: config.storage.feed_bytes_max.0 / shards.max(1),
        interval: TRIM_INTERVAL.min(config.storage.feed_retention),
    }
}

/// What the default tenant may store.
pub(super) fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    Limits {
        document_bytes_max: small(limits.document_bytes_max.0),
        depth_max: limits.document_depth_max,
        shadows_per_device_max: limits.shadows_per_device_max,
        client_token_bytes_max: small(limits.client_token_bytes_max.0),
        key_bytes_max: small(limits.key_bytes_max.0),
        ..Limits::default()
    }
}

/// A size for this machine.
pub(super) fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
