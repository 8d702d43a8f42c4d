//! Links between nodes without TLS: frames, refusals, ends and limits.

use std::time::{Duration, Instant};

use antumbra::peer::{Directory, FRAME_BYTES_MAX, LINK_VERSION, PeerTransport, SILENCE_MAX, Tls};
use antumbra_proto::peer::v1::Frame;
use antumbra_proto::peer::v1::peer_client::PeerClient;
use antumbra_raft::{Lane, Node, Transport};
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::{Code, Request, Status};

use crate::peer_support::{
    CLUSTER, OTHER_CLUSTER, Peer, Proxy, assert_echoes, directory, echo, soon,
};

/// Frames of every lane arrive whole and in order, both ways.
#[tokio::test]
async fn every_lane_carries_frames_both_ways() {
    let (one, mut two) = Peer::two().await;
    for lane in Lane::ALL {
        let (mut link, accepted) = one.link(&mut two, lane).await;
        echo(accepted.connection);
        assert_echoes(&mut link).await;
    }
}

/// A frame must not get to a cluster or a node that was not meant, and both are told why.
#[tokio::test]
async fn refuses_another_cluster_and_another_name() {
    let (one, two) = Peer::two().await;
    let stranger = Peer::start("node-2", Some(OTHER_CLUSTER), Tls::None).await;
    let newcomer = Peer::start("node-2", None, Tls::None).await;
    let address = &stranger.node.address;
    assert_eq!(
        one.refused(&stranger.node).await,
        format!(
            "connect to node-2 at {address}: \
             node-2 belongs to cluster {OTHER_CLUSTER}, not to {CLUSTER}"
        )
    );
    let refused = one.refused(&newcomer.node).await;
    assert!(refused.ends_with(": node-2 belongs to no cluster yet"));
    let refused = newcomer.refused(&one.node).await;
    assert!(refused.ends_with(": node-2 belongs to no cluster yet"));
    let wrong = Node {
        name: "node-9".to_owned(),
        ..two.node.clone()
    };
    let refused = one.refused(&wrong).await;
    assert!(
        refused.ends_with(": this is node-2, not node-9"),
        "{refused}"
    );
}

/// Versions that do not understand each other must say so, not misread each other.
#[tokio::test]
async fn refuses_another_version_and_an_unknown_lane() {
    let (_one, two) = Peer::two().await;
    let call = async |version: &str, lane: &str| -> Result<(), Status> {
        let address = format!("http://{}", two.node.address);
        let mut client = PeerClient::connect(address).await.unwrap();
        let mut request = Request::new(tokio_stream::pending::<Frame>());
        let cluster = CLUSTER.to_string();
        for (key, value) in [
            ("antumbra-link-version", version),
            ("antumbra-cluster", &cluster),
            ("antumbra-from", "node-1"),
            ("antumbra-to", "node-2"),
            ("antumbra-lane", lane),
        ] {
            request.metadata_mut().insert(key, value.parse().unwrap());
        }
        client.link(request).await.map(|_| ())
    };
    call(LINK_VERSION, "log").await.unwrap();
    let refused = call("2", "log").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::FailedPrecondition,
            "this node speaks version 1 of the link, not 2"
        )
    );
    let refused = call(LINK_VERSION, "fast").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "there is no lane `fast`")
    );
}

/// A node that was created anew under its name must not be blocked by links of its former life.
#[tokio::test]
async fn a_newer_link_replaces_the_older_one_of_its_lane() {
    let (one, mut two) = Peer::two().await;
    let (mut log, mut log_accepted) = one.link(&mut two, Lane::Log).await;
    let (mut control, control_accepted) = one.link(&mut two, Lane::Control).await;
    echo(control_accepted.connection);
    let (mut newer, newer_accepted) = one.link(&mut two, Lane::Log).await;
    echo(newer_accepted.connection);

    assert_eq!(soon(log_accepted.connection.receiver.recv()).await, None);
    soon(log_accepted.connection.sender.closed()).await;
    assert_eq!(soon(log.receiver.recv()).await, None);
    soon(log.sender.closed()).await;
    assert_echoes(&mut newer).await;
    assert_echoes(&mut control).await;

    // The end of the older one did not give the place of the newer one away.
    one.link(&mut two, Lane::Log).await;
    assert_eq!(soon(newer.receiver.recv()).await, None);
}

/// A link on which nothing moves any more, because its reader stands still, can be replaced too.
#[tokio::test]
async fn a_newer_link_replaces_one_that_stands_still() {
    let (one, mut two) = Peer::two().await;
    let (stuck, stuck_accepted) = one.link(&mut two, Lane::Log).await;
    let sender = stuck_accepted.connection.sender.clone();
    fill(&sender, &Bytes::from(vec![3; 256 * 1024])).await;
    one.link(&mut two, Lane::Log).await;
    soon(sender.closed()).await;
    soon(stuck.sender.closed()).await;
}

/// What was sent before a clean end arrives; after it both sides know that the link is over.
#[tokio::test]
async fn an_end_is_told_after_the_last_frame() {
    let (one, mut two) = Peer::two().await;
    for end_by_caller in [true, false] {
        let (link, accepted) = one.link(&mut two, Lane::Forward).await;
        let (ending, mut staying) = match end_by_caller {
            true => (link, accepted.connection),
            false => (accepted.connection, link),
        };
        for n in 0..5 {
            let frame = Bytes::from(vec![n; 500_000]);
            ending.sender.send(frame).await.unwrap();
        }
        drop(ending);
        for n in 0..5 {
            let frame = soon(staying.receiver.recv()).await.unwrap();
            assert_eq!((frame.len(), frame[0]), (500_000, n));
        }
        assert_eq!(soon(staying.receiver.recv()).await, None);
        soon(staying.sender.closed()).await;
    }
}

/// Half a link is no link: who does not listen any more cannot send any more.
#[tokio::test]
async fn dropping_the_receiver_ends_the_link() {
    let (one, mut two) = Peer::two().await;
    let (link, mut accepted) = one.link(&mut two, Lane::Log).await;
    drop(link.receiver);
    soon(link.sender.closed()).await;
    assert_eq!(soon(accepted.connection.receiver.recv()).await, None);
    soon(accepted.connection.sender.closed()).await;
}

/// A node that vanished without a word is noticed by both sides, by their senders and receivers.
#[tokio::test]
async fn both_sides_notice_within_five_seconds_that_the_other_vanished() {
    let (one, mut two) = Peer::two().await;
    let proxy = Proxy::to(two.node.address.clone()).await;
    let node = Node {
        address: proxy.address.clone(),
        ..two.node.clone()
    };
    let (mut link, mut accepted) = one.link_through(&node, &mut two, Lane::Log).await;
    link.sender.send(Bytes::from_static(b"x")).await.unwrap();
    soon(accepted.connection.receiver.recv()).await.unwrap();

    proxy.freeze();
    let frozen = Instant::now();
    let ends = async |connection: &mut antumbra_raft::Duplex| {
        assert_eq!(soon(connection.receiver.recv()).await, None);
        soon(connection.sender.closed()).await;
    };
    tokio::join!(ends(&mut link), ends(&mut accepted.connection));
    let took = frozen.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(took >= Duration::from_secs(2), "{took:?} is hasty");
    assert!(SILENCE_MAX < Duration::from_secs(5));
}

/// The largest frame passes; a larger one ends the link instead of being left out.
#[tokio::test]
async fn frames_over_the_limit_end_the_link() {
    let (one, mut two) = Peer::two().await;
    let (mut link, mut accepted) = one.link(&mut two, Lane::Snapshot).await;
    let send = async |size: usize| link.sender.send(vec![1; size].into()).await.unwrap();
    send(FRAME_BYTES_MAX).await;
    let frame = soon(accepted.connection.receiver.recv()).await.unwrap();
    assert_eq!(frame.len(), FRAME_BYTES_MAX);
    send(FRAME_BYTES_MAX + 1).await;
    send(1).await;
    assert_eq!(soon(accepted.connection.receiver.recv()).await, None);
    assert_eq!(soon(link.receiver.recv()).await, None);
    soon(link.sender.closed()).await;
}

/// Sends until nothing has moved for a second; how many were sent.
async fn fill(sender: &mpsc::Sender<Bytes>, frame: &Bytes) -> usize {
    let mut sent = 0;
    let mut last_sent = Instant::now();
    while last_sent.elapsed() < Duration::from_secs(1) {
        match sender.try_send(frame.clone()) {
            Ok(()) => {
                sent += 1;
                last_sent = Instant::now();
            }
            Err(TrySendError::Full(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(TrySendError::Closed(_)) => panic!("the link is down"),
        }
    }
    sent
}

/// A receiver that stands still holds up its sender, not the memory, and no other lane.
#[tokio::test]
async fn a_slow_receiver_fills_only_its_own_queues() {
    let (one, mut two) = Peer::two().await;
    let (log, mut log_accepted) = one.link(&mut two, Lane::Log).await;
    let (mut control, control_accepted) = one.link(&mut two, Lane::Control).await;
    echo(control_accepted.connection);

    let frame = Bytes::from(vec![3; 256 * 1024]);
    let sent = fill(&log.sender, &frame).await;
    // The queue of the sender holds 256 frames, which are shared here. What lies between the two
    // queues and in the reader's is bounded by bytes.
    let beyond = (sent - 256) * frame.len();
    assert!(beyond < 40 << 20, "{beyond} bytes wait beyond the sender");
    assert_echoes(&mut control).await;

    for _ in 0..sent {
        assert!(soon(log_accepted.connection.receiver.recv()).await.unwrap() == frame);
    }
}

/// Nobody there, or somebody who says nothing: the engine must not wait long for either.
#[tokio::test]
async fn connecting_ends_by_itself() {
    let one = Peer::start("node-1", Some(CLUSTER), Tls::None).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = |listener: &TcpListener| Node {
        name: "node-2".to_owned(),
        address: listener.local_addr().unwrap().to_string(),
    };
    let (closed_node, mute_node) = (node(&closed), node(&mute));
    drop(closed);

    let start = Instant::now();
    let refused = one.refused(&closed_node).await;
    assert!(refused.contains("refused"), "{refused}");
    assert!(start.elapsed() < Duration::from_millis(1500));

    let start = Instant::now();
    let refused = one.refused(&mute_node).await;
    assert!(refused.ends_with(": no answer within 1 s"), "{refused}");
    assert!(start.elapsed() < Duration::from_millis(2500));

    let nowhere = Node {
        name: "node-2".to_owned(),
        address: String::new(),
    };
    let refused = one.refused(&nowhere).await;
    assert!(refused.ends_with(": its address is not known"), "{refused}");
}

/// A node is reached where the directory says, not where the membership remembers it.
#[tokio::test]
async fn follows_the_directory() {
    let (one, mut two) = Peer::two().await;
    let addresses = Directory::new();
    let transport = PeerTransport::new(one.me.clone(), addresses.clone(), Tls::None);
    let node = Node {
        name: "node-2".to_owned(),
        address: "127.0.0.1:1".to_owned(),
    };
    assert!(transport.connect(&node, Lane::Log).await.is_err());
    addresses.set(directory(&[&one, &two]));
    transport.connect(&node, Lane::Log).await.unwrap();
    soon(two.links.recv()).await.unwrap();
}

/// A node that stops tells the others at once.
#[tokio::test]
async fn stopping_ends_all_links() {
    let (one, mut two) = Peer::two().await;
    let (mut link, mut accepted) = one.link(&mut two, Lane::Log).await;
    let start = Instant::now();
    two.stop.cancel();
    soon(two.served).await.unwrap();
    assert_eq!(soon(link.receiver.recv()).await, None);
    assert_eq!(soon(accepted.connection.receiver.recv()).await, None);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

/// Whoever connects and says nothing does not keep the connection.
#[tokio::test]
async fn silent_connections_are_closed() {
    let (_one, two) = Peer::two().await;
    let mut silent = TcpStream::connect(&two.node.address).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(8), silent.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "still open");
}
