//! Nodes of a cluster inside the test process, over a network in memory.

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use antumbra_raft::{
    Commands, EntryPosition, Env, HashRange, Host, HostConfig, Machine, MembershipError, Node,
    ReplicaId, Replies, Role, ShardSpec, SyncMode, WriteTx,
};
use antumbra_shadow::json::{self, DuplicateKeys};
use antumbra_shadow::{
    AcceptedItem, Conditions, DeviceId, Patch, RULES, SectionInput, ShadowName, Tenant, Twins,
    TwinsConfig, Update,
};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::shadows::*;

pub(super) use network::{Fault, Network};

use network::{Line, Reached};

/// Nothing that these tests wait for may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const SHARD: ShardId = ShardId(1);

/// The machine of a shard; counts how often a snapshot replaced its rows.
struct Counted {
    machine: ShadowMachine,
    resets: Arc<AtomicUsize>,
}

impl Machine for Counted {
    type Change = <ShadowMachine as Machine>::Change;

    fn apply(
        &self,
        tx: &mut WriteTx<'_>,
        at: EntryPosition,
        commands: Commands<'_>,
        replies: Replies,
        changes: &mut Vec<Arc<Self::Change>>,
    ) -> Result<Vec<Bytes>, antumbra_raft::Error> {
        self.machine.apply(tx, at, commands, replies, changes)
    }

    fn applied(&self, shard: ShardId, index: u64, changes: Vec<Arc<Self::Change>>) {
        self.machine.applied(shard, index, changes);
    }

    fn reset(&self, shard: ShardId) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.machine.reset(shard);
    }
}

/// One node.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) shadows: Shadows,
    pub(super) context: Option<ShardContext>,
    /// Snapshots that were installed.
    pub(super) resets: Arc<AtomicUsize>,
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
        let deadline = Instant::now() + PATIENCE;
        // On a busy machine the other replica may not have answered for a moment.
        while let Err(error) = context.shard.transfer_leadership(replica, PATIENCE).await {
            assert_eq!(error, MembershipError::Unreachable);
            assert!(Instant::now() < deadline, "the other replica never answers");
            sleep(Duration::from_millis(20)).await;
        }
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
            log_entries_kept: 8,
            ..HostConfig::new(directory.path(), [7; 16])
        };
        let env = Env::system();
        let host = Host::open(config, env.clone(), line()).await.unwrap();
        let stop = CancellationToken::new();
        let shadows = Shadows::new(Wiring {
            node: name.to_owned(),
            clock: env.clock,
            peers: line(),
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
            resets: Arc::default(),
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
        let machine = Arc::new(Counted {
            machine: ShadowMachine::new(place.range, Arc::clone(&relay)),
            resets: Arc::clone(&self.resets),
        });
        let spec = ShardSpec {
            shard: place.shard,
            replica,
            range: place.range,
            members: place.replicas.clone(),
            create: replica == ReplicaId(1),
        };
        let started = self.host.start_shard(spec, Arc::clone(&machine)).await;
        let shard = started.unwrap();
        let rules = Arc::new(AtomicU16::new(RULES));
        let port = Port::new(shard.clone(), Env::system().clock, rules, Faults::default());
        let twins = Twins::new(Arc::new(port), TwinsConfig::default());
        machine.machine.attach(twins.clone());
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
    /// The first failure that must stop the node.
    pub(super) fn failed(&self) -> watch::Receiver<Option<Arc<antumbra_raft::Error>>> {
        self.host.failed()
    }

    /// Flushes the state and lets the log be purged.
    pub(super) async fn flush(&self) {
        self.host.flush().await.unwrap();
    }

    /// Flushes until only the last entries are left in the log: what a replica is being sent is not
    /// purged at once.
    pub(super) async fn purge(&self) {
        let purging = async {
            loop {
                self.flush().await;
                let status = self.host.shard(SHARD).unwrap().status();
                if status.purged_index + 20 >= status.applied_index {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, purging).await.expect("the log is purged");
    }

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
