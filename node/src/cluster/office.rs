//! Answers what other nodes ask, from the first moment on: before a cluster exists it says who this
//! node is and takes promises, later it lets nodes in and reports.

mod desk;
mod join;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use antumbra_raft::{Host, Role, Shard};

use crate::identity::{self, DataDirectory, Identity};
use crate::peer::{ControlError, Directory, Me, PeerTransport};
use crate::shadows::Shadows;
use crate::telemetry;

pub(crate) use desk::Desk;

use super::control::{Answer, Request, Standing};
use super::report;
use super::scaling::charter::Charter;
use super::state::{ClusterState, Founding, META_SHARD, MetaCommand, MetaReply, NodeId, NodeInfo};

/// Pause before the meta shard is tried again.
const PROPOSE_PAUSE: Duration = Duration::from_millis(50);
/// How long a proposal to the meta shard may take.
pub(crate) const PROPOSE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long another node may take over a proposal.
const HOP_TIMEOUT: Duration = Duration::from_secs(4);

/// What the node says to others. One per process.
pub struct Office {
    cluster_name: String,
    info: NodeInfo,
    me: Me,
    transport: Arc<PeerTransport>,
    /// Where the links find other nodes.
    addresses: Directory,
    directory: Arc<DataDirectory>,
    /// The header as it is on the disk; the lock is held while it is written.
    identity: tokio::sync::Mutex<Identity>,
    standing: watch::Sender<Standing>,
    state: watch::Sender<Option<Arc<ClusterState>>>,
    /// Version of the state on the disk; the lock is held while it is written.
    kept: tokio::sync::Mutex<u64>,
    /// The founders, as long as there is no state.
    peers: Mutex<BTreeMap<String, String>>,
    /// When the leader of shard 0 was last reached.
    heard: Mutex<Option<Instant>>,
    /// Set once the stores are open.
    serving: Mutex<Option<Serving>>,
    charter: Charter,
}

/// What an office is made of.
pub(crate) struct Wiring {
    pub(crate) identity: Identity,
    pub(crate) info: NodeInfo,
    pub(crate) me: Me,
    pub(crate) transport: Arc<PeerTransport>,
    pub(crate) addresses: Directory,
    pub(crate) directory: Arc<DataDirectory>,
    pub(crate) charter: Charter,
}

/// What the node has to answer with once its stores are open.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) host: Arc<Host>,
    pub(crate) shadows: Shadows,
}

impl Office {
    pub(crate) fn new(wiring: Wiring) -> Arc<Office> {
        let Wiring { identity, me, .. } = wiring;
        let cluster_id = match &identity.standing {
            Standing::Blank => None,
            Standing::Pledged(founding) => Some(founding.cluster_id),
            Standing::Member { cluster_id, .. } => Some(*cluster_id),
        };
        if let Some(cluster_id) = cluster_id {
            me.set_cluster(cluster_id);
        }
        Arc::new(Office {
            cluster_name: identity.cluster_name.clone(),
            info: wiring.info,
            me,
            transport: wiring.transport,
            addresses: wiring.addresses,
            directory: wiring.directory,
            charter: wiring.charter,
            standing: watch::Sender::new(identity.standing.clone()),
            identity: tokio::sync::Mutex::new(identity),
            state: watch::Sender::new(None),
            kept: tokio::sync::Mutex::new(0),
            peers: Mutex::new(BTreeMap::new()),
            heard: Mutex::new(None),
            serving: Mutex::new(None),
        })
    }

    pub(crate) fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    pub(crate) fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// Who may join and leave.
    pub(crate) fn charter(&self) -> &Charter {
        &self.charter
    }

    /// The cluster that this node belongs to or has promised to belong to.
    pub(crate) fn cluster_id(&self) -> Option<uuid::Uuid> {
        self.me.cluster()
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// The newest state of the cluster that this node has seen.
    pub(crate) fn state(&self) -> watch::Receiver<Option<Arc<ClusterState>>> {
        self.state.subscribe()
    }

    /// When the leader of shard 0 was last reached, by this node or by the one that it asks.
    pub(crate) fn heard(&self) -> Option<Instant> {
        *self.heard.lock()
    }

    /// The leader of shard 0 was reached then.
    pub(crate) fn hears(&self, at: Instant) {
        let mut heard = self.heard.lock();
        *heard = (*heard).max(Some(at));
    }

    /// From now on requests about replicas and devices can be answered.
    pub(crate) fn open(&self, serving: Serving) {
        *self.serving.lock() = Some(serving);
    }

    /// Lets go of stores and shards. Requests about them are refused afterwards.
    pub(crate) fn close(&self) {
        *self.serving.lock() = None;
    }

    pub(crate) fn serving(&self) -> Option<Serving> {
        self.serving.lock().clone()
    }

    /// The state on the disk of a node that is a member.
    pub(crate) fn known_state(&self) -> Result<Option<ClusterState>, identity::Error> {
        let Standing::Member { cluster_id, .. } = self.standing() else {
            return Ok(None);
        };
        let path = self.directory.path().join("cluster");
        match self.directory.read_cluster()? {
            Some(state) if state.cluster_id == cluster_id => Ok(Some(state)),
            Some(_) => Err(identity::Error::Damaged {
                path,
                what: "it is of another cluster than the identity".to_owned(),
            }),
            // It is written before the header says that the node is a member.
            None => Err(identity::Error::Missing { path }),
        }
    }

    /// Promises to belong to a cluster: on the disk before this returns. The inner error says why not.
    pub(crate) async fn pledge(
        &self,
        founding: &Founding,
    ) -> Result<Result<(), String>, identity::Error> {
        let mut identity = self.identity.lock().await;
        if !founding.is_valid() {
            return Ok(Err("no cluster can be made of it".into()));
        }
        let is_member = |node: &NodeInfo| {
            node.name == self.info.name && node.incarnation == self.info.incarnation
        };
        if !founding.members.iter().any(is_member) {
            return Ok(Err("this incarnation is not among its members".into()));
        }
        match &identity.standing {
            Standing::Member { .. } => return Ok(Err("this node belongs to a cluster".into())),
            Standing::Pledged(other) if other == founding => return Ok(Ok(())),
            Standing::Pledged(other) => {
                return Ok(Err(format!(
                    "this node has promised to belong to cluster {}",
                    other.cluster_id
                )));
            }
            Standing::Blank => {}
        }
        let standing = Standing::Pledged(founding.clone());
        self.write(&mut identity, |next| next.standing = standing.clone())
            .await?;
        self.me.set_cluster(founding.cluster_id);
        self.standing.send_replace(standing);
        Ok(Ok(()))
    }

    /// Notes on the disk that this node belongs to a cluster, and what that looks like.
    pub(crate) async fn become_member(
        &self,
        node: NodeId,
        state: &ClusterState,
    ) -> Result<(), identity::Error> {
        self.remember(state).await?;
        let mut identity = self.identity.lock().await;
        let standing = Standing::Member {
            cluster_id: state.cluster_id,
            node,
        };
        if identity.standing != standing {
            self.write(&mut identity, |next| next.standing = standing.clone())
                .await?;
            self.me.set_cluster(state.cluster_id);
            self.standing.send_replace(standing);
        }
        Ok(())
    }

    /// From now on a missing store is damage.
    pub(crate) async fn stores_created(&self) -> Result<(), identity::Error> {
        let mut identity = self.identity.lock().await;
        if identity.created {
            return Ok(());
        }
        self.write(&mut identity, |next| next.created = true).await
    }

    /// Keeps the last known state on the disk and tells everybody in the process.
    pub(crate) async fn remember(&self, state: &ClusterState) -> Result<(), identity::Error> {
        let mut kept = self.kept.lock().await;
        if *kept >= state.version {
            return Ok(());
        }
        let (directory, written) = (Arc::clone(&self.directory), state.clone());
        blocking(move || directory.write_cluster(&written)).await?;
        *kept = state.version;
        self.addresses.set(state.peer_addresses());
        let state = Arc::new(state.clone());
        self.state.send_if_modified(|current| {
            let newer = current
                .as_ref()
                .is_none_or(|current| current.version < state.version);
            if newer {
                *current = Some(Arc::clone(&state));
            }
            newer
        });
        Ok(())
    }

    async fn write(
        &self,
        identity: &mut Identity,
        change: impl FnOnce(&mut Identity),
    ) -> Result<(), identity::Error> {
        let mut next = identity.clone();
        change(&mut next);
        let (directory, written) = (Arc::clone(&self.directory), next.clone());
        blocking(move || directory.write(&written)).await?;
        *identity = next;
        Ok(())
    }

    /// Makes the nodes of a state known to the links.
    pub(crate) fn transport_knows(&self, state: &ClusterState) {
        self.addresses.set(state.peer_addresses());
        self.peers.lock().clone_from(&state.peer_addresses());
    }

    /// Peer addresses of all other nodes that are known.
    pub(crate) fn peers(&self) -> Vec<String> {
        let state = self.state.borrow().clone();
        let mut addresses = match state {
            Some(state) => state.peer_addresses(),
            None => self.peers.lock().clone(),
        };
        addresses.remove(&self.info.name);
        addresses.into_values().collect()
    }

    /// One request to another node.
    pub(crate) async fn ask(
        &self,
        address: &str,
        request: &Request,
        timeout: Duration,
    ) -> Result<Answer, ControlError> {
        let answer = self
            .transport
            .control(address, request.encode(), timeout)
            .await?;
        Answer::decode(&answer)
            .ok_or_else(|| ControlError::Refused("the answer cannot be read".into()))
    }

    /// One request to a node of the cluster, or to this one.
    pub(crate) async fn ask_node(
        self: &Arc<Self>,
        node: NodeId,
        request: &Request,
        timeout: Duration,
    ) -> Result<Answer, ControlError> {
        let state = self.state.borrow().clone();
        let info = state.as_ref().and_then(|state| state.nodes.get(&node));
        let info = info.ok_or_else(|| ControlError::NotSent(format!("no node {node}")))?;
        if info.name == self.info.name {
            return Ok(Arc::clone(self).answer(request.clone()).await);
        }
        self.ask(&info.peer, request, timeout).await
    }

    /// Carries a command out on the meta shard, wherever it is led. Commands can be repeated: what is
    /// unknown is tried again until `deadline`.
    pub(crate) async fn propose(
        self: &Arc<Self>,
        command: MetaCommand,
        deadline: Instant,
    ) -> Result<MetaReply, String> {
        let mut why = "nobody leads the meta shard".to_owned();
        while Instant::now() < deadline {
            match timeout_at(deadline, self.propose_once(&command)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(failed)) => why = failed,
                Err(_) => break,
            }
            sleep(PROPOSE_PAUSE).await;
        }
        Err(why)
    }

    async fn propose_once(self: &Arc<Self>, command: &MetaCommand) -> Result<MetaReply, String> {
        if let Some(reply) = self.propose_here(command).await {
            return reply;
        }
        let state = self.state.borrow().clone().ok_or("no state yet")?;
        let meta = state.shards.get(&META_SHARD.0).ok_or("no meta shard")?;
        let request = Request::Propose(command.clone());
        let mut why = "nobody leads the meta shard".to_owned();
        // Also one that is on its way out: it may lead until it goes.
        let nodes: BTreeSet<NodeId> = meta.replicas.values().copied().collect();
        for node in &nodes {
            let Some(info) = state.nodes.get(node) else {
                continue;
            };
            if info.name == self.info.name {
                continue;
            }
            match self.ask(&info.peer, &request, HOP_TIMEOUT).await {
                Ok(Answer::Meta(reply)) => return Ok(reply),
                Ok(Answer::Refused(refused)) => why = refused,
                Ok(_) => {}
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    /// `None` when this node does not lead the meta shard.
    async fn propose_here(&self, command: &MetaCommand) -> Option<Result<MetaReply, String>> {
        let shard = self.serving()?.host.shard(META_SHARD)?;
        let Role::Leader { term } = *shard.role().borrow() else {
            return None;
        };
        let proposed = shard.propose(term, command.encode().into()).await;
        Some(match proposed {
            Ok(proposed) => MetaReply::decode(&proposed.reply)
                .ok_or_else(|| "the reply cannot be read".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    async fn answer(self: Arc<Self>, request: Request) -> Answer {
        match request {
            Request::Hello { cluster } => self.hello(&cluster),
            Request::Pledge(founding) => match self.pledge(&founding).await {
                Ok(Ok(())) => Answer::Pledged,
                Ok(Err(why)) => Answer::Refused(why),
                Err(error) => {
                    warn!(%error, "write a promise");
                    Answer::Refused(error.to_string())
                }
            },
            Request::Join(node) => self.let_in(node).await,
            Request::ScaleIn => Answer::ScaleIn(self.charter.note()),
            Request::Propose(command) => match self.propose_here(&command).await {
                Some(Ok(reply)) => Answer::Meta(reply),
                Some(Err(why)) => Answer::Refused(why),
                None => Answer::NotLeader(None),
            },
            Request::State { version } => {
                let state = self.state.borrow().clone();
                let newer = state.filter(|state| state.version > version);
                Answer::State(newer.map(|state| ClusterState::clone(&state)))
            }
            Request::Heard => {
                let ago = self.heard().map(|heard| heard.elapsed().as_millis());
                Answer::Heard(ago.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)))
            }
            Request::LogFilter { filter } => log_filter(&filter),
            Request::Replicas
            | Request::Transfer { .. }
            | Request::Checksum { .. }
            | Request::Pin { .. }
            | Request::Twin { .. } => {
                let state = self.state.borrow().clone();
                match (self.serving(), state) {
                    (Some(serving), Some(state)) => report::answer(&serving, &state, request).await,
                    _ => Answer::Refused("this node is starting or stopping".into()),
                }
            }
        }
    }

    fn hello(&self, cluster: &str) -> Answer {
        if cluster != self.cluster_name {
            return Answer::Refused(format!("this node is of cluster {}", self.cluster_name));
        }
        Answer::Hello {
            node: self.info.clone(),
            standing: self.standing(),
        }
    }
}

/// An empty filter is a question.
fn log_filter(filter: &str) -> Answer {
    let told = match filter.is_empty() {
        true => telemetry::filter(),
        false => telemetry::set_filter(filter),
    };
    match told {
        Ok(in_force) => {
            info!(filter = in_force, "log filter in force");
            Answer::LogFilter {
                filter: in_force,
                finest_level: telemetry::finest_level(),
            }
        }
        Err(error) => Answer::Refused(error.to_string()),
    }
}

/// The shard that a request names, if this node leads it.
pub(crate) fn led(host: &Host, shard: u32) -> Option<(Shard, u64)> {
    let shard = host.shard(antumbra_raft::ShardId(shard))?;
    let role = *shard.role().borrow();
    match role {
        Role::Leader { term } => Some((shard, term)),
        _ => None,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, identity::Error> + Send + 'static,
) -> Result<T, identity::Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(identity::Error::Io {
                action: "write",
                path: "identity".into(),
                source: std::io::Error::other(error),
            })
        })
}
