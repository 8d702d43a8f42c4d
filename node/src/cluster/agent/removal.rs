//! How a node parts with replicas that it has no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use antumbra_raft::{ReplicaId, ShardId};
use tracing::{info, warn};

use crate::boot::Error;
use crate::cluster::state::{ClusterState, META_SHARD};

use super::Agent;

impl Agent {
    /// Stops a replica. Its data stay.
    pub(super) async fn stop_replica(&mut self, shard: ShardId) -> Result<(), Error> {
        let Some(running) = self.replicas.remove(&shard) else {
            return Ok(());
        };
        info!(%shard, replica = %running.shard.replica(), "stop a replica that is not needed");
        running.stop.cancel();
        if let Some(data) = &running.data {
            data.context.twins.step_down();
            data.machine.detach();
        }
        drop(running);
        if shard == META_SHARD {
            // From now on the others have to be asked what the state is.
            self.meta.forget();
        }
        match self.host.stop_shard(shard).await {
            // It goes on ending by itself, and nobody else can start it meanwhile.
            Err(error @ antumbra_raft::Error::Timeout { .. }) => {
                warn!(%shard, %error, "a replica takes long to stop");
                Ok(())
            }
            stopped => Ok(stopped?),
        }
    }

    /// Removes what replicas left that this node has no more: their groups do without them, or the state
    /// would still name them. Also what a crash kept from being removed.
    pub(super) async fn remove_what_is_left(
        &mut self,
        state: &Arc<ClusterState>,
        wanted: &BTreeMap<ShardId, ReplicaId>,
    ) -> Result<(), Error> {
        if !self.office.info().storage {
            return Ok(());
        }
        for (id, record) in &state.shards {
            let shard = ShardId(*id);
            if wanted.contains_key(&shard) || self.removed.contains(&shard) {
                continue;
            }
            let below = ReplicaId(state.next_replica);
            let removed = self.host.remove_replica(shard, record.range(), below);
            match removed.await {
                Ok(true) => {
                    self.removed.insert(shard);
                }
                // This state is not the newest one.
                Ok(false) => {}
                // It is still about to stop: the next state comes by here again.
                Err(error @ antumbra_raft::Error::Config { .. }) => {
                    warn!(%shard, %error, "what a replica left is removed later");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
