//! Connections between nodes: forwarded requests, and what makes no sense.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use antumbra_raft::{
    Duplex, Env, FRAME_BYTES_MAX, ForwardError, ForwardHandler, Host, Lane, NoTransport,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cluster_support::{Cluster, node, until};
use crate::host_support::{PATIENCE, config};
use crate::network::Network;

const SOON: Duration = Duration::from_secs(10);

/// Echoes; `wait` answers never, `panic` panics.
#[derive(Default)]
struct Echo(AtomicUsize);

impl ForwardHandler for Echo {
    fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        self.0.fetch_add(1, Ordering::Relaxed);
        async move {
            match &request[..] {
                b"wait" => std::future::pending().await,
                b"panic" => panic!("asked to"),
                _ => request,
            }
        }
        .boxed()
    }
}

/// Two hosts without shards.
struct Pair {
    network: Network,
    here: Arc<Host>,
    there: Arc<Host>,
    echo: Arc<Echo>,
    _directories: [TempDir; 2],
}

impl Pair {
    async fn start() -> Pair {
        let network = Network::default();
        let directories = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let mut hosts = Vec::new();
        for (name, directory) in ["here", "there"].into_iter().zip(&directories) {
            let config = config(directory.path());
            let host = Host::open(config, Env::system(), network.port(name)).await;
            let host = Arc::new(host.unwrap());
            network.add(name, Arc::clone(&host));
            hosts.push(host);
        }
        let there = hosts.pop().unwrap();
        Pair {
            network,
            here: hosts.pop().unwrap(),
            there,
            echo: Arc::new(Echo::default()),
            _directories: directories,
        }
    }

    async fn ask(&self, request: impl Into<Bytes>) -> Result<Bytes, ForwardError> {
        self.here
            .forward(&node("there"), request.into(), SOON)
            .await
    }

    async fn shutdown(self) {
        self.here.shutdown().await.unwrap();
        self.there.shutdown().await.unwrap();
    }
}

/// Only what certainly was not carried out is said to be not sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_is_answered_not_sent_or_unknown() {
    let pair = Pair::start().await;
    let handled = || pair.echo.0.load(Ordering::Relaxed);
    assert_eq!(pair.ask("early").await, Err(ForwardError::NotSent));
    pair.there
        .set_forward_handler(Arc::clone(&pair.echo) as Arc<dyn ForwardHandler>);
    assert_eq!(pair.ask("hello").await.unwrap(), "hello");
    assert_eq!(pair.ask(vec![7; 5 << 20]).await.unwrap().len(), 5 << 20);
    assert_eq!(handled(), 2);
    assert_eq!(pair.ask(vec![7; 8 << 20]).await, Err(ForwardError::NotSent));
    let nobody = node("nobody");
    let asked = pair.here.forward(&nobody, "hello".into(), SOON).await;
    assert_eq!(asked, Err(ForwardError::NotSent));
    assert_eq!(handled(), 2);

    assert_eq!(pair.ask("panic").await, Err(ForwardError::Unknown));
    let short = Duration::from_millis(50);
    let there = node("there");
    let slow = pair.here.forward(&there, "wait".into(), short).await;
    assert_eq!(slow, Err(ForwardError::Unknown));
    assert_eq!(pair.ask("hello").await.unwrap(), "hello");
    assert_eq!(handled(), 5);

    // What waits for an answer learns at once that the connection is lost.
    let begun = Instant::now();
    let waiting = pair.ask("wait");
    let losing = async {
        until(async || handled() == 6).await;
        pair.network.drop_links("here", "there");
    };
    assert_eq!(tokio::join!(waiting, losing).0, Err(ForwardError::Unknown));
    assert!(begun.elapsed() < SOON);
    assert_eq!(pair.ask("hello").await.unwrap(), "hello");
    pair.network.remove("there");
    // One that meets the connection while it is being lost may have arrived, for all that is known here.
    until(async || pair.ask("hello").await == Err(ForwardError::NotSent)).await;
    assert_eq!(handled(), 7);
    pair.shutdown().await;
}

/// Many requests share a connection; the answer to each is its own.
#[tokio::test(flavor = "multi_thread")]
async fn forwarded_requests_run_side_by_side() {
    let pair = Pair::start().await;
    pair.there
        .set_forward_handler(Arc::clone(&pair.echo) as Arc<dyn ForwardHandler>);
    assert_eq!(pair.ask("hello").await.unwrap(), "hello");
    let asked = (0..3000).map(|n: u32| {
        let pair = &pair;
        async move { (n, pair.ask(n.to_string()).await) }
    });
    for (n, answer) in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap(), n.to_string());
    }
    // Over the limit of a link it is refused at once, and certainly not carried out.
    let there = node("there");
    let waiting = (0..5000).map(|_| pair.here.forward(&there, "wait".into(), SOON / 10));
    let answers = futures::future::join_all(waiting).await;
    let refused = answers
        .iter()
        .filter(|answer| **answer == Err(ForwardError::NotSent));
    assert!(refused.count() >= 5000 - 4096);
    pair.shutdown().await;
}

/// A host that serves one end of a connection; the test has the other.
fn connect(host: &Host, lane: Lane) -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    let (there, received) = mpsc::channel(8);
    let (answer, answered) = mpsc::channel(8);
    host.accept(
        lane,
        Duplex {
            sender: answer,
            receiver: received,
        },
    );
    (there, answered)
}

/// Frames that no node sends end their connection, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_frame_ends_its_connection_only() {
    let cluster = Cluster::start().await;
    let host = &cluster.leader().await.host;
    let message =
        b"\x70\0\0\0\x1e\x71\0\0\0\0\0\0\0\x09\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x63\x07";
    let mut frames: Vec<Bytes> = vec![
        Bytes::new(),
        Bytes::from_static(b"\xff"),
        Bytes::from_static(b"\x70\0\0\0\xff"),
        Bytes::from_static(b"\x70\0\0\0\x01\x71"),
        vec![0x70; FRAME_BYTES_MAX + 1].into(),
    ];
    // An answer to nobody, and a kind that does not exist.
    for kind in [0x85, 0x7f] {
        let mut bytes = message.to_vec();
        *bytes.last_mut().unwrap() = kind;
        frames.push(bytes.into());
    }
    for lane in Lane::ALL {
        for frame in &frames {
            let (there, mut answered) = connect(host, lane);
            there.send(frame.clone()).await.unwrap();
            let end = timeout(PATIENCE, answered.recv()).await.unwrap();
            assert_eq!(end, None, "{lane} {frame:?}");
            timeout(PATIENCE, there.closed()).await.unwrap();
        }
    }
    // A replica that is not here is said so, and is not made.
    let (there, mut answered) = connect(host, Lane::Control);
    there.send(Bytes::from_static(message)).await.unwrap();
    let answer = timeout(PATIENCE, answered.recv()).await.unwrap().unwrap();
    assert_eq!(answer[answer.len() - 3..], *b"\x88\x29\x00");
    assert!(cluster.propose("add k 1").await.is_ok());
    cluster.converge().await;
    cluster.shutdown().await;
}

/// A node without a transport serves alone and says at once that it reaches nobody.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_transport_nobody_is_reached() {
    let directory = TempDir::new().unwrap();
    let config = config(directory.path());
    let host = Host::open(config, Env::system(), Arc::new(NoTransport))
        .await
        .unwrap();
    let begun = Instant::now();
    for _ in 0..100 {
        let asked = host.forward(&node("there"), "hello".into(), SOON).await;
        assert_eq!(asked, Err(ForwardError::NotSent));
    }
    assert!(begun.elapsed() < SOON);
    host.shutdown().await.unwrap();
}
