//! What a node can be looked at for: its replicas and its stores.

use crate::shard::Shard;
use crate::vitals::StoreVitals;

use super::Host;

impl Host {
    /// The replicas that run here, in the order of their shards.
    pub(crate) fn shards(&self) -> Vec<Shard> {
        self.shards.all()
    }

    /// What each store says of itself; nothing on a node that has none.
    pub(crate) fn store_vitals(&self) -> Vec<(&'static str, StoreVitals)> {
        let Some(stores) = &self.stores else {
            return Vec::new();
        };
        let log = stores.log.vitals().map(|seen| ("log", seen));
        let state = ("state", stores.state.vitals());
        log.into_iter().chain([state]).collect()
    }
}
