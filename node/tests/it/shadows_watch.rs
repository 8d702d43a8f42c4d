//! Watches on a node in this process.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra::config::Shards;
use antumbra::error::Error;
use antumbra::shadows::{ResetReason, Shadows, WatchEvent};
use tokio::time::{sleep, timeout};

use super::shadows_support::*;

fn reset_of(event: &WatchEvent) -> Option<ResetReason> {
    match event {
        WatchEvent::Reset(reason) => Some(*reason),
        _ => None,
    }
}

/// Writes `count` versions of every device at the same time.
async fn write_all(shadows: &Shadows, devices: usize, count: usize, json: &str) {
    let mut tasks = Vec::new();
    for nth in 0..devices {
        let (shadows, json) = (shadows.clone(), json.to_owned());
        tasks.push(tokio::spawn(async move {
            for _ in 0..count {
                update(&shadows, &format!("d{nth}"), &json).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// A watch begins with what is there, without tombstones, and goes on with what changes.
#[tokio::test(flavor = "multi_thread")]
async fn watch_begins_with_the_current_documents() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let shadows = node.shadows();
    update(shadows, "pump", r#"{"a":1}"#).await;
    update(shadows, "pump", r#"{"a":2}"#).await;
    update_named(shadows, "pump", "cfg", r#"{"a":1}"#).await;
    update(shadows, "valve", r#"{"a":1}"#).await;
    update(shadows, "gone", r#"{"a":1}"#).await;
    delete(shadows, "gone", "").await;

    let all = [("pump", "", 2), ("pump", "cfg", 1), ("valve", "", 1)];
    let all = all.map(|(device, shadow, version)| (device.into(), shadow.into(), version));
    let mut tenant = watch_prefix(shadows, "", None);
    assert_eq!(opening(&mut tenant).await.0, all);
    let mut prefix = watch_prefix(shadows, "va", None);
    assert_eq!(opening(&mut prefix).await.0, all[2..]);
    let mut listed = watch_devices(shadows, &["pump", "unknown"], None);
    assert_eq!(opening(&mut listed).await.0, all[..2]);

    update(shadows, "valve", r#"{"a":2}"#).await;
    delete(shadows, "pump", "cfg").await;
    update(shadows, "unknown", r#"{"a":1}"#).await;
    let valve = ("valve".to_owned(), String::new(), 2, false);
    let pump = ("pump".to_owned(), "cfg".to_owned(), 2, true);
    let unknown = ("unknown".to_owned(), String::new(), 1, false);
    assert_eq!(change(&mut prefix).await.0, valve);
    let mut seen = vec![change(&mut listed).await.0, change(&mut listed).await.0];
    seen.sort();
    assert_eq!(seen, [pump.clone(), unknown.clone()]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(change(&mut tenant).await.0);
    }
    seen.sort();
    assert_eq!(seen, [pump, unknown, valve]);
    drop((tenant, prefix, listed));
    node.shutdown().await.unwrap();
}

/// Invariant 8, across the seam between documents and changes, under concurrent writes.
#[tokio::test(flavor = "multi_thread")]
async fn watch_sees_versions_in_order_without_gaps_or_repeats() {
    const DEVICES: usize = 20;
    const COUNT: usize = 60;
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let writer = {
        let shadows = node.shadows().clone();
        tokio::spawn(async move { write_all(&shadows, DEVICES, COUNT, r#"{"a":1}"#).await })
    };
    for _ in 0..5 {
        let mut stream = watch_prefix(node.shadows(), "d", None);
        let (documents, _) = opening(&mut stream).await;
        let mut versions: BTreeMap<String, u64> = documents
            .into_iter()
            .map(|(device, _, version)| (device, version))
            .collect();
        while versions.len() < DEVICES || versions.values().any(|v| *v < COUNT as u64) {
            let ((device, _, version, _), _) = change(&mut stream).await;
            let last = versions.entry(device.clone()).or_default();
            assert_eq!(version, *last + 1, "next version of {device}");
            *last = version;
        }
    }
    writer.await.unwrap();
    node.shutdown().await.unwrap();
}

/// A reader that kept its cursor misses nothing, across a restart of the node.
#[tokio::test(flavor = "multi_thread")]
async fn watch_resumes_from_its_cursor_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let node = start(&config).await;
    let mut stream = watch_prefix(node.shadows(), "", None);
    let (documents, mut cursor) = opening(&mut stream).await;
    assert_eq!(documents, []);
    write_all(node.shadows(), 5, 4, r#"{"a":1}"#).await;
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..7 {
        let ((device, _, version, _), next) = change(&mut stream).await;
        versions.insert(device, version);
        cursor = next;
    }
    drop(stream);
    node.shutdown().await.unwrap();

    let node = start(&config).await;
    let mut stream = watch_prefix(node.shadows(), "", Some(cursor));
    let writer = {
        let shadows = node.shadows().clone();
        tokio::spawn(async move { write_all(&shadows, 5, 4, r#"{"a":2}"#).await })
    };
    while versions.len() < 5 || versions.values().any(|version| *version < 8) {
        let ((device, _, version, _), _) = change(&mut stream).await;
        let last = versions.entry(device.clone()).or_default();
        assert_eq!(version, *last + 1, "next version of {device}");
        *last = version;
    }
    writer.await.unwrap();
    drop(stream);
    node.shutdown().await.unwrap();
}

/// Cursors of replies are good for a watch of that device.
#[tokio::test(flavor = "multi_thread")]
async fn watch_resumes_from_the_cursor_of_a_reply() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let shadows = node.shadows();
    let done = update(shadows, "pump", r#"{"a":1}"#).await;
    let of_update = shadows.cursor(&device("pump"), done.position);
    let of_read = get(shadows, "pump", "").await.unwrap().cursor;
    update(shadows, "pump", r#"{"a":2}"#).await;
    for cursor in [of_update, of_read] {
        let mut stream = watch_devices(shadows, &["pump"], Some(cursor));
        let expected = ("pump".to_owned(), String::new(), 2, false);
        assert_eq!(change(&mut stream).await.0, expected);
        // Who resumed is told when nothing is missing any more.
        assert!(matches!(
            next(&mut stream).await.event,
            WatchEvent::Bookmark
        ));
    }
    node.shutdown().await.unwrap();
}

/// A cursor that says nothing about what is watched leads to a reset, never to a silent gap.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_cursor_resets_the_watch() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let other = tempfile::tempdir().unwrap();
    let foreign = {
        let node = start(&config(other.path())).await;
        let cursor = opening(&mut watch_prefix(node.shadows(), "", None)).await.1;
        node.shutdown().await.unwrap();
        cursor
    };
    let shadows = node.shadows();
    let done = update(shadows, "pump", r#"{"a":1}"#).await;
    let one_shard = shadows.cursor(&device("pump"), done.position);
    let mut ahead = done.position;
    ahead.index += 1_000_000;
    let ahead = shadows.cursor(&device("pump"), ahead);
    for cursor in ["garbage".to_owned(), foreign, one_shard] {
        let mut stream = watch_prefix(shadows, "", Some(cursor));
        let first = next(&mut stream).await;
        assert_eq!(reset_of(&first.event), Some(ResetReason::CursorUnknown));
        assert_eq!(first.cursor, "");
        assert_eq!(opening(&mut stream).await.0.len(), 1);
    }
    let mut stream = watch_devices(shadows, &["pump"], Some(ahead));
    let first = next(&mut stream).await;
    assert_eq!(reset_of(&first.event), Some(ResetReason::CursorUnknown));
    drop(stream);
    node.shutdown().await.unwrap();
}

/// A cursor older than the feed leads to a reset and the current documents.
#[tokio::test(flavor = "multi_thread")]
async fn trimmed_cursor_resets_the_watch() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.storage.feed_retention = Duration::from_millis(100);
    let node = start(&config).await;
    let shadows = node.shadows();
    let first = update(shadows, "d0", r#"{"a":1}"#).await;
    let cursor = shadows.cursor(&device("d0"), first.position);
    let value = "x".repeat(2000);
    let json = format!(r#"{{"a":"{value}"}}"#);
    let trimmed = async {
        loop {
            write_all(shadows, 1, 20, &json).await;
            let mut stream = watch_devices(shadows, &["d0"], Some(cursor.clone()));
            let message = next(&mut stream).await;
            if let Some(reason) = reset_of(&message.event) {
                assert_eq!(reason, ResetReason::CursorTrimmed);
                assert_eq!(opening(&mut stream).await.0.len(), 1);
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, trimmed)
        .await
        .expect("the feed is trimmed");
    node.shutdown().await.unwrap();
}

/// A reader that stops reading costs bounded memory and gets everything when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_is_caught_up_from_the_feed() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.api.watch_events_max = 64;
    config.cluster.shards = Shards::Count(1);
    let node = start(&config).await;
    let mut stream = watch_prefix(node.shadows(), "", None);
    assert_eq!(opening(&mut stream).await.0, []);
    // More than the relay of the shard keeps: 40 x 80 changes of about 14 KiB each.
    let json = format!(r#"{{"a":"{}"}}"#, "x".repeat(7000));
    write_all(node.shadows(), 40, 80, &json).await;
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..40 * 80 {
        let ((device, _, version, _), _) = change(&mut stream).await;
        let last = versions.entry(device.clone()).or_default();
        assert_eq!(version, *last + 1, "next version of {device}");
        *last = version;
    }
    drop(stream);
    node.shutdown().await.unwrap();
}

/// A reader slower than the feed is told to begin anew.
#[tokio::test(flavor = "multi_thread")]
async fn reader_slower_than_the_feed_is_reset() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.api.watch_events_max = 64;
    config.cluster.shards = Shards::Count(1);
    config.storage.feed_retention = Duration::from_millis(100);
    let node = start(&config).await;
    let mut stream = watch_prefix(node.shadows(), "", None);
    assert_eq!(opening(&mut stream).await.0, []);
    let json = format!(r#"{{"a":"{}"}}"#, "x".repeat(7000));
    let last = async {
        loop {
            write_all(node.shadows(), 40, 80, &json).await;
            sleep(Duration::from_millis(300)).await;
            write_all(node.shadows(), 40, 1, &json).await;
            let mut documents_follow = false;
            while !documents_follow {
                match next(&mut stream).await.event {
                    WatchEvent::Reset(reason) => {
                        assert_eq!(reason, ResetReason::ReaderTooSlow);
                        documents_follow = true;
                    }
                    // It was still fast enough this time.
                    WatchEvent::Bookmark => break,
                    _ => {}
                }
            }
            if documents_follow {
                return opening(&mut stream).await.0.len();
            }
        }
    };
    assert_eq!(timeout(PATIENCE, last).await.expect("a reset"), 40);
    drop(stream);
    node.shutdown().await.unwrap();
}

/// A stopping node ends its watches with an honest error instead of holding up the stop.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_watches() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let mut stream = watch_prefix(node.shadows(), "", None);
    opening(&mut stream).await;
    let stopped = tokio::spawn(node.shutdown());
    let end = timeout(PATIENCE, stream.next()).await.unwrap();
    assert!(matches!(end, Some(Err(Error::Unavailable(_)))));
    assert!(stream.next().await.is_none());
    stopped.await.unwrap().unwrap();
}

/// A quiet watch is told from time to time that it is complete.
#[tokio::test(flavor = "multi_thread")]
async fn resumed_watch_gets_a_bookmark_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&config(directory.path())).await;
    let cursor = opening(&mut watch_prefix(node.shadows(), "", None)).await.1;
    let mut stream = watch_prefix(node.shadows(), "", Some(cursor));
    let message = next(&mut stream).await;
    assert!(matches!(message.event, WatchEvent::Bookmark));
    assert_ne!(message.cursor, "");
    drop(stream);
    node.shutdown().await.unwrap();
}
