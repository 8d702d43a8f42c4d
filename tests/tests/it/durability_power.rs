//! Invariant 7 under power cuts: the kernel drops everything that was not synced.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use antumbra_tests::checker::Verdict;
use antumbra_tests::client::Client;
use antumbra_tests::disk::Disk;
use antumbra_tests::environment;
use antumbra_tests::load::{self, History, Load};
use antumbra_tests::node::{Launch, Node, Options};

const CUTS: usize = 10;
const DISK_BYTES: u64 = 1 << 30;
const WITHIN: Duration = Duration::from_secs(60);
const AFTER: Duration = Duration::from_secs(1);

fn writing(prefix: &str) -> load::Options {
    load::Options {
        prefix: prefix.into(),
        writers: 8,
        devices: 5,
        padding: 100,
    }
}

/// Cuts the power under a running node, makes sure that the node is gone, and gives the power back.
/// `begin` is called at the last moment before the cut. After the cut nothing can be synced any more,
/// so a node that goes on acknowledging would be one that overlooks errors.
async fn cut(disk: &Disk, node: Node, begin: impl FnOnce()) {
    disk.cut(begin).unwrap();
    let client = Client::new(node.grpc()).with_limit(AFTER);
    let told = client.update("without-a-disk", r#"{"a":1}"#).await;
    assert!(told.is_err(), "acknowledged without a disk");
    node.kill().unwrap();
    disk.power_on().unwrap();
}

/// Ten power cuts under a write load lose nothing, skip no version and repeat none. What the node
/// says once a cut has begun counts for nothing: a machine without power says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_ten_power_cuts_lose_nothing() {
    if !environment::can_use_root(1) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::create(directory.path(), DISK_BYTES).unwrap();
    let mut options = Options::new(disk.path().join("data"));
    let mut node = Node::start(&options).unwrap();
    options.base_port = Some(node.base_port());
    let client = Client::new(node.grpc());
    let (_, cursor) = client.opening("power").await.unwrap();

    let load = Load::start(node.grpc(), writing("power"));
    for _ in 0..CUTS {
        load.progress(200, WITHIN).await.unwrap();
        cut(&disk, node, || load.power_off()).await;
        load.power_on();
        node = Node::start(&options).unwrap();
    }
    load.progress(200, WITHIN).await.unwrap();
    let late = load.late();
    let history = load.stop(WITHIN).await.unwrap();

    let verdict = load::check(&client, &history).await.unwrap();
    assert_eq!(
        verdict.unknown, 0,
        "every attempt can be settled by its request id"
    );
    let changes = load::check_feed(&client, "power", &cursor, &history)
        .await
        .unwrap();
    println!(
        "{CUTS} power cuts, {} acknowledged updates, {changes} changes in the feed, 0 lost; \
         {} replies after a cut not counted, {} of them lost",
        verdict.acknowledged, late.updates, late.lost
    );
    node.kill().unwrap();
}

/// The same power cut must hurt a node that does not sync: else the test above proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_power_cut_without_fsync_loses_data() {
    if !environment::can_use_root(1) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::create(directory.path(), DISK_BYTES).unwrap();
    let data = disk.path().join("data");
    // Everything that a first start makes is synced; only the writes below are not.
    Node::start(&Options::new(&data))
        .unwrap()
        .terminate()
        .unwrap();
    let (history, verdict) = lose(&disk, &data).await;
    let told: u64 = history.values().map(|attempts| attempts.len() as u64).sum();
    println!("without fsync, {told} updates: {verdict}");
}

/// Writes without fsync, cuts the power, and says how the loss showed.
async fn lose(disk: &Disk, data: &Path) -> (History, String) {
    let options = Options::new(data);
    let careless = options
        .clone()
        .with_test_switch("ANTUMBRA_TEST_NO_FSYNC", 1);
    let node = Node::start(&careless).unwrap();
    let load = Load::start(node.grpc(), writing("careless"));
    load.progress(500, WITHIN).await.unwrap();
    let history = load.stop(WITHIN).await.unwrap();
    let intact = load::check(&Client::new(node.grpc()), &history)
        .await
        .unwrap();
    assert!(intact.acknowledged >= 500, "{intact:?}");
    disk.cut(|| ()).unwrap();
    node.kill().unwrap();
    disk.power_on().unwrap();

    match Node::launch(&options).unwrap() {
        Launch::Ready(node) => {
            let judged = load::check(&Client::new(node.grpc()), &history).await;
            node.kill().unwrap();
            let loss = match judged {
                Ok(Verdict { acknowledged, .. }) => {
                    panic!("all {acknowledged} unsynced updates survived: the cut is no cut")
                }
                Err(loss) => loss,
            };
            (history, format!("{loss:#}"))
        }
        Launch::Stopped(stopped) => {
            let noticed = stopped.output.contains("LOG_DAMAGED");
            assert!(noticed && !stopped.status.success(), "{}", stopped.output);
            (
                history,
                "the node noticed the loss and refused to start: LOG_DAMAGED".into(),
            )
        }
    }
}

/// The cut itself: what was synced stays, what was not is gone, and writing ends.
#[test]
fn durability_power_cut_drops_exactly_what_was_not_synced() {
    if !environment::can_use_root(1) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::create(directory.path(), 64 << 20).unwrap();
    let (synced, unsynced) = (disk.path().join("synced"), disk.path().join("unsynced"));
    fs::write(&synced, "kept").unwrap();
    File::open(&synced).unwrap().sync_all().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    fs::write(&unsynced, "lost").unwrap();
    disk.cut(|| ()).unwrap();
    assert!(
        fs::write(&synced, "too late").is_err(),
        "writing goes on after the cut"
    );
    disk.power_on().unwrap();
    assert_eq!(fs::read_to_string(&synced).unwrap(), "kept");
    assert!(!unsynced.exists(), "unsynced data survived");
}
