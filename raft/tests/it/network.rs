//! A transport in memory, with faults: ways that are cut or slow, connections that are lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{ConnectError, Duplex, Host, Lane, Node, Transport};
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// A connection whose way is cut for this long is lost, as by a keep-alive.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// How often a cut way is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Frames in one direction of a connection.
const FRAMES: usize = 16;

/// All nodes of a test. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<State>);

#[derive(Default)]
struct State {
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
    ways: Mutex<BTreeMap<(String, String), Way>>,
    connections: Mutex<Vec<Connection>>,
    /// Of each pair of nodes: frames of entries that have no frame back yet, and the most there were.
    under_way: Mutex<BTreeMap<(String, String), (usize, usize)>>,
}

#[derive(Clone, Copy, Default)]
struct Way {
    cut: bool,
    delay: Duration,
}

struct Connection {
    ends: (String, String),
    lost: CancellationToken,
}

impl Network {
    /// The transport of one node.
    pub(crate) fn port(&self, name: &str) -> Arc<dyn Transport> {
        Arc::new(Port {
            name: name.to_owned(),
            network: self.clone(),
        })
    }

    /// From now on the node can be reached.
    pub(crate) fn add(&self, name: &str, host: Arc<Host>) {
        self.0.hosts.lock().insert(name.to_owned(), host);
    }

    /// The node is gone: its connections are lost, nobody reaches it, and it reaches nobody.
    pub(crate) fn remove(&self, name: &str) {
        self.0.hosts.lock().remove(name);
        self.lose(|ends| ends.0 == name || ends.1 == name);
    }

    /// Nothing passes from one node to another any more.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.way(from, to, |way| way.cut = true);
    }

    /// Nothing passes between a node and all others.
    pub(crate) fn isolate(&self, name: &str) {
        for other in self.names() {
            self.cut(name, &other);
            self.cut(&other, name);
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        for way in self.0.ways.lock().values_mut() {
            way.cut = false;
        }
    }

    /// Every frame from one node to another takes this long.
    pub(crate) fn delay(&self, from: &str, to: &str, delay: Duration) {
        self.way(from, to, |way| way.delay = delay);
    }

    /// All connections between two nodes are lost at once.
    pub(crate) fn drop_links(&self, one: &str, other: &str) {
        self.lose(|ends| (ends.0 == one && ends.1 == other) || (ends.0 == other && ends.1 == one));
    }

    /// The most frames of entries that were under way between two nodes without an answer.
    pub(crate) fn under_way_max(&self) -> usize {
        let pairs = self.0.under_way.lock();
        pairs.values().map(|(_, max)| *max).max().unwrap_or(0)
    }

    fn names(&self) -> Vec<String> {
        self.0.hosts.lock().keys().cloned().collect()
    }

    fn way(&self, from: &str, to: &str, change: impl FnOnce(&mut Way)) {
        let key = (from.to_owned(), to.to_owned());
        change(self.0.ways.lock().entry(key).or_default());
    }

    fn state_of(&self, from: &str, to: &str) -> Way {
        let key = (from.to_owned(), to.to_owned());
        self.0.ways.lock().get(&key).copied().unwrap_or_default()
    }

    fn lose(&self, which: impl Fn(&(String, String)) -> bool) {
        self.0.connections.lock().retain(|connection| {
            let lost = which(&connection.ends);
            if lost {
                connection.lost.cancel();
            }
            !lost
        });
    }

    fn sent(&self, from: &str, to: &str) {
        let mut pairs = self.0.under_way.lock();
        let (now, max) = pairs.entry((from.to_owned(), to.to_owned())).or_default();
        *now += 1;
        *max = (*max).max(*now);
    }

    fn answered(&self, from: &str, to: &str) {
        let mut pairs = self.0.under_way.lock();
        pairs.entry((to.to_owned(), from.to_owned())).or_default().0 = 0;
    }
}

/// What one node uses to reach others.
struct Port {
    name: String,
    network: Network,
}

impl Transport for Port {
    fn connect(&self, node: &Node, lane: Lane) -> BoxFuture<'static, Result<Duplex, ConnectError>> {
        let (network, from, to) = (self.network.clone(), self.name.clone(), node.name.clone());
        Box::pin(async move {
            let refused = || ConnectError(format!("{to} cannot be reached from {from}"));
            if network.state_of(&from, &to).cut || network.state_of(&to, &from).cut {
                return Err(refused());
            }
            let lost = CancellationToken::new();
            let host = {
                // A node that is removed now loses this connection too, or is found gone.
                let mut connections = network.0.connections.lock();
                let hosts = network.0.hosts.lock();
                let host = hosts.get(&to).filter(|_| hosts.contains_key(&from));
                let host = host.cloned().ok_or_else(refused)?;
                connections.push(Connection {
                    ends: (from.clone(), to.clone()),
                    lost: lost.clone(),
                });
                host
            };
            let pipe = |from: &str, to: &str, back: bool| {
                let (sender, sent) = mpsc::channel(FRAMES);
                let (deliver, receiver) = mpsc::channel(FRAMES);
                let pump = Pump {
                    network: network.clone(),
                    way: (from.to_owned(), to.to_owned()),
                    lane,
                    back,
                    lost: lost.clone(),
                };
                tokio::spawn(pump.run(sent, deliver));
                (sender, receiver)
            };
            let (there, received) = pipe(&from, &to, false);
            let (answer, answered) = pipe(&to, &from, true);
            host.accept(
                lane,
                Duplex {
                    sender: answer,
                    receiver: received,
                },
            );
            Ok(Duplex {
                sender: there,
                receiver: answered,
            })
        })
    }
}

/// One direction of a connection.
struct Pump {
    network: Network,
    way: (String, String),
    lane: Lane,
    back: bool,
    lost: CancellationToken,
}

impl Pump {
    async fn run(self, mut sent: mpsc::Receiver<Bytes>, deliver: mpsc::Sender<Bytes>) {
        let (late, mut due) = mpsc::unbounded_channel::<(Instant, Bytes)>();
        let lost = self.lost.clone();
        let delivering = async {
            while let Some((at, frame)) = due.recv().await {
                sleep_until(at).await;
                if !self.passes().await || deliver.send(frame).await.is_err() {
                    return;
                }
                if self.back && self.lane == Lane::Log {
                    self.network.answered(&self.way.0, &self.way.1);
                }
            }
        };
        let taking = async {
            while let Some(frame) = sent.recv().await {
                let delay = self.network.state_of(&self.way.0, &self.way.1).delay;
                if !self.back && self.lane == Lane::Log {
                    self.network.sent(&self.way.0, &self.way.1);
                }
                if late.send((Instant::now() + delay, frame)).is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = lost.cancelled() => {}
            () = delivering => {}
            () = taking => {}
        }
        // Either end that goes takes the whole connection with it.
        lost.cancel();
    }

    /// Waits while the way is cut. False once the connection is lost over it.
    async fn passes(&self) -> bool {
        let begun = Instant::now();
        while self.network.state_of(&self.way.0, &self.way.1).cut {
            if begun.elapsed() >= KEEP_ALIVE {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}
