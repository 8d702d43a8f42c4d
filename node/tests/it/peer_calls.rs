//! Control and follow calls: answers, and what is known when there is none.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use antumbra::peer::{ControlError, FRAME_BYTES_MAX, Follow, Tls};
use antumbra_raft::Node;
use bytes::Bytes;
use futures::StreamExt;

use crate::peer_support::{CLUSTER, OTHER_CLUSTER, PATIENCE, Peer, Proxy, soon, until};

async fn ask(from: &Peer, to: &Peer, body: &'static str) -> Result<Bytes, ControlError> {
    ask_within(from, to, body, PATIENCE).await
}

async fn ask_within(
    from: &Peer,
    to: &Peer,
    body: &'static str,
    within: Duration,
) -> Result<Bytes, ControlError> {
    let body = Bytes::from_static(body.as_bytes());
    from.transport.control(&to.node.address, body, within).await
}

async fn follow(from: &Peer, to: &Peer, body: &'static str) -> Follow {
    let body = Bytes::from_static(body.as_bytes());
    from.transport.follow(&to.node, body).await.unwrap()
}

/// Answers and refusals come back as they were given.
#[tokio::test]
async fn control_brings_answers_and_refusals() {
    let (one, two) = Peer::two().await;
    assert_eq!(ask(&one, &two, "hello").await.unwrap(), "re: hello");
    let refused = ask(&one, &two, "refuse").await;
    assert_eq!(refused, Err(ControlError::Refused("not today".to_owned())));
    let large = ask(&one, &two, "large").await.unwrap();
    assert_eq!(large.len(), FRAME_BYTES_MAX);
}

/// Certainly not sent: nobody there, or too large.
#[tokio::test]
async fn control_knows_what_was_not_sent() {
    let (one, two) = Peer::two().await;
    two.stop.cancel();
    soon(two.served).await.unwrap();
    let start = Instant::now();
    let body = Bytes::from_static(b"x");
    let address = &two.node.address;
    let not_sent = one.transport.control(address, body, PATIENCE).await;
    assert!(
        matches!(not_sent, Err(ControlError::NotSent(_))),
        "{not_sent:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(3));

    let large = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
    let not_sent = one
        .transport
        .control(&one.node.address, large, PATIENCE)
        .await;
    assert!(
        matches!(not_sent, Err(ControlError::NotSent(_))),
        "{not_sent:?}"
    );
}

/// Sent, and no answer: that must never look like "not sent".
#[tokio::test]
async fn control_says_unknown_when_no_answer_comes() {
    let (one, two) = Peer::two().await;
    let within = Duration::from_millis(200);
    let unknown = |result: &Result<Bytes, ControlError>| {
        assert!(
            matches!(result, Err(ControlError::Unknown(_))),
            "{result:?}"
        );
    };
    unknown(&ask_within(&one, &two, "hang", within).await);
    unknown(&ask(&one, &two, "panic").await);
    unknown(&ask(&one, &two, "too large").await);

    // The connection is lost while the request is being carried out.
    let asking = ask(&one, &two, "wait");
    let cutting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        two.served.abort();
    };
    let (result, ()) = tokio::join!(asking, cutting);
    unknown(&result);
}

/// The other node vanished: the call ends when the connection does, if not before.
#[tokio::test]
async fn control_ends_when_the_other_node_vanished() {
    let (one, two) = Peer::two().await;
    let proxy = Proxy::to(two.node.address.clone()).await;
    let ask = async |body: &'static [u8]| {
        let body = Bytes::from_static(body);
        one.transport.control(&proxy.address, body, PATIENCE).await
    };
    ask(b"hello").await.unwrap();
    proxy.freeze();
    let start = Instant::now();
    let lost = ask(b"hello").await;
    assert!(matches!(lost, Err(ControlError::Unknown(_))), "{lost:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Half of a request is worse than all of it: it is carried out though nobody waits.
#[tokio::test]
async fn control_requests_run_to_their_end() {
    let (one, two) = Peer::two().await;
    let within = Duration::from_millis(100);
    ask_within(&one, &two, "wait", within).await.unwrap_err();
    until(|| two.seen.carried_out.load(Ordering::SeqCst) == 1).await;
}

/// A node that came back is reached again, at once and without an error.
#[tokio::test]
async fn control_reaches_a_node_that_was_restarted() {
    let (one, two) = Peer::two().await;
    ask(&one, &two, "hello").await.unwrap();
    two.stop.cancel();
    soon(two.served).await.unwrap();
    let address = two.node.address.parse().unwrap();
    let two = Peer::start_at(address, "node-2", Some(CLUSTER), Tls::None).await;
    assert_eq!(ask(&one, &two, "again").await.unwrap(), "re: again");
}

/// Before there is a cluster nodes can ask each other; members of two clusters cannot.
#[tokio::test]
async fn control_is_for_newcomers_but_not_for_strangers() {
    let member = Peer::start("node-1", Some(CLUSTER), Tls::None).await;
    let newcomer = Peer::start("node-2", None, Tls::None).await;
    let stranger = Peer::start("node-3", Some(OTHER_CLUSTER), Tls::None).await;
    for (from, to) in [(&member, &newcomer), (&newcomer, &member)] {
        ask(from, to, "hello").await.unwrap();
    }
    let refused = ask(&stranger, &member, "hello").await;
    let text = format!("node-1 belongs to cluster {CLUSTER}, not to {OTHER_CLUSTER}");
    assert_eq!(refused, Err(ControlError::Refused(text)));
}

/// Items come in order, then the end; an error is the last item.
#[tokio::test]
async fn follow_streams_items_and_its_end() {
    let (one, two) = Peer::two().await;
    let items: Vec<_> = soon(follow(&one, &two, "three").await.collect()).await;
    let items: Vec<_> = items.into_iter().map(Result::unwrap).collect();
    assert_eq!(items, ["0", "1", "2"]);
    let items: Vec<_> = soon(follow(&one, &two, "fail").await.collect()).await;
    assert_eq!(items.len(), 2);
    assert_eq!(
        items[1].as_ref().unwrap_err().to_string(),
        "lost the thread"
    );
}

/// Nobody may take a node that stops or vanished for one that has nothing to say.
#[tokio::test]
async fn follow_ends_with_an_error_when_the_other_node_goes_away() {
    let (one, two) = Peer::two().await;
    let proxy = Proxy::to(two.node.address.clone()).await;
    let mut direct = follow(&one, &two, "quiet").await;
    let node = Node {
        address: proxy.address.clone(),
        ..two.node.clone()
    };
    let mut proxied = one.transport.follow(&node, "quiet".into()).await.unwrap();
    for stream in [&mut direct, &mut proxied] {
        soon(stream.next()).await.unwrap().unwrap();
    }
    proxy.freeze();
    let start = Instant::now();
    soon(proxied.next()).await.unwrap().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(proxied.next().await.is_none());

    two.stop.cancel();
    let error = soon(direct.next()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "node-2 stops");
    assert!(direct.next().await.is_none());
}

/// The other node must not work for a stream that nobody reads.
#[tokio::test]
async fn dropping_a_follow_stream_drops_it_there() {
    let (one, two) = Peer::two().await;
    let mut following = follow(&one, &two, "quiet").await;
    soon(following.next()).await.unwrap().unwrap();
    drop(following);
    until(|| two.seen.dropped.load(Ordering::SeqCst) == 1).await;
}

/// Streams that nobody reads must not hold up the requests beside them.
#[tokio::test]
async fn unread_follow_streams_do_not_hold_up_control() {
    let (one, two) = Peer::two().await;
    let mut unread = Vec::new();
    for _ in 0..100 {
        unread.push(follow(&one, &two, "endless").await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let within = Duration::from_secs(5);
    let answer = ask_within(&one, &two, "large", within).await.unwrap();
    assert_eq!(answer.len(), FRAME_BYTES_MAX);
    soon(unread[7].next()).await.unwrap().unwrap();
}

/// Only nodes of the cluster are told what goes on in it.
#[tokio::test]
async fn follow_is_for_members() {
    let (one, two) = Peer::two().await;
    let newcomer = Peer::start("node-3", None, Tls::None).await;
    let refused = newcomer.transport.follow(&one.node, Bytes::new()).await;
    let refused = refused.err().unwrap().to_string();
    assert_eq!(refused, "follow node-1: `antumbra-cluster` is missing");
    let wrong = Node {
        name: "node-9".to_owned(),
        ..two.node.clone()
    };
    let refused = one.transport.follow(&wrong, Bytes::new()).await;
    let refused = refused.err().unwrap().to_string();
    assert_eq!(refused, "follow node-9: this is node-2, not node-9");
}
