//! Three nodes become five and three again while devices are connected and backends write.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use antumbra_tests::chaos::cluster::{self, Cluster, name};
use antumbra_tests::chaos::topology;
use antumbra_tests::client::Client as Grpc;
use antumbra_tests::load::{self, Load};
use antumbra_tests::mqtt::{Client, Connect, Version};
use antumbra_tests::{environment, waiting};
use serde_json::{Value, json};

use crate::mqtt_shadows::{classic, desired, hear};

const LIMIT: Duration = Duration::from_secs(120);
/// Devices have to be back so soon after the node that they were connected to has left.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Devices stay connected: a ping of each proves it.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Devices of every node.
const DEVICES: usize = 4;

/// Reason of a DISCONNECT: the client should come back elsewhere.
const USE_ANOTHER_SERVER: u8 = 0x9C;

/// A device and the node that it is connected to.
struct Device {
    thing: String,
    node: usize,
    client: Client,
}

fn connect(cluster: &Cluster, thing: &str, node: usize) -> Option<(Client, bool)> {
    let durable = Connect::durable(Version::V5, thing);
    let (client, ack) = Client::dial(cluster.mqtt(node), &durable).ok()?;
    Some((client, ack.session_present))
}

fn come(cluster: &Cluster, nodes: &[usize]) -> Vec<Device> {
    let all = nodes
        .iter()
        .flat_map(|node| (0..DEVICES).map(move |nth| (*node, nth)));
    let connected = all.map(|(node, nth)| {
        let thing = format!("grown-{node}-{nth}");
        let (mut client, _) = connect(cluster, &thing, node).unwrap();
        client
            .listen(&[&format!("{}/update/delta", classic(&thing))])
            .unwrap();
        Device {
            thing,
            node,
            client,
        }
    });
    connected.collect()
}

fn nodes(cluster: &Cluster) -> Vec<Value> {
    topology::nodes(cluster, 0).unwrap_or_default()
}

/// Waits until there are so many nodes, with replicas and leads as even as they can be.
fn wait_even(cluster: &Cluster, count: usize, devices: &mut [Device]) {
    let (begun, mut pinged) = (Instant::now(), Instant::now());
    let seen = waiting::until("replicas and leads are even", LIMIT, || {
        thread::sleep(Duration::from_millis(200));
        if pinged.elapsed() > PING_EVERY {
            pinged = Instant::now();
            for device in devices.iter_mut() {
                device.client.ping().unwrap();
            }
        }
        let nodes = nodes(cluster);
        topology::are_even(&nodes, count).then_some(nodes)
    });
    let seen = seen.unwrap_or_else(|error| panic!("{error}: {:#?}", nodes(cluster)));
    let counts: BTreeMap<&str, (&Value, &Value)> = seen
        .iter()
        .map(|node| {
            (
                node["node"].as_str().unwrap(),
                (&node["replicas"], &node["leaderships"]),
            )
        })
        .collect();
    println!(
        "{count} nodes are even after {:?}: replicas and leads {counts:?}",
        begun.elapsed()
    );
}

/// Sends a node away; its devices come back at the first node, with their sessions.
fn send_away(cluster: &mut Cluster, node: usize, devices: &mut [Device]) {
    let gone = name(node);
    let printed = cluster.ask(0, &["cluster", "decommission", &gone], LIMIT);
    let printed = printed.unwrap();
    assert!(printed.status.success(), "{}", printed.error);
    assert!(
        printed.error.contains("has left the cluster"),
        "{}",
        printed.error
    );
    assert!(
        cluster.wait_ended(node, LIMIT).unwrap(),
        "it ended with an error"
    );
    let ended = Instant::now();
    for device in devices.iter_mut().filter(|device| device.node == node) {
        // Whoever is told that another connection took over does not come back by itself.
        let told = device.client.ended().unwrap().reason();
        assert_eq!(told, Some(USE_ANOTHER_SERVER), "{}", device.thing);
        let back = waiting::until("a device is back", BACK_WITHIN, || {
            connect(cluster, &device.thing, 0)
        });
        let (client, had_session) = back.unwrap();
        assert!(had_session, "{} has lost its session", device.thing);
        (device.client, device.node) = (client, 0);
    }
    println!(
        "devices of {gone} are back {:?} after its end",
        ended.elapsed()
    );
}

/// Every device is told what it should be, wherever it is connected.
async fn tell_all(grpc: &Grpc, devices: &mut [Device], number: u64) {
    for device in devices {
        let update = desired(json!({"n": number}));
        let text = update["state"]["desired"].to_string();
        let update = antumbra_tests::client::desired_update(&device.thing, &text);
        grpc.send(update).await.unwrap();
        let told = tokio::task::block_in_place(|| {
            loop {
                let delta = hear(&mut device.client, &classic(&device.thing), "update/delta");
                if delta["state"]["n"] == number {
                    return delta;
                }
            }
        });
        assert_eq!(told["state"]["n"], number);
    }
}

/// Nothing that was acknowledged is lost, no version is missing in the feed, devices stay connected or come
/// back, and in the end everything is even.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_grows_to_five_and_shrinks_to_three() {
    if !environment::can_use_root(1) {
        return;
    }
    let mut cluster = Cluster::create(cluster::Options {
        nodes: 3,
        spares: 2,
        binary: environment::binary(),
        disks: false,
        environment: Vec::new(),
    })
    .unwrap();
    let (first, later) = ([0, 1, 2], [3, 4]);
    for node in first {
        cluster.start(node).unwrap();
    }
    cluster.wait_ready(&first, LIMIT).unwrap();
    let grpc = Grpc::new(cluster.grpc(0));
    let (_, cursor) = grpc.opening("load").await.unwrap();
    let writing = load::Options {
        prefix: "load".into(),
        writers: 8,
        devices: 5,
        padding: 100,
    };
    let load = Load::start(cluster.grpc(1), writing);
    load.progress(200, LIMIT).await.unwrap();
    let mut devices = come(&cluster, &first);
    tell_all(&grpc, &mut devices, 1).await;

    for node in later {
        cluster.start(node).unwrap();
    }
    cluster.wait_ready(&later, LIMIT).unwrap();
    devices.extend(come(&cluster, &later));
    wait_even(&cluster, 5, &mut devices);
    tell_all(&grpc, &mut devices, 2).await;
    load.progress(200, LIMIT).await.unwrap();

    for node in later {
        send_away(&mut cluster, node, &mut devices);
    }
    wait_even(&cluster, 3, &mut devices);
    tell_all(&grpc, &mut devices, 3).await;
    load.progress(200, LIMIT).await.unwrap();

    let history = load.stop(LIMIT).await.unwrap();
    let verdict = load::check(&grpc, &history).await.unwrap();
    assert_eq!(
        verdict.unknown, 0,
        "every attempt can be settled by its request id"
    );
    let changes = load::check_feed(&grpc, "load", &cursor, &history)
        .await
        .unwrap();
    topology::check_repaired(&cluster, 0).unwrap();
    println!(
        "{} acknowledged updates, {changes} changes in the feed, 0 lost; {} devices told everything",
        verdict.acknowledged,
        devices.len()
    );
}
