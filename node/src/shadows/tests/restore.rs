//! Rows leave one cluster and come into another.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_shadow::{DeviceRow, RowKey, Tenant};

use super::support::*;
use crate::shadows::restore::{self, Applied, Restored};
use crate::shadows::*;
use crate::snapshot::{Row, Tally};

fn nobody() -> Tenant {
    Tenant::parse(":nobody").unwrap()
}

/// All rows of a node's replica, checked against what the dump says of itself.
async fn dump(shadows: &Shadows) -> Vec<Row> {
    let mut parts = shadows.dump(SHARD, nobody()).await.unwrap();
    let (mut rows, mut tally) = (Vec::new(), Tally::default());
    let Some(Ok(Dump::Begin { .. })) = parts.recv().await else {
        panic!("a dump begins");
    };
    while let Some(part) = parts.recv().await {
        match part.unwrap() {
            Dump::Begin { .. } => panic!("a dump begins once"),
            Dump::Rows(some) => rows.extend(some),
            Dump::Done(counts) => {
                for row in &rows {
                    let key = keys::decode_row(&row.key).unwrap();
                    tally.add(row, matches!(key, RowKey::Document(..)));
                }
                assert_eq!(tally.counts(), counts);
                return rows;
            }
        }
    }
    panic!("a dump ends");
}

/// A cluster of one node with some devices.
async fn source(devices: usize) -> Cluster {
    let cluster = Cluster::start(1, 0).await;
    for device in 0..devices {
        for round in 0..3 {
            let json = format!(r#"{{"n":{round}}}"#);
            update(cluster.shadows("a"), &format!("d{device}"), &json).await;
        }
    }
    cluster
}

/// Writes a record of the nodes themselves.
async fn record(shadows: &Shadows, id: &str, json: &str) {
    let mut device = device(id);
    device.tenant = Tenant::parse(":records").unwrap();
    let draft = draft(Some(&uuid::Uuid::new_v4().to_string()), json);
    let caller = Caller::node("test");
    let outcome = shadows.update(&caller, &device, draft, deadline());
    accepted(outcome.await);
}

/// Everything but the feed comes over, byte for byte, and devices go on from their versions. Watchers that
/// had seen an empty cluster, and twins, learn of it.
#[tokio::test(flavor = "multi_thread")]
async fn devices_go_on_in_another_cluster() {
    let from = source(20).await;
    let rows = dump(from.shadows("a")).await;
    from.stop().await;
    // A document, the counters, three request ids and their order.
    assert_eq!(rows.len(), 20 * 8);

    // Three replicas, and a node without one that is asked.
    let to = Cluster::start(3, 1).await;
    let shadows = to.shadows("d");
    let mut watches = ["a", "b", "c", "d"].map(|name| watch(to.shadows(name), None));
    for watch in &mut watches {
        while !matches!(next(watch).await.event, WatchEvent::Synced) {}
    }
    let missing = read(shadows, "d7", ReadOptions::default()).await;
    assert_eq!(missing.unwrap_err(), Error::NotFound);
    update(to.shadows("a"), "another", r#"{"n":0}"#).await;
    for watch in &mut watches {
        while !matches!(next(watch).await.event, WatchEvent::Change(_)) {}
    }

    let restored = shadows.restore(rows.clone(), deadline()).await.unwrap();
    let all = Restored {
        written: rows.len() as u64,
        ..Restored::default()
    };
    assert_eq!(restored, all);
    // Once more, as after a failure.
    let again = shadows.restore(rows.clone(), deadline()).await.unwrap();
    assert_eq!((again.written, again.present), (0, rows.len() as u64));

    let read = read(shadows, "d7", ReadOptions::default()).await.unwrap();
    assert_eq!(read.document.version(), 3);
    assert_eq!(update(shadows, "d7", r#"{"n":4}"#).await.version, 4);
    for watch in &mut watches {
        let mut reset = false;
        let mut documents = BTreeMap::new();
        loop {
            match next(watch).await.event {
                // Where it was following and where it had just caught up.
                WatchEvent::Reset(ResetReason::CursorTrimmed | ResetReason::ReaderTooSlow) => {
                    reset = true;
                }
                WatchEvent::Document {
                    device, document, ..
                } => {
                    documents.insert(device.device.to_string(), document.version());
                }
                WatchEvent::Change(change) => {
                    let id = change.device().device.to_string();
                    documents.insert(id, *change.version());
                }
                WatchEvent::Synced | WatchEvent::Bookmark => {}
                WatchEvent::Reset(other) => panic!("{other:?}"),
            }
            if documents.len() == 21 && documents["d7"] == 4 {
                break;
            }
        }
        assert!(reset, "a watcher that missed rows is told so");
    }
    drop(watches);
    to.stop().await;
}

/// Every replica has the rows, and they are those of the source.
#[tokio::test(flavor = "multi_thread")]
async fn restored_rows_are_equal_on_all_replicas() {
    let from = source(5).await;
    let rows = dump(from.shadows("a")).await;
    from.stop().await;
    let to = Cluster::start(3, 0).await;
    let follower = to.follower().await;
    to.shadows(&follower)
        .restore(rows.clone(), deadline())
        .await
        .unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(dump(to.shadows(name)).await, rows, "{name}");
    }
    to.stop().await;
}

/// Lost requests and answers cost another attempt and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn restore_survives_lost_answers_and_a_change_of_leaders() {
    let from = source(5).await;
    let rows = dump(from.shadows("a")).await;
    from.stop().await;
    let to = Cluster::start(3, 1).await;
    to.network
        .break_next(&[Fault::NotSent, Fault::AnswerLost, Fault::Lost]);
    let follower = to.follower().await;
    let (restored, ()) = tokio::join!(
        to.shadows("d").restore(rows.clone(), deadline()),
        to.transfer(&follower)
    );
    let restored = restored.unwrap();
    assert_eq!(restored.written + restored.present, rows.len() as u64);
    assert_eq!(dump(to.shadows(&follower)).await, rows);
    to.stop().await;
}

/// Nothing is overwritten: neither a device that differs, nor one that only looks alike by its counters.
#[tokio::test(flavor = "multi_thread")]
async fn conflict_names_the_device_and_writes_nothing() {
    let from = source(3).await;
    let rows = dump(from.shadows("a")).await;
    from.stop().await;
    let to = Cluster::start(1, 0).await;
    let shadows = to.shadows("a");
    update(shadows, "d1", r#"{"n":9}"#).await;
    let before = dump(shadows).await;
    let refused = shadows.restore(rows.clone(), deadline()).await;
    let Err(Error::ConditionFailed { condition }) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        condition.contains("device d1 of tenant default"),
        "{condition}"
    );
    assert_eq!(dump(shadows).await, before);

    // The others have room.
    let is_d1 = |row: &Row| {
        let key = keys::decode_row(&row.key).unwrap();
        crate::shadows::dump::device_of(&key) == &device("d1")
    };
    let others: Vec<Row> = rows.iter().filter(|row| !is_d1(row)).cloned().collect();
    shadows.restore(others, deadline()).await.unwrap();

    // Without its counters it is the rest of a device, which is not there.
    let is_head = |row: &Row| DeviceRow::decode(&row.value).is_ok();
    let rest = rows
        .iter()
        .filter(|row| is_d1(row) && !is_head(row))
        .cloned();
    let refused = shadows.restore(rest.collect(), deadline()).await;
    assert!(
        matches!(refused, Err(Error::ConditionFailed { .. })),
        "{refused:?}"
    );
    to.stop().await;
}

/// A device with the same counters and another shadow is another device.
#[tokio::test(flavor = "multi_thread")]
async fn device_with_equal_counters_and_other_shadows_is_a_conflict() {
    let make = |name: &'static str| async move {
        let cluster = Cluster::start(1, 0).await;
        let mut draft = draft(None, r#"{"n":1}"#);
        if let Kind::Update(update) = &mut draft.kind {
            update.shadow = antumbra_shadow::ShadowName::parse(name).unwrap();
        }
        let updated = cluster
            .shadows("a")
            .update(&caller(), &device("pump"), draft, deadline())
            .await;
        accepted(updated);
        cluster
    };
    let (from, to) = (make("one").await, make("two").await);
    let rows = dump(from.shadows("a")).await;
    let before = dump(to.shadows("a")).await;
    let head = |rows: &[Row]| rows[0].clone();
    assert_eq!(head(&rows), head(&before), "the counters are equal");
    let refused = to.shadows("a").restore(rows, deadline()).await;
    assert!(matches!(refused, Err(Error::ConditionFailed { .. })));
    assert_eq!(dump(to.shadows("a")).await, before);
    from.stop().await;
    to.stop().await;
}

/// Who may come in where the restore goes is what it was; records that are missing come over.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_nodes_that_are_there_stay() {
    let from = source(1).await;
    record(from.shadows("a"), "admin", r#"{"n":1}"#).await;
    record(from.shadows("a"), "pump", r#"{"n":2}"#).await;
    let rows = dump(from.shadows("a")).await;
    from.stop().await;
    let to = Cluster::start(1, 0).await;
    let shadows = to.shadows("a");
    record(shadows, "admin", r#"{"n":7}"#).await;
    let there = dump(shadows).await;
    let restored = shadows.restore(rows.clone(), deadline()).await.unwrap();
    assert_eq!(restored.left, there.len() as u64);
    assert_eq!(restored.written, (rows.len() - there.len()) as u64);
    let after = dump(shadows).await;
    assert!(there.iter().all(|row| after.contains(row)));
    assert_eq!(after.len(), rows.len());
    to.stop().await;
}

/// What comes out of the log is judged by every replica alike, whatever it is.
#[tokio::test(flavor = "multi_thread")]
async fn command_that_cannot_be_carried_out_is_a_rejection() {
    let from = source(1).await;
    let rows = dump(from.shadows("a")).await;
    let context = from.member("a").context.clone().unwrap();
    let antumbra_raft::Role::Leader { term } = *context.shard.role().borrow() else {
        panic!("the only replica leads");
    };
    let whole = restore::command(rows.iter());
    let before = dump(from.shadows("a")).await;
    for length in 1..whole.len() {
        let proposed = context.shard.propose(term, whole.slice(..length)).await;
        let applied = Applied::decode(proposed.unwrap().reply).unwrap();
        assert!(matches!(applied, Applied::Refused(_)), "{applied:?}");
    }
    assert_eq!(dump(from.shadows("a")).await, before);
    drop(context);
    from.stop().await;
}

/// A reader that takes nothing must not keep the turn, and one that went away keeps nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn dumps_are_bounded_and_their_turns_come_back() {
    let cluster = source(1).await;
    let shadows = cluster.shadows("a");
    let mut held = Vec::new();
    let refused = loop {
        match shadows.dump(SHARD, nobody()).await {
            Ok(parts) => held.push(parts),
            Err(error) => break error,
        }
        assert!(held.len() <= 16);
    };
    assert_eq!(refused, Error::Overloaded);
    drop(held);
    let free = async {
        while shadows.dump(SHARD, nobody()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
    let absent = shadows.dump(ShardId(2), nobody()).await;
    assert!(matches!(absent, Err(Error::ConditionFailed { .. })));
    cluster.stop().await;
}
