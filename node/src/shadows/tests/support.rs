//! Nodes of a cluster inside the test process, over a network in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{
    ConnectError, Duplex, Env, ForwardError, ForwardHandler, HashRange, Host, HostConfig, Lane,
    Node, ReplicaId, Role, ShardSpec, SyncMode, Transport,
};
use antumbra_shadow::json::{self, DuplicateKeys};
use antumbra_shadow::{
    AcceptedItem, Conditions, DeviceId, Patch, SectionInput, ShadowName, Twins, TwinsConfig, Update,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::shadows::*;

/// Nothing that these tests wait for may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const SHARD: ShardId = ShardId(1);

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is never sent.
    NotSent,
    /// It is sent and never arrives.
    Lost,
    /// It arrives and is served, and the answer is lost.
    AnswerLost,
}

/// The network of one test.
#[derive(Default)]
pub(super) struct Network {
    nodes: Mutex<BTreeMap<String, Reached>>,
    /// Nodes that nobody reaches, and that reach nobody.
    cut_off: Mutex<BTreeMap<String, CancellationToken>>,
    faults: Mutex<VecDeque<Fault>>,
    /// Requests that were forwarded: from, to.
    pub(super) forwarded: Mutex<Vec<(String, String)>>,
    /// Streams that were opened: from, to.
    pub(super) followed: Mutex<Vec<(String, String)>>,
}

#[derive(Clone)]
struct Reached {
    host: Arc<Host>,
    shadows: Shadows,
    handler: Arc<dyn ForwardHandler>,
}

impl Network {
    /// What happens to the next requests, one after another.
    pub(super) fn break_next(&self, faults: &[Fault]) {
        self.faults.lock().extend(faults);
    }

    /// Cuts a node off: its connections end and none can be opened.
    pub(super) fn cut(&self, name: &str) {
        let token = self.token(name);
        token.cancel();
    }

    pub(super) fn heal(&self, name: &str) {
        self.cut_off.lock().remove(name);
    }

    fn token(&self, name: &str) -> CancellationToken {
        let mut cut_off = self.cut_off.lock();
        cut_off.entry(name.to_owned()).or_default().clone()
    }

    fn reach(
        &self,
        from: &str,
        to: &str,
    ) -> Option<(Reached, CancellationToken, CancellationToken)> {
        let (mine, other) = (self.token(from), self.token(to));
        let reached = self.nodes.lock().get(to).cloned()?;
        let is_open = !mine.is_cancelled() && !other.is_cancelled();
        is_open.then_some((reached, mine, other))
    }
}

/// What one node has of the network.
struct Line {
    network: Arc<Network>,
    me: String,
}

impl Transport for Line {
    fn connect(&self, node: &Node, lane: Lane) -> BoxFuture<'static, Result<Duplex, ConnectError>> {
        let Some((reached, mine, other)) = self.network.reach(&self.me, &node.name) else {
            return async { Err(ConnectError("cut off".to_owned())) }.boxed();
        };
        async move {
            let (to_there, from_here) = pipe(&mine, &other);
            let (to_here, from_there) = pipe(&mine, &other);
            let theirs = Duplex {
                sender: to_here,
                receiver: from_here,
            };
            reached.host.accept(lane, theirs);
            Ok(Duplex {
                sender: to_there,
                receiver: from_there,
            })
        }
        .boxed()
    }
}

/// One direction of a connection; it ends when one of the nodes is cut off.
fn pipe(
    one: &CancellationToken,
    other: &CancellationToken,
) -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    let (sender, mut incoming) = mpsc::channel::<Bytes>(64);
    let (outgoing, receiver) = mpsc::channel(64);
    let (one, other) = (one.clone(), other.clone());
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                biased;
                () = one.cancelled() => return,
                () = other.cancelled() => return,
                () = outgoing.closed() => return,
                frame = incoming.recv() => frame,
            };
            let Some(frame) = frame else { return };
            if outgoing.send(frame).await.is_err() {
                return;
            }
        }
    });
    (sender, receiver)
}

impl Peers for Line {
    fn forward(
        &self,
        node: &Node,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, ForwardError>> {
        let passed = (self.me.clone(), node.name.clone());
        self.network.forwarded.lock().push(passed);
        let fault = self.network.faults.lock().pop_front();
        let reached = self.network.reach(&self.me, &node.name);
        async move {
            let Some((reached, mine, other)) = reached else {
                return Err(ForwardError::NotSent);
            };
            match fault {
                Some(Fault::NotSent) => return Err(ForwardError::NotSent),
                Some(Fault::Lost) => return Err(ForwardError::Unknown),
                Some(Fault::AnswerLost) | None => {}
            }
            let served = tokio::select! {
                biased;
                () = mine.cancelled() => return Err(ForwardError::Unknown),
                () = other.cancelled() => return Err(ForwardError::Unknown),
                served = tokio::time::timeout(timeout, reached.handler.handle(body)) => served,
            };
            match served {
                Ok(answer) if fault.is_none() => Ok(answer),
                _ => Err(ForwardError::Unknown),
            }
        }
        .boxed()
    }

    fn follow(
        &self,
        node: &Node,
        body: Bytes,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        let passed = (self.me.clone(), node.name.clone());
        self.network.followed.lock().push(passed);
        let reached = self.network.reach(&self.me, &node.name);
        async move {
            let (reached, mine, other) = reached.ok_or("cut off")?;
            let stream = reached.shadows.follow(body);
            let cut = async move {
                tokio::select! {
                    biased;
                    () = mine.cancelled() => {}
                    () = other.cancelled() => {}
                }
            };
            Ok(stream.take_until(Box::pin(cut)).boxed())
        }
        .boxed()
    }
}

/// One node.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) shadows: Shadows,
    pub(super) context: Option<ShardContext>,
    host: Arc<Host>,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

/// A cluster with one shard.
pub(super) struct Cluster {
    pub(super) network: Arc<Network>,
    pub(super) members: Vec<Member>,
    pub(super) place: ShardPlace,
}

fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        address: String::new(),
    }
}

impl Cluster {
    /// Nodes `a`, `b`, … with a replica each, then one without for every further letter.
    pub(super) async fn start(replicas: usize, others: usize) -> Cluster {
        let network = Arc::new(Network::default());
        let names: Vec<String> = ('a'..='z')
            .take(replicas + others)
            .map(String::from)
            .collect();
        let with_replica = names[..replicas].iter();
        let place = ShardPlace {
            shard: SHARD,
            range: HashRange::FULL,
            replicas: (1..)
                .map(ReplicaId)
                .zip(with_replica.map(|name| node(name)))
                .collect(),
        };
        let mut members = Vec::new();
        for name in &names {
            members.push(Member::start(&network, name).await);
        }
        for (member, replica) in members.iter_mut().zip(place.replicas.keys()) {
            member.start_replica(&place, *replica).await;
        }
        let cluster = Cluster {
            network,
            members,
            place,
        };
        for member in &cluster.members {
            cluster.set_table(&member.name, member.context.clone());
        }
        cluster.leader().await;
        cluster
    }

    pub(super) fn member(&self, name: &str) -> &Member {
        let found = self.members.iter().find(|member| member.name == name);
        found.unwrap()
    }

    pub(super) fn shadows(&self, name: &str) -> &Shadows {
        &self.member(name).shadows
    }

    /// Tells a node where the shard is, and whether a replica is there.
    pub(super) fn set_table(&self, name: &str, local: Option<ShardContext>) {
        let local = local.map(|context| (SHARD, context));
        let places = vec![self.place.clone()];
        self.shadows(name)
            .set_table(places, local.into_iter().collect());
    }

    /// The name of the node that leads, once one does.
    pub(super) async fn leader(&self) -> String {
        let leading = async {
            loop {
                let found = self.members.iter().find(|member| {
                    let context = member.context.as_ref();
                    context.is_some_and(ShardContext::leads)
                });
                if let Some(found) = found {
                    return found.name.clone();
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, leading).await.expect("a leader in time")
    }

    /// A node with a replica that does not lead.
    pub(super) async fn follower(&self) -> String {
        let leader = self.leader().await;
        let others = self
            .members
            .iter()
            .filter(|member| member.context.is_some());
        let mut names = others.map(|member| member.name.clone());
        names.find(|name| *name != leader).unwrap()
    }

    /// Hands the lead to another node and waits until that has it.
    pub(super) async fn transfer(&self, to: &str) {
        let from = self.leader().await;
        let replicas = self.place.replicas.iter();
        let mut replicas = replicas.filter(|(_, node)| node.name == to);
        let replica = *replicas.next().unwrap().0;
        let context = self.member(&from).context.clone().unwrap();
        let moved = context.shard.transfer_leadership(replica, PATIENCE).await;
        moved.unwrap();
        let arrived = async {
            while self.leader().await != to {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, arrived).await.expect("the lead arrives");
    }

    pub(super) async fn stop(self) {
        for member in &self.members {
            member.stop.cancel();
            member.shadows.set_table(Vec::new(), BTreeMap::new());
        }
        self.network.nodes.lock().clear();
        for member in self.members {
            if let Some(context) = member.context {
                context.twins.stop().await;
            }
            let _ = member.host.shutdown().await;
        }
    }
}

impl Member {
    async fn start(network: &Arc<Network>, name: &str) -> Member {
        let directory = tempfile::tempdir().unwrap();
        let line = || {
            Arc::new(Line {
                network: Arc::clone(network),
                me: name.to_owned(),
            })
        };
        let config = HostConfig {
            create: true,
            sync: SyncMode::NoSyncForTests,
            ..HostConfig::new(directory.path(), [7; 16])
        };
        let env = Env::system();
        let host = Host::open(config, env.clone(), line()).await.unwrap();
        let stop = CancellationToken::new();
        let shadows = Shadows::new(Wiring {
            node: name.to_owned(),
            clock: env.clock,
            peers: line(),
            cluster: ClusterMark(9),
            config: ShadowsConfig {
                bookmark_interval: Duration::from_millis(300),
                ..ShadowsConfig::default()
            },
            stop: stop.clone(),
        });
        let host = Arc::new(host);
        let reached = Reached {
            host: Arc::clone(&host),
            handler: shadows.forward_handler(),
            shadows: shadows.clone(),
        };
        network.nodes.lock().insert(name.to_owned(), reached);
        Member {
            name: name.to_owned(),
            shadows,
            context: None,
            host,
            stop,
            _directory: directory,
        }
    }

    async fn start_replica(&mut self, place: &ShardPlace, replica: ReplicaId) {
        let relay = Relay::new(RelayLimits {
            changes_max: 1024,
            bytes_max: 1 << 20,
        });
        let machine = Arc::new(ShadowMachine::new(Arc::clone(&relay)));
        let spec = ShardSpec {
            shard: place.shard,
            replica,
            range: place.range,
            members: place.replicas.clone(),
            create: replica == ReplicaId(1),
        };
        let started = self.host.start_shard(spec, Arc::clone(&machine)).await;
        let shard = started.unwrap();
        let port = Port::new(shard.clone(), Env::system().clock, Faults::default());
        let twins = Twins::new(Arc::new(port), TwinsConfig::default());
        machine.attach(twins.clone());
        let context = ShardContext {
            range: place.range,
            shard,
            twins,
            relay,
        };
        tokio::spawn(lead_twins(context.clone(), self.stop.clone()));
        self.context = Some(context);
    }
}

impl Member {
    /// Stops the replica; the node does not know yet that it has gone.
    pub(super) async fn stop_replica(&self) {
        self.host.stop_shard(SHARD).await.unwrap();
    }
}

async fn lead_twins(context: ShardContext, stop: CancellationToken) {
    let mut role = context.shard.role();
    loop {
        let now = *role.borrow_and_update();
        match now {
            Role::Leader { term } => context.twins.lead(term),
            _ => context.twins.step_down(),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = role.changed() => if changed.is_err() { return },
        }
    }
}

pub(super) fn device(id: &str) -> DeviceKey {
    DeviceKey::new(Tenant::default(), DeviceId::parse(id).unwrap())
}

pub(super) fn caller() -> Caller {
    Caller::anyone("test")
}

pub(super) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// A change that merges `reported`, with a request id or without.
pub(super) fn draft(request_id: Option<&str>, json: &str) -> Draft {
    let value = json::parse(json.as_bytes(), DuplicateKeys::Reject, 32).unwrap();
    let limits = Limits::default();
    let update = Update {
        shadow: ShadowName::classic(),
        patch: Patch::build(SectionInput::Absent, SectionInput::Merge(&value), &limits).unwrap(),
        conditions: Conditions::default(),
    };
    Draft {
        request_id: request_id.map(|id| RequestId::parse(id).unwrap()),
        ..Draft::new("test", Kind::Update(update))
    }
}

pub(super) fn accepted(outcome: Result<Outcome, Error>) -> AcceptedItem {
    match outcome.unwrap() {
        Outcome::Accepted(items) => items.into_iter().next().unwrap(),
        Outcome::Rejected(rejection) => panic!("rejected: {rejection}"),
    }
}

/// Merges into the classic shadow of a device, repeated until it is certain.
pub(super) async fn update(shadows: &Shadows, id: &str, json: &str) -> AcceptedItem {
    let request = uuid::Uuid::new_v4().to_string();
    let draft = draft(Some(&request), json);
    let (caller, device) = (caller(), device(id));
    let outcome = shadows.update(&caller, &device, draft, deadline());
    accepted(outcome.await)
}

pub(super) async fn read(shadows: &Shadows, id: &str, options: ReadOptions) -> Result<Read, Error> {
    let shadow = ShadowName::classic();
    shadows
        .get(&caller(), &device(id), &shadow, options, deadline())
        .await
}

pub(super) fn watch(shadows: &Shadows, cursor: Option<String>) -> WatchStream {
    let request = WatchRequest {
        tenant: Tenant::default(),
        selection: WatchSelection::Prefix(String::new()),
        cursor,
    };
    shadows.watch(&caller(), request).unwrap()
}

pub(super) async fn next(stream: &mut WatchStream) -> WatchMessage {
    let message = timeout(PATIENCE, stream.next()).await;
    message
        .expect("an event in time")
        .expect("an open stream")
        .unwrap()
}

/// Checks that every device is seen version by version.
#[derive(Debug, Default)]
pub(super) struct Versions {
    seen: BTreeMap<String, u64>,
    pub(super) cursor: String,
    pub(super) bookmarks: usize,
}

impl Versions {
    /// Reads until a device has reached a version.
    pub(super) async fn until(&mut self, stream: &mut WatchStream, id: &str, version: u64) {
        while self.seen.get(id).copied().unwrap_or(0) < version {
            let message = next(stream).await;
            self.take(message);
        }
    }

    /// Goes on where somebody else stopped.
    pub(super) fn take_up(&mut self, other: &Versions) {
        self.seen = other.seen.clone();
    }

    pub(super) fn take(&mut self, message: WatchMessage) {
        match message.event {
            WatchEvent::Document {
                device, document, ..
            } => {
                let before = self
                    .seen
                    .insert(device.device.to_string(), document.version());
                assert_eq!(before, None, "a document comes once");
            }
            WatchEvent::Change(change) => {
                let id = change.device().device.to_string();
                let seen = self.seen.entry(id).or_default();
                assert_eq!(*change.version(), *seen + 1, "without gaps and repeats");
                *seen += 1;
            }
            WatchEvent::Synced => {}
            WatchEvent::Bookmark => self.bookmarks += 1,
            WatchEvent::Reset(reason) => panic!("reset: {reason:?}"),
        }
        if !message.cursor.is_empty() {
            self.cursor = message.cursor;
        }
    }
}

/// Names without repeats.
pub(super) fn distinct(pairs: &[(String, String)]) -> BTreeSet<String> {
    pairs.iter().map(|(_, to)| to.clone()).collect()
}
