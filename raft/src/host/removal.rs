//! What a replica leaves behind when its node is done with it.

use std::sync::Arc;

use tracing::{info, warn};

use crate::error::Error;
use crate::ids::{HashRange, ReplicaId, ShardId};
use crate::state::{Key, PositionRow};

use super::{Host, Reserved};

impl Host {
    /// Removes the log and the rows that a replica left here, durably. No replica of the shard may
    /// run. The votes are lost with them: the replica must not come back, and nobody may
    /// need what it knew. The row that says whose they are goes last, so that a crash on the way is
    /// followed by another attempt. Dropping the future midway is safe.
    ///
    /// Only what a replica below `below` left is removed: whoever asks knows nothing of later ones. True when
    /// nothing is left.
    pub async fn remove_replica(
        &self,
        shard: ShardId,
        range: HashRange,
        below: ReplicaId,
    ) -> Result<bool, Error> {
        let stores = self.stores()?;
        let row = stores.state.get(shard, &Key::position(shard))?;
        let row = row.map(|row| PositionRow::decode(&row)).transpose()?;
        let Some(former) = row.map(|row| row.replica) else {
            return Ok(true);
        };
        if former >= below {
            warn!(%shard, replica = %former, %below, "a replica is newer than what is known of the shard");
            return Ok(false);
        }
        if !self.shards.reserve(shard) {
            return Err(Error::Config {
                setting: "shard",
                what: format!("shard {shard} runs"),
            });
        }
        let _reserved = Reserved(&self.shards, shard);
        // A flush under way may still publish how far the former replica was: that must not let the
        // log of the next one be purged.
        stores.flusher.flush().await?;
        info!(%shard, replica = %former, "remove what a replica left");
        let cleared = stores.log.shard(shard).await?.clear().await;
        cleared.map_err(|first| Error::Failed { first })?;
        let state = Arc::clone(&stores.state);
        let clearing = move || {
            state.clear_shard(shard, range)?;
            state.flush()
        };
        let cleared = tokio::task::spawn_blocking(clearing).await;
        cleared.map_err(|_| Error::Stopped)??;
        Ok(true)
    }
}
