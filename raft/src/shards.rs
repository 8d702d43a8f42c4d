//! The replicas of one node by their shard.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::ids::{ReplicaId, ShardId};
use crate::shard::Shard;

/// At most one replica of each shard, from the moment it begins to start until it is let go of.
#[derive(Default)]
pub(crate) struct Shards(Mutex<BTreeMap<ShardId, Slot>>);

enum Slot {
    /// It starts or stops: nobody else may do either.
    Busy,
    Running(Shard),
}

impl Shards {
    /// Takes the place of a shard that is not here. False when it is taken.
    pub(crate) fn reserve(&self, shard: ShardId) -> bool {
        let mut slots = self.0.lock();
        let free = !slots.contains_key(&shard);
        if free {
            slots.insert(shard, Slot::Busy);
        }
        free
    }

    /// Puts a replica into the place that was reserved for it.
    pub(crate) fn run(&self, shard: Shard) {
        self.0.lock().insert(shard.id(), Slot::Running(shard));
    }

    /// Takes a running replica out and keeps its place reserved.
    pub(crate) fn take(&self, shard: ShardId) -> Option<Shard> {
        let mut slots = self.0.lock();
        let slot = slots.get_mut(&shard)?;
        match std::mem::replace(slot, Slot::Busy) {
            Slot::Running(shard) => Some(shard),
            Slot::Busy => None,
        }
    }

    /// Gives a reserved place back.
    pub(crate) fn release(&self, shard: ShardId) {
        let mut slots = self.0.lock();
        if matches!(slots.get(&shard), Some(Slot::Busy)) {
            slots.remove(&shard);
        }
    }

    pub(crate) fn get(&self, shard: ShardId) -> Option<Shard> {
        match self.0.lock().get(&shard) {
            Some(Slot::Running(shard)) => Some(shard.clone()),
            Some(Slot::Busy) | None => None,
        }
    }

    /// The replica, if it is exactly this one.
    pub(crate) fn hosted(&self, shard: ShardId, replica: ReplicaId) -> Option<Shard> {
        self.get(shard).filter(|found| found.replica() == replica)
    }

    pub(crate) fn all(&self) -> Vec<Shard> {
        let slots = self.0.lock();
        let running = slots.values().filter_map(|slot| match slot {
            Slot::Running(shard) => Some(shard.clone()),
            Slot::Busy => None,
        });
        running.collect()
    }

    /// Takes all running replicas out for good.
    pub(crate) fn drain(&self) -> Vec<Shard> {
        let slots = std::mem::take(&mut *self.0.lock());
        let running = slots.into_values().filter_map(|slot| match slot {
            Slot::Running(shard) => Some(shard),
            Slot::Busy => None,
        });
        running.collect()
    }
}
