//! Gateways that follow shards on other nodes and say what they want of them.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_shadow::Tenant;

use super::support::*;
use crate::shadows::*;

fn mark(id: &str) -> u64 {
    let device = device(id);
    mark_of(&device.tenant, &device.device)
}

/// Follows on a node without a replica, and waits until nothing is told that is not wanted.
async fn follow(shadows: &Shadows, wanted: &Arc<Wanted>) -> WatchStream {
    let mut stream = shadows.follow_wanted(wanted).unwrap();
    while !matches!(next(&mut stream).await.event, WatchEvent::Synced) {}
    let told = async {
        while wanted.streams() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    // Told in order, so the first of all is behind it.
    wanted.want(mark("first"));
    wanted.settled().await;
    stream
}

/// The devices and versions that are told until one has this version.
async fn told_until(stream: &mut WatchStream, id: &str, version: u64) -> Vec<(String, u64)> {
    let mut told = Vec::new();
    loop {
        match next(stream).await.event {
            WatchEvent::Change(change) => {
                told.push((change.device().device.to_string(), *change.version()));
                if told.last() == Some(&(id.to_owned(), version)) {
                    return told;
                }
            }
            WatchEvent::Reset(reason) => panic!("reset: {reason:?}"),
            _ => {}
        }
    }
}

/// Cuts the node off that is followed, until another one is.
async fn break_stream(cluster: &Cluster) {
    let followed = || cluster.network.followed.lock().clone();
    let before = followed();
    let source = &before.last().unwrap().1;
    cluster.network.cut(source);
    let moved = async {
        while followed().len() == before.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.unwrap();
    cluster.network.heal(source);
}

/// With many gateways, each change must not go to all of them.
#[tokio::test(flavor = "multi_thread")]
async fn only_wanted_devices_are_told_from_another_node() {
    let cluster = Cluster::start(3, 1).await;
    let wanted = Arc::new(Wanted::default());
    wanted.want(mark("pump"));
    let mut stream = follow(cluster.shadows("d"), &wanted).await;
    for _ in 0..20 {
        update(cluster.shadows("a"), "noise", r#"{"x":1}"#).await;
    }
    update(cluster.shadows("b"), "pump", r#"{"x":1}"#).await;
    let told = told_until(&mut stream, "pump", 1).await;
    assert_eq!(told, [("pump".to_owned(), 1)]);

    // Not any more, and all of the tenant.
    wanted.leave(mark("pump"));
    wanted.want(mark("lamp"));
    wanted.settled().await;
    update(cluster.shadows("a"), "pump", r#"{"x":2}"#).await;
    update(cluster.shadows("c"), "lamp", r#"{"x":1}"#).await;
    let told = told_until(&mut stream, "lamp", 1).await;
    assert_eq!(told, [("lamp".to_owned(), 1)]);
    wanted.want_all(&Tenant::default());
    wanted.settled().await;
    update(cluster.shadows("a"), "noise", r#"{"x":2}"#).await;
    assert_eq!(told_until(&mut stream, "noise", 21).await.len(), 1);
    drop(stream);
    cluster.stop().await;
}

/// Whatever breaks: once it is settled that a device is wanted, each change of it is told once.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_of_a_wanted_device_is_missed_while_streams_break() {
    let cluster = Cluster::start(3, 1).await;
    let wanted = Arc::new(Wanted::default());
    let mut stream = follow(cluster.shadows("d"), &wanted).await;
    let reading = tokio::spawn(async move { told_until(&mut stream, "last", 1).await });
    let ids: Vec<String> = (0..7).map(|nth| format!("device-{nth}")).collect();
    let (mut is_wanted, mut expected) = ([false; 7], Vec::new());
    for round in 0..120_usize {
        let nth = round * 5 % ids.len();
        if round % 12 == 5 {
            break_stream(&cluster).await;
        }
        let before = std::mem::replace(&mut is_wanted[nth], round % 11 != 0);
        match (before, is_wanted[nth]) {
            (false, true) => wanted.want(mark(&ids[nth])),
            (true, false) => {
                wanted.leave(mark(&ids[nth]));
                // Whoever does not want to hear of it any more may have missed the last changes.
                expected.retain(|(id, _): &(String, u64)| *id != ids[nth]);
            }
            _ => {}
        }
        wanted.settled().await;
        let other = (nth + round) % ids.len();
        for nth in [nth, other] {
            let version = update(cluster.shadows("d"), &ids[nth], r#"{"x":1}"#).await;
            if is_wanted[nth] {
                expected.push((ids[nth].clone(), version.version));
            }
        }
    }
    wanted.want(mark("last"));
    wanted.settled().await;
    update(cluster.shadows("a"), "last", r#"{"x":1}"#).await;
    let told = reading.await.unwrap();
    let mut seen = BTreeMap::<&str, u64>::new();
    for (id, version) in &told {
        let before = seen.insert(id, *version);
        assert!(before < Some(*version), "{id} {version} after {before:?}");
    }
    for change in &expected {
        assert!(told.contains(change), "{change:?} was not told");
    }
    assert!(
        expected.len() > 20,
        "{} changes were wanted",
        expected.len()
    );
    cluster.stop().await;
}
