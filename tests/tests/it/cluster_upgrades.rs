//! Three nodes get a newer version, one after another, while backends write.

use std::thread;
use std::time::Duration;

use antumbra_tests::chaos::cluster::{self, Cluster};
use antumbra_tests::chaos::topology;
use antumbra_tests::client::Client;
use antumbra_tests::load::{self, Load};
use antumbra_tests::{environment, waiting};

const LIMIT: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(200);
/// What a node logs when the cluster agrees on newer rules.
const AGREED: &str = "every node with replicas knows these rules";

/// The rules that a node says it knows, as a version would that knows no others.
fn knows(rules: u16) -> [(String, String); 1] {
    let name = "ANTUMBRA_TEST_ANNOUNCE_RULES".to_owned();
    [(name, rules.to_string())]
}

fn has_agreed(cluster: &Cluster, node: usize) -> bool {
    cluster.log(node).contains(AGREED)
}

/// Invariant 12: newer rules come into force with the last node and not before, no update is lost, and replicas stay
/// equal although some were written under the rules of before. A version that does not know them is refused then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_upgrades_to_newer_rules_under_load() {
    if !environment::can_use_root(1) {
        return;
    }
    let (older, newer) = (knows(1), knows(2));
    let nodes = [0, 1, 2];
    let mut cluster = Cluster::create(cluster::Options {
        nodes: nodes.len(),
        spares: 0,
        binary: environment::binary(),
        disks: false,
        environment: older.to_vec(),
    })
    .unwrap();
    for node in nodes {
        cluster.start(node).unwrap();
    }
    cluster.wait_ready(&nodes, LIMIT).unwrap();
    let client = Client::new(cluster.grpc(1));
    let (_, cursor) = client.opening("load").await.unwrap();
    let writing = load::Options {
        prefix: "load".into(),
        writers: 8,
        devices: 5,
        padding: 100,
    };
    let load = Load::start(cluster.grpc(1), writing);
    load.progress(200, LIMIT).await.unwrap();

    cluster.add_environment(&newer);
    for node in [2, 0, 1] {
        let agreed = nodes.map(|node| has_agreed(&cluster, node));
        assert_eq!(
            agreed, [false; 3],
            "node {node} does not know the rules yet"
        );
        assert!(cluster.terminate(node).unwrap());
        cluster.start(node).unwrap();
        cluster.wait_ready(&[node], LIMIT).unwrap();
        load.progress(200, LIMIT).await.unwrap();
    }
    let agreed = waiting::until("all have agreed", LIMIT, || {
        thread::sleep(STEP);
        let mut nodes = nodes.iter();
        nodes.all(|node| has_agreed(&cluster, *node)).then_some(())
    });
    agreed.unwrap();
    load.progress(200, LIMIT).await.unwrap();

    cluster.add_environment(&older);
    assert!(cluster.terminate(2).unwrap());
    cluster.start(2).unwrap();
    assert!(
        !cluster.wait_ended(2, LIMIT).unwrap(),
        "an older version runs"
    );
    assert!(cluster.log(2).contains("RULES_TOO_NEW"));
    cluster.add_environment(&newer);
    cluster.start(2).unwrap();
    cluster.wait_ready(&[2], LIMIT).unwrap();
    load.progress(200, LIMIT).await.unwrap();

    let history = load.stop(LIMIT).await.unwrap();
    let verdict = load::check(&client, &history).await.unwrap();
    assert_eq!(
        verdict.unknown, 0,
        "each attempt is settled by its request id"
    );
    let changes = load::check_feed(&client, "load", &cursor, &history)
        .await
        .unwrap();
    topology::check_repaired(&cluster, 0).unwrap();
    println!(
        "{} acknowledged updates, {changes} changes in the feed, 0 lost",
        verdict.acknowledged
    );
}
