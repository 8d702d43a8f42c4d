//! A snapshot of a cluster of real processes under load, into a cluster of another shape.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antumbra_proto::v1::watch_shadows_response::Event;
use antumbra_tests::client::Client;
use antumbra_tests::mqtt::Version;
use antumbra_tests::node::{self, Node, Options, Stopped};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::mqtt_cluster::PATIENCE;
use crate::mqtt_shadows::{ask, classic, client, hear, listen, reported};

const WRITERS: usize = 6;
const DEVICES_PER_WRITER: usize = 15;

/// A cluster of this shape.
struct Cluster {
    node: Node,
    _data: tempfile::TempDir,
}

impl Cluster {
    fn start(nodes: usize, shards: usize) -> Cluster {
        let data = tempfile::tempdir().unwrap();
        let options = Options::new(data.path())
            .with_argument("--nodes")
            .with_argument(&nodes.to_string())
            .with_argument("--set")
            .with_argument(&format!("cluster.shards={shards}"));
        Cluster {
            node: Node::start(&options).unwrap(),
            _data: data,
        }
    }

    fn door(&self, node: u16, offset: u16) -> SocketAddr {
        let port = self.node.base_port() + 100 * (node - 1) + offset;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    fn client(&self, node: u16) -> Client {
        Client::new(self.door(node, 0))
    }

    /// Runs `antumbra cluster snapshot`, with the endpoint of a node.
    fn snapshot(&self, verb: &str, directory: &Path, node: u16) -> Stopped {
        let endpoint = format!("http://{}", self.door(node, 0));
        let directory = directory.to_str().unwrap();
        let arguments = ["cluster", "snapshot", verb, directory];
        let options = ["--endpoint", &endpoint, "-o", "json"];
        node::run(&[&arguments[..], &options[..]].concat(), Path::new("/")).unwrap()
    }
}

fn verify(directory: &Path) -> Stopped {
    let directory = directory.to_str().unwrap();
    node::run(
        &["cluster", "snapshot", "verify", directory],
        Path::new("/"),
    )
    .unwrap()
}

/// The JSON value among what a command printed.
fn answer(stopped: &Stopped) -> Value {
    assert!(stopped.status.success(), "{}", stopped.output);
    let output = &stopped.output;
    let (from, to) = (output.find('{').unwrap(), output.rfind('}').unwrap());
    serde_json::from_str(&output[from..=to]).unwrap()
}

/// Writers that keep at it, and the versions that they were told.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeMap<String, u64>>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Every update writes the version that it makes.
    fn start(cluster: &Cluster) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            tasks: JoinSet::new(),
        };
        for writer in 0..WRITERS {
            let client = cluster.client(1 + writer as u16 % 3);
            let (stop, acknowledged) = (Arc::clone(&load.stop), Arc::clone(&load.acknowledged));
            load.tasks.spawn(async move {
                for version in 1.. {
                    for device in 0..DEVICES_PER_WRITER {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let device = format!("pump-{writer}-{device}");
                        let desired = json!({"n": version, "text": "x".repeat(200)}).to_string();
                        let answer = client.update(&device, &desired).await.unwrap();
                        assert_eq!(answer.version, version);
                        acknowledged.lock().unwrap().insert(device, version);
                    }
                }
            });
        }
        load
    }

    fn acknowledged(&self) -> BTreeMap<String, u64> {
        self.acknowledged.lock().unwrap().clone()
    }

    async fn until_every_device_is_at(&self, version: u64) {
        let reached = async {
            loop {
                let acknowledged = self.acknowledged();
                let all = acknowledged.len() == WRITERS * DEVICES_PER_WRITER;
                if all && acknowledged.values().all(|at| *at >= version) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// All rows of a snapshot, read by hand from its files.
fn rows(directory: &Path) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let mut rows = BTreeSet::new();
    for path in row_files(directory) {
        let bytes = fs::read(path).unwrap();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let mut at = 1;
        while at < bytes.len() {
            let end = at + 8 + number(at);
            at += 8;
            while at < end {
                let (key, value) = (number(at), number(at + 4));
                let key_end = at + 8 + key;
                let row = (
                    bytes[at + 8..key_end].to_vec(),
                    bytes[key_end..key_end + value].to_vec(),
                );
                assert!(rows.insert(row));
                at = key_end + value;
            }
        }
    }
    rows
}

fn row_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension() == Some("rows".as_ref()))
        .collect();
    paths.sort();
    paths
}

/// A snapshot of three nodes and three shards, taken while they are written to.
async fn saved_under_load(directory: &Path) -> (BTreeMap<String, u64>, Value) {
    let source = Cluster::start(3, 3);
    let mut device = client(source.door(2, 83), Version::V5, "here-and-not-there");
    device.ping().unwrap();
    let load = Load::start(&source);
    load.until_every_device_is_at(3).await;
    let before = load.acknowledged();
    let saved = tokio::task::block_in_place(|| source.snapshot("save", directory, 1));
    let during = load.acknowledged();
    load.until_every_device_is_at(5).await;
    load.end().await;
    let again = source.snapshot("save", directory, 1);
    assert_eq!(again.status.code(), Some(2), "{}", again.output);
    let saved = answer(&saved);
    assert!(
        before
            .iter()
            .any(|(device, version)| during[device] > *version)
    );
    (before, saved)
}

/// A damaged snapshot is found by whoever reads it, before anything is written.
fn damage_is_found(target: &Cluster, whole: &Path, copies: &Path) {
    let damaged = copies.join("damaged");
    fs::create_dir(&damaged).unwrap();
    for entry in fs::read_dir(whole).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), damaged.join(entry.file_name())).unwrap();
    }
    let file = row_files(&damaged).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    for stopped in [verify(&damaged), target.snapshot("restore", &damaged, 1)] {
        assert_eq!(stopped.status.code(), Some(8), "{}", stopped.output);
        assert!(stopped.output.contains(name), "{}", stopped.output);
    }
}

/// Every shadow comes into a cluster with other nodes and shards as it was at the read point of its shard,
/// nothing that was acknowledged before is missing, and devices go on there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshot_under_load_is_restored_into_another_shape() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("backup");
    let (before, saved) = saved_under_load(&place).await;
    assert_eq!(saved["shards"].as_array().unwrap().len(), 3);
    assert_eq!(saved["documents"], WRITERS * DEVICES_PER_WRITER);
    assert!(verify(&place).status.success());

    let target = Cluster::start(5, 7);
    damage_is_found(&target, &place, directory.path());
    let backend = target.client(5);
    assert_eq!(backend.list_devices().await.unwrap(), Vec::<String>::new());

    // A device that asks before its shadow is there, and somebody who watches an empty cluster.
    let prefix = classic("pump-1-2");
    let mut device = client(target.door(4, 83), Version::V5, "pump-1-2");
    listen(&mut device, &prefix, &["get/+", "update/delta"]);
    ask(&mut device, &prefix, "get", &json!({}));
    assert_eq!(hear(&mut device, &prefix, "get/rejected")["code"], 404);
    let mut watch = backend.watch("pump-", "").await.unwrap();
    while !matches!(
        watch.message().await.unwrap().unwrap().event,
        Some(Event::Synced(_))
    ) {}

    let restored = answer(&target.snapshot("restore", &place, 2));
    assert_eq!(restored["written"], saved["rows"]);
    assert_eq!(restored["present"], 0);
    let again = answer(&target.snapshot("restore", &place, 3));
    assert_eq!(
        (&again["written"], &again["present"]),
        (&json!(0), &saved["rows"])
    );

    let copy = directory.path().join("copy");
    let copied = answer(&target.snapshot("save", &copy, 4));
    assert_eq!(copied["shards"].as_array().unwrap().len(), 7);
    assert_eq!(rows(&copy), rows(&place));
    assert_eq!(rows(&copy).len() as u64, saved["rows"].as_u64().unwrap());
    for (id, acknowledged) in &before {
        let shadow = backend.find(id).await.unwrap().unwrap();
        assert!(shadow.version >= *acknowledged, "{id}");
        let desired: Value = serde_json::from_str(&shadow.desired_json).unwrap();
        assert_eq!(desired["n"], shadow.version, "{id}");
    }
    watcher_learns(&mut watch).await;

    // The device goes on: it reads, is told of a change, and reports.
    ask(&mut device, &prefix, "get", &json!({}));
    let read = hear(&mut device, &prefix, "get/accepted");
    let version = read["version"].as_u64().unwrap();
    let changed = backend.update("pump-1-2", r#"{"n":0}"#).await.unwrap();
    assert_eq!(changed.version, version + 1);
    while hear(&mut device, &prefix, "update/delta")["version"] != version + 1 {}
    ask(&mut device, &prefix, "update", &reported(json!({"n": 0})));
    let answered = backend.get("pump-1-2").await.unwrap().shadow.unwrap();
    assert_eq!(answered.version, version + 2);

    // Now it is not as it was, and nothing is overwritten.
    let refused = target.snapshot("restore", &place, 1);
    assert_eq!(refused.status.code(), Some(4), "{}", refused.output);
    assert!(refused.output.contains("pump-1-2"), "{}", refused.output);
    let kept = backend.get("pump-1-2").await.unwrap().shadow.unwrap();
    assert_eq!(kept.version, version + 2);
}

/// A watch that was complete before is told to begin anew, and then has every shadow.
async fn watcher_learns(watch: &mut tonic::Streaming<antumbra_proto::v1::WatchShadowsResponse>) {
    let (mut resets, mut seen) = (0, BTreeSet::new());
    while seen.len() < WRITERS * DEVICES_PER_WRITER {
        let message = tokio::time::timeout(PATIENCE, watch.message()).await;
        match message.unwrap().unwrap().unwrap().event {
            Some(Event::Reset(_)) => resets += 1,
            Some(Event::Document(shadow)) => {
                seen.insert(shadow.key.unwrap().device_id);
            }
            Some(Event::Change(change)) => panic!("nothing was changed: {change:?}"),
            Some(Event::Synced(_) | Event::Bookmark(_)) | None => {}
        }
    }
    assert!(resets > 0);
}
