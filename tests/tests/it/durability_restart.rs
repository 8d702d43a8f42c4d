//! How soon a node serves again.

use std::time::{Duration, Instant};

use antumbra_tests::client::Client;
use antumbra_tests::node::{Node, Options};

const SHADOWS: usize = 100_000;
/// What the node is built for; printed, because a busy machine is slower.
const WANTED: Duration = Duration::from_secs(5);
/// A hang, on any machine.
const HANG: Duration = Duration::from_secs(50);

/// A node with many shadows that was killed answers linearizable reads soon after its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_restart_with_100_000_shadows_serves_soon() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path());
    let node = Node::start(&options).unwrap();
    let devices: Vec<String> = (0..SHADOWS)
        .map(|number| format!("restart-{number}"))
        .collect();
    let client = Client::new(node.grpc()).with_limit(Duration::from_secs(60));
    crate::twins_idle::touch(&client, &devices, 1).await;
    node.kill().unwrap();

    let started = Instant::now();
    let node = Node::start(&options).unwrap();
    let client = Client::new(node.grpc());
    let last = client.get(&devices[SHADOWS - 1]).await.unwrap();
    let served = started.elapsed();
    assert_eq!(last.shadow.unwrap().version, 1);
    println!(
        "{SHADOWS} shadows: ready after {:.2} s, first read after {:.2} s (wanted: {WANTED:?})",
        node.started_within.as_secs_f64(),
        served.as_secs_f64()
    );
    assert!(served < HANG, "{served:?}");

    let found = client.get_all(&devices).await.unwrap();
    assert!(found.values().all(|shadow| shadow.version == 1));
    assert_eq!(client.list_devices().await.unwrap().len(), SHADOWS);
}
