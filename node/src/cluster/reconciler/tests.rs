//! The steps that are noted, with groups that do what the state says, sooner or later.

#![allow(clippy::unwrap_used)]

mod random;

use std::num::NonZeroU16;

use uuid::Uuid;

use super::*;
use crate::cluster::Founding;
use crate::cluster::state::{Change, Life};

/// A cluster whose groups are told, and report when they are let.
#[derive(Clone)]
struct World {
    state: ClusterState,
    dead: BTreeSet<NodeId>,
    /// The members of every group, which change only when it settles.
    groups: BTreeMap<u32, BTreeSet<u64>>,
    /// Replicas that were built.
    built: u64,
}

fn info(number: u64, incarnation: u64) -> NodeInfo {
    NodeInfo {
        name: format!("node-{number}"),
        incarnation: Uuid::from_u128(incarnation.into()),
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
    fn new(nodes: u64, shards: u32) -> World {
        let founding = Founding {
            cluster_id: Uuid::from_u128(7),
            replication_factor: 3,
            shards,
            members: (1..=nodes).map(|number| info(number, number)).collect(),
        };
        let mut world = World {
            state: founding.state(),
            dead: BTreeSet::new(),
            groups: BTreeMap::new(),
            built: 0,
        };
        for shard in 0..=shards {
            world.settle(shard);
        }
        world
    }

    fn apply(&mut self, command: MetaCommand) -> MetaReply {
        let before = self.state.next_replica;
        let (state, reply) = ClusterState::apply(Some(self.state.clone()), command);
        self.state = state.unwrap();
        self.built += self.state.next_replica - before;
        self.check();
        reply
    }

    /// A group becomes what the state says, if a quorum of what it is and of what it becomes is there.
    fn settle(&mut self, shard: u32) -> bool {
        let record = self.state.shards[&shard].clone();
        let voters = record.voters();
        let wanted: BTreeSet<u64> = voters.keys().map(|id| id.0).collect();
        let is_live = |id: &&u64| {
            let node = record.replicas.get(id);
            node.is_some_and(|node| !self.dead.contains(node))
        };
        let has_quorum = |all: &BTreeSet<u64>| all.iter().filter(is_live).count() * 2 > all.len();
        let now = self.groups.get(&shard).unwrap_or(&wanted);
        let arrived = wanted.difference(now).all(|id| is_live(&id));
        if !arrived || !has_quorum(now) || !has_quorum(&wanted) {
            return false;
        }
        self.groups.insert(shard, wanted.clone());
        let replicas = wanted;
        self.apply(MetaCommand::Settled { shard, replicas });
        true
    }

    /// What must hold at every moment.
    fn check(&self) {
        for (shard, record) in &self.state.shards {
            let copies = self.state.replication_factor as usize;
            let voters = record.voters().len();
            assert!(
                voters >= copies,
                "shard {shard} is to have {voters}: {record:?}"
            );
            let nodes: BTreeSet<NodeId> = record.voters().into_values().collect();
            assert_eq!(nodes.len(), voters, "shard {shard} twice on a node");
            let Some(group) = self.groups.get(shard) else {
                continue;
            };
            assert!(group.len() >= copies, "the group of {shard} has shrunk");
            // Who is a member runs, or has lost its data.
            for id in group {
                let on = record.replicas.get(id);
                let runs = on.is_some_and(|node| {
                    let running = record.runs_on(*node).unwrap().0;
                    running == *id || record.replica_on(*node).is_some()
                });
                assert!(runs || record.retiring.contains(id), "shard {shard}: {id}");
            }
            if record.is_settled() {
                assert!(voters < 3 || record.voters().values().any(|n| *n == record.preferred));
            }
        }
    }

    fn look(&mut self, moves_max: usize) -> Vec<MetaCommand> {
        let commands = next(&self.state, &self.dead, moves_max);
        for command in &commands {
            let reply = self.apply(command.clone());
            assert!(
                !matches!(reply, MetaReply::Refused(_)),
                "{command:?}: {reply:?}"
            );
        }
        let busy = self
            .state
            .shards
            .values()
            .filter(|record| !record.is_settled());
        assert!(self.built == 0 || busy.count() <= moves_max.max(self.state.shards.len()));
        commands
    }

    fn settle_all(&mut self) {
        for shard in self.state.shards.keys().copied().collect::<Vec<_>>() {
            self.settle(shard);
        }
    }

    /// Until nothing is left to do; false when that never comes.
    fn rest(&mut self, moves_max: usize) -> bool {
        for _ in 0..400 {
            self.settle_all();
            if self.look(moves_max).is_empty() {
                return self.state.shards.values().all(|record| record.is_settled());
            }
        }
        false
    }

    fn count(
        &self,
        of: impl Fn(&crate::cluster::state::ShardRecord, NodeId) -> bool,
    ) -> Vec<usize> {
        let usable = |id: &NodeId| !self.dead.contains(id) && self.state.life(*id) == Life::Active;
        let nodes = self.state.nodes.keys().copied().filter(usable);
        let shards = || self.state.shards.values();
        nodes
            .map(|node| shards().filter(|record| of(record, node)).count())
            .collect()
    }

    /// Replicas and leads are spread as evenly as they can be.
    fn is_even(&self) -> bool {
        let spread =
            |counts: Vec<usize>| counts.iter().max().unwrap() - counts.iter().min().unwrap();
        let replicas = self.count(|record, node| record.replica_on(node).is_some());
        let leads = self.count(|record, node| record.preferred == node);
        spread(replicas) <= 1 && spread(leads) <= 1
    }
}

/// A step that is not needed costs a copy of all data.
#[test]
fn new_cluster_needs_nothing() {
    for nodes in [3_u64, 4, 5, 7] {
        // The first places are even when the groups go round all nodes, or once more.
        let round = nodes as u32;
        for shards in [round - 1, round, 2 * round - 1, 2 * round, 4 * round] {
            let world = World::new(nodes, shards);
            let next = next(&world.state, &world.dead, 2);
            assert_eq!(next, Vec::new(), "{nodes} nodes, {shards} shards");
        }
    }
}

/// What may not exist yet is left alone.
#[test]
fn shards_that_are_being_created_are_left_alone() {
    let founding = Founding {
        cluster_id: Uuid::from_u128(7),
        replication_factor: 3,
        shards: 3,
        members: (1..=3).map(|number| info(number, number)).collect(),
    };
    let (state, _) = ClusterState::apply(Some(founding.state()), MetaCommand::Join(info(4, 4)));
    assert_eq!(next(&state.unwrap(), &BTreeSet::new(), 2), Vec::new());
}

/// A few at a time; who comes gets its share, and nobody asks for it.
#[test]
fn newcomers_get_their_share_a_few_shards_at_a_time() {
    let mut world = World::new(3, 8);
    for number in [4, 5] {
        world.apply(MetaCommand::Join(info(number, number)));
    }
    let first = world.look(2);
    let moves = |commands: &[MetaCommand]| {
        let is_move = |command: &&MetaCommand| {
            matches!(
                command,
                MetaCommand::Place {
                    change: Change::Move { .. },
                    ..
                }
            )
        };
        commands.iter().filter(is_move).count()
    };
    assert_eq!(moves(&first), 2);
    assert_eq!(moves(&world.look(2)), 0, "two are under way");
    assert!(world.rest(2));
    assert!(world.is_even());
    // 27 replicas on five nodes: two fives of them at least had to move.
    assert_eq!(world.built, 10);
}

/// Nobody is decommissioned by itself, but its replicas are built elsewhere.
#[test]
fn dead_node_is_replaced_and_a_dead_gateway_forgotten() {
    let mut world = World::new(4, 6);
    let gateway = NodeInfo {
        storage: false,
        ..info(9, 9)
    };
    world.apply(MetaCommand::Join(gateway));
    world.dead = [NodeId(2), NodeId(5)].into();
    assert!(world.rest(2));
    assert!(!world.state.nodes.contains_key(&NodeId(5)));
    assert!(world.state.nodes.contains_key(&NodeId(2)));
    assert!(!world.state.has_replicas(NodeId(2)));
    world.dead.clear();
    assert!(world.rest(2));
    assert!(world.is_even(), "it gets its share anew");
}

/// Where there is nobody to take a replica over it stays where it is.
#[test]
fn nothing_is_done_when_nobody_can_take_over() {
    let mut world = World::new(3, 3);
    world.dead = [NodeId(2)].into();
    let commands = world.look(2);
    let leads = |command: &MetaCommand| {
        matches!(
            command,
            MetaCommand::Place {
                change: Change::Lead { .. },
                ..
            }
        )
    };
    assert!(commands.iter().all(leads), "{commands:?}");
    assert!(
        !world
            .count(|record, _| record.preferred == NodeId(2))
            .contains(&1)
    );
}

#[test]
fn leaving_node_leaves_and_draining_one_leads_nothing() {
    let mut world = World::new(5, 8);
    world.apply(MetaCommand::Drain(info(1, 1).who()));
    assert!(world.rest(2));
    let led = world
        .state
        .shards
        .values()
        .filter(|r| r.preferred == NodeId(1));
    assert_eq!((led.count(), world.built), (0, 0), "it keeps its replicas");
    world.apply(MetaCommand::Resume(info(1, 1).who()));
    assert!(world.rest(2) && world.is_even());
    for number in [1, 2] {
        world.apply(MetaCommand::Decommission(info(number, number).who()));
        assert!(world.rest(2));
        assert!(world.state.has_left(Uuid::from_u128(number.into())));
    }
    assert!(world.is_even());
}

/// The node where a replica was to go dies on the way, with nobody else to take it.
#[test]
fn replica_on_its_way_to_a_dead_node_stays_where_it_was() {
    let mut world = World::new(3, 3);
    world.apply(MetaCommand::Join(info(4, 4)));
    world.look(2);
    let before = world.state.clone();
    assert!(
        before
            .shards
            .values()
            .any(|record| record.is_arriving(NodeId(4)))
    );
    world.dead = [NodeId(4)].into();
    assert!(world.rest(2));
    assert!(!world.state.has_replicas(NodeId(4)));
    assert_eq!(
        world.state.next_replica, before.next_replica,
        "nothing was built"
    );
}

/// What is shown before is what is done.
#[test]
fn preview_says_what_will_happen() {
    let mut world = World::new(4, 5);
    world.apply(MetaCommand::Decommission(info(3, 3).who()));
    let expected: BTreeSet<(u32, String)> = preview(&world.state, &world.dead)
        .into_iter()
        .map(|(shard, change)| (shard, format!("{change:?}")))
        .collect();
    assert!(expected.len() > 3);
    let mut done = BTreeSet::new();
    loop {
        world.settle_all();
        let commands = world.look(1);
        if commands.is_empty() {
            break;
        }
        for command in commands {
            if let MetaCommand::Place { shard, change, .. } = command {
                done.insert((shard, format!("{change:?}")));
            }
        }
    }
    let moves = |all: &BTreeSet<(u32, String)>| {
        let moves = all.iter().filter(|(_, change)| change.starts_with("Move"));
        moves.cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(moves(&done), moves(&expected));
}

/// A node is given up only after the whole time, and a new leader counts anew.
#[test]
fn silence_is_counted_by_each_leader() {
    let world = World::new(3, 1);
    let after = Duration::from_secs(600);
    let begun = Instant::now();
    let later = |seconds| begun + Duration::from_secs(seconds);
    let mut heard = Heard::default();
    heard.of_term(1);
    heard.note(&world.state, &[NodeId(1)], begun);
    heard.note(&world.state, &[NodeId(1), NodeId(2)], later(599));
    assert_eq!(heard.dead(later(599), after), BTreeSet::new());
    assert_eq!(heard.dead(later(600), after), [NodeId(3)].into());
    heard.of_term(1);
    assert_eq!(heard.dead(later(600), after), [NodeId(3)].into());
    heard.of_term(2);
    heard.note(&world.state, &[NodeId(1)], later(600));
    assert_eq!(heard.dead(later(600), after), BTreeSet::new());
}
