//! Who should lead: spread evenly over the active nodes, and otherwise who does so now.

use std::collections::{BTreeMap, BTreeSet};

use antumbra_raft::ShardId;

use super::spread::Spread;
use super::{Layout, Node, Places, Standing};
use crate::cluster::state::NodeId;

/// The node that each shard should be led by; none for a shard without a replica on an active node.
pub(super) fn leads(
    layout: &Layout,
    nodes: &BTreeMap<NodeId, Node>,
    targets: &BTreeMap<ShardId, BTreeSet<NodeId>>,
) -> BTreeMap<ShardId, NodeId> {
    let is_active = |(_, node): &(&NodeId, &Node)| node.standing == Standing::Active;
    let active: Vec<NodeId> = nodes.iter().filter(is_active).map(|(id, _)| *id).collect();
    let mut spread = Spread::over(vec![1; active.len()]);
    let mut shards = Vec::new();
    for (shard, places) in &layout.shards {
        let able = able(places, &targets[shard], &active);
        if able.is_empty() {
            continue;
        }
        let here = spread.vertex(1);
        for place in able {
            let cost = i64::from(active[place] != places.preferred);
            spread.way(here, place, 1, cost);
            shards.push(*shard);
        }
    }
    let taken = spread.cheapest(&spread.shares());
    let ways = spread.ways.iter().zip(shards).zip(taken);
    ways.filter(|(_, taken)| *taken)
        .map(|((way, shard), _)| (shard, active[way.to]))
        .collect()
}

/// The active nodes that may lead a shard, by their places: those that are to have a replica of it.
/// Where the present leader has to go, only those that have it already, if there are any: they can
/// take the lead before it goes.
fn able(places: &Places, target: &BTreeSet<NodeId>, active: &[NodeId]) -> Vec<usize> {
    let able = (0..active.len()).filter(|place| target.contains(&active[*place]));
    let able: Vec<usize> = able.collect();
    let present = able.iter().copied();
    let present: Vec<usize> = present
        .filter(|place| places.replicas.contains(&active[*place]))
        .collect();
    let stays = present
        .iter()
        .any(|place| active[*place] == places.preferred);
    match stays || present.is_empty() {
        true => able,
        false => present,
    }
}
