//! What the gateway counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const CONNECTIONS: &str = "antumbra_mqtt_connections";
const CONNECTIONS_MAX: &str = "antumbra_mqtt_connections_max";
const PACKETS: &str = "antumbra_mqtt_packets_total";
const CONNECTS: &str = "antumbra_mqtt_connects_total";
const REFUSED: &str = "antumbra_mqtt_connects_refused_total";
const CLOSED: &str = "antumbra_mqtt_closed_total";
const RECEIVED: &str = "antumbra_mqtt_messages_received_total";
const SENT: &str = "antumbra_mqtt_messages_sent_total";
const DROPPED: &str = "antumbra_mqtt_messages_dropped_total";
const IGNORED: &str = "antumbra_mqtt_messages_ignored_total";
const CHANGES: &str = "antumbra_mqtt_changes_total";
const PLAIN_LOST: &str = "antumbra_mqtt_plain_messages_lost_total";
const SHED: &str = "antumbra_mqtt_sessions_shed_total";
const REPEATED: &str = "antumbra_mqtt_pushes_repeated_total";

/// Every value of the label of [`REFUSED`].
const REFUSED_CAUSES: [&str; 7] = [
    "memory",
    "too_many",
    "handshake",
    "not_connected",
    "not_admitted",
    "tenant_rate",
    "tenant_sessions",
];
/// Every value of the label of [`DROPPED`].
const DROPPED_CAUSES: [&str; 5] = [
    "not_connected",
    "too_large",
    "queue_full",
    "expired",
    "not_encodable",
];

/// Describes all of them, and has them appear.
pub(crate) fn describe() {
    describe_texts();
    gauge!(CONNECTIONS).increment(0.0);
    gauge!(CONNECTIONS_MAX).increment(0.0);
    let counters = [
        CONNECTS, RECEIVED, SENT, CHANGES, PLAIN_LOST, SHED, REPEATED,
    ];
    for name in counters {
        counter!(name).increment(0);
    }
    for direction in ["received", "sent"] {
        counter!(PACKETS, "direction" => direction).increment(0);
    }
    for cause in REFUSED_CAUSES {
        counter!(REFUSED, "cause" => cause).increment(0);
    }
    for cause in DROPPED_CAUSES {
        counter!(DROPPED, "cause" => cause).increment(0);
    }
    counter!(CLOSED, "reason" => "by_client").increment(0);
    counter!(IGNORED, "family" => "jobs").increment(0);
}

fn describe_texts() {
    describe_gauge!(CONNECTIONS, "Open connections of devices and other clients");
    describe_gauge!(
        CONNECTIONS_MAX,
        "Connections that this node takes at one time, over all its MQTT doors"
    );
    describe_counter!(PACKETS, "MQTT packets, by direction");
    describe_counter!(CONNECTS, "Accepted CONNECT packets");
    describe_counter!(
        REFUSED,
        "Connections refused before they were accepted, by cause"
    );
    describe_counter!(CLOSED, "Accepted connections that ended, by reason");
    describe_counter!(RECEIVED, "Messages that clients published");
    describe_counter!(SENT, "Messages sent to clients");
    describe_counter!(DROPPED, "Messages to clients that were not sent, by cause");
    describe_counter!(
        IGNORED,
        "Messages to reserved topics that are not served, acknowledged and dropped, by family"
    );
    describe_counter!(
        CHANGES,
        "Changes that shards told this node, for devices and other clients that are connected"
    );
    describe_counter!(
        PLAIN_LOST,
        "Messages between clients that another node did not take"
    );
    describe_counter!(SHED, "Sessions closed for want of memory");
    describe_counter!(
        REPEATED,
        "Pushes to devices that were repeated without a PUBACK"
    );
}

/// A shard told of a change.
pub(crate) fn change() {
    counter!(CHANGES).increment(1);
}

/// A connection that is open; counted until dropped.
pub(crate) struct OpenConnection;

impl OpenConnection {
    pub(crate) fn new() -> OpenConnection {
        gauge!(CONNECTIONS).increment(1.0);
        OpenConnection
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
    }
}

/// A door takes so many connections at one time.
pub(crate) fn connections_max(max: usize) {
    gauge!(CONNECTIONS_MAX).increment(max as f64);
}

/// Counts a packet of a client, and gives it back.
pub(crate) fn received_packet<T>(packet: T) -> T {
    counter!(PACKETS, "direction" => "received").increment(1);
    packet
}

/// A packet to a client was written.
pub(crate) fn packet_sent() {
    counter!(PACKETS, "direction" => "sent").increment(1);
}

pub(crate) fn connected() {
    counter!(CONNECTS).increment(1);
}

pub(crate) fn refused(cause: &'static str) {
    counter!(REFUSED, "cause" => cause).increment(1);
}

pub(crate) fn closed(reason: &'static str) {
    counter!(CLOSED, "reason" => reason).increment(1);
}

pub(crate) fn received() {
    counter!(RECEIVED).increment(1);
}

pub(crate) fn sent() {
    counter!(SENT).increment(1);
}

pub(crate) fn dropped(cause: &'static str) {
    counter!(DROPPED, "cause" => cause).increment(1);
}

pub(crate) fn ignored(family: &'static str) {
    counter!(IGNORED, "family" => family).increment(1);
}

pub(crate) fn plain_lost(count: usize) {
    counter!(PLAIN_LOST).increment(count as u64);
}

pub(crate) fn shed(count: usize) {
    counter!(SHED).increment(count as u64);
}

pub(crate) fn repeated() {
    counter!(REPEATED).increment(1);
}
