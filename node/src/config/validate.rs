//! What the types of the options cannot say. Every rule is checked; all complaints come back.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use antumbra_shadow::Tenant;
use tracing_subscriber::EnvFilter;

use crate::access::certificate::{Rule, RuleError};
use crate::access::jwt::{Algorithm, AlgorithmError, LEEWAY_MAX};
use crate::access::sigv4;
use crate::kubernetes::PodName;
use crate::shadows::SHARDS_MAX;

use super::options::{Access, Api, Cluster, Config, Http, Limits, Mqtt, Node, Peer, Raft, Storage};
use super::setting::{ByteSize, CacheSize, Membership, Seeds, Setting, Shards, is_host_port};

/// An option whose value cannot be used.
#[derive(Debug)]
pub(super) struct Complaint {
    /// `storage.flush_interval`.
    pub(super) key: &'static str,
    pub(super) what: String,
    pub(super) try_this: Option<String>,
}

/// Everything that is wrong with the values.
pub(super) fn validate(config: &Config) -> Vec<Complaint> {
    let mut rules = Rules::default();
    node(&mut rules, &config.node, &config.cluster);
    storage(&mut rules, &config.storage);
    raft(&mut rules, &config.raft);
    cluster(&mut rules, &config.cluster, &config.node);
    membership(&mut rules, &config.cluster, &config.node);
    peer(&mut rules, &config.peer, &config.cluster.seeds);
    doors(&mut rules, &config.api, &config.http, &config.mqtt);
    access(&mut rules, &config.access);
    mqtt(&mut rules, &config.mqtt);
    if let Err(error) = EnvFilter::builder().parse(&config.telemetry.log_filter) {
        let hint = Some("a level such as `info`, or `info,openraft=warn`".to_owned());
        rules.complain(
            "telemetry.log_filter",
            format!("cannot be read: {error}"),
            hint,
        );
    }
    limits(&mut rules, &config.limits);
    rules.complaints
}

fn node(rules: &mut Rules, node: &Node, cluster: &Cluster) {
    if !node.storage && cluster.seeds.0.keys().all(|seed| *seed == node.name) {
        let what =
            "is false, and `cluster.seeds` names no other node: a gateway has nothing to serve";
        let hint = Some("the nodes of the cluster with their peer addresses".to_owned());
        rules.complain("node.storage", what.to_owned(), hint);
    }
    rules.name("node.name", &node.name);
    if !node.zone.is_empty() {
        rules.name("node.zone", &node.zone);
    }
    rules.within("node.capacity", node.capacity, 1..=1_000);
    rules.within("node.worker_threads", node.worker_threads, 0..=1_024);
    rules.within(
        "node.stop_delay",
        node.stop_delay,
        Duration::ZERO..=10 * MINUTE,
    );
    rules.within("node.shutdown_timeout", node.shutdown_timeout, MS..=HOUR);
}

fn storage(rules: &mut Rules, storage: &Storage) {
    let (kib, mib, tib) = (ByteSize::kib(1), ByteSize::mib(1), ByteSize::gib(1_024));
    rules.within(
        "storage.flush_interval",
        storage.flush_interval,
        100 * MS..=HOUR,
    );
    rules.within(
        "storage.flush_log_bytes",
        storage.flush_log_bytes,
        mib..=ByteSize::gib(64),
    );
    rules.within(
        "storage.tail_bytes",
        storage.tail_bytes,
        ByteSize(64 * kib.0)..=ByteSize::gib(64),
    );
    if let CacheSize::Bytes(bytes) = storage.cache_bytes {
        rules.within("storage.cache_bytes", bytes, mib..=tib);
    }
    rules.within(
        "storage.feed_retention",
        storage.feed_retention,
        SECOND..=3_650 * DAY,
    );
    rules.within(
        "storage.feed_bytes_max",
        storage.feed_bytes_max,
        mib..=ByteSize(1_024 * tib.0),
    );
}

fn raft(rules: &mut Rules, raft: &Raft) {
    let (min, max) = (raft.election_timeout_min, raft.election_timeout_max);
    rules.within("raft.heartbeat", raft.heartbeat, 10 * MS..=MINUTE);
    rules.within("raft.election_timeout_min", min, 20 * MS..=HOUR);
    rules.within("raft.election_timeout_max", max, 20 * MS..=HOUR);
    if min < raft.heartbeat * 2 {
        let what = "must be at least twice `raft.heartbeat`".to_owned();
        let hint = format!("at least {}", (raft.heartbeat * 2).show());
        rules.complain("raft.election_timeout_min", what, Some(hint));
    }
    if max <= min {
        let what = "must be longer than `raft.election_timeout_min`".to_owned();
        let hint = format!("twice as long: {}", (min * 2).show());
        rules.complain("raft.election_timeout_max", what, Some(hint));
    }
}

fn cluster(rules: &mut Rules, cluster: &Cluster, node: &Node) {
    rules.name("cluster.name", &cluster.name);
    if let Shards::Count(count) = cluster.shards {
        rules.within("cluster.shards", count, 1..=SHARDS_MAX);
    }
    let Seeds(seeds) = &cluster.seeds;
    for name in seeds.keys() {
        rules.name("cluster.seeds", name);
    }
    let count = u32::try_from(seeds.len()).unwrap_or(u32::MAX);
    rules.within("cluster.expect", cluster.expect, 0..=count.max(1));
    rules.within(
        "cluster.replication_factor",
        cluster.replication_factor,
        1..=7,
    );
    rules.within(
        "cluster.replace_after",
        cluster.replace_after,
        SECOND..=30 * DAY,
    );
    rules.within("cluster.moves_max", cluster.moves_max, 1..=64);
    rules.within(
        "cluster.copy_bytes_per_second",
        cluster.copy_bytes_per_second,
        ByteSize::mib(1)..=ByteSize::gib(64),
    );
    if cluster.expect > 0 && cluster.expect < count / 2 + 1 {
        let what = "must be more than half of `cluster.seeds`".to_owned();
        let hint = Some(format!("at least {}", count / 2 + 1));
        rules.complain("cluster.expect", what, hint);
    }
    if !seeds.is_empty() && !seeds.contains_key(&node.name) && cluster.expect > 0 {
        // A node that is no seed only joins; it has nothing to expect.
        let what = format!("is set, but `{}` is not among the seeds", node.name);
        rules.complain("cluster.expect", what, Some("leave it out".to_owned()));
    }
}

/// A gateway comes and goes whoever decides.
fn membership(rules: &mut Rules, cluster: &Cluster, node: &Node) {
    let Seeds(seeds) = &cluster.seeds;
    match cluster.membership {
        Membership::Kubernetes if node.storage && PodName::parse(&node.name).is_none() => {
            let what = format!(
                "is `kubernetes`, and the name `{}` is not that of a pod of a StatefulSet",
                node.name
            );
            let hint = "`node.name` from `metadata.name` of the pod, such as `antumbra-0`";
            rules.complain("cluster.membership", what, Some(hint.to_owned()));
        }
        Membership::Static
            if node.storage && !seeds.is_empty() && !seeds.contains_key(&node.name) =>
        {
            let what = format!("is `static`, and `{}` is not among the seeds", node.name);
            rules.complain("cluster.membership", what, None);
        }
        Membership::Static | Membership::Api | Membership::Kubernetes => {}
    }
}

fn peer(rules: &mut Rules, peer: &Peer, seeds: &Seeds) {
    if !peer.advertise.is_empty() && !is_host_port(&peer.advertise) {
        let what = format!("is `{}`, not host:port", peer.advertise);
        rules.complain("peer.advertise", what, None);
    }
    if peer.advertise.is_empty() && peer.listen.ip().is_unspecified() && !seeds.0.is_empty() {
        let what = "is needed: nobody can connect to an unspecified `peer.listen`".to_owned();
        rules.complain("peer.advertise", what, None);
    }
    let files = [&peer.tls_certificate, &peer.tls_key, &peer.tls_authority];
    let given = files.iter().filter(|file| !file.is_empty()).count();
    if given != 0 && given != files.len() {
        let what = "goes together with `peer.tls_key` and `peer.tls_authority`".to_owned();
        let hint = Some("give all three or none".to_owned());
        rules.complain("peer.tls_certificate", what, hint);
    }
}

fn doors(rules: &mut Rules, api: &Api, http: &Http, mqtt: &Mqtt) {
    rules.within("api.default_deadline", api.default_deadline, MS..=HOUR);
    rules.within("http.default_deadline", http.default_deadline, MS..=HOUR);
    let (kib, mib) = (ByteSize::kib(64), ByteSize::mib(64));
    rules.within("api.message_bytes_max", api.message_bytes_max, kib..=mib);
    rules.within("http.body_bytes_max", http.body_bytes_max, kib..=mib);
    rules.within("api.watch_events_max", api.watch_events_max, 1..=1_000_000);
    rules.within(
        "api.stream_updates_max",
        api.stream_updates_max,
        1..=1_000_000,
    );
    let files = [
        &api.tls_certificate,
        &api.tls_key,
        &api.tls_client_authority,
    ];
    rules.tls(
        [
            "api.tls_certificate",
            "api.tls_key",
            "api.tls_client_authority",
        ],
        files,
    );
    let files = [
        &http.tls_certificate,
        &http.tls_key,
        &http.tls_client_authority,
    ];
    rules.tls(
        [
            "http.tls_certificate",
            "http.tls_key",
            "http.tls_client_authority",
        ],
        files,
    );
    let seen = [
        ("api.listen", api.listen),
        ("http.listen", http.listen),
        ("mqtt.listen", mqtt.listen),
    ];
    for (nth, (name, address)) in seen.iter().enumerate() {
        let overlap = |other: &SocketAddr| {
            let same = address.ip() == other.ip();
            same || address.ip().is_unspecified() || other.ip().is_unspecified()
        };
        let mut before = seen[..nth].iter();
        let clash = before.find(|(_, other)| {
            address.port() != 0 && address.port() == other.port() && overlap(other)
        });
        if let Some((other, _)) = clash {
            let what = format!("is port {}, which `{other}` has", address.port());
            rules.complain(name, what, Some("give each door a port".to_owned()));
        }
    }
}

fn access(rules: &mut Rules, access: &Access) {
    if let Err(error) = certificate_rules(&access.certificate_rules) {
        rules.complain("access.certificate_rules", error.to_string(), None);
    }
    if let Err(error) = algorithms(&access.jwt_algorithms) {
        rules.complain("access.jwt_algorithms", error.to_string(), None);
    }
    if !access.jwt_issuer.is_empty() {
        for (key, value) in [
            ("access.jwt_audience", &access.jwt_audience),
            ("access.jwt_keys_file", &access.jwt_keys_file),
            ("access.jwt_device_claim", &access.jwt_device_claim),
        ] {
            if value.is_empty() {
                let what = "is needed with `access.jwt_issuer`".to_owned();
                rules.complain(key, what, None);
            }
        }
        let speaks_of_tenants = !access.jwt_tenant_claim.is_empty();
        if access.jwt_tenant.is_empty() && !speaks_of_tenants {
            let what = "is needed without `access.jwt_tenant_claim`".to_owned();
            rules.complain("access.jwt_tenant", what, None);
        }
    }
    if !access.jwt_tenant.is_empty()
        && let Err(error) = Tenant::parse(&access.jwt_tenant)
    {
        rules.complain("access.jwt_tenant", error.to_string(), None);
    }
    rules.within(
        "access.jwt_leeway",
        access.jwt_leeway,
        Duration::ZERO..=LEEWAY_MAX,
    );
    rules.within(
        "access.signature_skew",
        access.signature_skew,
        SECOND..=sigv4::SKEW_MAX,
    );
}

/// Reads `access.certificate_rules`.
pub(crate) fn certificate_rules(text: &str) -> Result<Vec<Rule>, RuleError> {
    text.split(';').map(str::parse).collect()
}

/// Reads `access.jwt_algorithms`.
pub(crate) fn algorithms(text: &str) -> Result<Vec<Algorithm>, AlgorithmError> {
    text.split(',').map(|name| name.trim().parse()).collect()
}

fn mqtt(rules: &mut Rules, mqtt: &Mqtt) {
    if !mqtt.tls_listen.is_empty() {
        if let Err(error) = <SocketAddr as Setting>::parse(&mqtt.tls_listen) {
            rules.complain("mqtt.tls_listen", error, None);
        }
        if mqtt.tls_certificate.is_empty() || mqtt.tls_key.is_empty() {
            let what = "needs `mqtt.tls_certificate` and `mqtt.tls_key`".to_owned();
            rules.complain("mqtt.tls_listen", what, None);
        }
    }
}

fn mqtt_limits(rules: &mut Rules, limits: &Limits) {
    rules.within(
        "limits.mqtt_disconnects_per_second",
        limits.mqtt_disconnects_per_second,
        1..=1_000_000,
    );
    rules.within(
        "limits.mqtt_connections_max",
        limits.mqtt_connections_max,
        1..=10_000_000,
    );
    rules.within(
        "limits.mqtt_connects_per_second_max",
        limits.mqtt_connects_per_second_max,
        1..=1_000_000,
    );
    rules.within(
        "limits.mqtt_connects_per_second_per_tenant_max",
        limits.mqtt_connects_per_second_per_tenant_max,
        0..=1_000_000,
    );
    rules.within(
        "limits.mqtt_bytes_per_second_max",
        limits.mqtt_bytes_per_second_max,
        // The largest packet must come within a keep-alive.
        ByteSize::kib(64)..=ByteSize::gib(1),
    );
    let (keep_alive_max, week) = (Duration::from_secs(u16::MAX as u64), 7 * 24 * HOUR);
    rules.within(
        "limits.mqtt_keep_alive_max",
        limits.mqtt_keep_alive_max,
        Duration::from_secs(1)..=keep_alive_max,
    );
    rules.within(
        "limits.mqtt_session_expiry_max",
        limits.mqtt_session_expiry_max,
        Duration::ZERO..=52 * week,
    );
}

fn limits(rules: &mut Rules, limits: &Limits) {
    mqtt_limits(rules, limits);
    let (kib, byte) = (ByteSize::kib(1), ByteSize(1));
    rules.within(
        "limits.document_bytes_max",
        limits.document_bytes_max,
        byte..=ByteSize::kib(256),
    );
    rules.within(
        "limits.document_depth_max",
        limits.document_depth_max,
        1..=16,
    );
    rules.within(
        "limits.shadows_per_device_max",
        limits.shadows_per_device_max,
        1..=10_000,
    );
    rules.within(
        "limits.client_token_bytes_max",
        limits.client_token_bytes_max,
        byte..=kib,
    );
    rules.within(
        "limits.key_bytes_max",
        limits.key_bytes_max,
        byte..=ByteSize(64 * kib.0),
    );
    rules.within("limits.twins_max", limits.twins_max, 1..=100_000_000);
    rules.within(
        "limits.twins_bytes_max",
        limits.twins_bytes_max,
        kib..=ByteSize::gib(1_024),
    );
    rules.within("limits.twin_idle", limits.twin_idle, 10 * MS..=DAY);
    rules.within("limits.commands_max", limits.commands_max, 1..=10_000_000);
    rules.within(
        "limits.commands_per_device_max",
        limits.commands_per_device_max,
        1..=10_000_000,
    );
    rules.within("limits.group_max", limits.group_max, 1..=10_000);
    if limits.memory_bytes_max != ByteSize(0) {
        rules.within(
            "limits.memory_bytes_max",
            limits.memory_bytes_max,
            ByteSize::mib(16)..=ByteSize::gib(64 * 1_024),
        );
    }
    if limits.commands_per_device_max > limits.commands_max {
        let what = "must not be more than `limits.commands_max`".to_owned();
        rules.complain("limits.commands_per_device_max", what, None);
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Default)]
struct Rules {
    complaints: Vec<Complaint>,
}

impl Rules {
    fn name(&mut self, key: &'static str, name: &str) {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
            let what = format!("is `{name}`, not 1-63 characters of `a-z`, `0-9` and `-`");
            self.complain(key, what, None);
        }
    }

    /// The files of a door: certificate, key and the authority of clients.
    fn tls(&mut self, keys: [&'static str; 3], [certificate, key, authority]: [&String; 3]) {
        for (needed, file, other, given) in [
            (keys[1], key, keys[0], certificate),
            (keys[0], certificate, keys[1], key),
            (keys[0], certificate, keys[2], authority),
        ] {
            if file.is_empty() && !given.is_empty() {
                self.complain(needed, format!("is needed with `{other}`"), None);
            }
        }
    }

    fn within<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let [value, min, max] = [&value, range.start(), range.end()].map(Setting::show);
            self.complain(key, format!("is {value}, outside {min} to {max}"), None);
        }
    }

    fn complain(&mut self, key: &'static str, what: String, try_this: Option<String>) {
        self.complaints.push(Complaint {
            key,
            what,
            try_this,
        });
    }
}
