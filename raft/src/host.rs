//! The shards of one node, on one log store and one state store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::barrier::{Barrier, WAITERS_MAX};
use crate::config::HostConfig;
use crate::env::Env;
use crate::error::Error;
use crate::failure::Failure;
use crate::ids::ShardId;
use crate::log::{Log, ShardLog};
use crate::machine::Machine;
use crate::net::Transport;
use crate::replica::{Network, ShardRaft, ShardSpec, StartRaft, raft_config};
use crate::role::{Role, RoleKeeper};
use crate::shard::{Inner, PROPOSALS_MAX, Shard};
use crate::state::{
    Flusher, Key, Position, PositionRow, Progress, ShardState, StateOptions, StateStore,
    finish_ready_installs,
};

/// How often the host looks whether a flush is due or RocksDB failed in the background.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How long a shutdown waits for tasks that still hold the stores.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The engine of one node.
pub struct Host<M: Machine> {
    inner: Arc<Stores<M>>,
    network: Arc<dyn StartRaft<M>>,
    config: HostConfig,
    env: Env,
    /// Tasks of the host; all of them end when it shuts down.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the host shares with its own tasks.
struct Stores<M: Machine> {
    log: Arc<Log>,
    state: Arc<StateStore>,
    flusher: Arc<Flusher>,
    failure: Failure,
    shards: Mutex<BTreeMap<ShardId, Shard<M>>>,
}

impl<M: Machine> Host<M> {
    /// Opens both stores, or refuses them with a coded error and leaves them alone. Finishes snapshot
    /// installs that a crash interrupted. Starts no shard.
    pub async fn open(
        config: HostConfig,
        env: Env,
        transport: Arc<impl Transport>,
    ) -> Result<Host<M>, Error> {
        config.validate()?;
        let failure = Failure::new();
        let opening = {
            let (config, failure) = (config.clone(), failure.clone());
            move || open_stores(&config, failure)
        };
        let (log, state) = tokio::task::spawn_blocking(opening)
            .await
            .map_err(|_| Error::Stopped)??;
        let flusher = Arc::new(Flusher::new(Arc::clone(&state), Arc::clone(&log)));
        let host = Host {
            env,
            inner: Arc::new(Stores {
                log,
                state,
                flusher,
                failure,
                shards: Mutex::new(BTreeMap::new()),
            }),
            network: Arc::new(Network(transport)),
            config,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let watch = FlushService {
            stores: Arc::clone(&host.inner),
            interval: host.config.flush_interval,
            log_bytes: host.config.flush_log_bytes,
        };
        host.tasks.spawn(watch.run(host.stop.clone()));
        Ok(host)
    }

    /// Starts one replica. It replays what it knows to be committed before this returns; wait for
    /// [`Shard::recovered`] before serving from it. The group is initialised only if `create` is set and
    /// the replica has neither log nor vote.
    pub async fn start_shard(&self, spec: ShardSpec, machine: Arc<M>) -> Result<Shard<M>, Error> {
        if self.inner.shards.lock().contains_key(&spec.shard) {
            return Err(Error::Config {
                setting: "shard",
                what: format!("shard {} runs already", spec.shard),
            });
        }
        let (log, state) = self.open_replica(&spec, machine).await?;
        let (blank, progress) = (log.is_blank(), Arc::clone(&state.progress));
        let raft = self.start_raft(&spec, log, state).await?;
        self.elect(&spec, &raft, blank).await?;
        let shard = self.attach(raft, progress);
        self.inner.shards.lock().insert(spec.shard, shard.clone());
        Ok(shard)
    }

    /// The two stores of one replica as openraft drives them, with a log that may be purged freely.
    /// [`Host::start_shard`] is what a node wants; this is for whoever drives the stores itself, as
    /// openraft's conformance suite does.
    pub async fn stores(
        &self,
        spec: &ShardSpec,
        machine: Arc<M>,
    ) -> Result<(ShardLog, ShardState<M>), Error> {
        let stores = self.open_replica(spec, machine).await?;
        self.inner.log.set_purge_gate(spec.shard, u64::MAX);
        Ok(stores)
    }

    /// A shard that was started.
    pub fn shard(&self, shard: ShardId) -> Option<Shard<M>> {
        self.inner.shards.lock().get(&shard).cloned()
    }

    /// Time and randomness of this node.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Becomes `Some` once damage or an error of the disk was met: the node must stop with its code.
    pub fn failed(&self) -> watch::Receiver<Option<Arc<Error>>> {
        self.inner.failure.subscribe()
    }

    /// Flushes the state store now and lets the logs be purged.
    pub async fn flush(&self) -> Result<(), Error> {
        self.inner.flush().await
    }

    /// Stops all shards, flushes the state store and closes the log. Drop all handles of shards
    /// before opening the same directory again in this process.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.stop.cancel();
        let shards = std::mem::take(&mut *self.inner.shards.lock());
        for shard in shards.values() {
            if shard.inner.raft.shutdown().await.is_err() {
                warn!(shard = %shard.id(), "replica ended with a panic");
            }
            shard.inner.progress.stop();
        }
        drop(shards);
        self.tasks.close();
        if tokio::time::timeout(RELEASE_TIMEOUT, self.tasks.wait())
            .await
            .is_err()
        {
            warn!("tasks still hold the stores");
        }
        self.inner.flusher.flush().await?;
        self.inner.log.close().await
    }

    async fn open_replica(
        &self,
        spec: &ShardSpec,
        machine: Arc<M>,
    ) -> Result<(ShardLog, ShardState<M>), Error> {
        let log = self.inner.log.shard(spec.shard).await?;
        let position = self.position(spec, &log).await?;
        let progress = Progress::new(spec.shard, spec.replica, spec.range, position);
        let progress = Arc::new(progress);
        self.inner.flusher.add(Arc::clone(&progress));
        let state = ShardState {
            store: Arc::clone(&self.inner.state),
            progress,
            flusher: Arc::clone(&self.inner.flusher),
            machine,
            failure: self.inner.failure.clone(),
            _running: self.tasks.token(),
        };
        Ok((log, state))
    }

    /// The position to go on from. Rows of a former replica are removed first; what does not fit the
    /// log is damage.
    async fn position(&self, spec: &ShardSpec, log: &ShardLog) -> Result<Position, Error> {
        let state = &self.inner.state;
        let row = state.get(&Key::position(spec.shard))?;
        let row = row.map(|row| PositionRow::decode(&row)).transpose()?;
        let position = match row {
            Some(row) if row.replica == spec.replica => row.position,
            former => {
                if let Some(former) = former {
                    let (shard, replica) = (spec.shard, former.replica);
                    info!(%shard, former = %replica, "remove what a former replica left");
                    let cleared = log.clear().await;
                    cleared.map_err(|first| Error::Failed { first })?;
                }
                state.clear_shard(spec.shard, spec.range)?;
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

    async fn start_raft(
        &self,
        spec: &ShardSpec,
        log: ShardLog,
        state: ShardState<M>,
    ) -> Result<ShardRaft<M>, Error> {
        let config = raft_config(&self.config, spec.shard)?;
        let started = self
            .network
            .start(spec.shard, spec.replica, config, log, state)
            .await;
        started.map_err(|error| {
            self.inner.flusher.remove(spec.shard);
            match self.inner.failure.first() {
                Some(first) => Error::Failed { first },
                None => Error::Replica {
                    shard: spec.shard,
                    what: error.to_string(),
                },
            }
        })
    }

    /// A new group elects its first leader by itself; a lone voter need not wait for a timeout.
    async fn elect(&self, spec: &ShardSpec, raft: &ShardRaft<M>, blank: bool) -> Result<(), Error> {
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
    fn attach(&self, raft: ShardRaft<M>, progress: Arc<Progress>) -> Shard<M> {
        let (role, watched) = watch::channel(Role::default());
        let keeper = RoleKeeper {
            raft: raft.clone(),
            progress: Arc::clone(&progress),
            failure: self.inner.failure.clone(),
            role,
        };
        self.tasks.spawn(keeper.run());
        let (barrier, service) = Barrier::new(raft.clone(), Arc::clone(&progress), WAITERS_MAX);
        self.tasks.spawn(service.run());
        Shard {
            inner: Arc::new(Inner {
                raft,
                store: Arc::clone(&self.inner.state),
                progress,
                role: watched,
                barrier,
                proposals: Arc::new(Semaphore::new(PROPOSALS_MAX)),
            }),
        }
    }
}

impl<M: Machine> Drop for Host<M> {
    /// Without a shutdown nothing is flushed: as after a crash, the log is replayed.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<M: Machine> Stores<M> {
    /// Flushes, then asks openraft to note the flushed positions and to purge the logs up to them.
    async fn flush(&self) -> Result<(), Error> {
        self.flusher.flush().await?;
        let shards: Vec<Shard<M>> = self.shards.lock().values().cloned().collect();
        for shard in shards {
            shard.inner.progress.mark_fresh();
            // A replica that has stopped needs no purge.
            let _ = shard.inner.raft.trigger().snapshot().await;
        }
        Ok(())
    }
}

/// Flushes when it is due, and watches RocksDB's own tasks.
struct FlushService<M: Machine> {
    stores: Arc<Stores<M>>,
    interval: Duration,
    log_bytes: u64,
}

impl<M: Machine> FlushService<M> {
    async fn run(self, stop: CancellationToken) {
        let mut flushed_at = tokio::time::Instant::now();
        let mut flushed_bytes = self.stores.log.bytes_written();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_INTERVAL.min(self.interval)) => {}
            }
            if self.stores.state.background_errors() {
                let source = std::io::Error::other("RocksDB reports a failed flush or compaction");
                let error = Error::io("work on the state store", source);
                self.stores.failure.note(&Arc::new(error));
                return;
            }
            let bytes = self.stores.log.bytes_written();
            let due = flushed_at.elapsed() >= self.interval && self.stores.flusher.is_behind()
                || bytes - flushed_bytes >= self.log_bytes;
            if !due {
                continue;
            }
            (flushed_at, flushed_bytes) = (tokio::time::Instant::now(), bytes);
            if let Err(error) = self.stores.flush().await {
                self.stores.failure.note(&Arc::new(error));
                return;
            }
        }
    }
}

/// Steps that block on the disk.
fn open_stores(
    config: &HostConfig,
    failure: Failure,
) -> Result<(Arc<Log>, Arc<StateStore>), Error> {
    let log = Log::open(config, failure.clone())?;
    let state = StateStore::open(&StateOptions::new(config), failure)?;
    finish_ready_installs(&state)?;
    Ok((log, state))
}
