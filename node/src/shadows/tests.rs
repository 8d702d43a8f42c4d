//! Tests that look at the rows of a running shard.

#![allow(clippy::unwrap_used)]

mod opening;
mod restore;
mod route;
mod rules;
mod support;
mod wanted;
mod watches;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Key, Role};
use antumbra_shadow::json::{self, DuplicateKeys};
use antumbra_shadow::{
    Conditions, DeviceEntry, DeviceId, Document, Entry, FeedRecord, FeedRow, Patch, RULES,
    SectionInput, ShadowName, Tenant, Time, Update,
};

use super::account::{Account, Mark};
use super::cursor::end_of;
use super::relay::Interest;
use super::scan::{self, CaughtUp};
use super::*;
use crate::boot::{self, Listeners, Node};
use crate::config::{Config, Shards};

async fn start(directory: &Path) -> Node {
    let mut config = Config::default();
    config.node.data_dir = directory.to_owned();
    config.api.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.http.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.mqtt.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.peer.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.cluster.shards = Shards::Count(1);
    config.test_switches.no_fsync = true;
    let listeners = Listeners::bind(&config).await.unwrap();
    boot::start(config, listeners).await.unwrap()
}

fn device(nth: usize) -> DeviceKey {
    DeviceKey::new(
        Tenant::default(),
        DeviceId::parse(&format!("d{nth}")).unwrap(),
    )
}

async fn write(shadows: &Shadows, nth: usize, json: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let outcome = shadows
        .update(&Caller::anyone("test"), &device(nth), draft(json), deadline)
        .await;
    assert!(matches!(outcome.unwrap(), Outcome::Accepted(_)));
}

fn draft(json: &str) -> Draft {
    let value = json::parse(json.as_bytes(), DuplicateKeys::Reject, 32).unwrap();
    let limits = Limits::default();
    let update = Update {
        shadow: ShadowName::classic(),
        patch: Patch::build(SectionInput::Absent, SectionInput::Merge(&value), &limits).unwrap(),
        conditions: Conditions::default(),
    };
    Draft::new("test", Kind::Update(update))
}

/// The bounds of the feed of a shard.
fn feed_of(shard: ShardId) -> (Key, Key) {
    let from = keys::feed(shard, Position::default());
    (from, keys::feed_end(shard))
}

/// The records in rows of the feed by their places, and the bytes of the rows.
fn records(rows: &[(bytes::Bytes, bytes::Bytes)]) -> (BTreeMap<Position, FeedRecord>, u64) {
    let mut records = BTreeMap::new();
    let mut bytes = 0;
    for (key, row) in rows {
        bytes += (key.len() + row.len()) as u64;
        let first = keys::decode_feed(key).unwrap();
        for (sequence, record) in (first.sequence..).zip(FeedRow::split(row).unwrap()) {
            let at = Position { sequence, ..first };
            let known = records.insert(at, FeedRecord::decode(record).unwrap());
            assert!(known.is_none(), "{at:?} is there twice");
        }
    }
    (records, bytes)
}

/// What one pinned view of a shard holds must agree with itself.
fn check_view(context: &ShardContext) -> usize {
    let shard = context.id();
    let (view, index) = context.shard.pinned().unwrap();
    let (feed, bytes) = records(
        &view
            .scan(&feed_of(shard).0, &feed_of(shard).1, usize::MAX)
            .unwrap(),
    );
    let (from, end) = (keys::documents_from(0), keys::documents_end(u32::MAX));
    let documents = view.scan(&from, &end, usize::MAX).unwrap();
    for (key, value) in &documents {
        let (device, name) = keys::decode_document(key).unwrap();
        let document = Document::decode(value.clone()).unwrap();
        let counters = view.get(&keys::device_row(&device)).unwrap();
        assert!(counters.is_some(), "a document whose device is in no list");
        let position = document.feed_position();
        assert!(
            position.index <= index,
            "a document behind the applied position"
        );
        let record = feed.get(&position).expect("its feed record");
        assert_eq!(
            (&record.device, &record.shadow, record.version),
            (&device, &name, document.version())
        );
    }
    for record in feed.values() {
        let key = keys::document(&record.device, &record.shadow);
        let document = Document::decode(view.get(&key).unwrap().unwrap()).unwrap();
        assert!(
            document.version() >= record.version,
            "a record without its document"
        );
    }
    let last = feed.keys().next_back();
    assert!(last.is_none_or(|last| *last < end_of(index)));
    let account = view.get(&keys::account(shard)).unwrap();
    let account = account
        .map(|row| Account::decode(&row).unwrap())
        .unwrap_or_default();
    assert_eq!(
        account.written_bytes, bytes,
        "the account counts every record"
    );
    feed.len()
}

/// Invariant 6: whatever view is pinned, at whatever moment, it shows whole entries.
#[tokio::test(flavor = "multi_thread")]
async fn document_feed_and_position_are_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    let context = node.shadows().contexts().remove(0);
    let mut writers = Vec::new();
    for nth in 0..10 {
        let shadows = node.shadows().clone();
        writers.push(tokio::spawn(async move {
            for round in 0..30 {
                write(&shadows, nth, &format!(r#"{{"a":{round}}}"#)).await;
            }
        }));
    }
    while check_view(&context) < 300 {
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    drop(context);
    node.shutdown().await.unwrap();
}

/// Records of one entry share rows under the rules that say so, and whoever resumes anywhere in them misses
/// nothing. An entry of older rules, from a log or beside nodes of an older version, is kept as it was.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_share_rows_are_read_from_any_place() {
    const COMMANDS: usize = 100;
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    let context = node.shadows().contexts().remove(0);
    let shard = context.id();
    let Role::Leader { term } = *context.shard.role().borrow() else {
        panic!("the only replica leads");
    };
    let json = format!(r#"{{"a":"{}"}}"#, "x".repeat(300));
    let mut rows_before = 0;
    for rules in [RULES, 1, RULES] {
        let entry = Entry::Device(DeviceEntry {
            rules,
            device: device(rules.into()),
            commands: vec![draft(&json).stamp(Time(1_000)); COMMANDS],
        });
        context.shard.propose(term, entry.encode()).await.unwrap();
        let (from, end) = feed_of(shard);
        let rows = context.shard.view().scan(&from, &end, usize::MAX).unwrap();
        let written = rows.len() - rows_before;
        rows_before = rows.len();
        match rules {
            1 => assert_eq!(written, COMMANDS),
            _ => assert!((2..COMMANDS / 10).contains(&written), "{written} rows"),
        }
    }
    assert_eq!(check_view(&context), 3 * COMMANDS);
    let (from, end) = feed_of(shard);
    let rows = context.shard.view().scan(&from, &end, usize::MAX).unwrap();
    let all: Vec<Position> = records(&rows).0.into_keys().collect();
    let devices = [device(1), device(RULES.into())];
    let interest = Interest::Devices(Arc::new(devices.into()));
    for (nth, after) in all.iter().enumerate() {
        let caught = scan::catch_up(context.clone(), interest.clone(), *after).await;
        let CaughtUp::Records { records, more, .. } = caught.unwrap() else {
            panic!("the feed is there");
        };
        let found: Vec<Position> = records.into_iter().map(|(at, _)| at).collect();
        assert_eq!(found, all[nth + 1..], "behind {after:?}");
        assert!(!more);
    }
    drop(context);
    node.shutdown().await.unwrap();
}

/// The trimmer's decision and the account of the feed agree, and nothing above the mark goes.
#[tokio::test(flavor = "multi_thread")]
async fn trimming_to_a_mark_keeps_what_came_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    let context = node.shadows().contexts().remove(0);
    let shard = context.id();
    let json = format!(r#"{{"a":"{}"}}"#, "x".repeat(4000));
    for _ in 0..20 {
        // Side by side, so that changes of several devices share an entry.
        let writes = (0..12).map(|nth| write(node.shadows(), nth, &json));
        futures::future::join_all(writes).await;
    }
    let marks = |context: &ShardContext| {
        let (from, end) = (keys::mark(shard, 0), keys::marks_end(shard));
        let rows = context.shard.view().scan(&from, &end, usize::MAX).unwrap();
        let decode = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
            (
                keys::decode_mark(key).unwrap(),
                Mark::decode(value).unwrap(),
            )
        };
        rows.iter().map(decode).collect::<Vec<_>>()
    };
    let before = marks(&context);
    assert!(before.len() >= 3, "a mark per 64 KiB");
    let (upto_index, mark) = before[before.len() / 2];
    let entry = antumbra_shadow::Entry::TrimFeed(antumbra_shadow::TrimFeed { upto_index });
    let antumbra_raft::Role::Leader { term } = *context.shard.role().borrow() else {
        panic!("the only replica leads");
    };
    context.shard.propose(term, entry.encode()).await.unwrap();

    let view = context.shard.view();
    let account = Account::decode(&view.get(&keys::account(shard)).unwrap().unwrap()).unwrap();
    assert_eq!(
        (account.trimmed_index, account.trimmed_bytes),
        (upto_index, mark.written_bytes)
    );
    let from = keys::feed(shard, Position::default());
    let feed = view
        .scan(&from, &keys::feed_end(shard), usize::MAX)
        .unwrap();
    let bytes: usize = feed
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    assert_eq!(account.kept_bytes(), bytes as u64);
    assert_eq!(keys::decode_feed(&feed[0].0).unwrap().index, upto_index + 1);
    assert_eq!(marks(&context), before[before.len() / 2 + 1..]);
    drop((context, view));
    node.shutdown().await.unwrap();
}
