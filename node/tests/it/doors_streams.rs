//! Streams of updates as bulk writers use them.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_proto::v1;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::doors_grpc::{put, read};
use crate::doors_support::{Site, desired, get, patiently};

/// Invariant: one stream's updates of one device are applied in the order they were sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streamed_updates_keep_their_order_per_device() {
    let site = Site::open_with(|config| config.api.stream_updates_max = 8).await;
    let total = 60_u64;
    let requests = (0..total).map(|sequence| {
        let device = ["a", "b", "c"][sequence as usize % 3];
        let json = match sequence {
            30 => "{".to_owned(),
            _ => format!(r#"{{"n":{sequence}}}"#),
        };
        v1::StreamUpdatesRequest {
            sequence,
            update: Some(desired(device, &json)),
        }
    });
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut replies = site
        .grpc
        .clone()
        .stream_updates(stream)
        .await
        .unwrap()
        .into_inner();
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
    let requests = (0..4).map(|sequence| v1::StreamUpdatesRequest {
        sequence,
        update: Some(desired("a", &format!(r#"{{"n":{sequence}}}"#))),
    });
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    let replies = site.grpc.clone().stream_updates(stream).await.unwrap();
    let mut replies = replies.into_inner();
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
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let replies = site.grpc.clone().stream_updates(requests).await.unwrap();
    let mut replies = replies.into_inner();
    for version in 1..=20 {
        let json = format!(r#"{{"n":{version}}}"#);
        // One of them comes by another way, and from then on the device has a twin.
        if version == 5 {
            put(&site, "a", &json).await;
        } else {
            let request = v1::StreamUpdatesRequest {
                sequence: version,
                update: Some(desired("a", &json)),
            };
            sender.send(request).await.unwrap();
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
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let replies = site.grpc.clone().stream_updates(requests).await.unwrap();
    let mut replies = replies.into_inner();
    let first = v1::StreamUpdatesRequest {
        sequence: 7,
        update: Some(desired("a", "{}")),
    };
    sender.send(first).await.unwrap();
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
    let requests = (0..20_000_u64).map(|sequence| {
        // Most are refused at once, with a long reply: the window of replies fills while some are in flight.
        let json = if sequence % 20 == 0 { "{}" } else { "{" };
        let device = format!("d-{sequence}");
        v1::StreamUpdatesRequest {
            sequence,
            update: Some(desired(&device, json)),
        }
    });
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    let replies = site.grpc.clone().stream_updates(stream).await.unwrap();
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
    let mut replies = replies.into_inner();
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
