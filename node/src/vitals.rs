//! What nobody counts where it happens, looked at every few seconds for the metrics: the replicas, the
//! stores, the twins, the disk, and what the cluster knows of itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Host;
use antumbra_shadow::metrics::{TWIN_CACHED_BYTES, TWIN_MAILBOX_COMMANDS};
use metrics::{Unit, describe_gauge, gauge};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::cluster::office::Office;
use crate::cluster::state::{ClusterState, Life, ShardRecord};
use crate::cluster::{NodeId, Standing};
use crate::shadows::Shadows;

/// Where this node is in its life: 1 for the state it is in, 0 for the others; label `state`.
const NODE_STATE: &str = "antumbra_node_state";
/// Nodes of the cluster as this node knows it; label `state`.
const CLUSTER_NODES: &str = "antumbra_cluster_nodes";
/// Shards of the cluster as this node knows it, the meta shard included.
const CLUSTER_SHARDS: &str = "antumbra_cluster_shards";
/// Shards whose replicas are being changed, as this node knows.
const MOVES_INFLIGHT: &str = "antumbra_moves_inflight";
/// Bytes that the node can still write to the file system of its data directory.
const DISK_FREE_BYTES: &str = "antumbra_disk_free_bytes";
/// Size of the file system of the data directory.
const DISK_TOTAL_BYTES: &str = "antumbra_disk_total_bytes";

/// Every value of the label of [`NODE_STATE`].
const STATES: [&str; 5] = ["joining", "active", "draining", "leaving", "left"];

/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Says what the metrics of this module mean.
pub(crate) fn describe() {
    describe_gauge!(
        NODE_STATE,
        "1 for the state that this node is in, 0 for the others"
    );
    describe_gauge!(
        CLUSTER_NODES,
        "Nodes of the cluster as this node knows it, by state"
    );
    describe_gauge!(
        CLUSTER_SHARDS,
        "Shards of the cluster as this node knows it, the meta shard included"
    );
    describe_gauge!(
        MOVES_INFLIGHT,
        "Shards whose replicas are being changed, as this node knows"
    );
    describe_gauge!(
        DISK_FREE_BYTES,
        Unit::Bytes,
        "Bytes that can still be written where the data directory is"
    );
    describe_gauge!(
        DISK_TOTAL_BYTES,
        Unit::Bytes,
        "Size of the file system of the data directory"
    );
}

/// What is looked at.
pub(crate) struct Vitals {
    /// The replicas and the stores.
    pub(crate) host: Arc<Host>,
    /// The cluster.
    pub(crate) office: Arc<Office>,
    /// The twins.
    pub(crate) shadows: Shadows,
    /// Where the disk is.
    pub(crate) data_dir: PathBuf,
    /// What the engine remembers from look to look.
    pub(crate) engine: antumbra_raft::Vitals,
}

impl Vitals {
    /// Looks until `stop`. Dropping the future midway lets the look that is under way finish.
    pub(crate) async fn watch(mut self, stop: CancellationToken) {
        loop {
            // It asks the file system and RocksDB.
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            self = match looked.await {
                Ok(looked) => looked,
                Err(error) => {
                    error!(%error, "metrics are not kept up to date any more");
                    return;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    fn look(&mut self) {
        self.engine.record(&self.host);
        self.record_twins();
        self.record_disk();
        let state = self.office.state().borrow().clone();
        let me = match self.office.standing() {
            Standing::Member { node, .. } => Some(node),
            Standing::Blank | Standing::Pledged(_) => None,
        };
        let incarnation = self.office.info().incarnation;
        let has_left = state
            .as_ref()
            .is_some_and(|state| state.has_left(incarnation));
        let mine = match (has_left, state.as_deref(), me) {
            (true, ..) => "left",
            (false, Some(state), Some(me)) => name_of(state.life(me)),
            _ => "joining",
        };
        for known in STATES {
            let value = f64::from(u8::from(known == mine));
            gauge!(NODE_STATE, "state" => known).set(value);
        }
        if let Some(state) = state {
            record_cluster(&state);
        }
    }

    fn record_twins(&self) {
        let contexts = self.shadows.contexts();
        let sum = |of: fn(&crate::shadows::ShardContext) -> usize| {
            contexts.iter().map(of).sum::<usize>() as f64
        };
        gauge!(TWIN_MAILBOX_COMMANDS).set(sum(|context| context.twins.waiting()));
        gauge!(TWIN_CACHED_BYTES).set(sum(|context| context.twins.cached_bytes()));
    }

    fn record_disk(&self) {
        let sizes = [
            (DISK_FREE_BYTES, fs4::available_space(&self.data_dir)),
            (DISK_TOTAL_BYTES, fs4::total_space(&self.data_dir)),
        ];
        for (name, bytes) in sizes {
            match bytes {
                Ok(bytes) => gauge!(name).set(bytes as f64),
                Err(error) => debug!(name, %error, "the disk does not say how large it is"),
            }
        }
    }
}

fn record_cluster(state: &ClusterState) {
    let count = |life: Life| {
        let in_life = |node: &&NodeId| state.life(**node) == life;
        state.nodes.keys().filter(in_life).count() as f64
    };
    for life in [Life::Active, Life::Draining, Life::Leaving] {
        gauge!(CLUSTER_NODES, "state" => name_of(life)).set(count(life));
    }
    gauge!(CLUSTER_SHARDS).set(state.shards.len() as f64);
    let changing =
        |record: &&ShardRecord| !record.arriving.is_empty() || !record.retiring.is_empty();
    let moves = state.shards.values().filter(changing).count();
    gauge!(MOVES_INFLIGHT).set(moves as f64);
}

fn name_of(life: Life) -> &'static str {
    match life {
        Life::Active => "active",
        Life::Draining => "draining",
        Life::Leaving => "leaving",
    }
}
