//! From the state of the cluster to the commands that come next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use antumbra_raft::ShardId;

use crate::cluster::placement::{Layout, Node, Places, Standing, Step, plan};
use crate::cluster::state::{
    Change, ClusterState, Life, MetaCommand, NodeId, ShardPhase, ShardRecord,
};

/// Changes of who should lead that are noted in one look: they are small, but each is a write.
const LEADS_MAX: usize = 64;

/// What the leader of the meta shard has to have done next. At most `moves_max` shards are under way then.
pub(crate) fn next(
    state: &ClusterState,
    dead: &BTreeSet<NodeId>,
    moves_max: usize,
) -> Vec<MetaCommand> {
    let gone = dead.iter().filter_map(|id| state.nodes.get(id));
    let gateways = gone.filter(|node| !node.storage);
    let mut commands: Vec<MetaCommand> = gateways
        .map(|node| MetaCommand::Left {
            name: node.name.clone(),
            incarnation: node.incarnation,
        })
        .collect();
    let busy = state.shards.values();
    let busy = busy.filter(|record| is_under_way(record)).count();
    let (mut moves, mut leads) = (moves_max.saturating_sub(busy), LEADS_MAX);
    for (shard, change) in changes(state, dead) {
        let Some(record) = state.shards.get(&shard) else {
            continue;
        };
        // One that goes elsewhere on its way takes no more than it had.
        let left = match change {
            Change::Lead { .. } => &mut leads,
            _ if is_under_way(record) => &mut leads,
            _ => &mut moves,
        };
        if *left == 0 {
            continue;
        }
        *left -= 1;
        commands.push(MetaCommand::Place {
            shard,
            seen: record.replicas.keys().copied().collect(),
            change,
        });
    }
    commands
}

/// A command in words, for the log.
pub(crate) fn describe(state: &ClusterState, command: &MetaCommand) -> String {
    let name = |id: NodeId| {
        let node = state.nodes.get(&id);
        node.map_or_else(|| format!("node number {id}"), |node| node.name.clone())
    };
    match command {
        MetaCommand::Place { shard, change, .. } => match *change {
            Change::Move { from, to } => {
                format!(
                    "move a replica of shard {shard} from {} to {}",
                    name(from),
                    name(to)
                )
            }
            Change::Add { node } => format!("add a replica of shard {shard} on {}", name(node)),
            Change::Remove { node } => {
                format!("remove the replica of shard {shard} on {}", name(node))
            }
            Change::Lead { to, .. } => format!("{} should lead shard {shard}", name(to)),
        },
        MetaCommand::Left { name, .. } => format!("forget the gateway {name}"),
        other => format!("{other:?}"),
    }
}

/// The steps of the planner that can be taken now, the most urgent ones first.
pub(super) fn changes(state: &ClusterState, dead: &BTreeSet<NodeId>) -> Vec<(u32, Change)> {
    let steps = plan(&layout(state), &nodes(state, dead));
    let changes = steps.into_iter().filter_map(|step| {
        let (shard, change) = change(state, step)?;
        let record = state.shards.get(&shard)?;
        is_possible(record, change, dead).then_some((shard, change))
    });
    changes.collect()
}

/// All shards as they will be: what is on its way in counts, what is on its way out does not.
fn layout(state: &ClusterState) -> Layout {
    let shards = state.shards.iter().map(|(id, record)| {
        let places = Places {
            replicas: record.voters().into_values().collect(),
            preferred: record.preferred,
            weight: 1,
        };
        (ShardId(*id), places)
    });
    Layout {
        replication_factor: state.replication_factor,
        shards: shards.collect(),
    }
}

/// All nodes that keep data.
fn nodes(state: &ClusterState, dead: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Node> {
    let keepers = state.nodes.iter().filter(|(_, node)| node.storage);
    let nodes = keepers.map(|(id, info)| {
        let standing = match (dead.contains(id), state.life(*id)) {
            (true, _) => Standing::Dead,
            (false, Life::Active) => Standing::Active,
            (false, Life::Draining) => Standing::Draining,
            (false, Life::Leaving) => Standing::Leaving,
        };
        let node = Node {
            zone: info.zone.clone(),
            capacity: info.capacity,
            standing,
        };
        (*id, node)
    });
    nodes.collect()
}

fn change(state: &ClusterState, step: Step) -> Option<(u32, Change)> {
    Some(match step {
        Step::Move { shard, from, to } => (shard.0, Change::Move { from, to }),
        Step::Add { shard, node } => (shard.0, Change::Add { node }),
        Step::Remove { shard, node } => (shard.0, Change::Remove { node }),
        Step::Lead { shard, node } => {
            let from = state.shards.get(&shard.0)?.preferred;
            (shard.0, Change::Lead { from, to: node })
        }
    })
}

/// Whether a change can be noted now. A shard that is under way is left alone, unless the replica on its way
/// in never gets there.
fn is_possible(record: &ShardRecord, change: Change, dead: &BTreeSet<NodeId>) -> bool {
    match change {
        Change::Lead { .. } => record.phase == ShardPhase::Active,
        Change::Move { from, .. } if record.is_arriving(from) && dead.contains(&from) => true,
        Change::Move { .. } | Change::Add { .. } | Change::Remove { .. } => record.is_settled(),
    }
}

fn is_under_way(record: &ShardRecord) -> bool {
    record.phase == ShardPhase::Active && !record.is_settled()
}
