//! The start of a node as a list of steps. Whatever a step takes is given back by the same step of
//! [`crate::shutdown`], in reverse.

mod settings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Env, Host, NoTransport, ReplicaId, Role, Shard, ShardId, ShardSpec};
use antumbra_shadow::{Time, Twins};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::config::Config;
use crate::health::{Health, Phase};
use crate::identity::{self, DataDirectory, Identity, Owner, Replica};
use crate::metrics::Exporter;
use crate::shadows::{
    Caller, ClusterMark, Faults, Place, Port, Relay, RelayLimits, ShadowMachine, Shadows,
    ShadowsConfig, ShardContext, ShardMap, Trimmer,
};
use crate::shutdown::Running;
use crate::{api, http, metrics};

/// The id of the only node of a cluster, and of its replica of every shard.
const FIRST_ID: u64 = 1;

/// How long the replay of the log may take, and after it an election.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(600);

/// Changes and bytes of them that wait in memory for the watchers of one shard.
const RELAY_LIMITS: RelayLimits = RelayLimits {
    changes_max: 16 * 1024,
    bytes_max: 32 << 20,
};

/// Why a node did not start, or had to stop.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} ({door}): {source}. \
         Stop what uses the port, or choose another address"
    )]
    Listen {
        /// Which door.
        door: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why not.
        source: Arc<std::io::Error>,
    },
    /// The data directory is refused.
    #[error(transparent)]
    Identity(Arc<identity::Error>),
    /// The engine does not open its stores or has met damage.
    #[error(transparent)]
    Engine(Arc<antumbra_raft::Error>),
    /// A bug of ours.
    #[error("a task of the node panicked. Please report it with the log")]
    Panicked,
}

impl Error {
    /// Stable name of the kind of error, as `docs/errors.md` lists it.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Listen { .. } => "LISTEN",
            Error::Identity(error) => error.code(),
            Error::Engine(error) => error.code(),
            Error::Panicked => "PANICKED",
        }
    }

    /// Whether stored data are damaged or missing.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Identity(error) => matches!(
                **error,
                identity::Error::Damaged { .. } | identity::Error::Missing { .. }
            ),
            Error::Engine(error) => error.is_damage(),
            Error::Listen { .. } | Error::Panicked => false,
        }
    }
}

impl From<identity::Error> for Error {
    fn from(error: identity::Error) -> Error {
        Error::Identity(Arc::new(error))
    }
}

impl From<antumbra_raft::Error> for Error {
    fn from(error: antumbra_raft::Error) -> Error {
        Error::Engine(Arc::new(error))
    }
}

/// The sockets of the doors, bound before any data is opened: a port that is taken must not cost a
/// replay, and clients that come early wait in the backlog.
#[derive(Debug)]
pub struct Listeners {
    /// The gRPC door.
    pub grpc: TcpListener,
    /// The HTTP door.
    pub http: TcpListener,
}

impl Listeners {
    /// Binds the addresses of the configuration.
    pub async fn bind(config: &Config) -> Result<Listeners, Error> {
        Ok(Listeners {
            grpc: bind("gRPC", config.api.listen).await?,
            http: bind("HTTP", config.http.listen).await?,
        })
    }

    fn addresses(&self) -> Result<Addresses, Error> {
        Ok(Addresses {
            grpc: local_address("gRPC", &self.grpc)?,
            http: local_address("HTTP", &self.http)?,
        })
    }
}

/// Where the doors are, with the ports that were really bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The gRPC door.
    pub grpc: SocketAddr,
    /// The HTTP door.
    pub http: SocketAddr,
}

/// A node that serves.
pub struct Node {
    shadows: Shadows,
    addresses: Addresses,
    health: Health,
    identity: Identity,
    failed: watch::Receiver<Option<Arc<antumbra_raft::Error>>>,
    running: Running,
}

/// Starts a node and serves. On an error everything that was opened is closed again.
pub async fn start(config: Config, listeners: Listeners) -> Result<Node, Error> {
    // 1. The listeners are bound; metrics and health exist before anything reports to them.
    let addresses = listeners.addresses()?;
    let exporter = metrics::install();
    crate::shadows::describe_metrics();
    let health = Health::new();

    // 2. The data directory is ours, and is the one that was meant.
    let (directory, identity) = claim_directory(&config).await?;

    // 3. Both stores are open.
    let env = Env::system();
    let host_config = settings::host_config(&config, &identity);
    let host = Host::open(host_config, env.clone(), Arc::new(NoTransport)).await?;
    let mut running = Running::new(
        directory,
        host,
        config.node.shutdown_timeout,
        health.clone(),
    );

    // 4. to 8. happen on open stores, which a failure must close.
    let serving = serve(&config, &env, identity, listeners, exporter, &mut running).await;
    let (shadows, identity) = match serving {
        Ok(serving) => serving,
        Err(error) => {
            if let Err(error) = running.shutdown().await {
                warn!(%error, "close after a failed start");
            }
            return Err(error);
        }
    };
    Ok(Node {
        failed: running.host.failed(),
        shadows,
        addresses,
        health,
        identity,
        running,
    })
}

async fn serve(
    config: &Config,
    env: &Env,
    mut identity: Identity,
    listeners: Listeners,
    exporter: Option<Exporter>,
    running: &mut Running,
) -> Result<(Shadows, Identity), Error> {
    // 4. The replicas run, and know what they must know before they may serve.
    let contexts = start_shards(config, env, &identity, running).await?;
    for context in contexts.values() {
        context.shard.recovered(RECOVERY_TIMEOUT).await?;
    }

    // 5. From now on a missing store is damage.
    if !identity.created {
        identity.created = true;
        identity = write_identity(running, identity).await?;
    }

    // 6. Where this node leads, it leads the twins too.
    for context in contexts.values() {
        lead_twins(context, running).await?;
    }

    // 7. The feed is kept within its limits.
    let shards = identity.replicas.len() as u64;
    for context in contexts.values() {
        let clock = Arc::clone(&env.clock);
        let now = Box::new(move || Time(clock.now_ms()));
        let trimmer = Trimmer::new(context.clone(), settings::trim_limits(config, shards), now);
        running.tasks.spawn(trimmer.run(running.stop_tasks.clone()));
    }

    // 8. The doors open.
    let map = shard_map(running.directory.path(), &identity)?;
    let stop = running.stop_watches.clone();
    let shadows = shadows(config, &identity, map, contexts, stop);
    running.contexts = shadows.contexts().cloned().collect();
    open_doors(config, env, &shadows, listeners, exporter, running)?;
    running.health.enter(Phase::Serving);
    info!(node = %identity.node_name, shards, "node serves");
    Ok((shadows, identity))
}

impl Node {
    /// The use cases, for callers within the process.
    pub fn shadows(&self) -> &Shadows {
        &self.shadows
    }

    /// Where the doors are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What the probes are told.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Resolves when the node met damage or lost its disk: it must be shut down and the process
    /// must end with the error. May be dropped midway.
    pub async fn failed(&mut self) -> Error {
        let found = match self.failed.wait_for(Option::is_some).await {
            Ok(found) => found.clone(),
            Err(_) => None,
        };
        self.health.enter(Phase::Failed);
        match found {
            Some(found) => {
                error!(code = found.code(), error = %found, "node failed");
                Error::Engine(found)
            }
            None => Error::Panicked,
        }
    }

    /// Finishes requests in flight within the configured time and closes the data.
    pub async fn shutdown(self) -> Result<(), Error> {
        drop(self.shadows);
        self.running.shutdown().await
    }
}

async fn bind(door: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| Error::Listen {
        door,
        address,
        source: Arc::new(source),
    })
}

fn local_address(door: &'static str, listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|source| Error::Listen {
        door,
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        source: Arc::new(source),
    })
}

/// Locks the data directory and reads its header, or makes one for a new directory.
async fn claim_directory(config: &Config) -> Result<(DataDirectory, Identity), Error> {
    let (path, cluster) = (config.node.data_dir.clone(), config.cluster.name.clone());
    let node = config.node.name.clone();
    let shards = settings::shard_count(config.cluster.shards);
    let claim = move || {
        let owner = Owner {
            cluster_name: &cluster,
            node_name: &node,
        };
        claim_blocking(&path, owner, shards)
    };
    blocking(claim).await
}

fn claim_blocking(
    path: &Path,
    owner: Owner<'_>,
    shards: u32,
) -> Result<(DataDirectory, Identity), identity::Error> {
    let directory = DataDirectory::lock(path)?;
    if let Some(identity) = directory.read(owner)? {
        return Ok((directory, identity));
    }
    let map = ShardMap::even(shards);
    let replicas = map.places().iter().map(|place| Replica {
        shard: place.shard,
        replica: ReplicaId(FIRST_ID),
        range: place.range,
    });
    let identity = Identity {
        cluster_name: owner.cluster_name.to_owned(),
        cluster_id: Uuid::new_v4(),
        node_name: owner.node_name.to_owned(),
        node_id: FIRST_ID,
        incarnation: Uuid::new_v4(),
        replicas: replicas.collect(),
        created: false,
    };
    directory.write(&identity)?;
    info!(path = %path.display(), shards, "new data directory");
    Ok((directory, identity))
}

async fn write_identity(running: &mut Running, identity: Identity) -> Result<Identity, Error> {
    let directory = Arc::clone(&running.directory);
    blocking(move || directory.write(&identity).map(|()| identity)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, identity::Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Error::Panicked)??)
}

/// Starts all replicas at the same time: each replays its part of the log on a core of its own.
async fn start_shards(
    config: &Config,
    env: &Env,
    identity: &Identity,
    running: &mut Running,
) -> Result<BTreeMap<ShardId, ShardContext>, Error> {
    let shards = identity.replicas.len();
    let mut starting = JoinSet::new();
    for replica in &identity.replicas {
        let relay = Relay::new(RELAY_LIMITS);
        let machine = Arc::new(ShadowMachine::new(Arc::clone(&relay)));
        running.machines.push(Arc::clone(&machine));
        let spec = shard_spec(identity, *replica);
        let (config, env) = (config.clone(), env.clone());
        let host = Arc::clone(&running.host);
        starting.spawn(async move {
            let shard = host.start_shard(spec, Arc::clone(&machine)).await?;
            Ok(attach_twins(&config, &env, shards, shard, &machine, relay))
        });
    }
    let mut contexts = BTreeMap::new();
    let mut failure = None;
    // All are waited for, also after a failure: a shutdown must find none of them halfway.
    while let Some(started) = starting.join_next().await {
        match started.unwrap_or(Err(Error::Panicked)) {
            Ok(context) => {
                contexts.insert(context.id(), context);
            }
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(contexts), Err)
}

fn shard_spec(identity: &Identity, replica: Replica) -> ShardSpec {
    let node = antumbra_raft::Node {
        name: identity.node_name.clone(),
        address: String::new(),
    };
    ShardSpec {
        shard: replica.shard,
        replica: replica.replica,
        range: replica.range,
        members: BTreeMap::from([(replica.replica, node)]),
        create: !identity.created,
    }
}

fn attach_twins(
    config: &Config,
    env: &Env,
    shards: usize,
    shard: Shard<ShadowMachine>,
    machine: &ShadowMachine,
    relay: Arc<Relay>,
) -> ShardContext {
    let faults = Faults::new(config.test_switches.lose_proposal);
    let port = Arc::new(Port::new(shard.clone(), Arc::clone(&env.clock), faults));
    let twins = Twins::new(port, settings::twins_config(config, shards));
    machine.attach(twins.clone());
    ShardContext {
        range: shard.range(),
        shard,
        twins,
        relay,
    }
}

/// Makes the twins follow the role of their replica, and waits until it has one.
async fn lead_twins(context: &ShardContext, running: &mut Running) -> Result<(), Error> {
    let mut role = context.shard.role();
    let twins = context.twins.clone();
    let stop = running.stop_tasks.clone();
    let (settled, mut has_role) = watch::channel(false);
    running.tasks.spawn(async move {
        loop {
            let now = *role.borrow_and_update();
            match now {
                Role::Leader { term } => twins.lead(term),
                Role::Starting | Role::Follower { .. } | Role::Stopped => twins.step_down(),
            }
            if matches!(
                now,
                Role::Leader { .. } | Role::Follower { leader: Some(_) }
            ) {
                settled.send_replace(true);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = role.changed() => if changed.is_err() { return },
            }
        }
    });
    let waiting = has_role.wait_for(|settled| *settled);
    match timeout(RECOVERY_TIMEOUT, waiting).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Error::from(antumbra_raft::Error::Timeout {
            action: "elect a leader",
        })),
    }
}

fn shard_map(path: &Path, identity: &Identity) -> Result<ShardMap, Error> {
    let places = identity.replicas.iter().map(|replica| Place {
        shard: replica.shard,
        range: replica.range,
    });
    ShardMap::of(places).ok_or_else(|| {
        Error::from(identity::Error::Damaged {
            path: path.to_owned(),
            what: "its shards do not cover every hash once".to_owned(),
        })
    })
}

fn shadows(
    config: &Config,
    identity: &Identity,
    map: ShardMap,
    contexts: BTreeMap<ShardId, ShardContext>,
    stop: CancellationToken,
) -> Shadows {
    let mark = ClusterMark(crc32fast::hash(identity.cluster_id.as_bytes()));
    let settings = ShadowsConfig {
        watch_events_max: config.api.watch_events_max as usize,
        ..ShadowsConfig::default()
    };
    Shadows::new(map, contexts, mark, settings, stop)
}

fn open_doors(
    config: &Config,
    env: &Env,
    shadows: &Shadows,
    listeners: Listeners,
    exporter: Option<Exporter>,
    running: &Running,
) -> Result<(), Error> {
    let addresses = listeners.addresses()?;
    let limits = settings::limits(config);
    let http = http::Door {
        shadows: shadows.clone(),
        caller: Arc::new(Caller::anyone("http")),
        limits,
        health: running.health.clone(),
        metrics: exporter,
        clock: Arc::clone(&env.clock),
        default_deadline: config.http.default_deadline,
        body_bytes_max: config.http.body_bytes_max.0,
        grpc_address: addresses.grpc,
    };
    let stop = running.stop_doors.clone();
    running.doors.spawn(http::serve(listeners.http, http, stop));
    let grpc = api::Door {
        shadows: shadows.clone(),
        caller: Arc::new(Caller::anyone("grpc")),
        limits,
        health: running.health.clone(),
        default_deadline: config.api.default_deadline,
        message_bytes_max: settings::bytes(config.api.message_bytes_max.0),
        stream_updates_max: config.api.stream_updates_max as usize,
    };
    let stop = running.stop_doors.clone();
    running.doors.spawn(async move {
        if let Err(error) = api::serve(listeners.grpc, grpc, stop).await {
            error!(%error, "serve gRPC");
        }
    });
    Ok(())
}
