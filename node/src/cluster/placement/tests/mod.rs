//! Small clusters that change and are brought to rest, and what must hold meanwhile.

#![allow(clippy::unwrap_used)]

mod changes;
mod leads;
mod movement;
mod shares;
mod speed;
mod standings;
mod zones;

use super::*;

/// A small generator of its own, so that a run can be repeated from its seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to one below the limit.
    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }

    /// One of a list.
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// A cluster as the planner sees it, and what was done to it.
#[derive(Clone, Debug)]
struct World {
    layout: Layout,
    nodes: BTreeMap<NodeId, Node>,
    next_node: u64,
    /// Replicas that were built, by moves and additions.
    built: usize,
    /// Changes of preferred leaders.
    led: usize,
}

fn node(zone: &str, capacity: u16) -> Node {
    Node {
        zone: zone.into(),
        capacity: NonZeroU16::new(capacity).unwrap(),
        standing: Standing::Active,
    }
}

fn shard_of(step: &Step) -> ShardId {
    match *step {
        Step::Move { shard, .. }
        | Step::Add { shard, .. }
        | Step::Remove { shard, .. }
        | Step::Lead { shard, .. } => shard,
    }
}

fn ids(numbers: &[u64]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

impl World {
    /// Shards without replicas and no nodes.
    fn new(replication_factor: u32, shards: u32) -> Self {
        let places = |shard| {
            let nowhere = Places {
                replicas: BTreeSet::new(),
                preferred: NodeId(0),
                weight: 1,
            };
            (ShardId(shard), nowhere)
        };
        Self {
            layout: Layout {
                replication_factor,
                shards: (0..shards).map(places).collect(),
            },
            nodes: BTreeMap::new(),
            next_node: 1,
            built: 0,
            led: 0,
        }
    }

    /// The same with nodes 1, 2, 3 ... in these zones, at rest.
    fn settled(replication_factor: u32, shards: u32, zones: &[&str]) -> Self {
        let mut world = World::new(replication_factor, shards);
        for zone in zones {
            world.join(node(zone, 1));
        }
        world.settle();
        world
    }

    fn join(&mut self, node: Node) -> NodeId {
        let id = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    fn set(&mut self, number: u64, standing: Standing) {
        self.nodes.get_mut(&NodeId(number)).unwrap().standing = standing;
    }

    fn place(&mut self, shard: u32, replicas: &[u64], preferred: u64) {
        let places = self.layout.shards.get_mut(&ShardId(shard)).unwrap();
        places.replicas = ids(replicas);
        places.preferred = NodeId(preferred);
    }

    fn replicas(&self, shard: u32) -> &BTreeSet<NodeId> {
        &self.layout.shards[&ShardId(shard)].replicas
    }

    /// The next steps, at most one of each shard.
    fn plan(&self) -> Vec<Step> {
        let steps = plan(&self.layout, &self.nodes);
        let shards: BTreeSet<ShardId> = steps.iter().map(shard_of).collect();
        assert_eq!(shards.len(), steps.len(), "{steps:?}");
        steps
    }

    fn standing(&self, node: NodeId) -> Standing {
        self.nodes.get(&node).map_or(Standing::Dead, |n| n.standing)
    }

    fn active(&self) -> Vec<NodeId> {
        let ids = self.nodes.keys().copied();
        ids.filter(|id| self.standing(*id) == Standing::Active)
            .collect()
    }

    fn copies(&self) -> usize {
        self.layout.replication_factor.max(1) as usize
    }

    fn live(&self, shard: ShardId) -> Vec<NodeId> {
        let replicas = self.layout.shards[&shard].replicas.iter().copied();
        replicas
            .filter(|node| self.standing(*node) != Standing::Dead)
            .collect()
    }

    /// How many live replicas of a shard each zone has that can keep one.
    fn zones(&self, shard: ShardId) -> BTreeMap<&str, usize> {
        let live = self.live(shard);
        let is_staying = |(id, node): &(&NodeId, &Node)| match node.standing {
            Standing::Active => true,
            Standing::Draining => live.contains(id),
            Standing::Leaving | Standing::Dead => false,
        };
        let staying = self.nodes.iter().filter(is_staying);
        let mut zones: BTreeMap<&str, usize> =
            staying.map(|(_, node)| (&node.zone[..], 0)).collect();
        for node in &live {
            if let Some(count) = zones.get_mut(&self.nodes[node].zone[..]) {
                *count += 1;
            }
        }
        zones.retain(|_, count| *count > 0);
        zones
    }

    fn loads(&self) -> BTreeMap<NodeId, usize> {
        let mut loads: BTreeMap<NodeId, usize> = self.nodes.keys().map(|id| (*id, 0)).collect();
        for node in self
            .layout
            .shards
            .values()
            .flat_map(|places| &places.replicas)
        {
            *loads.entry(*node).or_default() += 1;
        }
        loads
    }

    fn leads(&self) -> BTreeMap<NodeId, usize> {
        let mut leads: BTreeMap<NodeId, usize> = self.active().iter().map(|id| (*id, 0)).collect();
        for places in self.layout.shards.values() {
            *leads.entry(places.preferred).or_default() += 1;
        }
        leads
    }

    /// Carries a step out, and checks that it may be taken here and makes nothing worse.
    fn take(&mut self, step: Step) {
        let (shard, from, to) = match step {
            Step::Move { shard, from, to } => (shard, Some(from), Some(to)),
            Step::Add { shard, node } => (shard, None, Some(node)),
            Step::Remove { shard, node } => (shard, Some(node), None),
            Step::Lead { shard, node } => {
                let active = self.standing(node) == Standing::Active;
                assert!(active, "{step:?} to a node that must not lead");
                let places = self.layout.shards.get_mut(&shard).unwrap();
                assert!(
                    places.replicas.contains(&node),
                    "{step:?} without a replica"
                );
                assert_ne!(places.preferred, node, "{step:?} changes nothing");
                places.preferred = node;
                self.led += 1;
                return;
            }
        };
        let had = self.health(shard);
        let places = self.layout.shards.get_mut(&shard).unwrap();
        if let Some(to) = to {
            assert!(places.replicas.insert(to), "{step:?} twice on a node");
            assert_eq!(self.standing(to), Standing::Active, "{step:?}");
            self.built += 1;
        }
        if let Some(from) = from {
            let places = self.layout.shards.get_mut(&shard).unwrap();
            assert!(places.replicas.remove(&from), "{step:?} without a replica");
            // A live replica or a zone goes only when enough are left, or as many as before.
            let has = self.health(shard);
            let enough = |had: usize, has: usize| has >= had.min(self.copies());
            assert!(enough(had.0, has.0), "{step:?} leaves too few: {self:?}");
            assert!(enough(had.1, has.1), "{step:?} loses a zone: {self:?}");
        }
    }

    /// How many live replicas a shard has, and in how many zones.
    fn health(&self, shard: ShardId) -> (usize, usize) {
        (self.live(shard).len(), self.zones(shard).len())
    }

    /// Takes all steps at once, again and again, until there are none.
    fn settle(&mut self) {
        let most = self.steps_at_most();
        for _ in 0..=most {
            let steps = self.plan();
            if steps.is_empty() {
                return;
            }
            steps.into_iter().for_each(|step| self.take(step));
        }
        panic!("no rest after {most} rounds: {self:?}");
    }

    /// More steps in a row than this are no way to a goal.
    fn steps_at_most(&self) -> usize {
        let replicas: usize = self.loads().values().sum();
        2 * (replicas + self.layout.shards.len() * (self.copies().min(self.nodes.len()) + 2))
    }

    /// What must hold when there is nothing left to do.
    fn check_rest(&self) {
        let copies = self.copies();
        let active = self.active();
        for (shard, places) in &self.layout.shards {
            let draining = places.replicas.iter();
            let draining = draining.filter(|node| self.standing(**node) == Standing::Draining);
            let draining = draining.count();
            let usable = copies.min(active.len() + draining);
            let has = places.replicas.iter().filter(|node| {
                matches!(self.standing(**node), Standing::Active | Standing::Draining)
            });
            assert_eq!(has.count(), usable, "shard {shard} of {self:?}");
            assert!(
                usable == 0 || places.replicas.len() <= copies,
                "shard {shard} has too many"
            );
            let gone =
                |node: &NodeId| matches!(self.standing(*node), Standing::Leaving | Standing::Dead);
            let replaced = usable < copies || !places.replicas.iter().any(gone);
            assert!(replaced, "shard {shard} is where it must not be: {self:?}");
            let can_lead = |node: &NodeId| self.standing(*node) == Standing::Active;
            let is_led = places.replicas.iter().any(can_lead);
            let leads = can_lead(&places.preferred) && places.replicas.contains(&places.preferred);
            assert!(
                !is_led || leads,
                "shard {shard} has no able leader: {self:?}"
            );
        }
    }
}
