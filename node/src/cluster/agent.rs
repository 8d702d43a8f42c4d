//! Makes this node do what the state of the cluster says: starts and stops its replicas, tells the use
//! cases where the shards are, and keeps the last state on the disk.

mod ending;
mod removal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use antumbra_raft::{Env, Host, ReplicaId, Role, Shard, ShardId, ShardSpec};
use antumbra_shadow::{RULES, Time, Twins};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::boot::{Error, settings};
use crate::config::Config;
use crate::shadows::{
    Faults, Port, Relay, RelayLimits, ShadowMachine, Shadows, ShardContext, ShardPlace, Trimmer,
};

use super::bootstrap::{Beginning, is_forgotten, number_of};
use super::control::Standing;
use super::follow;
use super::keeper::Keeper;
use super::machine::MetaMachine;
use super::office::Office;
use super::reconciler::Reconciler;
use super::scaling::Scaler;
use super::state::{ClusterState, Founding, META_SHARD, NodeId, ShardPhase, ShardRecord};

/// How long one wait for the recovery of a replica takes at most.
const RECOVERY_WAIT: Duration = Duration::from_millis(500);

/// Changes and bytes of them that wait in memory for the watchers of one shard.
const RELAY_LIMITS: RelayLimits = RelayLimits {
    changes_max: 16 * 1024,
    bytes_max: 32 << 20,
};

/// What the agent needs from the node.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) host: Arc<Host>,
    pub(crate) office: Arc<Office>,
    pub(crate) shadows: Shadows,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    meta: Arc<MetaMachine>,
    replicas: BTreeMap<ShardId, Running>,
    /// Shards of which nothing is on the disk.
    removed: BTreeSet<ShardId>,
    /// Wakes the agent when a replica has become ready.
    readied: Arc<Notify>,
    serving: watch::Sender<bool>,
    /// What leaders on this node stamp into entries.
    rules: Arc<AtomicU16>,
}

/// A replica of this node with everything around it.
struct Running {
    shard: Shard,
    data: Option<Data>,
    stop: CancellationToken,
    /// Ends, before everything else, what may propose or give the lead away.
    stop_keeping: CancellationToken,
    /// It has applied what its log held at the start, and knows who leads.
    ready: Arc<AtomicBool>,
}

impl Running {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// What a data shard has beside its replica.
struct Data {
    machine: Arc<ShadowMachine>,
    context: ShardContext,
}

impl Agent {
    pub(crate) fn new(
        config: Config,
        env: Env,
        host: Arc<Host>,
        office: Arc<Office>,
        shadows: Shadows,
    ) -> Agent {
        Agent {
            config,
            env,
            host,
            office,
            shadows,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            meta: Arc::new(MetaMachine::new()),
            replicas: BTreeMap::new(),
            removed: BTreeSet::new(),
            readied: Arc::new(Notify::new()),
            serving: watch::Sender::new(false),
            rules: Arc::new(AtomicU16::new(1)),
        }
    }

    /// True once all replicas of this node were ready at the same time.
    pub(crate) fn serving(&self) -> watch::Receiver<bool> {
        self.serving.subscribe()
    }

    /// Takes part in the cluster: starts what the state says.
    pub(crate) async fn begin(&mut self, beginning: Beginning) -> Result<(), Error> {
        match beginning {
            Beginning::Founding { founding, create } => self.found(founding, create).await?,
            Beginning::Member { state } => {
                self.office.remember(&state).await?;
            }
        }
        // Not before: what others say may be older than what is on the disk.
        follow::follow(&self.office, self.meta.state(), &self.tasks, &self.stop);
        let state = self.first_state().await?;
        self.become_member(&state).await?;
        self.carry_out(&state).await?;
        match self.office.info().storage {
            true => Ok(self.office.stores_created().await?),
            false => Ok(()),
        }
    }

    /// Follows the state until the node stops. Ends with an error when the node must stop.
    pub(crate) async fn run(&mut self) -> Error {
        let mut states = self.office.state();
        let stop = self.stop.clone();
        let readied = Arc::clone(&self.readied);
        loop {
            let Some(state) = states.borrow_and_update().clone() else {
                return Error::Panicked;
            };
            if let Err(error) = self.carry_out(&state).await {
                error!(%error, "follow the state of the cluster");
                return error;
            }
            if self.replicas.values().all(Running::is_ready) {
                self.serving.send_replace(true);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => std::future::pending::<()>().await,
                () = readied.notified() => {}
                changed = states.changed() => if changed.is_err() {
                    return Error::Panicked;
                },
            }
        }
    }

    /// Starts the replica of the meta shard that the founders agreed on, and writes the first state
    /// where this node comes to lead it.
    async fn found(&mut self, founding: Founding, create: bool) -> Result<(), Error> {
        let first = founding.state();
        self.office.transport_knows(&first);
        let me = number_of(&first, self.office.info());
        let record = first.shards.get(&META_SHARD.0);
        if let (Some(me), Some(record)) = (me, record)
            && let Some(replica) = record.replica_on(me)
        {
            let spec = spec(&first, META_SHARD, record, replica, create);
            self.start_meta(spec, me).await?;
            let (office, shard) = (Arc::clone(&self.office), self.host.shard(META_SHARD));
            let (states, stop) = (self.office.state(), self.stop.clone());
            if let Some(shard) = shard {
                self.tasks.spawn(follow::write_first_state(
                    office, shard, states, founding, stop,
                ));
            }
        }
        Ok(())
    }

    async fn first_state(&self) -> Result<Arc<ClusterState>, Error> {
        let mut states = self.office.state();
        let state = states.wait_for(Option::is_some).await;
        let state = state.map_err(|_| Error::Panicked)?;
        state.clone().ok_or(Error::Panicked)
    }

    async fn become_member(&self, state: &ClusterState) -> Result<(), Error> {
        if matches!(self.office.standing(), Standing::Member { .. }) {
            return Ok(());
        }
        let me = self.number_in(state)?;
        Ok(self.office.become_member(me, state).await?)
    }

    /// Starts and stops replicas, and publishes the table of shards.
    async fn carry_out(&mut self, state: &Arc<ClusterState>) -> Result<(), Error> {
        self.agree_on_rules(state.agreed_rules())?;
        if is_forgotten(state, self.office.info()) {
            // It is let in again; until then it serves as before.
            self.publish(state);
            return Ok(());
        }
        let me = self.number_in(state)?;
        let wanted: BTreeMap<ShardId, ReplicaId> = state
            .shards
            .iter()
            .filter_map(|(id, record)| Some((ShardId(*id), record.runs_on(me)?)))
            .collect();
        let gone: Vec<ShardId> = self
            .replicas
            .iter()
            .filter(|(id, running)| wanted.get(*id) != Some(&running.shard.replica()))
            .map(|(id, _)| *id)
            .collect();
        for shard in gone {
            self.stop_replica(shard).await?;
        }
        self.publish(state);
        self.start_replicas(state, me, &wanted).await?;
        self.publish(state);
        self.remove_what_is_left(state, &wanted).await
    }

    /// From now on entries may have these rules. A version that does not know them could not apply what
    /// others apply, so it keeps no replica.
    fn agree_on_rules(&self, agreed: u16) -> Result<(), Error> {
        let announced = self.office.info().rules;
        if self.office.info().storage && agreed > announced {
            return Err(antumbra_raft::Error::rules_too_new(agreed, announced).into());
        }
        let rules = agreed.min(RULES);
        if self.rules.swap(rules, Ordering::Relaxed) != rules {
            info!(rules, "every node with replicas knows these rules");
        }
        Ok(())
    }

    /// The number of this node, unless it is not a member any more.
    fn number_in(&self, state: &ClusterState) -> Result<NodeId, Error> {
        let me = self.office.info();
        number_of(state, me).ok_or(match state.has_left(me.incarnation) {
            true => Error::Left,
            false => Error::Replaced,
        })
    }

    /// Starts what is missing, side by side: each replays its part of the log on a core of its own.
    async fn start_replicas(
        &mut self,
        state: &Arc<ClusterState>,
        me: NodeId,
        wanted: &BTreeMap<ShardId, ReplicaId>,
    ) -> Result<(), Error> {
        let mut starting = JoinSet::new();
        for (shard, replica) in wanted {
            let record = state.shards.get(&shard.0);
            let Some(record) = record.filter(|_| !self.replicas.contains_key(shard)) else {
                continue;
            };
            self.removed.remove(shard);
            // A node that lost its data may have created the group before: others would know.
            let is_first = record.retiring.is_empty();
            let create = record.phase == ShardPhase::Creating && record.preferred == me && is_first;
            let spec = spec(state, *shard, record, *replica, create);
            if *shard == META_SHARD {
                self.start_meta(spec, me).await?;
                continue;
            }
            let relay = Relay::new(RELAY_LIMITS);
            let machine = Arc::new(ShadowMachine::new(spec.range, Arc::clone(&relay)));
            let (host, config, env) = (
                Arc::clone(&self.host),
                self.config.clone(),
                self.env.clone(),
            );
            let shards = wanted.len().saturating_sub(1);
            let rules = Arc::clone(&self.rules);
            starting.spawn(async move {
                let shard = host.start_shard(spec, Arc::clone(&machine)).await?;
                let faults = Faults::new(config.test_switches.lose_proposal);
                let port = Port::new(shard.clone(), Arc::clone(&env.clock), rules, faults);
                let twins = Twins::new(Arc::new(port), settings::twins_config(&config, shards));
                machine.attach(twins.clone());
                let range = shard.range();
                let context = ShardContext {
                    range,
                    shard,
                    twins,
                    relay,
                };
                Ok::<_, Error>(Data { machine, context })
            });
        }
        let mut failure = None;
        // All are waited for, also after a failure: a shutdown must find none of them halfway.
        while let Some(started) = starting.join_next().await {
            match started.unwrap_or(Err(Error::Panicked)) {
                Ok(data) => self.run_data(data, me, wanted.len() as u64),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn start_meta(&mut self, spec: ShardSpec, me: NodeId) -> Result<(), Error> {
        let shard = self.host.start_shard(spec, Arc::clone(&self.meta)).await?;
        self.meta.reload(&shard)?;
        let stop = self.stop.child_token();
        let stop_keeping = self.keep(&shard, me, &stop);
        let reconciler = Reconciler {
            shard: shard.clone(),
            office: Arc::clone(&self.office),
            replace_after: self.config.cluster.replace_after,
            moves_max: self.config.cluster.moves_max as usize,
        };
        self.tasks.spawn(reconciler.run(stop_keeping.clone()));
        if let Some(scaler) = Scaler::new(&shard, &self.office) {
            self.tasks.spawn(scaler.run(stop_keeping.clone()));
        }
        let (meta, follow) = (Arc::clone(&self.meta), shard.clone());
        let (mut resets, stopped) = (self.meta.resets(), stop.clone());
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => return,
                    changed = resets.changed() => if changed.is_err() { return },
                }
                if let Err(error) = meta.reload(&follow) {
                    error!(%error, "read the state of the cluster after a snapshot");
                }
            }
        });
        self.insert(shard, None, stop, stop_keeping);
        Ok(())
    }

    fn run_data(&mut self, data: Data, me: NodeId, shards: u64) {
        let context = data.context.clone();
        let stop = self.stop.child_token();
        self.tasks.spawn(lead_twins(context.clone(), stop.clone()));
        let clock = Arc::clone(&self.env.clock);
        let now = Box::new(move || Time(clock.now_ms()));
        let limits = settings::trim_limits(&self.config, shards);
        let trimmer = Trimmer::new(context.clone(), limits, now);
        let stop_keeping = self.keep(&context.shard, me, &stop);
        self.tasks.spawn(trimmer.run(stop_keeping.clone()));
        self.insert(context.shard, Some(data), stop, stop_keeping);
    }

    fn insert(
        &mut self,
        shard: Shard,
        data: Option<Data>,
        stop: CancellationToken,
        stop_keeping: CancellationToken,
    ) {
        let ready = Arc::new(AtomicBool::new(false));
        let (prepared, flag) = (shard.clone(), Arc::clone(&ready));
        let (readied, stopped) = (Arc::clone(&self.readied), stop.clone());
        self.tasks.spawn(async move {
            let done = tokio::select! {
                biased;
                () = stopped.cancelled() => false,
                done = prepare(&prepared) => done,
            };
            flag.store(done, Ordering::Release);
            readied.notify_one();
        });
        let running = Running {
            shard,
            data,
            stop,
            stop_keeping,
            ready,
        };
        self.replicas.insert(running.shard.id(), running);
    }

    /// Starts the keeper of a group, and gives what ends it before the rest.
    fn keep(&self, shard: &Shard, me: NodeId, stop: &CancellationToken) -> CancellationToken {
        let keeper = Keeper {
            shard: shard.clone(),
            office: Arc::clone(&self.office),
            me,
        };
        let stop_keeping = stop.child_token();
        self.tasks.spawn(keeper.run(stop_keeping.clone()));
        stop_keeping
    }

    fn publish(&self, state: &ClusterState) {
        let places = state
            .shards
            .iter()
            .filter(|(id, _)| **id != META_SHARD.0)
            .map(|(id, record)| ShardPlace {
                shard: ShardId(*id),
                range: record.range(),
                replicas: running_nodes(state, record),
            });
        // Before a replica is ready even a local read could be older than what it once served.
        let ready = self.replicas.iter().filter(|(_, r)| r.is_ready());
        let local = ready.filter_map(|(id, running)| {
            let data = running.data.as_ref()?;
            Some((*id, data.context.clone()))
        });
        self.shadows.set_table(places.collect(), local.collect());
        let nodes = state.nodes.keys().filter_map(|id| state.engine_node(*id));
        self.shadows.set_nodes(nodes);
    }
}

/// Waits until a replica has applied what it must have applied before it may serve, and knows who
/// leads. False when it stopped instead.
async fn prepare(shard: &Shard) -> bool {
    loop {
        match shard.recovered(RECOVERY_WAIT).await {
            Ok(()) => break,
            Err(antumbra_raft::Error::Timeout { .. }) => {}
            Err(error) => {
                warn!(shard = %shard.id(), %error, "a replica does not recover");
                return false;
            }
        }
    }
    let mut role = shard.role();
    let settled = role.wait_for(|role| {
        matches!(
            role,
            Role::Leader { .. } | Role::Follower { leader: Some(_) }
        )
    });
    settled.await.is_ok()
}

fn nodes_of(
    state: &ClusterState,
    record: &ShardRecord,
) -> BTreeMap<ReplicaId, antumbra_raft::Node> {
    let voters = record.voters().into_iter();
    voters
        .filter_map(|(id, node)| Some((id, state.engine_node(node)?)))
        .collect()
}

/// Where a shard is served: also by replicas on their way out, one of which may still lead.
fn running_nodes(
    state: &ClusterState,
    record: &ShardRecord,
) -> BTreeMap<ReplicaId, antumbra_raft::Node> {
    let nodes: BTreeSet<NodeId> = record.replicas.values().copied().collect();
    let running = nodes.into_iter().filter_map(|node| {
        let replica = record.runs_on(node)?;
        Some((replica, state.engine_node(node)?))
    });
    running.collect()
}

fn spec(
    state: &ClusterState,
    shard: ShardId,
    record: &ShardRecord,
    replica: ReplicaId,
    create: bool,
) -> ShardSpec {
    ShardSpec {
        shard,
        replica,
        range: record.range(),
        members: nodes_of(state, record),
        create,
    }
}

/// Makes the twins follow the role of their replica.
async fn lead_twins(context: ShardContext, stop: CancellationToken) {
    let mut role = context.shard.role();
    loop {
        let now = *role.borrow_and_update();
        match now {
            Role::Leader { term } => context.twins.lead(term),
            Role::Starting | Role::Follower { .. } | Role::Stopped => context.twins.step_down(),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = role.changed() => if changed.is_err() { return },
        }
    }
}
