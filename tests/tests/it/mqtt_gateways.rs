//! Gateways without storage beside three nodes: real processes.

use std::thread;
use std::time::{Duration, Instant};

use antumbra_tests::http;
use antumbra_tests::mqtt::{Client, Version};
use antumbra_tests::node;
use serde_json::{Value, json};

use crate::mqtt_cluster::{Cluster, PATIENCE, durable};
use crate::mqtt_shadows::{classic, client, desired, hear};

/// Their doors come after those of the three nodes.
const FIRST: u16 = 4;
const SECOND: u16 = 5;

/// The nodes as one of them lists them.
fn nodes(cluster: &Cluster, asked: u16) -> Vec<Value> {
    let endpoint = format!("http://{}", cluster.door(asked, 0));
    let arguments = ["cluster", "nodes", "-o", "json", "--endpoint", &endpoint];
    let listed = node::run(&arguments, cluster.data.path()).unwrap();
    let listed: Value = serde_json::from_str(&listed.output).unwrap();
    listed["nodes"].as_array().unwrap().clone()
}

fn metric(cluster: &Cluster, node: u16, name: &str) -> f64 {
    let answer = http::get(cluster.door(node, 80), "/metrics").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()).unwrap();
    value.parse().unwrap()
}

/// A gateway has no store, is listed as what it is, and every door of it serves.
#[test]
fn mqtt_gateways_keep_nothing_and_serve_everything() {
    let cluster = Cluster::with_gateways(2);
    let listed = nodes(&cluster, FIRST);
    let roles: Vec<_> = listed
        .iter()
        .map(|node| (node["node"].as_str().unwrap(), node["gateway"] == true))
        .collect();
    let storage = ["node-1", "node-2", "node-3"].map(|name| (name, false));
    let gateways = ["gateway-1", "gateway-2"].map(|name| (name, true));
    for expected in storage.into_iter().chain(gateways) {
        assert!(roles.contains(&expected), "{expected:?} in {roles:?}");
    }
    let directory = cluster.data.path().join("gateway-1");
    assert!(directory.join("identity").exists());
    assert!(!directory.join("log").exists() && !directory.join("state").exists());

    let prefix = classic("lamp");
    let mut lamp = client(cluster.mqtt(FIRST), Version::V5, "lamp");
    lamp.listen(&[&format!("{prefix}/update/delta")]).unwrap();
    cluster.update(SECOND, "lamp", &desired(json!({"on": true})));
    assert_eq!(hear(&mut lamp, &prefix, "update/delta")["version"], 1);
    let update = json!({"state": {"reported": {"on": true}}}).to_string();
    lamp.listen(&[&format!("{prefix}/update/accepted")])
        .unwrap();
    lamp.post(&format!("{prefix}/update"), update).unwrap();
    assert_eq!(hear(&mut lamp, &prefix, "update/accepted")["version"], 2);
    let document = cluster.document(FIRST, "lamp");
    assert_eq!(document["state"]["reported"], json!({"on": true}));
}

/// What nobody at a gateway hears of is not sent there; what somebody hears of is, also after a node
/// has died.
#[test]
fn mqtt_gateways_hear_of_their_own_devices_only() {
    let cluster = Cluster::with_gateways(1);
    let things = ["one", "two", "three", "four", "five", "six"];
    let mut devices = things.map(|thing| {
        let mut device = client(cluster.mqtt(FIRST), Version::V5, thing);
        let delta = format!("{}/update/delta", classic(thing));
        device.listen(&[&delta]).unwrap();
        device
    });
    let before = metric(&cluster, FIRST, "antumbra_mqtt_changes_total");
    for number in 0..200 {
        cluster.update(1, &format!("noise-{number}"), &desired(json!({"n": 1})));
    }
    for (device, thing) in devices.iter_mut().zip(things) {
        cluster.update(2, thing, &desired(json!({"n": 1})));
        assert_eq!(hear(device, &classic(thing), "update/delta")["version"], 1);
    }
    let told = metric(&cluster, FIRST, "antumbra_mqtt_changes_total") - before;
    assert!((6.0..50.0).contains(&told), "{told} changes came");

    cluster.signal("node-2", "-9");
    for (device, thing) in devices.iter_mut().zip(things) {
        cluster.update(1, thing, &desired(json!({"n": 2})));
        let mut told = 1;
        // The one before may come once more.
        while told < 2 {
            let delta = hear(device, &classic(thing), "update/delta");
            told = delta["version"].as_u64().unwrap();
        }
        device.ping().unwrap();
    }
}

/// Sessions move from gateway to gateway and to a node and back; each time the connection before is
/// told why it ends, and who watches clients hears of it at another gateway.
#[test]
fn mqtt_gateways_take_sessions_over() {
    let cluster = Cluster::with_gateways(2);
    let mut watcher = client(cluster.mqtt(SECOND), Version::V5, "watcher");
    let connected = "$aws/events/presence/connected/mover";
    watcher.listen(&[connected]).unwrap();
    let prefix = classic("mover");
    let (mut former, _) = Client::dial(cluster.mqtt(FIRST), &durable("mover")).unwrap();
    former.listen(&[&format!("{prefix}/update/delta")]).unwrap();
    watcher.message_on(connected).unwrap();
    for (version, door) in (1..).zip([SECOND, 1, FIRST, SECOND, 2, SECOND]) {
        let (mut next, ack) = Client::dial(cluster.mqtt(door), &durable("mover")).unwrap();
        assert!(ack.session_present);
        assert_eq!(former.ended().unwrap().reason(), Some(0x8E));
        cluster.update(3, "mover", &desired(json!({"n": version})));
        let mut told = 0;
        while told < version {
            let delta = hear(&mut next, &prefix, "update/delta");
            told = delta["version"].as_u64().unwrap();
        }
        assert_eq!(told, version);
        watcher.message_on(connected).unwrap();
        former = next;
    }
}

/// A gateway that was silent for too long is forgotten, is let in again as another node, and serves on.
#[test]
fn mqtt_gateways_are_forgotten_and_let_in_again() {
    let after = ("ANTUMBRA_CLUSTER_REPLACE_AFTER", "3s");
    let cluster = Cluster::with_environment(1, &[after]);
    let number = || {
        let listed = nodes(&cluster, 1).into_iter();
        let mut found = listed.filter(|node| node["node"] == "gateway-1");
        found.next().and_then(|node| node["number"].as_u64())
    };
    let before = number().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let wait = |what: &str, is: &dyn Fn() -> bool| {
        while !is() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(100));
        }
    };
    cluster.signal("gateway-1", "-STOP");
    wait("it is forgotten", &|| number().is_none());
    cluster.signal("gateway-1", "-CONT");
    wait("it is let in again", &|| {
        number().is_some_and(|now| now > before)
    });
    let version = cluster.update(FIRST, "lamp", &desired(json!({"on": true})));
    assert_eq!(version, 1, "it serves");
}

/// A gateway that dies leaves nobody connected; one that is stopped leaves the cluster, and comes back
/// as another node.
#[test]
fn mqtt_gateways_come_and_go() {
    let cluster = Cluster::with_gateways(2);
    let number = |name: &str| {
        let listed = nodes(&cluster, 1).into_iter();
        let found = listed.into_iter().find(|node| node["node"] == name);
        found.and_then(|node| node["number"].as_u64())
    };
    let gone = "$aws/events/presence/disconnected/orphan";
    let mut watcher = client(cluster.mqtt(2), Version::V5, "watcher");
    watcher.listen(&[gone]).unwrap();
    let (_orphan, _) = Client::dial(cluster.mqtt(SECOND), &durable("orphan")).unwrap();
    cluster.signal("gateway-2", "-9");
    let killed = Instant::now();
    let seen = watcher.message_on(gone).unwrap().json().unwrap();
    assert_eq!(seen["disconnectReason"], "CONNECTION_LOST");
    println!("told to be gone after {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(20));

    let before = number("gateway-1").unwrap();
    cluster.signal("gateway-1", "-TERM");
    let deadline = Instant::now() + PATIENCE;
    // It is started again, and has joined under another number.
    loop {
        let listed = number("gateway-1");
        if listed.is_some_and(|now| now > before) {
            break;
        }
        assert!(Instant::now() < deadline, "{listed:?} after {before}");
        thread::sleep(Duration::from_millis(100));
    }
    let (_orphan, ack) = Client::dial(cluster.mqtt(1), &durable("orphan")).unwrap();
    assert!(ack.session_present);
}
