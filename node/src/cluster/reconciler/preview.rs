//! What will happen, before it does.

use std::collections::BTreeSet;

use crate::cluster::state::{Change, ClusterState, MetaCommand, NodeId};

use super::steps::changes;

/// A preview ends after so many rounds of one step for every shard: the planner comes to rest long before.
const ROUNDS_MAX: usize = 64;

/// Everything that will happen, one thing after the other, if nothing else does.
pub(crate) fn preview(state: &ClusterState, dead: &BTreeSet<NodeId>) -> Vec<(u32, Change)> {
    let mut state = state.clone();
    let mut all = Vec::new();
    for _ in 0..ROUNDS_MAX {
        for shard in state.shards.keys().copied().collect::<Vec<_>>() {
            let record = state.shards.get(&shard);
            let replicas = record.map(|record| record.voters().keys().map(|id| id.0).collect());
            let replicas = replicas.unwrap_or_default();
            state = applied(state, MetaCommand::Settled { shard, replicas });
        }
        let changes = changes(&state, dead);
        if changes.is_empty() {
            break;
        }
        for (shard, change) in changes {
            let seen = state.shards.get(&shard);
            let seen = seen.map(|record| record.replicas.keys().copied().collect());
            let seen = seen.unwrap_or_default();
            let place = MetaCommand::Place {
                shard,
                seen,
                change,
            };
            state = applied(state, place);
            all.push((shard, change));
        }
    }
    all
}

fn applied(state: ClusterState, command: MetaCommand) -> ClusterState {
    let before = state.clone();
    ClusterState::apply(Some(state), command)
        .0
        .unwrap_or(before)
}
