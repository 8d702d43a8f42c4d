//! Starting and refusing to start.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use antumbra::config::Shards;
use antumbra::health::Phase;

use super::shadows_support::*;

/// Every file below a directory with its content, apart from RocksDB's own log of messages.
fn content(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Two processes that write one directory would destroy it.
#[tokio::test(flavor = "multi_thread")]
async fn directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let node = start(&config).await;
    let refused = try_start(&config)
        .await
        .err()
        .expect("a second node is refused");
    assert_eq!(refused.code(), "DIRECTORY_LOCKED");
    node.shutdown().await.unwrap();
    start(&config).await.shutdown().await.unwrap();
}

/// A directory that does not fit is refused with a code, and not a byte of it changes.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_or_damaged_directory_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let node = start(&config).await;
    update(node.shadows(), "pump", r#"{"a":1}"#).await;
    node.shutdown().await.unwrap();
    let before = content(directory.path());

    let mut other = config.clone();
    other.cluster.name = "penumbra".to_owned();
    let refused = try_start(&other)
        .await
        .err()
        .expect("another cluster is refused");
    assert_eq!(refused.code(), "WRONG_CLUSTER");
    let mut other = config.clone();
    other.node.name = "node-9".to_owned();
    let refused = try_start(&other)
        .await
        .err()
        .expect("another node is refused");
    assert_eq!(refused.code(), "WRONG_NODE");
    let mut other = config.clone();
    other.node.storage = false;
    let refused = try_start(&other)
        .await
        .err()
        .expect("a gateway does not take a directory with replicas");
    assert_eq!(refused.code(), "DIRECTORY_HOLDS_DATA");

    let header = directory.path().join("identity");
    let good = fs::read(&header).unwrap();
    let mut bad = good.clone();
    bad[20] ^= 1;
    fs::write(&header, bad).unwrap();
    let refused = try_start(&config)
        .await
        .err()
        .expect("a damaged header is refused");
    assert_eq!(refused.code(), "IDENTITY_DAMAGED");
    assert!(refused.is_damage());
    fs::remove_file(&header).unwrap();
    let refused = try_start(&config)
        .await
        .err()
        .expect("a missing header is refused");
    assert_eq!(refused.code(), "IDENTITY_MISSING");
    fs::write(&header, good).unwrap();

    assert_eq!(content(directory.path()), before);
    let node = start(&config).await;
    assert_eq!(
        get(node.shadows(), "pump", "")
            .await
            .unwrap()
            .document
            .version(),
        1
    );
    node.shutdown().await.unwrap();
}

/// A node that has data must not start empty because a disk is not mounted.
#[tokio::test(flavor = "multi_thread")]
async fn missing_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    start(&config).await.shutdown().await.unwrap();
    for store in ["state", "log"] {
        let (there, aside) = (directory.path().join(store), directory.path().join("aside"));
        fs::rename(&there, &aside).unwrap();
        let refused = try_start(&config)
            .await
            .err()
            .expect("a missing store is refused");
        assert_eq!(refused.code(), "STORE_MISSING");
        assert!(!there.exists(), "nothing was created");
        fs::rename(&aside, &there).unwrap();
    }
    start(&config).await.shutdown().await.unwrap();
}

/// The layout is fixed at the first start: a later setting must not move documents.
#[tokio::test(flavor = "multi_thread")]
async fn shard_layout_of_the_first_start_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    let node = start(&config).await;
    update(node.shadows(), "pump", r#"{"a":1}"#).await;
    let map = node.shadows().map();
    node.shutdown().await.unwrap();
    config.cluster.shards = Shards::Count(5);
    let node = start(&config).await;
    assert_eq!(node.shadows().map(), map);
    assert_eq!(
        get(node.shadows(), "pump", "")
            .await
            .unwrap()
            .document
            .version(),
        1
    );
    node.shutdown().await.unwrap();
}

/// Probes follow the node: ready while it serves, not while it stops.
#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let health = node.health().clone();
    assert!(health.is_live() && health.is_started() && health.is_ready());
    node.shutdown().await.unwrap();
    assert_eq!(health.phase(), Phase::Stopping);
    assert!(health.is_live() && !health.is_ready());
}

/// A taken port must cost neither a replay nor a data directory.
#[tokio::test(flavor = "multi_thread")]
async fn taken_port_is_refused_before_data_are_opened() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&directory.path().join("data"));
    config.api.listen = taken.local_addr().unwrap();
    let refused = try_start(&config)
        .await
        .err()
        .expect("a taken port is refused");
    assert_eq!(refused.code(), "LISTEN");
    assert!(!directory.path().join("data").exists());
}

/// With many shadows on disk a node still serves within five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn restart_with_many_shadows_is_fast() {
    const DEVICES: usize = 20_000;
    const WRITERS: usize = 64;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let node = start(&config).await;
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let shadows = node.shadows().clone();
        tasks.push(tokio::spawn(async move {
            for nth in (writer..DEVICES).step_by(WRITERS) {
                update(&shadows, &format!("d{nth}"), r#"{"a":1,"b":{"c":"text"}}"#).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    node.shutdown().await.unwrap();
    let begin = Instant::now();
    let node = start(&config).await;
    get(node.shadows(), "d7", "").await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begin.elapsed()
    );
    node.shutdown().await.unwrap();
}
