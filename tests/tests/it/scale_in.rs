//! Nodes that are pods of a StatefulSet leave when it does not need them any more, and only then. A server of the
//! tests plays the API of Kubernetes; the tests play whoever scales and the kubelet.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use antumbra_tests::chaos::cluster::{self, Cluster};
use antumbra_tests::chaos::topology;
use antumbra_tests::client::Client;
use antumbra_tests::kubernetes::Api;
use antumbra_tests::load::{self, Load};
use antumbra_tests::{environment, waiting};
use serde_json::Value;

/// Of each wait. The tests take less than a minute each, unless another node comes to lead the meta shard: it counts
/// anew.
const LIMIT: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(200);
/// The nodes are called node-1 and so on, so the StatefulSet is called so and begins with 1.
const SET: &str = "node";
const FIRST: u32 = 1;
/// The leader of the meta shard is sure after so long.
const SURE_AFTER: Duration = Duration::from_secs(21);
/// What one node knows every other one knows so soon.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// Whoever need not wait is done by then, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(8);

/// So many nodes of a StatefulSet, all ready.
fn pods(nodes: usize, options: &[(&str, &str)]) -> (Cluster, Api) {
    let membership = ("ANTUMBRA_CLUSTER_MEMBERSHIP", "kubernetes");
    let options = options.iter().chain([&membership]);
    let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut cluster = Cluster::create(cluster::Options {
        nodes,
        spares: 0,
        binary: environment::binary(),
        disks: false,
        environment: options.collect(),
    })
    .unwrap();
    let address = cluster.network().client_address();
    let api = Api::start(address, SET, FIRST, nodes as u32).unwrap();
    cluster.add_environment(&api.environment());
    for node in 0..nodes {
        cluster.start(node).unwrap();
    }
    let all: Vec<usize> = (0..nodes).collect();
    cluster.wait_ready(&all, LIMIT).unwrap();
    (cluster, api)
}

/// Where all nodes are in their life, by name.
fn lives(cluster: &Cluster) -> BTreeMap<String, String> {
    let nodes = topology::nodes(cluster, 0).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    nodes
        .iter()
        .map(|node| (text(&node["node"]), text(&node["life"])))
        .collect()
}

fn wait_life(cluster: &Cluster, name: &str, life: Option<&str>) {
    let seen = waiting::until("a node is where it should be", LIMIT, || {
        thread::sleep(STEP);
        (lives(cluster).get(name).map(String::as_str) == life).then_some(())
    });
    seen.unwrap_or_else(|error| panic!("{name} {life:?}: {error}: {:?}", lives(cluster)));
}

/// Waits until `cluster status` has a concern with these words.
fn wait_concern(cluster: &Cluster, words: &str) {
    let status = || {
        let printed = cluster.ask(0, &["cluster", "status"], LIMIT).unwrap();
        printed.output
    };
    let seen = waiting::until("the status says so", LIMIT, || {
        thread::sleep(STEP);
        status().contains(words).then_some(())
    });
    seen.unwrap_or_else(|error| panic!("{words}: {error}: {}", status()));
}

/// What the kubelet runs before it stops a pod. Killed when dropped.
struct Prestop {
    child: Child,
    begun: Instant,
}

impl Prestop {
    fn begin(cluster: &Cluster, node: usize) -> Prestop {
        let mut command = Command::new(environment::binary());
        command
            .args(["prestop", "--endpoint"])
            .arg(format!("http://{}", cluster.http(node)));
        environment::isolate(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Prestop {
            child: command.spawn().unwrap(),
            begun: Instant::now(),
        }
    }

    fn is_waiting(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, which must be a success, and says how long it took.
    fn wait(&mut self) -> Duration {
        let ended = waiting::until("prestop ends", LIMIT, || self.child.try_wait().transpose());
        let status = ended.unwrap().unwrap();
        assert!(status.success(), "{status}");
        self.begun.elapsed()
    }
}

impl Drop for Prestop {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Two nodes leave one after the other, the last one first, while writes go on; whoever waits for one is told when
/// it has left and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_in_sends_nodes_away_one_by_one_under_load() {
    if !environment::can_use_root(1) {
        return;
    }
    let options = [
        ("ANTUMBRA_CLUSTER_SHARDS", "3"),
        ("ANTUMBRA_CLUSTER_MOVES_MAX", "8"),
    ];
    let (mut cluster, api) = pods(5, &options);
    let grpc = Client::new(cluster.grpc(0));
    let load = Load::start(
        cluster.grpc(1),
        load::Options {
            prefix: "scaled".into(),
            writers: 4,
            devices: 5,
            padding: 100,
        },
    );
    load.progress(50, LIMIT).await.unwrap();
    let mut stays = Prestop::begin(&cluster, 4);
    assert!(stays.wait() < AT_ONCE, "a restart is held up");

    let scaled = Instant::now();
    api.scale(3);
    // The kubelet does not wait until the leader is sure.
    let mut prestops: BTreeMap<&str, Prestop> = [("node-4", 3), ("node-5", 4)]
        .map(|(name, node)| (name, Prestop::begin(&cluster, node)))
        .into();
    let mut left: Vec<String> = Vec::new();
    while left.len() < 2 {
        assert!(scaled.elapsed() < LIMIT, "{:?}", lives(&cluster));
        thread::sleep(STEP);
        for (name, prestop) in &mut prestops {
            if !prestop.is_waiting() {
                // The others may hear of it a moment later.
                let gone = waiting::until("it has left", HEARD_WITHIN, || {
                    (!lives(&cluster).contains_key(*name)).then_some(())
                });
                gone.unwrap_or_else(|error| panic!("{name} is not waited for: {error}"));
            }
        }
        let lives = lives(&cluster);
        let leaving: Vec<&String> = lives
            .iter()
            .filter(|(_, life)| *life == "leaving")
            .map(|(name, _)| name)
            .collect();
        assert!(leaving.len() <= 1, "{lives:?}");
        assert!(
            lives.contains_key("node-4") || !lives.contains_key("node-5"),
            "the last one goes first: {lives:?}"
        );
        for name in ["node-5", "node-4"] {
            if !lives.contains_key(name) && !left.iter().any(|gone| gone == name) {
                println!("{name} has left after {:?}", scaled.elapsed());
                left.push(name.to_owned());
            }
        }
    }
    for prestop in prestops.values_mut() {
        prestop.wait();
    }
    for node in [3, 4] {
        assert!(
            cluster.wait_ended(node, LIMIT).unwrap(),
            "it ended with an error"
        );
    }
    load.progress(50, LIMIT).await.unwrap();
    let history = load.stop(LIMIT).await.unwrap();
    let verdict = load::check(&grpc, &history).await.unwrap();
    assert_eq!(
        verdict.unknown, 0,
        "every attempt can be settled by its request id"
    );
    topology::check_repaired(&cluster, 0).unwrap();
    println!("{} acknowledged updates, 0 lost", verdict.acknowledged);
}

/// Whoever scales back in time keeps the node, and whoever waits for it is told. Commands do not interfere.
#[test]
fn scale_in_is_called_off_before_the_last_replica_has_moved() {
    if !environment::can_use_root(1) {
        return;
    }
    // One of thirteen replicas at a time, so that it takes a while.
    let options = [
        ("ANTUMBRA_CLUSTER_SHARDS", "16"),
        ("ANTUMBRA_CLUSTER_MOVES_MAX", "1"),
    ];
    let (mut cluster, api) = pods(4, &options);
    let decommission = ["cluster", "decommission", "node-4"];
    let printed = cluster.ask(0, &decommission, LIMIT).unwrap();
    assert!(!printed.status.success(), "a command sent a pod away");
    assert!(
        printed.error.contains("StatefulSet node"),
        "{}",
        printed.error
    );

    api.scale(3);
    let mut prestop = Prestop::begin(&cluster, 3);
    wait_life(&cluster, "node-4", Some("leaving"));
    let printed = cluster.ask(0, &["cluster", "resume", "node-4"], LIMIT);
    let printed = printed.unwrap();
    assert!(!printed.status.success(), "a command took a pod back");
    assert!(prestop.is_waiting());
    api.scale(4);
    wait_life(&cluster, "node-4", Some("active"));
    assert!(prestop.wait() > Duration::from_secs(10), "it has waited");
    // The leader reads every five seconds.
    let reads = api.reads();
    waiting::until("the leader has read twice", LIMIT, || {
        (api.reads() >= reads + 2).then_some(())
    })
    .unwrap();
    assert_eq!(lives(&cluster)["node-4"], "active");
    assert!(cluster.ended().unwrap().is_empty(), "a process has ended");
}

/// With fewer replicas than a shard has nobody leaves. One that has left and is started again does not come back
/// before it is needed.
#[test]
fn scale_in_below_the_replication_factor_parks_the_cluster() {
    if !environment::can_use_root(1) {
        return;
    }
    let options = [("ANTUMBRA_CLUSTER_SHARDS", "3")];
    let (mut cluster, api) = pods(4, &options);
    api.scale(0);
    let parked = Instant::now();
    wait_concern(&cluster, "parked");
    for node in [0, 3] {
        let took = Prestop::begin(&cluster, node).wait();
        assert!(
            took < AT_ONCE,
            "a pod that is parked is held up for {took:?}"
        );
    }
    while parked.elapsed() < SURE_AFTER {
        thread::sleep(STEP);
        let lives = lives(&cluster);
        assert!(
            lives.len() == 4 && lives.values().all(|life| life == "active"),
            "{lives:?}"
        );
    }

    api.scale(3);
    wait_life(&cluster, "node-4", None);
    assert!(
        cluster.wait_ended(3, LIMIT).unwrap(),
        "it ended with an error"
    );
    cluster.start(3).unwrap();
    waiting::until("the node says that it waits", LIMIT, || {
        let log = cluster.log(3);
        log.contains("joins the cluster once it is needed")
            .then_some(())
    })
    .unwrap();
    let took = Prestop::begin(&cluster, 3).wait();
    assert!(
        took < AT_ONCE,
        "a node that is no member is held up for {took:?}"
    );
    assert!(!cluster.process(3).unwrap().is_ready());
    assert!(!lives(&cluster).contains_key("node-4"));
    api.scale(4);
    cluster.wait_ready(&[3], LIMIT).unwrap();
    wait_life(&cluster, "node-4", Some("active"));
}
