//! Invariant 7 under `kill -9`: what was acknowledged is there afterwards.

use std::time::Duration;

use antumbra_tests::client::Client;
use antumbra_tests::load::{self, Load};
use antumbra_tests::node::{Node, Options};

const KILLS: usize = 20;
const WITHIN: Duration = Duration::from_secs(60);

/// Twenty kills under a write load lose nothing, skip no version and repeat none; retries with
/// the same request id apply once, also across the kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_twenty_kills_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new(directory.path());
    let mut node = Node::start(&options).unwrap();
    options.base_port = Some(node.base_port());
    let client = Client::new(node.grpc());
    let (_, cursor) = client.opening("kill").await.unwrap();

    let writing = load::Options {
        prefix: "kill".into(),
        writers: 8,
        devices: 5,
        padding: 100,
    };
    let load = Load::start(node.grpc(), writing);
    for _ in 0..KILLS {
        load.progress(50, WITHIN).await.unwrap();
        node.kill().unwrap();
        node = Node::start(&options).unwrap();
    }
    load.progress(50, WITHIN).await.unwrap();
    let history = load.stop(WITHIN).await.unwrap();

    let verdict = load::check(&client, &history).await.unwrap();
    assert_eq!(
        verdict.unknown, 0,
        "every attempt can be settled by its request id"
    );
    let changes = load::check_feed(&client, "kill", &cursor, &history)
        .await
        .unwrap();
    println!(
        "{KILLS} kills, {} acknowledged updates, {changes} changes in the feed, 0 lost",
        verdict.acknowledged
    );
    drop(node);
}
