//! Where the replicas should be: on as many usable nodes as there can be, over the zones, within the
//! shares, and otherwise where they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use antumbra_raft::ShardId;

use super::spread::Spread;
use super::zones::Demand;
use super::{Layout, Node, Places, Standing};
use crate::cluster::state::NodeId;

/// The nodes as the spread sees them.
struct Field<'a> {
    nodes: &'a BTreeMap<NodeId, Node>,
    /// Names of the zones, in order.
    zones: Vec<&'a str>,
    /// The active nodes, in order: what replicas can be brought to.
    active: Vec<NodeId>,
    /// The places of the active nodes of each zone among all of them.
    members: Vec<Vec<usize>>,
}

/// Shards that are alike: how many replicas they want, beside those that stay in each zone.
type Kind = (i64, Vec<i64>);

/// The nodes that each shard should have replicas on.
pub(super) fn targets(
    layout: &Layout,
    nodes: &BTreeMap<NodeId, Node>,
) -> BTreeMap<ShardId, BTreeSet<NodeId>> {
    let field = Field::of(nodes);
    let copies = layout.copies();
    let mut targets = BTreeMap::new();
    let mut kinds: BTreeMap<Kind, i64> = BTreeMap::new();
    for (shard, places) in &layout.shards {
        let staying = field.staying(places, copies);
        *kinds.entry(field.kind(&staying, copies)).or_default() += 1;
        targets.insert(*shard, staying);
    }
    let demands: BTreeMap<Kind, Demand> = kinds
        .keys()
        .map(|kind| (kind.clone(), field.demand(kind)))
        .collect();

    // For the shares, shards that are alike are one: there is little to compute then.
    let mut alike = field.spread();
    for (kind, times) in &kinds {
        field.add(&mut alike, &demands[kind], (*times, 0), |_| 0);
    }
    let shares = alike.shares();

    // The heavy ones choose first, so that the light ones are moved.
    let mut order: Vec<(&ShardId, &Places)> = layout.shards.iter().collect();
    order.sort_by_key(|(shard, places)| (Reverse(places.weight), **shard));
    // No number of leaders that stay is worth a replica that is built.
    let built = order.len() as i64 + 1;
    let mut each = field.spread();
    let mut shard_of = Vec::new();
    for (shard, places) in order {
        let kind = field.kind(&targets[shard], copies);
        let cost = |node: NodeId| match places.replicas.contains(&node) {
            true => i64::from(node != places.preferred),
            false => built,
        };
        field.add(&mut each, &demands[&kind], (1, shard.0 as usize), cost);
        shard_of.resize(each.ways.len(), *shard);
    }
    let taken = each.cheapest(&shares);
    let ways = each.ways.iter().zip(shard_of).zip(taken);
    for ((way, shard), _) in ways.filter(|(_, taken)| *taken) {
        // The other ways lead to zones.
        if let Some(node) = field.active.get(way.to) {
            targets.entry(shard).or_default().insert(*node);
        }
    }
    targets
}

impl<'a> Field<'a> {
    fn of(nodes: &'a BTreeMap<NodeId, Node>) -> Self {
        let names: BTreeSet<&str> = nodes.values().map(|node| node.zone.as_str()).collect();
        let zones: Vec<&str> = names.into_iter().collect();
        let is_active = |id: &&NodeId| nodes[id].standing == Standing::Active;
        let mut field = Self {
            nodes,
            members: vec![Vec::new(); zones.len()],
            zones,
            active: nodes.keys().filter(is_active).copied().collect(),
        };
        for (place, id) in field.active.iter().enumerate() {
            let zone = field.zone(&nodes[id]);
            field.members[zone].push(place);
        }
        field
    }

    fn zone(&self, node: &Node) -> usize {
        self.zones
            .partition_point(|name| *name < node.zone.as_str())
    }

    /// The draining nodes with a replica: they keep it.
    fn staying(&self, places: &Places, copies: usize) -> BTreeSet<NodeId> {
        let is_draining = |node: &&NodeId| {
            let node = self.nodes.get(node);
            node.is_some_and(|node| node.standing == Standing::Draining)
        };
        let draining = places.replicas.iter().filter(is_draining);
        draining.take(copies).copied().collect()
    }

    fn kind(&self, staying: &BTreeSet<NodeId>, copies: usize) -> Kind {
        let mut fixed = vec![0; self.zones.len()];
        for node in staying.iter().filter_map(|id| self.nodes.get(id)) {
            fixed[self.zone(node)] += 1;
        }
        let wanted = (copies - staying.len()).min(self.active.len());
        (wanted as i64, fixed)
    }

    fn demand(&self, (wanted, fixed): &Kind) -> Demand {
        let nodes: Vec<i64> = self
            .members
            .iter()
            .map(|members| members.len() as i64)
            .collect();
        Demand::of(*wanted, fixed, &nodes)
    }

    fn spread(&self) -> Spread {
        let capacity = |id: &NodeId| self.nodes[id].capacity.get().into();
        Spread::over(self.active.iter().map(capacity).collect())
    }

    /// Adds so many shards with this demand, and what a replica on each node costs them. Each turn begins
    /// with another node: where all are equally good, not every shard gets the same ones.
    fn add(
        &self,
        spread: &mut Spread,
        demand: &Demand,
        (times, turn): (i64, usize),
        cost: impl Fn(NodeId) -> i64,
    ) {
        let extra = spread.vertex(demand.extra * times);
        for zone in turned(self.zones.len(), turn) {
            let (base, members) = (demand.base[zone], &self.members[zone]);
            let is_open = demand.extra > 0 && demand.open[zone];
            // The only node of a zone needs no vertex for it.
            let here = match (is_open, base) {
                (false, 0) => continue,
                (true, 0) if members.len() == 1 => extra,
                _ => spread.vertex(base * times),
            };
            if is_open && here != extra {
                spread.way(extra, here, times, 0);
            }
            for member in turned(members.len(), turn) {
                let place = members[member];
                spread.way(here, place, times, cost(self.active[place]));
            }
        }
    }
}

/// The numbers below a limit, beginning elsewhere at each turn.
fn turned(limit: usize, turn: usize) -> impl Iterator<Item = usize> {
    (0..limit).map(move |number| (number + turn) % limit)
}
