//! Watches while replicas come and go and leaders change.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::support::*;
use crate::shadows::*;

/// Writes one device version by version until it is stopped, and gives the last version.
fn writer(
    shadows: &Shadows,
    id: &'static str,
) -> (CancellationToken, tokio::task::JoinHandle<u64>) {
    let (stop, shadows) = (CancellationToken::new(), shadows.clone());
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let mut version = 0;
        while !stopped.is_cancelled() {
            version = update(&shadows, id, r#"{"x":1}"#).await.version;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        version
    });
    (stop, task)
}

/// A watch sees every version once, wherever it is served and whoever leads meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn watch_survives_changes_of_leaders() {
    let cluster = Cluster::start(3, 1).await;
    update(cluster.shadows("a"), "other", r#"{"x":1}"#).await;
    let (stop, task) = writer(cluster.shadows("d"), "pump");
    let mut watches: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| (watch(cluster.shadows(name), None), Versions::default()))
        .into_iter()
        .collect();
    for _ in 0..3 {
        for (stream, versions) in &mut watches {
            versions.until(stream, "other", 1).await;
        }
        let to = cluster.follower().await;
        cluster.transfer(&to).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    let last = task.await.unwrap();
    for (stream, versions) in &mut watches {
        versions.until(stream, "pump", last).await;
        // Who is complete is told so, also where another node has to say it.
        let bookmarks = versions.bookmarks;
        while versions.bookmarks == bookmarks {
            let message = next(stream).await;
            versions.take(message);
        }
    }
    drop(watches);
    cluster.stop().await;
}

/// Without a leader a watch stays open and says nothing; with one it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn watch_waits_for_a_leader() {
    let cluster = Cluster::start(2, 0).await;
    let follower = cluster.follower().await;
    let leader = cluster.leader().await;
    update(cluster.shadows(&follower), "pump", r#"{"x":1}"#).await;
    let mut stream = watch(cluster.shadows(&follower), None);
    let mut versions = Versions::default();
    versions.until(&mut stream, "pump", 1).await;
    while versions.cursor.is_empty() {
        let message = next(&mut stream).await;
        versions.take(message);
    }
    cluster.network.cut(&leader);
    // A new watch waits too.
    let mut late = watch(cluster.shadows(&follower), Some(versions.cursor.clone()));
    let mut late_versions = Versions::default();
    late_versions.take_up(&versions);
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.network.heal(&leader);
    update(cluster.shadows(&follower), "pump", r#"{"x":2}"#).await;
    versions.until(&mut stream, "pump", 2).await;
    late_versions.until(&mut late, "pump", 2).await;
    drop((stream, late));
    cluster.stop().await;
}

/// A stream from another node that breaks goes on at the next one, from exactly where it broke.
#[tokio::test(flavor = "multi_thread")]
async fn stream_from_another_node_resumes_elsewhere() {
    let cluster = Cluster::start(3, 1).await;
    let (stop, task) = writer(cluster.shadows("d"), "pump");
    let mut stream = watch(cluster.shadows("d"), None);
    let mut versions = Versions::default();
    versions.until(&mut stream, "pump", 5).await;
    let source = cluster.network.followed.lock()[0].1.clone();
    cluster.network.cut(&source);
    let seen = update(cluster.shadows("d"), "other", r#"{"x":1}"#).await;
    versions.until(&mut stream, "other", seen.version).await;
    cluster.network.heal(&source);
    stop.cancel();
    let last = task.await.unwrap();
    versions.until(&mut stream, "pump", last).await;
    assert!(distinct(&cluster.network.followed.lock()).len() > 1);
    drop(stream);
    cluster.stop().await;
}

/// A replica that comes or goes at the node of a watch is invisible to its reader.
#[tokio::test(flavor = "multi_thread")]
async fn watch_moves_with_the_replica() {
    let cluster = Cluster::start(3, 0).await;
    let here = cluster.follower().await;
    let (stop, task) = writer(cluster.shadows(&here), "pump");
    let mut stream = watch(cluster.shadows(&here), None);
    let mut versions = Versions::default();
    let mut target = 0;
    for round in 0..6 {
        target += 20;
        versions.until(&mut stream, "pump", target).await;
        let local = cluster.member(&here).context.clone();
        cluster.set_table(&here, local.filter(|_| round % 2 == 1));
    }
    stop.cancel();
    let last = task.await.unwrap();
    versions.until(&mut stream, "pump", last).await;
    let streams = cluster.network.followed.lock().len();
    assert!(streams >= 3, "{streams} streams from other nodes");
    drop(stream);
    cluster.stop().await;
}

/// A snapshot that replaces the rows of a replica brings the feed along: nothing is missing.
#[tokio::test(flavor = "multi_thread")]
async fn watch_goes_on_behind_a_snapshot() {
    let cluster = Cluster::start(3, 0).await;
    let (leader, lagging) = (cluster.leader().await, cluster.follower().await);
    update(cluster.shadows(&leader), "pump", r#"{"x":1}"#).await;
    let mut stream = watch(cluster.shadows(&lagging), None);
    let mut versions = Versions::default();
    versions.until(&mut stream, "pump", 1).await;
    cluster.network.cut(&lagging);
    for nth in 0..100 {
        let json = format!(r#"{{"x":{nth}}}"#);
        update(cluster.shadows(&leader), "pump", &json).await;
    }
    for member in cluster.members.iter().filter(|m| m.name != lagging) {
        member.flush().await;
        member.purge().await;
    }
    cluster.network.heal(&lagging);
    versions.until(&mut stream, "pump", 101).await;
    let resets = cluster.member(&lagging).resets.load(Ordering::Relaxed);
    assert!(resets > 0, "a snapshot was installed");
    let bookmarks = versions.bookmarks;
    while versions.bookmarks == bookmarks {
        let message = next(&mut stream).await;
        versions.take(message);
    }
    drop(stream);
    cluster.stop().await;
}

/// A cursor is good on every node of the cluster, also where the replica has not come so far yet.
#[tokio::test(flavor = "multi_thread")]
async fn cursor_of_one_node_is_good_at_another() {
    let cluster = Cluster::start(3, 1).await;
    for reader in ["a", "b", "c", "d"] {
        let before = update(cluster.shadows("a"), "pump", r#"{"x":1}"#).await;
        let cursor = cluster
            .shadows("a")
            .cursor(&device("pump"), before.position);
        assert_eq!(
            cluster
                .shadows(reader)
                .cursor(&device("pump"), before.position),
            cursor
        );
        let mut stream = watch(cluster.shadows(reader), Some(cursor));
        let after = update(cluster.shadows("a"), "pump", r#"{"x":2}"#).await;
        let message = loop {
            let message = next(&mut stream).await;
            if !matches!(message.event, WatchEvent::Bookmark) {
                break message;
            }
        };
        let WatchEvent::Change(change) = message.event else {
            panic!("{:?}", message.event);
        };
        assert_eq!(*change.version(), after.version);
    }
    // A position that nobody ever came to is unknown everywhere.
    let mut nowhere = update(cluster.shadows("a"), "pump", r#"{"x":3}"#)
        .await
        .position;
    nowhere.index += 1_000_000;
    let cursor = cluster.shadows("a").cursor(&device("pump"), nowhere);
    for reader in ["a", "b", "c", "d"] {
        let mut stream = watch(cluster.shadows(reader), Some(cursor.clone()));
        let first = next(&mut stream).await;
        assert!(matches!(
            first.event,
            WatchEvent::Reset(ResetReason::CursorUnknown)
        ));
    }
    cluster.stop().await;
}
