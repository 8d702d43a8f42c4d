//! The shards of one node, on one log store and one state store.

mod disk;
mod removal;
mod vitals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use openraft::Raft;
use openraft::errors::{InitializeError, RaftError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::barrier::{Asker, Barrier, WAITERS_MAX};
use crate::config::HostConfig;
use crate::env::Env;
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ShardId;
use crate::log::ShardLog;
use crate::machine::{ErasedMachine, Machine};
use crate::net::{Duplex, ForwardError, ForwardHandler, Lane, Links, Peers, Server, Transport};
use crate::proposals::Proposals;
use crate::replica::{ShardRaft, ShardSpec, raft_config};
use crate::role::{Role, RoleKeeper};
use crate::shard::{Inner, Shard};
use crate::shards::Shards;
use crate::state::{Key, Position, PositionRow, Progress, ShardState, StateStore};
use crate::stores::{FlushService, Stores};
use crate::types::Node;

/// How long a shutdown, or the stop of a replica, waits for tasks that still hold the stores.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The engine of one node.
pub struct Host {
    /// A node that only talks to others has none.
    stores: Option<Arc<Stores>>,
    shards: Arc<Shards>,
    failure: Failure,
    /// To other nodes.
    links: Arc<Links>,
    /// From other nodes.
    server: Server,
    config: HostConfig,
    env: Env,
    /// Tasks of the host; all of them end when it shuts down.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Host {
    /// Opens both stores, or refuses them with a coded error and leaves them alone. Finishes snapshot
    /// installs that a crash interrupted. Starts no shard.
    pub async fn open(
        config: HostConfig,
        env: Env,
        transport: Arc<dyn Transport>,
    ) -> Result<Host, Error> {
        config.validate()?;
        let shards = Arc::new(Shards::default());
        let opening = {
            let (config, shards) = (config.clone(), Arc::clone(&shards));
            move || Stores::open(&config, shards)
        };
        let stores = tokio::task::spawn_blocking(opening)
            .await
            .map_err(|_| Error::Stopped)??;
        let failure = stores.failure.clone();
        let stores = Arc::new(stores);
        let watch = FlushService {
            stores: Arc::clone(&stores),
            interval: config.flush_interval,
            log_bytes: config.flush_log_bytes,
        };
        let host = Host::of(Some(stores), shards, failure, config, env, transport);
        host.tasks.spawn(watch.run(host.stop.clone()));
        Ok(host)
    }

    /// The engine of a node that keeps nothing: it talks to the others, and starts no shard. Needs no
    /// directory.
    pub fn without_stores(config: HostConfig, env: Env, transport: Arc<dyn Transport>) -> Host {
        let (shards, failure) = (Arc::default(), Failure::new());
        Host::of(None, shards, failure, config, env, transport)
    }

    fn of(
        stores: Option<Arc<Stores>>,
        shards: Arc<Shards>,
        failure: Failure,
        config: HostConfig,
        env: Env,
        transport: Arc<dyn Transport>,
    ) -> Host {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let rate = config.snapshot_bytes_per_second;
        let links = Links::new(transport, rate, tasks.clone(), stop.clone());
        Host {
            stores,
            shards: Arc::clone(&shards),
            failure,
            links: Arc::new(links),
            server: Server {
                shards,
                handler: Arc::default(),
                tasks: tasks.clone(),
                stop: stop.clone(),
            },
            config,
            env,
            tasks,
            stop,
        }
    }

    /// Starts one replica. It replays what it knows to be committed before this returns; wait for
    /// [`Shard::recovered`] before serving from it. The group is initialised only if `create` is set and
    /// the replica has neither log nor vote. What another replica of the shard left here is removed first.
    pub async fn start_shard(
        &self,
        spec: ShardSpec,
        machine: Arc<impl Machine>,
    ) -> Result<Shard, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        let stores = self.stores()?;
        if !self.shards.reserve(spec.shard) {
            return Err(Error::Config {
                setting: "shard",
                what: format!("shard {} runs already", spec.shard),
            });
        }
        let reserved = Reserved(&self.shards, spec.shard);
        let running = TaskTracker::new();
        let (log, state) = open_replica(stores, &spec, machine, &running).await?;
        let (blank, progress) = (log.is_blank(), Arc::clone(&state.progress));
        let raft = self.start_raft(stores, &spec, log, state).await?;
        if let Err(error) = self.elect(&spec, &raft, blank).await {
            let _ = raft.shutdown().await;
            stores.flusher.remove(spec.shard);
            return Err(error);
        }
        let shard = self.attach(stores, raft, progress, running);
        self.shards.run(shard.clone());
        drop(reserved);
        if self.stop.is_cancelled() {
            // A shutdown came meanwhile and has not seen it.
            stop_replica(&shard).await;
            return Err(Error::Stopped);
        }
        Ok(shard)
    }

    /// Stops one replica and lets go of it; its data stay. When this has returned without an error, the
    /// same or another replica of the shard may be started. Dropping the future midway leaves the replica
    /// stopping, and its place taken.
    pub async fn stop_shard(&self, shard: ShardId) -> Result<(), Error> {
        let stores = Arc::clone(self.stores()?);
        let Some(running) = self.shards.take(shard) else {
            return Err(Error::Config {
                setting: "shard",
                what: format!("shard {shard} does not run"),
            });
        };
        info!(%shard, replica = %running.replica(), "stop a replica");
        stop_replica(&running).await;
        stores.flusher.remove(shard);
        let released = running.inner.running.clone();
        drop(running);
        // Nobody else may touch what its tasks still hold, however long that takes.
        let releasing = self.tasks.spawn(async move {
            released.wait().await;
            // The next replica takes what it finds in the log for durable.
            let settled = stores.log.shard(shard).await?.settle().await;
            settled.map_err(|first| Error::Failed { first })?;
            stores.shards.release(shard);
            Ok(())
        });
        match tokio::time::timeout(RELEASE_TIMEOUT, releasing).await {
            Ok(done) => done.unwrap_or(Err(Error::Stopped)),
            Err(_) => Err(Error::Timeout {
                action: "stop a replica",
            }),
        }
    }

    /// Serves a connection that another node opened for `lane` until it ends. Who may open one is
    /// the business of the transport.
    pub fn accept(&self, lane: Lane, connection: Duplex) {
        self.server.accept(lane, connection);
    }

    /// From now on this handler serves the requests that other nodes forward. Until there is one they
    /// are refused.
    pub fn set_forward_handler(&self, handler: Arc<dyn ForwardHandler>) {
        *self.server.handler.write() = Some(handler);
    }

    /// One request to another node's forward handler. Dropping the future midway leaves the outcome
    /// unknown.
    pub async fn forward(
        &self,
        node: &Node,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, ForwardError> {
        self.links.forward(node, request, timeout).await
    }

    /// The two stores of one replica as openraft drives them, with a log that may be purged freely.
    /// [`Host::start_shard`] is what a node wants; this is for whoever drives the stores itself, as
    /// openraft's conformance suite does.
    pub async fn replica_stores(
        &self,
        spec: &ShardSpec,
        machine: Arc<impl Machine>,
    ) -> Result<(ShardLog, ShardState), Error> {
        let stores = self.stores()?;
        let replica = open_replica(stores, spec, machine, &self.tasks).await?;
        stores.log.set_purge_gate(spec.shard, u64::MAX);
        Ok(replica)
    }

    /// A shard that was started.
    pub fn shard(&self, shard: ShardId) -> Option<Shard> {
        self.shards.get(shard)
    }

    /// Time and randomness of this node.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Becomes `Some` once damage or an error of the disk was met: the node must stop with its code.
    pub fn failed(&self) -> watch::Receiver<Option<Arc<Error>>> {
        self.failure.subscribe()
    }

    /// Flushes the state store now and lets the logs be purged.
    pub async fn flush(&self) -> Result<(), Error> {
        match &self.stores {
            Some(stores) => stores.flush().await,
            None => Ok(()),
        }
    }

    /// Ends all connections, stops all shards, flushes the state store and closes the log. Drop the
    /// host and all handles of shards before opening the same directory again in this process. Only the
    /// first call does anything.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.stop.cancel();
        // The handler may hold what holds this host.
        *self.server.handler.write() = None;
        let shards = self.shards.drain();
        join_all(shards.iter().map(stop_replica)).await;
        self.tasks.close();
        let released = async {
            self.tasks.wait().await;
            for shard in &shards {
                shard.inner.running.wait().await;
            }
        };
        let released = tokio::time::timeout(RELEASE_TIMEOUT, released).await;
        if released.is_err() {
            warn!("tasks still hold the stores");
        }
        drop(shards);
        let Some(stores) = &self.stores else {
            return Ok(());
        };
        stores.flusher.flush().await?;
        stores.log.close().await
    }

    fn stores(&self) -> Result<&Arc<Stores>, Error> {
        self.stores.as_ref().ok_or_else(|| Error::Config {
            setting: "shard",
            what: "this node has no stores".to_owned(),
        })
    }

    async fn start_raft(
        &self,
        stores: &Stores,
        spec: &ShardSpec,
        log: ShardLog,
        state: ShardState,
    ) -> Result<ShardRaft, Error> {
        let config = raft_config(&self.config, spec.shard)?;
        let peers = Peers {
            links: Arc::clone(&self.links),
            shard: spec.shard,
            from: spec.replica,
            patience: self.config.election_max,
        };
        let started = Raft::new(spec.replica.0, config, peers, log, state).await;
        started.map_err(|error| {
            stores.flusher.remove(spec.shard);
            match self.failure.first() {
                Some(first) => Error::Failed { first },
                None => Error::Replica {
                    shard: spec.shard,
                    what: error.to_string(),
                },
            }
        })
    }

    /// A new group elects its first leader by itself; a lone voter need not wait for a timeout.
    async fn elect(&self, spec: &ShardSpec, raft: &ShardRaft, blank: bool) -> Result<(), Error> {
        let stopped = |what: String| Error::Replica {
            shard: spec.shard,
            what,
        };
        if spec.create && blank {
            let members: BTreeMap<u64, _> = spec
                .members
                .iter()
                .map(|(id, node)| (id.0, node.clone()))
                .collect();
            info!(shard = %spec.shard, members = members.len(), "create the group");
            return match raft.initialize(members).await {
                // Another member was faster: its log has reached this replica.
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
                Err(error) => Err(stopped(error.to_string())),
            };
        }
        let replica = spec.replica.0;
        let alone = raft
            .with_raft_state(move |state| {
                let members = state.membership_state.effective();
                members.voter_ids().eq([replica])
            })
            .await
            .map_err(|error| stopped(error.to_string()))?;
        if alone {
            let elected = raft.trigger().elect(false).await;
            elected.map_err(|error| stopped(error.to_string()))?;
        }
        Ok(())
    }

    /// Starts the tasks around a replica.
    fn attach(
        &self,
        stores: &Stores,
        raft: ShardRaft,
        progress: Arc<Progress>,
        running: TaskTracker,
    ) -> Shard {
        let (role, watched) = watch::channel(Role::default());
        let keeper = RoleKeeper {
            raft: raft.clone(),
            progress: Arc::clone(&progress),
            failure: self.failure.clone(),
            role,
        };
        running.spawn(keeper.run());
        let asker = Asker {
            raft: raft.clone(),
            progress: Arc::clone(&progress),
            links: Arc::clone(&self.links),
            patience: self.config.election_max,
        };
        let (barrier, service) = Barrier::new(asker, WAITERS_MAX);
        running.spawn(service.run());
        running.close();
        Shard {
            inner: Arc::new(Inner {
                proposals: Proposals::new(raft.clone()),
                raft,
                store: Arc::clone(&stores.state),
                progress,
                role: watched,
                barrier,
                defects: self.config.defects,
                patience: self.config.election_max,
                failure: self.failure.clone(),
                hold: parking_lot::Mutex::default(),
                changing: tokio::sync::Mutex::new(()),
                running,
            }),
        }
    }
}

impl Drop for Host {
    /// Without a shutdown nothing is flushed: as after a crash, the log is replayed.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn open_replica(
    stores: &Stores,
    spec: &ShardSpec,
    machine: Arc<dyn ErasedMachine>,
    running: &TaskTracker,
) -> Result<(ShardLog, ShardState), Error> {
    let log = stores.log.shard(spec.shard).await?;
    let position = position(&stores.state, spec, &log).await?;
    let progress = Progress::new(spec.shard, spec.replica, spec.range, position);
    let progress = Arc::new(progress);
    stores.flusher.add(Arc::clone(&progress)).await?;
    let state = ShardState {
        store: Arc::clone(&stores.state),
        progress,
        flusher: Arc::clone(&stores.flusher),
        machine,
        failure: stores.failure.clone(),
        running: running.token(),
    };
    Ok((log, state))
}

/// The position to go on from. What does not fit the log is damage.
///
/// The position row says whose rows and log these are. It is durable before the log gets its first
/// write, so a log without it has lost it. For another replica the log, its vote and the rows are
/// removed durably, the row last: a crash on the way repeats it.
async fn position(
    state: &Arc<StateStore>,
    spec: &ShardSpec,
    log: &ShardLog,
) -> Result<Position, Error> {
    let row = state.get(spec.shard, &Key::position(spec.shard))?;
    let row = row.map(|row| PositionRow::decode(&row)).transpose()?;
    let position = match row {
        Some(row) if row.replica == spec.replica => row.position,
        None if !log.is_blank() => {
            return Err(Error::state_damaged(format!(
                "shard {} has a log, but nothing says whose it is",
                spec.shard
            )));
        }
        // Ids of replicas on one node only grow: whoever wants an earlier one has lost what it knew.
        Some(newer) if newer.replica > spec.replica => {
            return Err(Error::state_damaged(format!(
                "shard {} has what replica {} left, and replica {} came before it",
                spec.shard, newer.replica, spec.replica
            )));
        }
        former => {
            if let Some(former) = former {
                let (shard, former) = (spec.shard, former.replica);
                info!(%shard, %former, "remove what a former replica left");
                let cleared = log.clear().await;
                cleared.map_err(|first| Error::Failed { first })?;
            }
            let (state, spec) = (Arc::clone(state), spec.clone());
            tokio::task::spawn_blocking(move || {
                state.give_to(spec.replica, spec.shard, spec.range)
            })
            .await
            .map_err(|_| Error::Stopped)??;
            Position::default()
        }
    };
    if log.is_blank() && position.applied.is_some() {
        return Err(Error::log_damaged(format!(
            "shard {} has applied entries but neither log nor vote",
            spec.shard
        )));
    }
    let purged = log.purged();
    if position.applied < purged {
        return Err(Error::state_damaged(format!(
            "shard {} has applied up to {:?}, but its log begins after {:?}",
            spec.shard,
            position.applied.map(|id| id.index),
            purged.map(|id| id.index),
        )));
    }
    Ok(position)
}

/// Gives a reserved place back unless a replica runs there.
struct Reserved<'a>(&'a Shards, ShardId);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

/// Ends openraft and the tasks around a replica.
async fn stop_replica(shard: &Shard) {
    if shard.inner.raft.shutdown().await.is_err() {
        warn!(shard = %shard.id(), "replica ended with a panic");
    }
    shard.inner.progress.stop();
}
