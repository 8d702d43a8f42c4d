//! What this node knows of the shards at one moment: who owns which hashes, where the replicas are,
//! and which of them are here. Replaced as a whole whenever any of it changes.

use std::collections::BTreeMap;

use antumbra_raft::{HashRange, Node, ReplicaId, ShardId};
use antumbra_shadow::DeviceKey;
use tracing::error;

use crate::error::Error;

use super::context::ShardContext;
use super::route::{Place, ShardMap};

/// One shard of the map as routing needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlace {
    /// The shard.
    pub shard: ShardId,
    /// The hashes that it owns.
    pub range: HashRange,
    /// Its replicas and the nodes that they are on, this node included.
    pub replicas: BTreeMap<ReplicaId, Node>,
}

/// The shards and their replicas.
#[derive(Default)]
pub(crate) struct Table {
    map: Option<ShardMap>,
    places: BTreeMap<ShardId, ShardPlace>,
    local: BTreeMap<ShardId, ShardContext>,
}

impl Table {
    /// A table of these shards. Places that do not own every hash exactly once route nothing.
    pub(crate) fn new(places: Vec<ShardPlace>, local: BTreeMap<ShardId, ShardContext>) -> Table {
        let map = ShardMap::of(places.iter().map(|place| Place {
            shard: place.shard,
            range: place.range,
        }));
        if map.is_none() && !places.is_empty() {
            error!("the shards do not own every hash exactly once: nothing is routed");
        }
        let by_shard = places.into_iter().map(|place| (place.shard, place));
        Table {
            map,
            places: by_shard.collect(),
            local,
        }
    }

    /// The shard map; unavailable as long as it is not known.
    pub(crate) fn map(&self) -> Result<&ShardMap, Error> {
        let unknown = Error::Unavailable("the shard map is not known yet");
        self.map.as_ref().ok_or(unknown)
    }

    /// The shard of a device.
    pub(crate) fn shard_of(&self, device: &DeviceKey) -> Result<ShardId, Error> {
        Ok(self.map()?.route(device.hash()))
    }

    /// The replica on this node, unless it has stopped.
    pub(crate) fn local(&self, shard: ShardId) -> Option<&ShardContext> {
        let context = self.local.get(&shard);
        context.filter(|context| !context.is_stopped())
    }

    /// All shards and where their replicas are.
    pub(crate) fn places(&self) -> impl Iterator<Item = &ShardPlace> {
        self.places.values()
    }

    /// All replicas on this node.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &ShardContext> {
        self.local.values()
    }

    /// The nodes with a replica of the shard, by replica id.
    pub(crate) fn nodes(&self, shard: ShardId) -> impl Iterator<Item = &Node> {
        let place = self.places.get(&shard);
        place.into_iter().flat_map(|place| place.replicas.values())
    }

    /// Whether another node than `me` has a replica of the shard.
    pub(crate) fn is_elsewhere(&self, shard: ShardId, me: &str) -> bool {
        self.nodes(shard).any(|node| node.name != me)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use antumbra_shadow::{DeviceId, Tenant};

    use super::*;

    fn place(shard: u32, start: u32, end: u32, nodes: &[&str]) -> ShardPlace {
        let node = |name: &&str| Node {
            name: (*name).to_owned(),
            address: String::new(),
        };
        let replicas = (1..).map(ReplicaId).zip(nodes.iter().map(node));
        ShardPlace {
            shard: ShardId(shard),
            range: HashRange { start, end },
            replicas: replicas.collect(),
        }
    }

    fn device() -> DeviceKey {
        DeviceKey::new(Tenant::default(), DeviceId::parse("pump").unwrap())
    }

    /// Before the first table a call must be refused, not sent somewhere.
    #[test]
    fn nothing_is_routed_without_a_whole_map() {
        let unavailable = |table: &Table| {
            matches!(
                table.shard_of(&device()).unwrap_err(),
                Error::Unavailable(_)
            )
        };
        assert!(unavailable(&Table::default()));
        let gap = vec![place(1, 0, 5, &["a"])];
        assert!(unavailable(&Table::new(gap, BTreeMap::new())));
    }

    #[test]
    fn shards_are_found_on_the_nodes_that_have_them() {
        let middle = device().hash();
        let places = vec![
            place(1, 0, middle, &["a", "b"]),
            place(2, middle + 1, u32::MAX, &["b"]),
        ];
        let table = Table::new(places, BTreeMap::new());
        assert_eq!(table.shard_of(&device()).unwrap(), ShardId(1));
        let names: Vec<_> = table.nodes(ShardId(1)).map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(table.is_elsewhere(ShardId(1), "a"));
        assert!(!table.is_elsewhere(ShardId(2), "b"));
        assert!(!table.is_elsewhere(ShardId(9), "b"));
    }
}
