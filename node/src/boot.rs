//! The start of a node as a list of steps. Whatever a step takes is given back by the same step of
//! [`crate::shutdown`], in reverse.

mod access;
mod caches;
mod doors_tls;
mod error;
mod listeners;
pub(crate) mod settings;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Env, Host};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::access::follower::Follower;
use crate::access::{Directory, Gate};
use crate::cluster::agent::Agent;
use crate::cluster::bootstrap;
use crate::cluster::office::{self, Desk, Office, Serving};
use crate::cluster::scaling::charter::Charter;
use crate::cluster::{NodeInfo, Standing};
use crate::config::Config;
use crate::health::{Health, Phase};
use crate::identity::{self, DataDirectory, Identity, Owner};
use crate::metrics::Exporter;
use crate::peer::{self, Me, PeerTransport, Tls};
use crate::shadows::{Caller, Shadows, ShadowsConfig, Wiring};
use crate::shutdown::{Manager, Running};
use crate::vitals::Vitals;
use crate::{api, gateway, http, metrics, tls as door_tls};

use doors_tls::DoorsTls;
use listeners::local_address;

pub use access::AccessError;
pub use error::Error;
pub use listeners::{Addresses, Listeners};

/// A node that serves.
pub struct Node {
    shadows: Shadows,
    gate: Arc<Gate>,
    addresses: Addresses,
    health: Health,
    info: NodeInfo,
    failed: watch::Receiver<Option<Arc<antumbra_raft::Error>>>,
    running: Running,
}

/// Starts a node and serves. Waits for the other nodes of its cluster as long as it takes. On an
/// error everything that was opened is closed again; dropped midway, it leaves what a crash would.
pub async fn start(config: Config, listeners: Listeners) -> Result<Node, Error> {
    // 1. The listeners are bound; metrics and health exist before anything reports to them.
    let addresses = listeners.addresses()?;
    let exporter = metrics::install();
    crate::shadows::describe_metrics();
    crate::gateway::describe_metrics();
    door_tls::describe_metrics();
    crate::vitals::describe();
    let health = Health::new();

    let charter = Charter::of(&config).map_err(|error| Error::Kubernetes(Arc::new(error)))?;

    // 2. The data directory is ours, and is the one that was meant.
    let (directory, identity) = claim_directory(&config).await?;
    if identity.created && !config.node.storage {
        let path = config.node.data_dir.clone();
        return Err(identity::Error::HoldsData { path }.into());
    }
    let directory = Arc::new(directory);
    let info = settings::node_info(&config, &identity, &addresses);

    // 3. The way to other nodes exists, and both stores are open.
    let env = Env::system();
    let tls = settings::tls(&config).map_err(|error| Error::Tls(Arc::new(error)))?;
    let me = Me::new(info.name.clone());
    let links = peer::Directory::new();
    let transport = PeerTransport::new(me.clone(), links.clone(), tls.clone());
    let transport = Arc::new(transport);
    let host_config = settings::host_config(&config, &identity);
    let (env_of_host, way) = (env.clone(), transport.clone());
    let host = match config.node.storage {
        true => Host::open(host_config, env_of_host, way).await?,
        false => Host::without_stores(host_config, env_of_host, way),
    };
    let host = Arc::new(host);
    let office = Office::new(office::Wiring {
        identity,
        info: info.clone(),
        me: me.clone(),
        transport: Arc::clone(&transport),
        addresses: links,
        directory: Arc::clone(&directory),
        charter,
    });
    let mut running = Running::new(directory, host, office, &config.node, health.clone());

    // 4. to 7. happen on open stores, which a failure must close.
    let serving = serve(
        &config,
        &env,
        me,
        tls,
        transport,
        listeners,
        exporter,
        &mut running,
    )
    .await;
    let (shadows, gate) = match serving {
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
        gate,
        addresses,
        health,
        info,
        running,
    })
}

#[allow(clippy::too_many_arguments, reason = "what the steps before it made")]
async fn serve(
    config: &Config,
    env: &Env,
    me: Me,
    tls: Tls,
    transport: Arc<PeerTransport>,
    listeners: Listeners,
    exporter: Option<Exporter>,
    running: &mut Running,
) -> Result<(Shadows, Arc<Gate>), Error> {
    // 4. The doors open, and answer UNAVAILABLE until the shards are known; probes are answered.
    let office = Arc::clone(&running.office);
    let shadows = Shadows::new(Wiring {
        node: office.info().name.clone(),
        clock: Arc::clone(&env.clock),
        peers: settings::peers(Arc::downgrade(&running.host), transport),
        config: ShadowsConfig {
            watch_events_max: config.api.watch_events_max as usize,
            ..ShadowsConfig::default()
        },
        stop: running.stop_watches.clone(),
    });
    let doors_tls = DoorsTls::open(config)?;
    doors_tls.keep_current(running);
    let name = &office.info().name;
    let access = access::open(config, Arc::clone(&env.clock))
        .map_err(|error| Error::Access(Arc::new(error)))?;
    access.keep_current(running);
    let (gate, fixed) = (access.gate, access.fixed);
    shadows.obey(&gate);
    let memory = gate.memory().clone();
    running
        .doors
        .spawn(memory.watch(running.stop_watches.clone()));
    let gateway = settings::gateway(config, env, name, &shadows, &gate, running);
    running.host.set_forward_handler(Arc::new(gateway::Handler {
        door: Arc::clone(&gateway),
        next: shadows.forward_handler(),
    }));
    office.open(Serving {
        host: Arc::clone(&running.host),
        shadows: shadows.clone(),
    });
    keep_vitals(config, &shadows, running);
    let doors = Doors {
        grpc: listeners.grpc,
        http: listeners.http,
        grpc_tls: doors_tls.grpc,
        http_tls: doors_tls.http,
        gate: Arc::clone(&gate),
    };
    open_doors(config, env, &shadows, doors, exporter, running)?;
    // 5. The node belongs to a cluster, or founds one with the others.
    let (peer, stop) = (listeners.peer, running.stop_peers.clone());
    let desk = Arc::new(Desk(Arc::clone(&office)));
    running.peers.spawn(peer::serve(peer, me, tls, desk, stop));
    let plan = settings::plan(config, office.info());
    let beginning = bootstrap::run(&plan, &office).await?;
    let cluster_id = office.cluster_id().ok_or(Error::Panicked)?;
    shadows.belong_to(settings::cluster_mark(cluster_id));

    // 6. Its replicas run, and know what they must know before they may serve.
    let mut agent = Agent::new(
        config.clone(),
        env.clone(),
        Arc::clone(&running.host),
        Arc::clone(&office),
        shadows.clone(),
    );
    let (begun, mut serving) = (agent.begin(beginning).await, agent.serving());
    let mut failed = running.host.failed();
    let manager = running.manager.insert(Manager::start(agent));
    begun?;
    tokio::select! {
        biased;
        found = failed.wait_for(Option::is_some) => {
            let found = found.ok().and_then(|found| found.clone());
            return Err(found.map_or(Error::Panicked, Error::Engine));
        }
        serving = serving.wait_for(|serving| *serving) => {
            serving.map_err(|_| Error::Panicked)?;
        }
        error = manager.failed() => return Err(error),
    }

    let follower = Follower::new(shadows.clone(), Arc::clone(&gate), fixed);
    let follower = follower.run(running.stop_watches.clone());
    running.doors.spawn(follower);
    // Without the records nobody comes in at a closed node. A shard without a leader must not keep the
    // node from serving the others.
    if !gate.is_open() {
        let is_read = |directory: &Directory| directory.revision() > 0;
        gate.settles(RECORDS_PATIENCE, is_read).await;
    }

    // 7. Devices come in: until now they have waited in the backlog, and what they ask for can be
    // done. Then the node says that it serves.
    serve_devices(
        config,
        gateway,
        listeners.mqtt,
        listeners.mqtts.zip(doors_tls.mqtt),
        running,
    );
    running.look_after(&office);
    running.health.enter(Phase::Serving);
    info!(node = office.info().name, "node serves");
    Ok((shadows, gate))
}

impl Node {
    /// The use cases, for callers within the process.
    pub fn shadows(&self) -> &Shadows {
        &self.shadows
    }

    /// Who may come in.
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// What the node knows of its cluster.
    pub fn office(&self) -> Arc<Office> {
        Arc::clone(&self.running.office)
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
    pub fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// Resolves when the node met damage, lost its disk or was replaced: it must be shut down and the
    /// process must end with the error. May be dropped midway.
    pub async fn failed(&mut self) -> Error {
        let engine = self.failed.wait_for(Option::is_some);
        let failure = tokio::select! {
            biased;
            found = engine => match found.ok().and_then(|found| found.clone()) {
                Some(found) => Error::Engine(found),
                None => Error::Panicked,
            },
            error = self.running.manager_failed() => error,
        };
        if matches!(failure, Error::Left) {
            info!("this node has left the cluster and is not needed any more");
            return failure;
        }
        self.health.enter(Phase::Failed);
        error!(code = failure.code(), error = %failure, "node failed");
        failure
    }

    /// Hands its leads over, finishes requests in flight within the configured time and closes the
    /// data.
    pub async fn shutdown(self) -> Result<(), Error> {
        drop(self.shadows);
        self.running.shutdown().await
    }
}

/// How long a closed node waits for its records before it serves.
const RECORDS_PATIENCE: Duration = Duration::from_secs(5);

/// Locks the data directory and reads its header, or makes one for a new directory.
async fn claim_directory(config: &Config) -> Result<(DataDirectory, Identity), Error> {
    let (path, cluster) = (config.node.data_dir.clone(), config.cluster.name.clone());
    let node = config.node.name.clone();
    let claim = move || {
        let owner = Owner {
            cluster_name: &cluster,
            node_name: &node,
        };
        claim_blocking(&path, owner)
    };
    blocking(claim).await
}

fn claim_blocking(
    path: &Path,
    owner: Owner<'_>,
) -> Result<(DataDirectory, Identity), identity::Error> {
    let directory = DataDirectory::lock(path)?;
    if let Some(identity) = directory.read(owner)? {
        if !directory.has_left(&identity)? {
            return Ok((directory, identity));
        }
        let aside = directory.set_aside(&identity)?;
        warn!(
            incarnation = %identity.incarnation,
            aside = %aside.display(),
            "this data directory is of a node that has left the cluster: it is set aside, and the node joins \
             anew; remove what was set aside when nobody needs it"
        );
    }
    let identity = Identity {
        cluster_name: owner.cluster_name.to_owned(),
        node_name: owner.node_name.to_owned(),
        incarnation: Uuid::new_v4(),
        standing: Standing::Blank,
        created: false,
    };
    directory.write(&identity)?;
    info!(path = %path.display(), "new data directory");
    Ok((directory, identity))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, identity::Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Error::Panicked)??)
}

/// The sockets of the doors for clients, and who may come in.
struct Doors {
    grpc: TcpListener,
    http: TcpListener,
    grpc_tls: Option<door_tls::Tls>,
    http_tls: Option<door_tls::Tls>,
    gate: Arc<Gate>,
}

/// Keeps those metrics up to date that have to be looked at.
fn keep_vitals(config: &Config, shadows: &Shadows, running: &Running) {
    let vitals = Vitals {
        host: Arc::clone(&running.host),
        office: Arc::clone(&running.office),
        shadows: shadows.clone(),
        data_dir: config.node.data_dir.clone(),
        engine: antumbra_raft::Vitals::default(),
    };
    let watch = vitals.watch(running.stop_watches.clone());
    running.doors.spawn(watch);
}

/// Opens the MQTT doors, and follows the changes that devices are told of.
fn serve_devices(
    config: &Config,
    gateway: Arc<gateway::Door>,
    plain: TcpListener,
    tls: Option<(TcpListener, door_tls::Tls)>,
    running: &mut Running,
) {
    let hub = gateway.hub().run(running.stop_watches.clone());
    running.doors.spawn(hub);
    let renew = gateway::renew(Arc::clone(&gateway), running.stop_watches.clone());
    running.doors.spawn(renew);
    let shed = gateway::shed(Arc::clone(&gateway), running.stop_watches.clone());
    running.doors.spawn(shed);
    let keeper = gateway::Keeper::new(Arc::clone(&gateway));
    running
        .doors
        .spawn(keeper.run(running.stop_watches.clone()));
    let tls = tls.map(|(listener, tls)| (listener, Some(tls)));
    for (listener, tls) in [(plain, None)].into_iter().chain(tls) {
        let (door, settings) = (Arc::clone(&gateway), settings::mqtt(config));
        let stops = gateway::Stops {
            accepting: running.stop_devices.clone(),
            serving: running.stop_doors.clone(),
        };
        running
            .doors
            .spawn(gateway::serve(listener, door, settings, tls, stops));
    }
    running.devices = Some(gateway::Devices {
        door: gateway,
        per_second: config.limits.mqtt_disconnects_per_second,
    });
}

fn open_doors(
    config: &Config,
    env: &Env,
    shadows: &Shadows,
    listeners: Doors,
    exporter: Option<Exporter>,
    running: &Running,
) -> Result<(), Error> {
    let grpc_address = local_address("gRPC", &listeners.grpc)?;
    let limits = settings::limits(config);
    let http = http::Door {
        shadows: shadows.clone(),
        gate: Arc::clone(&listeners.gate),
        caller: Arc::new(Caller::anyone("http")),
        limits,
        health: running.health.clone(),
        office: Arc::clone(&running.office),
        metrics: exporter,
        clock: Arc::clone(&env.clock),
        default_deadline: config.http.default_deadline,
        body_bytes_max: config.http.body_bytes_max.0,
        grpc_address,
    };
    let stop = running.stop_doors.clone();
    let serving = http::serve(listeners.http, http, listeners.http_tls, stop);
    running.doors.spawn(serving);
    let grpc = api::Door {
        shadows: shadows.clone(),
        cluster: Arc::clone(&running.office),
        gate: listeners.gate,
        caller: Arc::new(Caller::anyone("grpc")),
        limits,
        health: running.health.clone(),
        default_deadline: config.api.default_deadline,
        message_bytes_max: settings::bytes(config.api.message_bytes_max.0),
        stream_updates_max: config.api.stream_updates_max as usize,
    };
    let stop = running.stop_doors.clone();
    running.doors.spawn(async move {
        let serving = api::serve(listeners.grpc, grpc, listeners.grpc_tls, stop);
        if let Err(error) = serving.await {
            error!(%error, "serve gRPC");
        }
    });
    Ok(())
}
