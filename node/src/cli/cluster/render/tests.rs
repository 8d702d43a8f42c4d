use antumbra_proto::cluster::v1::{Device, ReplicaChecksum, ShadowVersion};

use crate::cli::output::pretty;

use super::*;

/// As a program reads it: the order of members means nothing.
fn read(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn shard() -> Shard {
    let replica = |replica, node: &str, role: ReplicaRole, lag| Replica {
        replica,
        node: node.to_owned(),
        role: role.into(),
        standing: ReplicaStanding::Voter.into(),
        term: 2,
        last_log_index: 9,
        committed_index: 9,
        applied_index: 9,
        lag,
    };
    Shard {
        shard: 1,
        first_hash: 0,
        last_hash: 0x5555_5554,
        phase: ShardPhase::Active.into(),
        leader: "node-2".to_owned(),
        preferred_leader: "node-2".to_owned(),
        term: 2,
        has_quorum: true,
        replicas: vec![
            replica(4, "node-2", ReplicaRole::Leader, Some(0)),
            replica(5, "node-3", ReplicaRole::Unreachable, None),
        ],
    }
}

/// Programs read these members by name.
#[test]
fn shards_have_the_documented_json() {
    let expected = r#"[{"shard":1,"first_hash":0,"last_hash":1431655764,"phase":"active",
        "leader":"node-2","preferred":"node-2","term":2,"quorum":true,"replicas":[
        {"replica":4,"node":"node-2","role":"leader","standing":"voter","term":2,"last_log":9,
         "committed":9,"applied":9,"lag":0},
        {"replica":5,"node":"node-3","role":"unreachable","standing":"voter","term":2,"last_log":9,
         "committed":9,"applied":9,"lag":null}]}]"#;
    let text = pretty(&shards_value(&[shard()]));
    assert_eq!(read(&text), read(expected), "{text}");
}

/// What a silent node did not say is a dash, not a zero.
#[test]
fn shards_are_a_line_per_replica() {
    let text = shards_text(&[shard()]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    let expected = "1 00000000-55555554 node-2 4 leader 2 9 9 0 voter";
    assert_eq!(lines[1].join(" "), expected);
    let expected = "1 00000000-55555554 node-3 5 unreachable - - - - voter";
    assert_eq!(lines[2].join(" "), expected);
}

#[test]
fn overview_counts_and_lists_what_is_wrong() {
    let mut status = GetStatusResponse {
        cluster_name: "antumbra".to_owned(),
        nodes: vec![Node::default(), Node::default()],
        shards: vec![shard(), Shard::default()],
        ..GetStatusResponse::default()
    };
    status.nodes[0].reachable = true;
    let text = status_text(&status);
    for part in [
        "1 of 2 answer",
        "1 of 2 have a leader",
        "1 of 2\n",
        "all is well",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    status.concerns.push("node-2 does not answer".to_owned());
    let text = status_text(&status);
    assert!(text.ends_with("- node-2 does not answer\n"), "{text}");
    assert!(!text.contains("all is well"), "{text}");
}

#[test]
fn explain_says_where_a_device_is() {
    let mut answer = ExplainResponse {
        tenant: "default".to_owned(),
        device_id: "lamp-1".to_owned(),
        hash: 0xabc,
        shard: Some(shard()),
        device: None,
        reason: "its shard has no leader".to_owned(),
    };
    let text = explain_text(&answer);
    assert!(
        text.contains("not known: its shard has no leader"),
        "{text}"
    );
    answer.device = Some(Device {
        twin_live: true,
        shadows: ["", "config"]
            .into_iter()
            .zip([3, 1])
            .map(|(name, version)| ShadowVersion {
                shadow_name: name.to_owned(),
                version,
            })
            .collect(),
    });
    answer.reason.clear();
    let text = explain_text(&answer);
    for part in [
        "lamp-1 of tenant default",
        "00000abc",
        "(classic) v3",
        "config v1",
        "node-3",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let value = pretty(&explain_value(&answer));
    assert!(value.contains("\"twin_live\": true"), "{value}");
}

/// A checksum that is missing is null, so that nobody compares zeros.
#[test]
fn comparisons_have_the_documented_json() {
    let shards = [ShardVerification {
        shard: 1,
        index: 9,
        equal: None,
        replicas: vec![
            ReplicaChecksum {
                replica: 4,
                node: "node-2".to_owned(),
                index: 9,
                rows: 3,
                checksum: 0xbeef,
                reason: String::new(),
            },
            ReplicaChecksum {
                replica: 5,
                node: "node-3".to_owned(),
                reason: "down".to_owned(),
                ..ReplicaChecksum::default()
            },
        ],
        reason: String::new(),
    }];
    let expected = r#"[{"shard":1,"index":9,"equal":null,"reason":null,"replicas":[
        {"replica":4,"node":"node-2","index":9,"rows":3,"checksum":"000000000000beef","reason":null},
        {"replica":5,"node":"node-3","index":null,"rows":null,"checksum":null,"reason":"down"}]}]"#;
    assert_eq!(read(&pretty(&verification_value(&shards))), read(expected));
    let text = verification_text(&shards);
    assert!(text.contains("000000000000beef"), "{text}");
    assert!(
        text.lines()
            .nth(2)
            .is_some_and(|line| line.ends_with("down")),
        "{text}"
    );
}
