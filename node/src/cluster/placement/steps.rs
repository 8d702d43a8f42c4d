//! The next step of one shard on its way to its target.

use std::collections::{BTreeMap, BTreeSet};

use antumbra_raft::ShardId;

use super::{Node, Places, Standing, Step};
use crate::cluster::state::NodeId;

/// How soon a step is to be taken: variants in this order, then shards with few live replicas, then
/// small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Costs nothing and lets a replica go in peace.
    Lead,
    /// A replica is missing or dead.
    Repair,
    /// The node goes.
    Leave,
    /// One too many.
    Surplus,
    /// For the zones, or for the balance.
    Balance,
}

/// A shard, what it has and what it should have.
pub(super) struct Journey<'a> {
    pub(super) shard: ShardId,
    pub(super) places: &'a Places,
    pub(super) nodes: &'a BTreeMap<NodeId, Node>,
    pub(super) target: &'a BTreeSet<NodeId>,
    /// Who should lead it.
    pub(super) lead: Option<NodeId>,
    /// How many replicas it should have.
    pub(super) copies: usize,
}

impl Journey<'_> {
    /// The next step, and how soon it is to be taken.
    pub(super) fn step(&self) -> Option<(Urgency, Step)> {
        let lead = self.lead_step();
        let keeps_lead = self.can_lead(self.places.preferred);
        match lead {
            Some(step) if !keeps_lead => Some((Urgency::Lead, step)),
            _ => self
                .replica_step()
                .or(lead.map(|step| (Urgency::Lead, step))),
        }
    }

    /// How many replicas are on nodes that are not dead.
    pub(super) fn live(&self) -> usize {
        let replicas = self.places.replicas.iter();
        replicas.filter(|node| self.is_live(**node)).count()
    }

    fn lead_step(&self) -> Option<Step> {
        let (shard, node) = (self.shard, self.lead?);
        let changes = node != self.places.preferred && self.places.replicas.contains(&node);
        changes.then_some(Step::Lead { shard, node })
    }

    fn replica_step(&self) -> Option<(Urgency, Step)> {
        let shard = self.shard;
        let has = self.places.replicas.len();
        let coming = self.target.difference(&self.places.replicas).copied();
        let going = self.places.replicas.difference(self.target).copied();
        if has < self.copies {
            let best = |node: &NodeId| (self.crowding(None, Some(*node)), *node);
            let node = coming.min_by_key(best)?;
            return Some((Urgency::Repair, Step::Add { shard, node }));
        }
        // What is dead goes first; then the zones stay as even as they can.
        let best = |(from, to): &(NodeId, Option<NodeId>)| {
            let crowding = self.crowding(Some(*from), *to);
            (self.is_live(*from), crowding, self.order(*from), *from, *to)
        };
        if has > self.copies {
            let alone = going.map(|from| (from, None));
            let (node, _) = alone.min_by_key(best)?;
            return Some((Urgency::Surplus, Step::Remove { shard, node }));
        }
        // Without one that comes none goes: where it is, it is of use as soon as its node is.
        let pairs = going.flat_map(|from| coming.clone().map(move |to| (from, Some(to))));
        let (from, to) = pairs.min_by_key(best)?;
        let to = to?;
        let urgency = match self.order(from) {
            0 => Urgency::Repair,
            1 => Urgency::Leave,
            _ => Urgency::Balance,
        };
        Some((urgency, Step::Move { shard, from, to }))
    }

    /// Which replicas go first: dead ones, then those on nodes that leave.
    fn order(&self, node: NodeId) -> u8 {
        match self.nodes.get(&node).map(|node| node.standing) {
            None | Some(Standing::Dead) => 0,
            Some(Standing::Leaving) => 1,
            Some(Standing::Active | Standing::Draining) => 2,
        }
    }

    fn is_live(&self, node: NodeId) -> bool {
        self.order(node) > 0
    }

    /// Whether a node can lead the shard now and later.
    fn can_lead(&self, node: NodeId) -> bool {
        let standing = self.nodes.get(&node).map(|node| node.standing);
        standing == Some(Standing::Active)
            && self.places.replicas.contains(&node)
            && self.target.contains(&node)
    }

    /// How unevenly the live replicas are spread over the zones once one has gone and one has come.
    fn crowding(&self, from: Option<NodeId>, to: Option<NodeId>) -> usize {
        let stays = |node: &&NodeId| Some(**node) != from && self.is_live(**node);
        let after = self.places.replicas.iter().filter(stays).chain(&to);
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for node in after.filter_map(|node| self.nodes.get(node)) {
            *zones.entry(&node.zone).or_default() += 1;
        }
        zones.values().map(|count| count * count).sum()
    }
}
