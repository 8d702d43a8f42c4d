//! Streams of updates as bulk writers use them.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_proto::v1;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt, iter};
use tonic::{Code, Streaming};

use crate::doors_grpc::{put, read};
use crate::doors_support::{Site, desired, get, patiently};

type Replies = Streaming<v1::StreamUpdatesResponse>;

/// An update of the classic shadow's `desired`, with its place in a stream.
fn numbered(sequence: u64, device: &str, json: &str) -> v1::StreamUpdatesRequest {
    v1::StreamUpdatesRequest {
        sequence,
        update: Some(desired(device, json)),
    }
}

/// Opens a stream of these updates.
async fn stream(
    site: &Site,
    updates: impl Stream<Item = v1::StreamUpdatesRequest> + Send + 'static,
) -> Replies {
    let replies = site.grpc.clone().stream_updates(updates).await;
    replies.unwrap().into_inner()
}

/// Opens a stream whose updates come one by one, until the sender is dropped.
async fn stream_slowly(site: &Site) -> (Sender<v1::StreamUpdatesRequest>, Replies) {
    let (sender, receiver) = channel(1);
    (sender, stream(site, ReceiverStream::new(receiver)).await)
}

/// Invariant: one stream's updates of one device are applied in the order they were sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streamed_updates_keep_their_order_per_device() {
    let site = Site::open_with(|config| config.api.stream_updates_max = 8).await;
    let total = 60_u64;
    let updates = (0..total).map(|sequence| {
        let device = ["a", "b", "c"][sequence as usize % 3];
        let json = match sequence {
            30 => "{".to_owned(),
            _ => format!(r#"{{"n":{sequence}}}"#),
        };
        numbered(sequence, device, &json)
    });
    let mut replies = stream(&site, iter(updates)).await;
    let mut seen: BTreeMap<u64, v1::BatchUpdateResult> = BTreeMap::new();
    while let Some(reply) = patiently(replies.next()).await {
        let reply = reply.unwrap();
        assert!(seen.insert(reply.sequence, reply.result.unwrap()).is_none());
    }
    assert_eq!(seen.len() as u64, total);
    assert_eq!(seen[&30].reason, "INVALID_JSON");
    for device in 0..3 {
        let versions: Vec<u64> = (device..total)
            .step_by(3)
            .filter(|sequence| *sequence != 30)
            .map(|sequence| seen[&sequence].response.as_ref().unwrap().version)
            .collect();
        let expected: Vec<u64> = (1..=versions.len() as u64).collect();
        assert_eq!(versions, expected, "device {device}");
    }
    assert_eq!(read(&site, get("c")).await.desired_json, r#"{"n":59}"#);
    site.close().await;
}

/// An update whose outcome is unknown might yet be carried out: what waited behind it is refused rather
/// than overtaken.
#[tokio::test]
async fn streamed_updates_do_not_pass_one_of_unknown_outcome() {
    let site = Site::open_with(|config| config.test_switches.lose_proposal = Some(1)).await;
    let updates = (0..4).map(|sequence| numbered(sequence, "a", &format!(r#"{{"n":{sequence}}}"#)));
    let mut replies = stream(&site, iter(updates)).await;
    let mut reasons = Vec::new();
    while let Some(reply) = patiently(replies.next()).await {
        let reply = reply.unwrap();
        reasons.push((reply.sequence, reply.result.unwrap().reason));
    }
    assert_eq!(reasons[0], (0, "OUTCOME_UNKNOWN".to_owned()));
    let refused = reasons.iter().filter(|(_, reason)| reason == "UNAVAILABLE");
    assert!(refused.count() >= 1, "{reasons:?}");
    assert_eq!(reasons.len(), 4);
    site.close().await;
}

/// A streamed update starts no twin, and one that lives hears of it: a read through the twin is never
/// older than an update that was answered.
#[tokio::test]
async fn streamed_update_is_seen_through_a_live_twin() {
    let site = Site::open().await;
    let (sender, mut replies) = stream_slowly(&site).await;
    for version in 1..=20 {
        let json = format!(r#"{{"n":{version}}}"#);
        // One of them comes by another way, and from then on the device has a twin.
        if version == 5 {
            put(&site, "a", &json).await;
        } else {
            sender.send(numbered(version, "a", &json)).await.unwrap();
            let reply = patiently(replies.next()).await.unwrap().unwrap();
            let updated = reply.result.unwrap().response.unwrap();
            assert_eq!((reply.sequence, updated.version), (version, version));
        }
        let twins = usize::from(version >= 5);
        assert_eq!(site.node.shadows().live_twins(), twins, "at {version}");
        let seen = read(&site, get("a")).await;
        assert_eq!((seen.version, seen.desired_json), (version, json));
    }
    drop(sender);
    site.close().await;
}

/// A bulk writer that keeps its stream open must not hold up a node that stops.
#[tokio::test]
async fn open_streams_end_when_the_node_stops() {
    let site = Site::open().await;
    let (sender, mut replies) = stream_slowly(&site).await;
    sender.send(numbered(7, "a", "{}")).await.unwrap();
    assert_eq!(
        patiently(replies.next()).await.unwrap().unwrap().sequence,
        7
    );
    let begun = Instant::now();
    let stopping = tokio::spawn(site.close());
    let end = patiently(replies.next()).await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    stopping.await.unwrap();
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    drop(sender);
}

/// Who reads no replies slows down nobody but himself: what he sent is carried out, and gives its permits back.
#[tokio::test]
async fn streams_that_nobody_reads_hold_no_permits() {
    let site = Site::open().await;
    let updates = (0..20_000_u64).map(|sequence| {
        // Most are refused at once, with a long reply: the window of replies fills while some are in flight.
        let json = if sequence % 20 == 0 { "{}" } else { "{" };
        numbered(sequence, &format!("d-{sequence}"), json)
    });
    let mut replies = stream(&site, iter(updates)).await;
    let shadows = site.node.shadows();
    let (begun, mut quiet) = (Instant::now(), 0);
    // It has begun when a command was seen, and is stuck when none is for a while.
    let mut has_begun = false;
    while quiet < 50 {
        let waiting = shadows.waiting_commands();
        has_begun |= waiting > 0;
        quiet = if has_begun && waiting == 0 {
            quiet + 1
        } else {
            0
        };
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{waiting} hold permits"
        );
        sleep(Duration::from_millis(10)).await;
    }
    let mut count = 0;
    while let Some(reply) = patiently(replies.next()).await {
        let reply = reply.unwrap();
        let reason = reply.result.unwrap().reason;
        let expected = if reply.sequence % 20 == 0 {
            ""
        } else {
            "INVALID_JSON"
        };
        assert_eq!(reason, expected, "update {}", reply.sequence);
        count += 1;
    }
    assert_eq!(count, 20_000, "every update has its reply");
    site.close().await;
}
