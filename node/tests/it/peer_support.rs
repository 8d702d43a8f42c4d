//! Nodes that have nothing but a peer port, certificates for them, and a proxy between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use antumbra::peer::{self, Directory, Me, PeerHandler, PeerTransport, Tls, TlsFiles};
use antumbra_raft::{Duplex, Lane, Node, Transport};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cli_program::run;

/// How long anything may take that has no limit of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const CLUSTER: Uuid = Uuid::from_u128(0xc1);
pub const OTHER_CLUSTER: Uuid = Uuid::from_u128(0xc2);

/// A link that a node accepted.
pub struct Accepted {
    pub lane: Lane,
    pub from: String,
    pub connection: Duplex,
}

/// What a node's handler has seen.
#[derive(Default)]
pub struct Seen {
    /// Control requests that were carried out.
    pub carried_out: AtomicUsize,
    /// Follow streams that were dropped.
    pub dropped: AtomicUsize,
}

struct Handler {
    links: mpsc::UnboundedSender<Accepted>,
    seen: Arc<Seen>,
}

impl PeerHandler for Handler {
    fn link(&self, lane: Lane, from: String, connection: Duplex) {
        let accepted = Accepted {
            lane,
            from,
            connection,
        };
        let _ = self.links.send(accepted);
    }

    fn control(&self, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let seen = Arc::clone(&self.seen);
        async move {
            match body.as_ref() {
                b"refuse" => return Err("not today".to_owned()),
                b"panic" => panic!("as asked"),
                b"wait" => tokio::time::sleep(Duration::from_secs(1)).await,
                b"hang" => std::future::pending().await,
                b"large" => return Ok(vec![0; peer::FRAME_BYTES_MAX].into()),
                b"too large" => return Ok(vec![0; peer::FRAME_BYTES_MAX + 1].into()),
                _ => {}
            }
            seen.carried_out.fetch_add(1, Ordering::SeqCst);
            Ok([b"re: ", body.as_ref()].concat().into())
        }
        .boxed()
    }

    fn follow(&self, body: Bytes) -> BoxStream<'static, Result<Bytes, String>> {
        let guard = CountWhenDropped(Arc::clone(&self.seen));
        let item = |n: usize| Ok(Bytes::from(n.to_string()));
        let items = match body.as_ref() {
            b"three" => stream::iter(0..3).map(item).boxed(),
            b"fail" => stream::iter([item(0), Err("lost the thread".to_owned())]).boxed(),
            b"quiet" => stream::iter([item(0)]).chain(stream::pending()).boxed(),
            _ => stream::repeat(Ok(Bytes::from(vec![7; 64 * 1024]))).boxed(),
        };
        items
            .inspect(move |_| {
                let _ = &guard;
            })
            .boxed()
    }
}

struct CountWhenDropped(Arc<Seen>);

impl Drop for CountWhenDropped {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A node with nothing but a peer port.
pub struct Peer {
    pub me: Me,
    pub node: Node,
    pub transport: PeerTransport,
    pub links: mpsc::UnboundedReceiver<Accepted>,
    pub seen: Arc<Seen>,
    pub stop: CancellationToken,
    pub served: JoinHandle<()>,
}

impl Peer {
    pub async fn start(name: &str, cluster: Option<Uuid>, tls: Tls) -> Peer {
        Peer::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), name, cluster, tls).await
    }

    pub async fn start_at(
        address: SocketAddr,
        name: &str,
        cluster: Option<Uuid>,
        tls: Tls,
    ) -> Peer {
        let listener = TcpListener::bind(address).await.unwrap();
        let me = Me::new(name.to_owned());
        if let Some(cluster) = cluster {
            me.set_cluster(cluster);
        }
        let node = Node {
            name: name.to_owned(),
            address: listener.local_addr().unwrap().to_string(),
        };
        let (sender, links) = mpsc::unbounded_channel();
        let seen = Arc::new(Seen::default());
        let handler = Arc::new(Handler {
            links: sender,
            seen: Arc::clone(&seen),
        });
        let stop = CancellationToken::new();
        let serving = peer::serve(listener, me.clone(), tls.clone(), handler, stop.clone());
        Peer {
            served: tokio::spawn(serving),
            transport: PeerTransport::new(me.clone(), Directory::new(), tls),
            me,
            node,
            links,
            seen,
            stop,
        }
    }

    /// Two nodes of one cluster without TLS.
    pub async fn two() -> (Peer, Peer) {
        let one = Peer::start("node-1", Some(CLUSTER), Tls::None).await;
        let two = Peer::start("node-2", Some(CLUSTER), Tls::None).await;
        (one, two)
    }

    /// Links this node to another one: both ends.
    pub async fn link(&self, other: &mut Peer, lane: Lane) -> (Duplex, Accepted) {
        let node = other.node.clone();
        self.link_through(&node, other, lane).await
    }

    /// The same under another address.
    pub async fn link_through(
        &self,
        node: &Node,
        other: &mut Peer,
        lane: Lane,
    ) -> (Duplex, Accepted) {
        let connection = self.transport.connect(node, lane).await.unwrap();
        let accepted = soon(other.links.recv()).await.unwrap();
        assert_eq!(
            (accepted.from.as_str(), accepted.lane),
            (self.me.name(), lane)
        );
        (connection, accepted)
    }

    /// Why this node gets no link to another one.
    pub async fn refused(&self, node: &Node) -> String {
        let refused = self.transport.connect(node, Lane::Log).await;
        refused.unwrap_err().to_string()
    }
}

/// Waits, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// Waits until something is so.
pub async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Sends what it gets back, until the link ends.
pub fn echo(mut connection: Duplex) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(frame) = connection.receiver.recv().await {
            if connection.sender.send(frame).await.is_err() {
                return;
            }
        }
    })
}

/// Sends frames of several sizes and reads them back.
pub async fn assert_echoes(connection: &mut Duplex) {
    let sizes = [0, 1, 5, 1000, 16 * 1024, 100_000, 1 << 20];
    let frames: Vec<Bytes> = (0..70_u8)
        .map(|n| vec![n; sizes[usize::from(n) % sizes.len()]].into())
        .collect();
    let sender = connection.sender.clone();
    let to_send = frames.clone();
    let sending = tokio::spawn(async move {
        for frame in to_send {
            sender.send(frame).await.unwrap();
        }
    });
    for frame in frames {
        let echoed = soon(connection.receiver.recv()).await.unwrap();
        assert!(echoed == frame, "{} != {}", echoed.len(), frame.len());
    }
    sending.await.unwrap();
}

/// A directory with an authority.
pub struct Authority {
    pub directory: PathBuf,
}

impl Authority {
    pub fn new(directory: &Path, cluster: &str) -> Authority {
        let ca = directory.to_str().unwrap();
        run(&["cert", "ca", "--out", ca, "--cluster", cluster]).success();
        Authority {
            directory: directory.to_owned(),
        }
    }

    /// Makes a certificate of a node and gives its files.
    pub fn node(&self, name: &str, arguments: &[&str]) -> TlsFiles {
        let directory = self.directory.to_str().unwrap();
        let mut command = vec!["cert", "node", "--ca", directory, "--out", directory];
        command.extend(["--name", name, "--host", "localhost,127.0.0.1"]);
        command.extend(arguments);
        run(&command).success();
        self.files(name)
    }

    pub fn client(&self, name: &str) -> TlsFiles {
        let directory = self.directory.to_str().unwrap();
        let command = ["cert", "client", "--ca", directory, "--out", directory];
        run(&[command.as_slice(), &["--name", name]].concat()).success();
        self.files(name)
    }

    pub fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            certificate: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
            authority: self.directory.join("ca.pem"),
        }
    }

    /// A node with a certificate.
    pub async fn peer(&self, name: &str) -> Peer {
        let tls = Tls::open(self.node(name, &[]), name).unwrap();
        Peer::start(name, Some(CLUSTER), tls).await
    }
}

/// A proxy that can stop forwarding without closing anything.
pub struct Proxy {
    pub address: String,
    frozen: watch::Sender<bool>,
}

impl Proxy {
    pub async fn to(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (frozen, state) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let there = TcpStream::connect(&target).await.unwrap();
                tokio::spawn(forward(here, there, state.clone()));
            }
        });
        Proxy { address, frozen }
    }

    /// From now on nothing gets through, and nobody is told.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }
}

async fn forward(here: TcpStream, there: TcpStream, mut frozen: watch::Receiver<bool>) {
    let (mut here_reads, mut here_writes) = here.into_split();
    let (mut there_reads, mut there_writes) = there.into_split();
    let both = async {
        tokio::select! {
            biased;
            _ = copy(&mut here_reads, &mut there_writes) => {}
            _ = copy(&mut there_reads, &mut here_writes) => {}
        }
    };
    let is_frozen = tokio::select! {
        biased;
        _ = frozen.wait_for(|frozen| *frozen) => true,
        () = both => false,
    };
    if is_frozen {
        std::future::pending::<()>().await;
    }
}

/// Addresses of some nodes.
pub fn directory(peers: &[&Peer]) -> BTreeMap<String, String> {
    let nodes = peers.iter().map(|peer| peer.node.clone());
    nodes.map(|node| (node.name, node.address)).collect()
}
