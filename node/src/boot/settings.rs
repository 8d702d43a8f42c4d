//! What each part of a node takes from the configuration.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use antumbra_raft::{Defects, Env, ForwardError, Host, HostConfig, SyncMode};
use antumbra_shadow::{Limits, RULES, TwinsConfig};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use uuid::Uuid;

use crate::access::Gate;
use crate::cluster::NodeInfo;
use crate::cluster::bootstrap::Plan;
use crate::config::{Config, Shards};
use crate::gateway;
use crate::gateway::mqtt::session::SessionLimits;
use crate::identity::Identity;
use crate::peer::{PeerTransport, Tls, TlsError, TlsFiles};
use crate::shadows::{ClusterMark, Peers, Shadows, TrimLimits};
use crate::shutdown::Running;

use super::{Addresses, caches};

/// Cores that one led shard of a node makes use of.
const CORES_PER_SHARD: usize = 4;

/// `shards = auto` never gives fewer.
const AUTO_SHARDS_MIN: usize = 3;

/// How often the feed is looked at for records that are too old or too many.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// Data shards of a new cluster of so many nodes.
fn shard_count(wanted: Option<u32>, nodes: usize) -> u32 {
    if let Some(count) = wanted {
        return count;
    }
    // The nodes of a cluster are taken to be alike.
    let cores = nodes * std::thread::available_parallelism().map_or(1, usize::from);
    let count = (cores / CORES_PER_SHARD).max(AUTO_SHARDS_MIN).max(nodes);
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What the node says of itself.
pub(super) fn node_info(config: &Config, identity: &Identity, addresses: &Addresses) -> NodeInfo {
    let advertised = &config.peer.advertise;
    let capacity = u16::try_from(config.node.capacity)
        .ok()
        .and_then(NonZeroU16::new);
    NodeInfo {
        name: identity.node_name.clone(),
        incarnation: identity.incarnation,
        peer: match advertised.is_empty() {
            true => addresses.peer.to_string(),
            false => advertised.clone(),
        },
        grpc: reached_at(addresses.grpc, advertised),
        http: reached_at(addresses.http, advertised),
        storage: config.node.storage,
        zone: config.node.zone.clone(),
        capacity: capacity.unwrap_or(NonZeroU16::MIN),
        rules: config.test_switches.announce_rules.unwrap_or(RULES),
    }
}

/// Where others reach a door of this node. One that listens everywhere is reached where the node itself
/// is: at the host of `peer.advertise`.
fn reached_at(door: SocketAddr, advertised: &str) -> String {
    match advertised.rsplit_once(':') {
        Some((host, _)) if door.ip().is_unspecified() => format!("{host}:{}", door.port()),
        _ => door.to_string(),
    }
}

/// How a new cluster is founded.
pub(super) fn plan(config: &Config, me: &NodeInfo) -> Plan {
    let mut seeds = config.cluster.seeds.0.clone();
    if seeds.is_empty() {
        seeds.insert(me.name.clone(), me.peer.clone());
    }
    let expect = match config.cluster.expect {
        0 => seeds.len(),
        expect => expect as usize,
    };
    Plan {
        seeds,
        expect,
        replication_factor: config.cluster.replication_factor,
        shards: shard_count,
        shards_wanted: match config.cluster.shards {
            Shards::Auto => None,
            Shards::Count(count) => Some(count),
        },
    }
}

/// How the link between nodes is protected.
pub(super) fn tls(config: &Config) -> Result<Tls, TlsError> {
    let peer = &config.peer;
    if peer.tls_certificate.is_empty() {
        return Ok(Tls::None);
    }
    let files = TlsFiles {
        certificate: PathBuf::from(&peer.tls_certificate),
        key: PathBuf::from(&peer.tls_key),
        authority: PathBuf::from(&peer.tls_authority),
    };
    Tls::open(files, &config.node.name)
}

/// The gateway of the node.
pub(super) fn gateway(
    config: &Config,
    env: &Env,
    node: &str,
    shadows: &Shadows,
    gate: &Arc<Gate>,
    running: &Running,
) -> Arc<gateway::Door> {
    let seconds = |duration: Duration| duration.as_secs();
    let keep_alive_max_s = u16::try_from(seconds(config.limits.mqtt_keep_alive_max));
    let byte_rate_max =
        u32::try_from(config.limits.mqtt_bytes_per_second_max.0).unwrap_or(u32::MAX);
    let session_expiry_max_s = u32::try_from(seconds(config.limits.mqtt_session_expiry_max));
    gateway::Door::new(gateway::Wiring {
        node: node.to_owned(),
        shadows: shadows.clone(),
        clock: Arc::clone(&env.clock),
        limits: limits(config),
        session_limits: SessionLimits {
            keep_alive_max_s: keep_alive_max_s.unwrap_or(u16::MAX),
            session_expiry_max_s: session_expiry_max_s.unwrap_or(u32::MAX - 1),
            byte_rate_max: NonZeroU32::new(byte_rate_max).unwrap_or(NonZeroU32::MIN),
            ..SessionLimits::default()
        },
        presence: config.mqtt.presence,
        tenant_connects_max: config.limits.mqtt_connects_per_second_per_tenant_max,
        gate: Arc::clone(gate),
        stop: running.stop_watches.clone(),
    })
}

/// How the MQTT door is served.
pub(super) fn mqtt(config: &Config) -> gateway::Settings {
    gateway::Settings {
        connections_max: config.limits.mqtt_connections_max as usize,
        connect_rate_max: config.limits.mqtt_connects_per_second_max,
    }
}

/// What cursors of this cluster are marked with.
pub(super) fn cluster_mark(cluster_id: Uuid) -> ClusterMark {
    ClusterMark(crc32fast::hash(cluster_id.as_bytes()))
}

/// The way to other nodes, as the use cases see it.
pub(super) fn peers(host: Weak<Host>, transport: Arc<PeerTransport>) -> Arc<dyn Peers> {
    Arc::new(Links { host, transport })
}

struct Links {
    /// Weak: the engine holds the handler of forwarded requests, which holds this.
    host: Weak<Host>,
    transport: Arc<PeerTransport>,
}

impl Peers for Links {
    fn forward(
        &self,
        node: &antumbra_raft::Node,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, ForwardError>> {
        let (host, node) = (self.host.clone(), node.clone());
        Box::pin(async move {
            match host.upgrade() {
                Some(host) => host.forward(&node, body, timeout).await,
                None => Err(ForwardError::NotSent),
            }
        })
    }

    fn follow(
        &self,
        node: &antumbra_raft::Node,
        body: Bytes,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        let (transport, node) = (Arc::clone(&self.transport), node.clone());
        async move {
            let stream = transport.follow(&node, body).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let stream = stream.map(|item| item.map_err(|error| error.to_string()));
            Ok(stream.boxed())
        }
        .boxed()
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
    (host.cache_bytes, host.block_cache_bytes) = caches::sizes(storage.cache_bytes);
    // A log that is held must not fill a small disk.
    let disk = fs4::total_space(&config.node.data_dir).unwrap_or(0);
    host.log_held_bytes_max = host.log_held_bytes_max.min(disk / 16);
    host.snapshot_bytes_per_second = config.cluster.copy_bytes_per_second.0;
    host.heartbeat = config.raft.heartbeat;
    host.election_min = config.raft.election_timeout_min;
    host.election_max = config.raft.election_timeout_max;
    host.sync = match config.test_switches.no_fsync {
        true => SyncMode::NoSyncForTests,
        false => SyncMode::Fsync,
    };
    host.defects = Defects {
        early_acknowledgement: config.test_switches.early_acknowledgement,
        votes_not_synced: config.test_switches.votes_not_synced,
        stale_reads: config.test_switches.stale_reads,
    };
    host
}

/// What the twins of one of `shards` shards may take.
pub(crate) fn twins_config(config: &Config, shards: usize) -> TwinsConfig {
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
pub(crate) fn trim_limits(config: &Config, shards: u64) -> TrimLimits {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `cluster snapshot save` and clients that ask leaders connect to what nodes say of themselves.
    #[test]
    fn door_that_listens_everywhere_is_reached_where_the_node_is() {
        let reached = |door: &str, advertised: &str| reached_at(door.parse().unwrap(), advertised);
        assert_eq!(
            reached("0.0.0.0:7400", "pod-0.peers:7401"),
            "pod-0.peers:7400"
        );
        assert_eq!(reached("[::]:7400", "[fd00::7]:7401"), "[fd00::7]:7400");
        assert_eq!(
            reached("10.0.0.1:7400", "pod-0.peers:7401"),
            "10.0.0.1:7400"
        );
        assert_eq!(reached("0.0.0.0:7400", ""), "0.0.0.0:7400");
    }
}
