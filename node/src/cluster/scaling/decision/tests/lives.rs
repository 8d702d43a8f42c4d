//! Clusters live through whatever is read and whoever dies, and come to rest as the StatefulSet says.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use proptest::prelude::*;
use uuid::Uuid;

use crate::cluster::Founding;
use crate::cluster::control::ReplicaReport;
use crate::cluster::reconciler::next;
use crate::cluster::scaling::view::Reports;
use crate::cluster::state::{ClusterState, MetaCommand, MetaReply, NodeInfo};

use super::*;

const FACTOR: u32 = 3;
const NODES: u32 = 5;
const SHARDS: u32 = 4;
/// Looks of the leader until a cluster that nothing happens to must be at rest.
const REST: usize = 80;

/// What happens before a look.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody scales.
    Scale(u32),
    /// The API says something else for once.
    Odd(Found),
    /// A node stops answering, or comes back.
    Turn(u32),
    /// Another node leads the meta shard, and has read nothing.
    Leader,
    /// Nothing.
    Time,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..=NODES).prop_map(Event::Scale),
        1 => any_found().prop_map(Event::Odd),
        1 => (0..NODES).prop_map(Event::Turn),
        1 => Just(Event::Leader),
        12 => Just(Event::Time),
    ]
}

struct World {
    state: ClusterState,
    replicas: u32,
    down: BTreeSet<u32>,
    reads: Reads,
    at: Duration,
    incarnations: u128,
}

fn info(ordinal: u32, incarnation: u128) -> NodeInfo {
    NodeInfo {
        name: format!("antumbra-{ordinal}"),
        incarnation: Uuid::from_u128(incarnation),
        peer: String::new(),
        grpc: String::new(),
        http: String::new(),
        storage: true,
        zone: String::new(),
        capacity: NonZeroU16::MIN,
        rules: 1,
    }
}

impl World {
    fn new() -> World {
        let founding = Founding {
            cluster_id: Uuid::from_u128(7),
            replication_factor: FACTOR,
            shards: SHARDS,
            members: (0..NODES)
                .map(|ordinal| info(ordinal, ordinal.into()))
                .collect(),
        };
        let mut world = World {
            state: founding.state(),
            replicas: NODES,
            down: BTreeSet::new(),
            reads: Reads::default(),
            at: Duration::ZERO,
            incarnations: 100,
        };
        world.settle();
        world
    }

    fn apply(&mut self, command: MetaCommand) -> MetaReply {
        let (state, reply) = ClusterState::apply(Some(self.state.clone()), command);
        self.state = state.unwrap();
        reply
    }

    fn answers(&self, node: NodeId) -> bool {
        let info = self.state.nodes.get(&node);
        let ordinal = info.and_then(|info| info.name.rsplit('-').next()?.parse().ok());
        ordinal.is_some_and(|ordinal: u32| !self.down.contains(&ordinal))
    }

    /// Groups become what the state says, where every replica that should vote is there.
    fn settle(&mut self) {
        for shard in self.state.shards.keys().copied().collect::<Vec<_>>() {
            let voters = self.state.shards[&shard].voters();
            if voters.values().all(|node| self.answers(*node)) {
                let replicas = voters.keys().map(|id| id.0).collect();
                self.apply(MetaCommand::Settled { shard, replicas });
            }
        }
    }

    /// Pods that the StatefulSet needs and that have left come back, with nothing.
    fn join(&mut self) {
        for ordinal in 0..self.replicas {
            let is_there = self
                .state
                .node_named(&format!("antumbra-{ordinal}"))
                .is_some();
            if !is_there && !self.down.contains(&ordinal) {
                self.incarnations += 1;
                self.apply(MetaCommand::Join(info(ordinal, self.incarnations)));
            }
        }
    }

    fn reports(&self) -> Reports {
        let nodes = self.state.nodes.keys().filter(|id| self.answers(**id));
        let reports = nodes.map(|node| {
            let shards = self.state.shards.iter().filter_map(|(shard, record)| {
                let replica = record.runs_on(*node)?;
                let mut alive = record.replicas.values().filter(|on| self.answers(**on));
                let leads = alive.next() == Some(node);
                let report = ReplicaReport {
                    replica: replica.0,
                    role: if leads { "leader" } else { "follower" }.into(),
                    leader: None,
                    term: 1,
                    last_log: 1,
                    committed: 1,
                    applied: 1,
                    matched: BTreeMap::new(),
                };
                Some((*shard, report))
            });
            (*node, shards.collect())
        });
        reports.collect()
    }

    /// One look of the leader, and what the groups do meanwhile.
    fn look(&mut self, odd: Option<Found>) {
        self.at += 5 * SECOND;
        let found = odd.unwrap_or_else(|| Found::Set(set(self.replicas)));
        self.reads.note(self.at, found);
        let view = View::of(&self.state, "antumbra", &self.reports());
        let who = |state: &ClusterState, node| state.nodes[&node].who();
        match decide(self.at, &self.reads, &view) {
            Decision::SendAway(node) => {
                let reply = self.apply(MetaCommand::Decommission(who(&self.state, node)));
                assert!(!matches!(reply, MetaReply::Refused(_)), "{reply:?}");
            }
            Decision::TakeBack(node) => {
                let reply = self.apply(MetaCommand::Resume(who(&self.state, node)));
                assert!(!matches!(reply, MetaReply::Refused(_)), "{reply:?}");
            }
            Decision::Nothing | Decision::Wait(_) => {}
        }
        for command in next(&self.state, &BTreeSet::new(), 2) {
            self.apply(command);
        }
        self.settle();
        self.check();
    }

    fn check(&self) {
        let lives = self.state.lives.values();
        let leaving = lives.filter(|life| **life == Life::Leaving).count();
        assert!(leaving <= 1, "{leaving} nodes are leaving");
        let stay = self.state.nodes.len() - leaving;
        assert!(stay >= FACTOR as usize, "{stay} nodes stay");
        for (shard, record) in &self.state.shards {
            let voters = record.voters().len();
            assert!(voters >= FACTOR as usize, "shard {shard} has {voters}");
        }
    }

    fn ordinals(&self) -> BTreeSet<u32> {
        let names = self.state.nodes.values().map(|info| &info.name);
        names
            .map(|name| name.rsplit('-').next().unwrap().parse().unwrap())
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever was before: once nothing happens any more, the nodes are those that the StatefulSet needs, they
    /// have everything, and a cluster that is parked has lost nobody since.
    #[test]
    fn nodes_become_what_the_set_says(
        events in prop::collection::vec(any_event(), 0..60),
        last in 0..=NODES,
    ) {
        let mut world = World::new();
        for event in events {
            let mut odd = None;
            match event {
                Event::Scale(replicas) => world.replicas = replicas,
                Event::Odd(found) => odd = Some(found),
                Event::Turn(node) => if !world.down.remove(&node) {
                    world.down.insert(node);
                },
                Event::Leader => world.reads = Reads::default(),
                Event::Time => {}
            }
            world.join();
            world.look(odd);
        }
        world.down.clear();
        world.replicas = last;
        let before = world.ordinals();
        for _ in 0..REST {
            world.join();
            world.look(None);
        }
        let after = world.ordinals();
        match last < FACTOR {
            true => prop_assert!(after.is_superset(&before), "{:?} of {:?}", after, before),
            false => prop_assert_eq!(after, (0..last).collect::<BTreeSet<u32>>()),
        }
        prop_assert!(world.state.lives.is_empty(), "{:?}", world.state.lives);
        prop_assert!(world.state.shards.values().all(|shard| shard.is_settled()));
    }
}
