//! Where replicas and leaders should be, and the next steps to get there. Pure: the same values give
//! the same steps, whatever the order in which they were put together.
//!
//! [`plan`] finds the cheapest layout that is as good as any (see the README of this module for what
//! *good* is, and why it holds) and gives, for every shard that is not there yet, one step towards it.
//! Whoever carries steps out may take as many or as few as it likes, in any order, and then asks
//! again: every step brings the layout nearer, so that steps come to an end and nothing moves twice.
//!
//! It must not know how a step is carried out, what time it is, or what was planned before.

mod flow;
mod leads;
mod shares;
mod spread;
mod steps;
mod target;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use antumbra_raft::ShardId;

use super::state::NodeId;
use steps::Journey;

/// What a node may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Everything.
    Active,
    /// It keeps its replicas, gets no others and must not lead: it will be stopped for a while.
    Draining,
    /// All its replicas must go. They count as live until they have gone.
    Leaving,
    /// Not reachable for longer than its replicas may be missing: they must be replaced.
    Dead,
}

/// A node that stores replicas. A node that does not is not named at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it would be lost with. Nodes without one share the zone with the empty name.
    pub zone: String,
    /// How many replicas it should have in proportion to other nodes.
    pub capacity: NonZeroU16,
    /// What it may be used for.
    pub standing: Standing,
}

/// The replicas of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The nodes whose replicas are to vote: present ones and those on their way in, not those on
    /// their way out. A node that is not known counts as dead.
    pub replicas: BTreeSet<NodeId>,
    /// The node that should lead it.
    pub preferred: NodeId,
    /// Its size in bytes, or 1: of two shards the lighter one is moved.
    pub weight: u64,
}

/// All shards and where they are. The meta shard is one like the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Replicas that every shard should have; 0 counts as 1.
    pub replication_factor: u32,
    /// The shards.
    pub shards: BTreeMap<ShardId, Places>,
}

/// Something to be done for a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Add a replica on a node; remove the one on another node when it has caught up.
    Move {
        /// Which shard.
        shard: ShardId,
        /// Where its replica goes from.
        from: NodeId,
        /// Where the new one is.
        to: NodeId,
    },
    /// Add a replica: there are too few.
    Add {
        /// Which shard.
        shard: ShardId,
        /// Where the new replica is.
        node: NodeId,
    },
    /// Remove a replica: there are too many.
    Remove {
        /// Which shard.
        shard: ShardId,
        /// Where the replica is that goes.
        node: NodeId,
    },
    /// From now on this node should lead it. It has a replica.
    Lead {
        /// Which shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
    },
}

impl Layout {
    fn copies(&self) -> usize {
        self.replication_factor.max(1) as usize
    }
}

/// The next step of every shard that has one, the most urgent ones first. None when all is well, or
/// when no node can be used.
pub fn plan(layout: &Layout, nodes: &BTreeMap<NodeId, Node>) -> Vec<Step> {
    let targets = target::targets(layout, nodes);
    let leads = leads::leads(layout, nodes, &targets);
    let mut steps = Vec::new();
    for (shard, places) in &layout.shards {
        let target = &targets[shard];
        // Nowhere to be: what there is stays.
        if target.is_empty() {
            continue;
        }
        let journey = Journey {
            shard: *shard,
            places,
            nodes,
            target,
            lead: leads.get(shard).copied(),
            copies: layout.copies(),
        };
        if let Some((urgency, step)) = journey.step() {
            steps.push((urgency, journey.live(), places.weight, step));
        }
    }
    steps.sort();
    steps.into_iter().map(|(_, _, _, step)| step).collect()
}

#[cfg(test)]
mod tests;
