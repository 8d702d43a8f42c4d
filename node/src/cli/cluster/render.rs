//! The cluster as output: JSON values for programs, tables for people.

use std::fmt::Write as _;

use antumbra_proto::cluster::v1::{
    ExplainResponse, GetStatusResponse, Node, NodeLife, Replica, ReplicaRole, ReplicaStanding,
    Shard, ShardPhase, ShardVerification,
};
use antumbra_shadow::json::Value;

use crate::cli::output::{number, object, pairs, string, table};

/// The overview as a JSON value.
pub(crate) fn status_value(status: &GetStatusResponse) -> Value {
    object([
        ("cluster_id", string(status.cluster_id.clone())),
        ("cluster_name", string(status.cluster_name.clone())),
        ("answered_by", string(status.answered_by.clone())),
        ("state_version", number(status.state_version)),
        ("serving", Value::Bool(status.serving)),
        ("nodes", nodes_value(&status.nodes)),
        ("shards", shards_value(&status.shards)),
        (
            "concerns",
            list(&status.concerns, |text| string(text.clone())),
        ),
    ])
}

/// The overview for people.
pub(crate) fn status_text(status: &GetStatusResponse) -> String {
    let up = status.nodes.iter().filter(|node| node.reachable).count();
    let serving = status.shards.iter().filter(|shard| serves(shard)).count();
    let mut text = pairs([
        (
            "cluster",
            format!("{} {}", status.cluster_name, status.cluster_id),
        ),
        ("asked", status.answered_by.clone()),
        ("nodes", format!("{up} of {} answer", status.nodes.len())),
        (
            "shards",
            format!(
                "{serving} of {} have a leader and a quorum",
                status.shards.len()
            ),
        ),
    ]);
    text.push('\n');
    let rows = status.shards.iter().map(|shard| {
        let up = shard.replicas.iter().filter(|replica| is_up(replica));
        vec![
            shard.shard.to_string(),
            or_dash(&shard.leader),
            shard.term.to_string(),
            format!("{} of {}", up.count(), shard.replicas.len()),
        ]
    });
    text.push_str(&table(&["shard", "leader", "term", "replicas up"], rows));
    text.push('\n');
    if status.concerns.is_empty() {
        text.push_str("all is well\n");
    }
    for concern in &status.concerns {
        let _ = writeln!(text, "- {concern}");
    }
    text
}

/// Nodes as a JSON array.
pub(crate) fn nodes_value(nodes: &[Node]) -> Value {
    list(nodes, |node| {
        object([
            ("node", string(node.name.clone())),
            ("number", number(node.number)),
            ("incarnation", string(node.incarnation.clone())),
            ("peer", string(node.peer_address.clone())),
            ("grpc", string(node.grpc_address.clone())),
            ("http", string(node.http_address.clone())),
            ("reachable", Value::Bool(node.reachable)),
            ("reason", or_null(&node.reason)),
            ("replicas", number(node.replicas.into())),
            ("leaderships", number(node.leaderships.into())),
            ("gateway", Value::Bool(node.is_gateway)),
            ("life", string(life(node.life()))),
            ("zone", or_null(&node.zone)),
            ("capacity", number(node.capacity.into())),
        ])
    })
}

/// Nodes for people.
pub(crate) fn nodes_text(nodes: &[Node]) -> String {
    let rows = nodes.iter().map(|node| {
        let state = match (node.reachable, node.reason.is_empty()) {
            (true, true) => "up".to_owned(),
            (true, false) => format!("not serving: {}", node.reason),
            (false, _) => format!("unreachable: {}", node.reason),
        };
        vec![
            node.name.clone(),
            node.number.to_string(),
            role_of(node).to_owned(),
            life(node.life()).to_owned(),
            node.leaderships.to_string(),
            node.replicas.to_string(),
            node.grpc_address.clone(),
            node.http_address.clone(),
            node.peer_address.clone(),
            state,
        ]
    });
    let header = [
        "node", "number", "role", "life", "leads", "replicas", "grpc", "http", "peer", "state",
    ];
    table(&header, rows)
}

fn role_of(node: &Node) -> &'static str {
    match node.is_gateway {
        true => "gateway",
        false => "storage",
    }
}

/// Shards as a JSON array.
pub(crate) fn shards_value(shards: &[Shard]) -> Value {
    list(shards, shard_value)
}

fn shard_value(shard: &Shard) -> Value {
    object([
        ("shard", number(shard.shard.into())),
        ("first_hash", number(shard.first_hash.into())),
        ("last_hash", number(shard.last_hash.into())),
        ("phase", string(phase(shard.phase()))),
        ("leader", or_null(&shard.leader)),
        ("preferred", or_null(&shard.preferred_leader)),
        ("term", number(shard.term)),
        ("quorum", Value::Bool(shard.has_quorum)),
        ("replicas", list(&shard.replicas, replica_value)),
    ])
}

fn replica_value(replica: &Replica) -> Value {
    object([
        ("replica", number(replica.replica)),
        ("node", string(replica.node.clone())),
        ("role", string(role(replica.role()))),
        ("standing", string(standing(replica.standing()))),
        ("term", number(replica.term)),
        ("last_log", number(replica.last_log_index)),
        ("committed", number(replica.committed_index)),
        ("applied", number(replica.applied_index)),
        ("lag", replica.lag.map_or(Value::Null, number)),
    ])
}

/// Shards for people: a line per replica.
pub(crate) fn shards_text(shards: &[Shard]) -> String {
    let header = [
        "shard", "hashes", "node", "replica", "role", "term", "log", "applied", "lag", "standing",
    ];
    let rows = shards.iter().flat_map(|shard| {
        let replicas = shard.replicas.iter();
        replicas.map(|replica| {
            let mut row = vec![shard.shard.to_string(), hashes(shard)];
            row.extend(replica_row(replica));
            row
        })
    });
    table(&header, rows)
}

fn replica_row(replica: &Replica) -> Vec<String> {
    let said = !matches!(
        replica.role(),
        ReplicaRole::Absent | ReplicaRole::Unreachable
    );
    let known = |number: u64| match said {
        true => number.to_string(),
        false => "-".to_owned(),
    };
    vec![
        replica.node.clone(),
        replica.replica.to_string(),
        role(replica.role()).to_owned(),
        known(replica.term),
        known(replica.last_log_index),
        known(replica.applied_index),
        replica
            .lag
            .map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        standing(replica.standing()).to_owned(),
    ]
}

/// A device and its place as a JSON value.
pub(crate) fn explain_value(answer: &ExplainResponse) -> Value {
    let device = answer.device.as_ref();
    let shadow = |shadow: &antumbra_proto::cluster::v1::ShadowVersion| {
        object([
            ("shadow", string(shadow.shadow_name.clone())),
            ("version", number(shadow.version)),
        ])
    };
    object([
        ("tenant", string(answer.tenant.clone())),
        ("device", string(answer.device_id.clone())),
        ("hash", number(answer.hash.into())),
        (
            "shard",
            answer.shard.as_ref().map_or(Value::Null, shard_value),
        ),
        (
            "twin_live",
            device.map_or(Value::Null, |device| Value::Bool(device.twin_live)),
        ),
        (
            "shadows",
            device.map_or(Value::Null, |device| list(&device.shadows, shadow)),
        ),
        ("reason", or_null(&answer.reason)),
    ])
}

/// A device and its place for people.
pub(crate) fn explain_text(answer: &ExplainResponse) -> String {
    let shard = answer.shard.clone().unwrap_or_default();
    let (twin, shadows) = match &answer.device {
        None => (
            format!("not known: {}", answer.reason),
            "not known".to_owned(),
        ),
        Some(device) => {
            let twin = match device.twin_live {
                true => "live on the leader",
                false => "none: nothing changed a short time ago",
            };
            let shadows = device.shadows.iter().map(|shadow| {
                let name = match shadow.shadow_name.as_str() {
                    "" => "(classic)",
                    name => name,
                };
                format!("{name} v{}", shadow.version)
            });
            let shadows = shadows.collect::<Vec<_>>().join("\n");
            let none = "none".to_owned();
            (
                twin.to_owned(),
                if shadows.is_empty() { none } else { shadows },
            )
        }
    };
    let mut text = pairs([
        (
            "device",
            format!("{} of tenant {}", answer.device_id, answer.tenant),
        ),
        ("hash", format!("{:08x}", answer.hash)),
        (
            "shard",
            format!("{} with hashes {}", shard.shard, hashes(&shard)),
        ),
        (
            "leader",
            format!("{} in term {}", or_dash(&shard.leader), shard.term),
        ),
        ("twin", twin),
        ("shadows", shadows),
        ("moves", moves(&shard)),
    ]);
    text.push('\n');
    let header = [
        "node", "replica", "role", "term", "log", "applied", "lag", "standing",
    ];
    text.push_str(&table(&header, shard.replicas.iter().map(replica_row)));
    text
}

/// What is on its way into a shard and out of it.
fn moves(shard: &Shard) -> String {
    let with = |standing: ReplicaStanding| {
        let replicas = shard.replicas.iter();
        let found = replicas.filter(move |replica| replica.standing() == standing);
        found
            .map(|replica| replica.node.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (comes, goes) = (
        with(ReplicaStanding::Arriving),
        with(ReplicaStanding::Retiring),
    );
    match (goes.as_str(), comes.as_str()) {
        ("", "") => "none".to_owned(),
        ("", comes) => format!("a replica comes to {comes}"),
        (goes, "") => format!("the replica on {goes} goes"),
        (goes, comes) => format!("from {goes} to {comes}"),
    }
}

/// Comparisons as a JSON array.
pub(crate) fn verification_value(shards: &[ShardVerification]) -> Value {
    list(shards, |shard| {
        object([
            ("shard", number(shard.shard.into())),
            ("index", number(shard.index)),
            ("equal", shard.equal.map_or(Value::Null, Value::Bool)),
            ("reason", or_null(&shard.reason)),
            (
                "replicas",
                list(&shard.replicas, |replica| {
                    let found = replica.reason.is_empty();
                    let known = |value: Value| if found { value } else { Value::Null };
                    object([
                        ("replica", number(replica.replica)),
                        ("node", string(replica.node.clone())),
                        ("index", known(number(replica.index))),
                        ("rows", known(number(replica.rows))),
                        (
                            "checksum",
                            known(string(format!("{:016x}", replica.checksum))),
                        ),
                        ("reason", or_null(&replica.reason)),
                    ])
                }),
            ),
        ])
    })
}

/// Comparisons for people: a line per replica.
pub(crate) fn verification_text(shards: &[ShardVerification]) -> String {
    let header = [
        "shard", "equal", "node", "replica", "index", "rows", "checksum",
    ];
    let rows = shards.iter().flat_map(|shard| {
        let equal = match shard.equal {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not known",
        };
        let start = vec![shard.shard.to_string(), equal.to_owned()];
        let replicas = shard.replicas.iter().map(|replica| {
            let mut row = start.clone();
            row.extend([replica.node.clone(), replica.replica.to_string()]);
            match replica.reason.as_str() {
                "" => row.extend([
                    replica.index.to_string(),
                    replica.rows.to_string(),
                    format!("{:016x}", replica.checksum),
                ]),
                why => row.extend(["-".to_owned(), "-".to_owned(), why.to_owned()]),
            }
            row
        });
        let mut rows: Vec<_> = replicas.collect();
        if rows.is_empty() {
            let dash = || "-".to_owned();
            let mut row = start.clone();
            row.extend([dash(), dash(), dash(), dash(), shard.reason.clone()]);
            rows.push(row);
        }
        rows
    });
    table(&header, rows)
}

fn serves(shard: &Shard) -> bool {
    shard.has_quorum && !shard.leader.is_empty()
}

fn is_up(replica: &Replica) -> bool {
    matches!(replica.role(), ReplicaRole::Follower | ReplicaRole::Leader)
}

fn hashes(shard: &Shard) -> String {
    match (shard.first_hash, shard.last_hash) {
        (0, 0) => "-".to_owned(),
        (first, last) => format!("{first:08x}-{last:08x}"),
    }
}

fn phase(phase: ShardPhase) -> &'static str {
    match phase {
        ShardPhase::Creating => "creating",
        ShardPhase::Active => "active",
        ShardPhase::Unspecified => "unknown",
    }
}

fn role(role: ReplicaRole) -> &'static str {
    match role {
        ReplicaRole::Starting => "starting",
        ReplicaRole::Follower => "follower",
        ReplicaRole::Leader => "leader",
        ReplicaRole::Stopped => "stopped",
        ReplicaRole::Absent => "absent",
        ReplicaRole::Unreachable => "unreachable",
        ReplicaRole::Unspecified => "unknown",
    }
}

fn life(life: NodeLife) -> &'static str {
    match life {
        NodeLife::Active => "active",
        NodeLife::Draining => "draining",
        NodeLife::Leaving => "leaving",
        NodeLife::Unspecified => "unknown",
    }
}

fn standing(standing: ReplicaStanding) -> &'static str {
    match standing {
        ReplicaStanding::Voter => "voter",
        ReplicaStanding::Retiring => "retiring",
        ReplicaStanding::Arriving => "arriving",
        ReplicaStanding::Unspecified => "unknown",
    }
}

fn list<T>(items: &[T], value: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(value).collect())
}

fn or_null(text: &str) -> Value {
    match text.is_empty() {
        true => Value::Null,
        false => string(text),
    }
}

fn or_dash(text: &str) -> String {
    match text.is_empty() {
        true => "-".to_owned(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
