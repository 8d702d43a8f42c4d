//! Devices on a cluster of three real processes: sessions that move, gateways that die, leaders that
//! change.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use antumbra_tests::http;
use antumbra_tests::mqtt::{Client, Connect, Version};
use antumbra_tests::node::{Node, Options};
use serde_json::{Value, json};

use crate::mqtt_shadows::{classic, client, desired, hear, reported};

/// Longer than an election, the end of a lease and the start of a node together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `antumbra dev --nodes 3`, and gateways after the nodes.
pub(crate) struct Cluster {
    pub(crate) node: Node,
    pub(crate) data: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Cluster {
        Cluster::with_gateways(0)
    }

    pub(crate) fn with_gateways(gateways: u16) -> Cluster {
        Cluster::with_environment(gateways, &[])
    }

    pub(crate) fn with_environment(gateways: u16, variables: &[(&str, &str)]) -> Cluster {
        let data = tempfile::tempdir().unwrap();
        let options = Options::new(data.path())
            .with_argument("--nodes")
            .with_argument("3")
            .with_argument("--gateways")
            .with_argument(&gateways.to_string());
        let add = |options: Options, (name, value): &(&str, &str)| options.with_env(name, value);
        let options = variables.iter().fold(options, add);
        Cluster {
            node: Node::start(&options).unwrap(),
            data,
        }
    }

    pub(crate) fn door(&self, node: u16, offset: u16) -> SocketAddr {
        let port = self.node.base_port() + 100 * (node - 1) + offset;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    pub(crate) fn mqtt(&self, node: u16) -> SocketAddr {
        self.door(node, 83)
    }

    /// Changes what a device should be, through the HTTP door of a node; again until it is done.
    pub(crate) fn update(&self, node: u16, thing: &str, update: &Value) -> u64 {
        let target = format!("/things/{thing}/shadow");
        let body = update.to_string();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = http::send(self.door(node, 80), "POST", &target, body.as_bytes());
            if let Ok(answer) = &answer
                && answer.status == 200
            {
                let document: Value = serde_json::from_slice(&answer.body).unwrap();
                return document["version"].as_u64().unwrap();
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn document(&self, node: u16, thing: &str) -> Value {
        let answer = http::get(self.door(node, 80), &format!("/things/{thing}/shadow")).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// `kill -9`; it is started again by itself.
    fn kill(&self, node: u16) {
        self.signal(&format!("node-{node}"), "-9");
    }

    /// Sends a signal to the first process that a node had.
    pub(crate) fn signal(&self, name: &str, signal: &str) {
        let output = self.node.output();
        let start = format!("  {name} ");
        let line = output
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap();
        let pid = line.rsplit(' ').next().unwrap();
        let sent = Command::new("kill").args([signal, pid]).status().unwrap();
        assert!(sent.success());
    }
}

pub(crate) fn durable(client_id: &str) -> Connect {
    Connect::durable(Version::V5, client_id)
}

/// A session is continued on another node, with its subscriptions; the connection before is told
/// why it ends.
#[test]
fn mqtt_cluster_session_moves_between_nodes() {
    let cluster = Cluster::start();
    let prefix = classic("mover");
    let delta = format!("{prefix}/update/delta");
    let (mut first, ack) = Client::dial(cluster.mqtt(1), &durable("mover")).unwrap();
    assert!(!ack.session_present);
    first.listen(&[&delta]).unwrap();
    cluster.update(2, "mover", &desired(json!({"n": 1})));
    assert_eq!(hear(&mut first, &prefix, "update/delta")["version"], 1);

    let (mut second, ack) = Client::dial(cluster.mqtt(2), &durable("mover")).unwrap();
    assert!(ack.session_present);
    assert_eq!(first.ended().unwrap().reason(), Some(0x8E));
    // What is left to do is told without a SUBSCRIBE, and changes of other nodes after it.
    assert_eq!(hear(&mut second, &prefix, "update/delta")["version"], 1);
    cluster.update(3, "mover", &desired(json!({"n": 2})));
    assert_eq!(hear(&mut second, &prefix, "update/delta")["version"], 2);

    // The new connection outlives the end of the old one.
    cluster.update(1, "mover", &desired(json!({"n": 3})));
    assert_eq!(hear(&mut second, &prefix, "update/delta")["version"], 3);
    second.ping().unwrap();
}

/// Clients of different nodes hear each other, in the order in which each speaks.
#[test]
fn mqtt_cluster_clients_of_all_nodes_hear_each_other() {
    let cluster = Cluster::start();
    let mut hearers = [1, 2, 3].map(|node| {
        let mut hearer = client(cluster.mqtt(node), Version::V5, &format!("hearer-{node}"));
        hearer.listen(&["talk/#"]).unwrap();
        hearer
    });
    let mut speaker = client(cluster.mqtt(2), Version::V311, "speaker");
    for number in 0..50 {
        speaker.post("talk/a", number.to_string()).unwrap();
    }
    for hearer in &mut hearers {
        for number in 0..50 {
            assert_eq!(hearer.message().unwrap().text(), number.to_string());
        }
    }
}

/// A gateway dies. Its device comes back at another node, and is told what it missed without a
/// SUBSCRIBE; who watches clients is told that it had gone.
#[test]
fn mqtt_cluster_device_survives_its_gateway() {
    let cluster = Cluster::start();
    let mut watcher = client(cluster.mqtt(2), Version::V5, "watcher");
    watcher
        .listen(&[
            "$aws/events/presence/connected/orphan",
            "$aws/events/presence/disconnected/orphan",
        ])
        .unwrap();
    let prefix = classic("orphan");
    let (mut device, _) = Client::dial(cluster.mqtt(1), &durable("orphan")).unwrap();
    device.listen(&[&format!("{prefix}/update/delta")]).unwrap();
    let seen = watcher.message().unwrap().json().unwrap();
    assert_eq!(seen["eventType"], "connected");
    cluster.update(3, "orphan", &desired(json!({"n": 1})));
    assert_eq!(hear(&mut device, &prefix, "update/delta")["version"], 1);

    cluster.kill(1);
    let killed = Instant::now();
    let version = cluster.update(2, "orphan", &desired(json!({"n": 2})));
    let seen = watcher.message().unwrap().json().unwrap();
    assert_eq!(seen["eventType"], "disconnected");
    assert_eq!(seen["disconnectReason"], "CONNECTION_LOST");
    println!("told to be gone after {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(20));

    let (mut device, ack) = Client::dial(cluster.mqtt(2), &durable("orphan")).unwrap();
    assert!(ack.session_present);
    let delta = hear(&mut device, &prefix, "update/delta");
    assert_eq!(delta["version"], version);
    assert_eq!(delta["state"], json!({"n": 2}));
}

/// What the device should be.
const LAST: u64 = 40;

/// A device and a backend agree in the end, while nodes are killed and leaders change; the device
/// sees versions grow, and no update that it was told to be done is lost.
#[test]
fn mqtt_cluster_device_and_backend_converge_while_nodes_die() {
    let cluster = Cluster::start();
    let thing = "steady";
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=LAST {
                if number % 15 == 5 {
                    // Each node in turn, that of the device among them.
                    cluster.kill(1 + u16::try_from(number / 15).unwrap());
                }
                let door = 1 + u16::try_from(number % 3).unwrap();
                cluster.update(door, thing, &desired(json!({"n": number})));
                thread::sleep(Duration::from_millis(100));
            }
        });
        let done = follow(&cluster, thing);
        assert_eq!(done, LAST);
    });
    let document = cluster.document(2, thing);
    let state = &document["state"];
    assert_eq!(state["desired"], state["reported"], "{document}");
    assert_eq!(state["reported"]["n"], LAST);
}

/// A device that does what it is told, at one node after the other, until it is told the last. Gives
/// what it reported last.
fn follow(cluster: &Cluster, thing: &str) -> u64 {
    let deadline = Instant::now() + 2 * PATIENCE;
    let (mut node, mut version) = (0, 0);
    loop {
        assert!(Instant::now() < deadline, "the device never agrees");
        node = node % 3 + 1;
        let Ok((mut device, _)) = Client::dial(cluster.mqtt(node), &durable(thing)) else {
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        match serve(&mut device, thing, &mut version) {
            Some(number) => return number,
            // The connection ended: its node was killed, or could not say what became of an update.
            None => continue,
        }
    }
}

fn serve(device: &mut Client, thing: &str, version: &mut u64) -> Option<u64> {
    let prefix = classic(thing);
    let topic = format!("{prefix}/update/delta");
    device.listen(&[&topic]).ok()?;
    loop {
        let delta = device.message_on(&topic).ok()?.json().unwrap();
        let told = delta["version"].as_u64().unwrap();
        // The present difference may come again; nothing older ever does.
        assert!(told >= *version, "{told} after {version}");
        *version = told;
        let report = reported(delta["state"].clone());
        let body = report.to_string();
        device.post(&format!("{prefix}/update"), body).ok()?;
        if delta["state"]["n"] == LAST {
            return Some(LAST);
        }
    }
}
