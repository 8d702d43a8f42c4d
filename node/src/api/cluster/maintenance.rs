//! `Drain`, `Resume`, `Decommission` and `Move`: what is asked for is noted in the state of the cluster, and
//! whoever leads the meta shard has it done. The answer says what that will be.

use std::collections::BTreeSet;
use std::sync::Arc;

use antumbra_proto::cluster::v1;
use tokio::time::Instant;

use crate::api::Door;
use crate::cluster::office::Office;
use crate::cluster::reconciler::preview;
use crate::cluster::state::{Change, Life, MetaReply, Who};
use crate::cluster::{ClusterState, MetaCommand, NodeId};
use crate::error::Error;

use super::soon;

pub(super) async fn drain(
    door: &Door,
    request: v1::DrainRequest,
    deadline: Instant,
) -> Result<v1::DrainResponse, Error> {
    let wish = Wish::of_node(door, &request.node, MetaCommand::Drain)?;
    let steps = wish.fulfil(door, request.dry_run, deadline).await?;
    Ok(v1::DrainResponse { steps })
}

pub(super) async fn resume(
    door: &Door,
    request: v1::ResumeRequest,
    deadline: Instant,
) -> Result<v1::ResumeResponse, Error> {
    let wish = Wish::of_node(door, &request.node, MetaCommand::Resume)?;
    let life = wish.state.node_named(&request.node);
    let life = life.map_or(Life::Active, |id| wish.state.life(id));
    let taken = door.cluster.charter().takes_back(&request.node, life);
    taken.map_err(not_by_command)?;
    let steps = wish.fulfil(door, request.dry_run, deadline).await?;
    Ok(v1::ResumeResponse { steps })
}

pub(super) async fn decommission(
    door: &Door,
    request: v1::DecommissionRequest,
    deadline: Instant,
) -> Result<v1::DecommissionResponse, Error> {
    let wish = Wish::of_node(door, &request.node, MetaCommand::Decommission)?;
    let sent = door.cluster.charter().sends_away(&request.node);
    sent.map_err(not_by_command)?;
    let steps = wish.fulfil(door, request.dry_run, deadline).await?;
    Ok(v1::DecommissionResponse { steps })
}

pub(super) async fn r#move(
    door: &Door,
    request: v1::MoveRequest,
    deadline: Instant,
) -> Result<v1::MoveResponse, Error> {
    let state = known(&door.cluster)?;
    let from = node(&state, "from", &request.from)?;
    let to = node(&state, "to", &request.to)?;
    let shard = request.shard;
    let record = state.shards.get(&shard).ok_or_else(|| {
        let last = state.shards.keys().next_back().copied().unwrap_or(0);
        Error::invalid(
            "shard",
            format!("there is no shard {shard}; they are 0 to {last}"),
        )
    })?;
    if record.replica_on(from).is_none() {
        let what = format!("`{}` has no replica of shard {shard}", request.from);
        return Err(Error::invalid("from", what));
    }
    if record.replica_on(to).is_some() {
        let what = format!("`{}` has a replica of shard {shard} already", request.to);
        return Err(Error::invalid("to", what));
    }
    let change = Change::Move { from, to };
    let command = MetaCommand::Place {
        shard,
        seen: record.replicas.keys().copied().collect(),
        change,
    };
    let wish = Wish {
        state,
        command,
        first: Some((shard, change)),
    };
    let steps = wish.fulfil(door, request.dry_run, deadline).await?;
    Ok(v1::MoveResponse { steps })
}

/// What somebody wants, of the cluster as this node knows it.
struct Wish {
    state: Arc<ClusterState>,
    command: MetaCommand,
    /// What the command does by itself.
    first: Option<(u32, Change)>,
}

impl Wish {
    fn of_node(door: &Door, name: &str, about: impl Fn(Who) -> MetaCommand) -> Result<Wish, Error> {
        let state = known(&door.cluster)?;
        let id = node(&state, "node", name)?;
        let info = state.nodes.get(&id);
        let info = info.ok_or(Error::Internal("a node has a number and no description"))?;
        let command = about(info.who());
        Ok(Wish {
            state,
            command,
            first: None,
        })
    }

    /// Has it noted, unless it is only to be said what would happen. Gives what happens.
    async fn fulfil(
        self,
        door: &Door,
        dry_run: bool,
        deadline: Instant,
    ) -> Result<Vec<v1::Step>, Error> {
        let before = ClusterState::clone(&self.state);
        let (after, reply) = ClusterState::apply(Some(before), self.command.clone());
        if let MetaReply::Refused(why) = reply {
            return Err(Error::Refused(why));
        }
        if !dry_run {
            propose(&door.cluster, self.command, soon(deadline)).await?;
        }
        let after = after.ok_or(Error::Internal("a state is gone"))?;
        // Many shards on many nodes take a while.
        let planning = tokio::task::spawn_blocking(move || {
            let then = preview(&after, &BTreeSet::new());
            (after, then)
        });
        let planned = planning.await;
        let (after, then) = planned.map_err(|_| Error::Internal("planning failed"))?;
        let all = self.first.into_iter().chain(then);
        Ok(all
            .map(|(shard, change)| step(&[&self.state, &after], shard, change))
            .collect())
    }
}

/// Somebody else decides which nodes belong to the cluster.
fn not_by_command(why: String) -> Error {
    Error::ConditionFailed {
        condition: why.into(),
    }
}

async fn propose(office: &Arc<Office>, command: MetaCommand, until: Instant) -> Result<(), Error> {
    match office.propose(command, until).await {
        Ok(MetaReply::Refused(why)) => Err(Error::Refused(why)),
        Ok(_) => Ok(()),
        // It is repeated until the end, and any of the attempts may have been heard.
        Err(_) => Err(Error::OutcomeUnknown),
    }
}

pub(super) fn known(office: &Arc<Office>) -> Result<Arc<ClusterState>, Error> {
    let state = office.state().borrow().clone();
    state.ok_or(Error::Unavailable("this node belongs to no cluster yet"))
}

pub(super) fn node(state: &ClusterState, field: &'static str, name: &str) -> Result<NodeId, Error> {
    let named = state.node_named(name);
    named.ok_or_else(|| {
        let names: Vec<&str> = state
            .nodes
            .values()
            .map(|node| node.name.as_str())
            .collect();
        let what = format!("there is no node `{name}`; there are {}", names.join(", "));
        Error::invalid(field, what)
    })
}

fn step(states: &[&ClusterState], shard: u32, change: Change) -> v1::Step {
    let name = |id: NodeId| {
        let info = states.iter().find_map(|state| state.nodes.get(&id));
        info.map_or_else(|| format!("node number {id}"), |info| info.name.clone())
    };
    let mut step = v1::Step {
        shard,
        ..v1::Step::default()
    };
    match change {
        Change::Move { from, to } => {
            step.from = name(from);
            step.to = name(to);
        }
        Change::Add { node } => step.to = name(node),
        Change::Remove { node } => step.from = name(node),
        Change::Lead { to, .. } => step.leader = name(to),
    }
    step
}
