//! Minutes of overwriting: only with `make test-long`.

use std::time::{Duration, Instant};

use antumbra_tests::client::Client;
use antumbra_tests::load::{self, Load};
use antumbra_tests::node::{Node, Options};
use antumbra_tests::{environment, files};

const LASTS: Duration = Duration::from_secs(600);
const WITHIN: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
const FEED_MIB: u64 = 64;
const FLUSH_MIB: u64 = 16;
/// Feed, two memtables of the log, documents, and as much again for files on their way out.
const DISK_MIB_MAX: u64 = 512;

/// Ten minutes of overwriting the same devices: the disk stays bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_disk_stays_bounded_while_overwriting() {
    if !environment::long() {
        println!("1 skipped: set ANTUMBRA_LONG=1");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path())
        .with_env("ANTUMBRA_STORAGE_FEED_BYTES_MAX", format!("{FEED_MIB}MiB"))
        .with_env(
            "ANTUMBRA_STORAGE_FLUSH_LOG_BYTES",
            format!("{FLUSH_MIB}MiB"),
        );
    let node = Node::start(&options).unwrap();
    let writing = load::Options {
        prefix: "disk".into(),
        writers: 64,
        devices: 16,
        padding: 2000,
    };
    let load = Load::start(node.grpc(), writing);
    let started = Instant::now();
    let (mut largest, mut largest_early) = (0, 0);
    while started.elapsed() < LASTS {
        load.progress(100, WITHIN).await.unwrap();
        let bytes = files::bytes(directory.path()).unwrap();
        largest = largest.max(bytes);
        if started.elapsed() < LASTS / 2 {
            largest_early = largest_early.max(bytes);
        }
    }
    let written = load.acknowledged();
    let history = load.stop(WITHIN).await.unwrap();
    println!(
        "{written} updates of 2 KB in {LASTS:?}: largest {} MiB, {} MiB in the first half",
        largest / MIB,
        largest_early / MIB
    );
    assert!(largest < DISK_MIB_MAX * MIB, "{} MiB", largest / MIB);
    load::check(&Client::new(node.grpc()), &history)
        .await
        .unwrap();
}
