//! The rendered chart, scaled out and in as an operator does it, while devices are connected and
//! backends write.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use antumbra_tests::chaos::command;
use antumbra_tests::chaos::topology;
use antumbra_tests::client::Client as Grpc;
use antumbra_tests::kubesim::cluster::{Options, Simulation, View};
use antumbra_tests::kubesim::controller::stateful_set::Generation;
use antumbra_tests::kubesim::helm;
use antumbra_tests::load::{self, Load};
use antumbra_tests::mqtt::{Client, Connect, Version};
use antumbra_tests::{environment, waiting};
use serde_json::{Value, json};

use crate::kubesim_traffic::Traffic;
use crate::mqtt_shadows::{classic, hear};

pub(crate) const SET: &str = "antumbra";
pub(crate) const PODS: [&str; 5] = [
    "antumbra-0",
    "antumbra-1",
    "antumbra-2",
    "antumbra-3",
    "antumbra-4",
];
pub(crate) const NAMESPACE: &str = "fleet";
pub(crate) const LIMIT: Duration = Duration::from_secs(180);
/// Devices have to be back so soon after the pod that they were connected to has ended.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Devices stay connected: a ping of each proves it.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Devices of every pod.
const DEVICES: usize = 4;
/// Probes come so much more often, and graces are so much shorter.
const TIME_SCALE: f64 = 5.0;

/// The rendered chart, open to everybody, with more values.
pub(crate) fn chart(values: &[&str]) -> String {
    let open = ["insecure=true", "placement.zoneLabel="];
    helm::template(SET, NAMESPACE, &[&open[..], values].concat()).unwrap()
}

/// The image that the chart names, with a tag.
pub(crate) fn image(tag: &str) -> String {
    format!("antumbra:{tag}")
}

/// How a cluster over these zones is made.
pub(crate) fn options(zones: &[&str]) -> Options {
    Options {
        binary: environment::binary(),
        images: [image(env!("CARGO_PKG_VERSION"))].into(),
        namespace: NAMESPACE.into(),
        time_scale: TIME_SCALE,
        generation: Generation::default(),
        zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
    }
}

/// An empty cluster over these zones.
pub(crate) fn start(zones: &[&str]) -> Simulation {
    Simulation::start(options(zones)).unwrap()
}

/// The pods of a chart, all of them ready.
pub(crate) fn install(chart: &str, count: usize) -> Simulation {
    let simulation = start(&[]);
    assert_eq!(simulation.apply(chart).unwrap(), None);
    simulation.until_ready(&PODS[..count], LIMIT).unwrap();
    simulation
}

/// Where clients of gRPC and devices connect, without certificates.
pub(crate) fn doors(simulation: &Simulation) -> [SocketAddr; 2] {
    [("antumbra-api", 7400), ("antumbra-mqtt", 1883)]
        .map(|(service, port)| simulation.expose(service, port).unwrap())
}

/// Reason of a DISCONNECT: the client should come back elsewhere.
const USE_ANOTHER_SERVER: u8 = 0x9C;

/// A device and the pod that it is connected to.
pub(crate) struct Device {
    thing: String,
    pod: &'static str,
    client: Client,
}

pub(crate) fn address(simulation: &Simulation, pod: &str) -> Ipv4Addr {
    let pods = simulation.pods().unwrap();
    let found = pods.iter().find(|view| view.name == pod);
    found.unwrap().address
}

fn connect(address: Ipv4Addr, thing: &str) -> Option<(Client, bool)> {
    let durable = Connect::durable(Version::V5, thing);
    let (client, ack) = Client::dial((address, 1883).into(), &durable).ok()?;
    Some((client, ack.session_present))
}

/// Devices that connect to these pods.
fn come(simulation: &Simulation, pods: &[&'static str]) -> Vec<Device> {
    let mut devices = Vec::new();
    for pod in pods {
        for nth in 0..DEVICES {
            let thing = format!("scaled-{pod}-{nth}");
            let (mut client, _) = connect(address(simulation, pod), &thing).unwrap();
            let delta = format!("{}/update/delta", classic(&thing));
            client.listen(&[&delta]).unwrap();
            devices.push(Device { thing, pod, client });
        }
    }
    devices
}

/// What a command of the program says, through the first pod.
pub(crate) fn ask(simulation: &Simulation, words: &[&str]) -> String {
    let endpoint = SocketAddr::from((address(simulation, PODS[0]), 7400));
    let mut asking = Command::new(environment::binary());
    asking
        .args(words)
        .args(["-o", "json", "--endpoint"])
        .arg(format!("http://{endpoint}"));
    environment::isolate(&mut asking);
    command::finish(asking, "", LIMIT).unwrap().output
}

pub(crate) fn list(simulation: &Simulation, what: &str) -> Vec<Value> {
    let value: Value =
        serde_json::from_str(&ask(simulation, &["cluster", what])).unwrap_or_default();
    value[what].as_array().cloned().unwrap_or_default()
}

/// Waits until there are so many nodes, with replicas and leads as even as they can be.
pub(crate) fn wait_even(simulation: &Simulation, count: usize, devices: &mut [Device]) {
    let (begun, mut pinged) = (Instant::now(), Instant::now());
    let even = waiting::until("replicas and leads are even", LIMIT, || {
        thread::sleep(Duration::from_millis(200));
        if pinged.elapsed() > PING_EVERY {
            pinged = Instant::now();
            for device in devices.iter_mut() {
                device.client.ping().unwrap();
            }
        }
        topology::are_even(&list(simulation, "nodes"), count).then_some(())
    });
    even.unwrap_or_else(|error| panic!("{error}: {:#?}", list(simulation, "nodes")));
    println!("{count} nodes are even after {:?}", begun.elapsed());
}

/// Every device is told what it should be, wherever it is connected.
async fn tell_all(grpc: &Grpc, devices: &mut [Device], number: u64) {
    for device in devices {
        let desired = json!({"n": number}).to_string();
        let update = antumbra_tests::client::desired_update(&device.thing, &desired);
        grpc.send(update).await.unwrap();
        tokio::task::block_in_place(|| {
            while hear(&mut device.client, &classic(&device.thing), "update/delta")["state"]["n"]
                != number
            {}
        });
    }
}

/// Scales in by one: the pod waits until its node has left, and ends in its grace. Calls `meanwhile`
/// again and again.
pub(crate) fn leave(simulation: &Simulation, left: u32, mut meanwhile: impl FnMut()) {
    let gone = PODS[left as usize];
    assert_eq!(simulation.scale(SET, left).unwrap(), None);
    let what = format!("{gone} is gone");
    let is_gone = |pods: &[View]| {
        meanwhile();
        (!pods.iter().any(|pod| pod.name == gone)).then_some(())
    };
    simulation.until(&what, LIMIT, is_gone).unwrap();
    let endings = simulation.endings().unwrap();
    let ending = endings.iter().rev().find(|ending| ending.pod == gone);
    let (ending, log) = (ending.unwrap(), simulation.log(gone));
    let is_good = ending.was_asked && !ending.was_killed && ending.status.success();
    assert!(is_good, "{ending:?}\n{log}");
    assert!(
        log.contains("leaves the cluster"),
        "its hook did not wait:\n{log}"
    );
    println!(
        "{gone} has left and ended {:?} after it was asked to",
        ending.took
    );
}

/// The same with devices, which come back elsewhere with their sessions.
fn leave_devices(simulation: &Simulation, left: u32, devices: &mut [Device]) {
    let gone = PODS[left as usize];
    let mut pinged = Instant::now();
    leave(simulation, left, || {
        if pinged.elapsed() > PING_EVERY {
            pinged = Instant::now();
            for device in devices.iter_mut() {
                // Those of the pod that goes may be sent away at any time.
                let pong = device.client.ping();
                assert!(
                    pong.is_ok() || device.pod == gone,
                    "{}: {pong:?}",
                    device.thing
                );
            }
        }
    });
    let ended = Instant::now();
    for device in devices.iter_mut().filter(|device| device.pod == gone) {
        let told = device.client.ended().unwrap().reason();
        assert_eq!(told, Some(USE_ANOTHER_SERVER), "{}", device.thing);
        let first = address(simulation, PODS[0]);
        let back = waiting::until("a device is back", BACK_WITHIN, || {
            connect(first, &device.thing)
        });
        let (client, had_session) = back.unwrap();
        assert!(had_session, "{} has lost its session", device.thing);
        (device.client, device.pod) = (client, PODS[0]);
    }
    println!(
        "devices of {gone} are back {:?} after its end",
        ended.elapsed()
    );
    wait_members(simulation, left as usize, BACK_WITHIN);
}

/// Waits until the members of the cluster are the first so many pods.
pub(crate) fn wait_members(simulation: &Simulation, count: usize, limit: Duration) {
    let are_members = || {
        let nodes = list(simulation, "nodes");
        let mut names: Vec<&str> = nodes
            .iter()
            .filter_map(|node| node["node"].as_str())
            .collect();
        names.sort_unstable();
        (names == PODS[..count]).then_some(())
    };
    let what = format!("the cluster has {count} members");
    waiting::until(&what, limit, are_members).unwrap();
}

/// A jump from five to three, or to fewer than a shard has replicas, is refused at the API.
fn refuse_jumps(simulation: &Simulation) {
    for replicas in [3, 2, 0] {
        let denial = simulation.scale(SET, replicas).unwrap();
        let denial = denial.unwrap_or_else(|| panic!("{replicas} replicas were let through"));
        assert!(denial.message.contains("one node at a time"), "{denial:?}");
    }
    let pods = simulation.pods().unwrap();
    assert!(
        pods.len() == 5 && !pods.iter().any(|pod| pod.is_terminating),
        "{pods:?}"
    );
}

/// Nothing that was acknowledged is lost, no version is missing in the feed, devices stay connected
/// or come back, pods are never killed, volumes stay, and in the end everything is even.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubesim_scales_3_5_3() {
    if !environment::can_use_root(1) {
        return;
    }
    let simulation = install(&chart(&["config.node.shutdown_timeout=10s"]), 3);
    let grpc = |pod: &str| SocketAddr::from((address(&simulation, pod), 7400));
    let first = Grpc::new(grpc(PODS[0]));
    let (_, cursor) = first.opening("load").await.unwrap();
    let writing = load::Options {
        prefix: "load".into(),
        writers: 8,
        devices: 5,
        padding: 100,
    };
    let load = Load::start(grpc(PODS[1]), writing);
    let doors = doors(&simulation);
    let traffic = Traffic::start(doors, None);
    load.progress(200, LIMIT).await.unwrap();
    let mut devices = come(&simulation, &PODS[..3]);
    tell_all(&first, &mut devices, 1).await;

    assert_eq!(simulation.scale(SET, 5).unwrap(), None);
    simulation.until_ready(&PODS, LIMIT).unwrap();
    devices.extend(come(&simulation, &PODS[3..]));
    wait_even(&simulation, 5, &mut devices);
    traffic.goes_on("two pods came").await;
    tell_all(&first, &mut devices, 2).await;
    load.progress(200, LIMIT).await.unwrap();

    refuse_jumps(&simulation);
    for left in [4, 3] {
        leave_devices(&simulation, left, &mut devices);
        load.progress(200, LIMIT).await.unwrap();
    }
    wait_even(&simulation, 3, &mut devices);
    traffic.goes_on("two pods left").await;
    traffic.stop().await;
    tell_all(&first, &mut devices, 3).await;

    let history = load.stop(LIMIT).await.unwrap();
    let verdict = load::check(&first, &history).await.unwrap();
    assert_eq!(
        verdict.unknown, 0,
        "every attempt can be settled by its request id"
    );
    let changes = load::check_feed(&first, "load", &cursor, &history)
        .await
        .unwrap();
    let verified = ask(&simulation, &["cluster", "verify"]);
    topology::judge_repaired(&list(&simulation, "shards"), &verified, 3).unwrap();
    let claims: Vec<String> = simulation.claims().unwrap().into_iter().collect();
    assert_eq!(
        claims,
        PODS.map(|pod| format!("data-{pod}")),
        "volumes stay"
    );
    let restarts: u32 = simulation
        .pods()
        .unwrap()
        .iter()
        .map(|pod| pod.restarts)
        .sum();
    assert_eq!(
        (restarts, simulation.endings().unwrap().len()),
        (0, 2),
        "nothing else ended"
    );
    println!(
        "{} acknowledged updates, {changes} changes in the feed, 0 lost; {} devices told everything",
        verdict.acknowledged,
        devices.len()
    );
}
