//! Brings the state of the cluster to this node, from wherever it is: the own replica of the meta shard, or
//! other nodes. Writes the first one, and says where this node is.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Role, Shard};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use super::bootstrap::{is_forgotten, number_of};
use super::control::{Answer, Request};
use super::office::{Office, PROPOSE_TIMEOUT};
use super::state::{ClusterState, Founding, MetaCommand, MetaReply};

/// How often a node without a replica of the meta shard asks for the state, and others look whether
/// they are known under their present address.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A node with a replica asks others every so many times: its replica may have left the group
/// without hearing of it.
const POLLS_PER_QUESTION: u64 = 10;
const POLL_TIMEOUT: Duration = Duration::from_secs(2);

/// The state as the own replica of the meta shard has it; none without a replica.
type Applied = watch::Receiver<Option<Arc<ClusterState>>>;

/// Keeps the office informed until `stop`.
pub(super) fn follow(
    office: &Arc<Office>,
    applied: Applied,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    tasks.spawn(remember(Arc::clone(office), applied.clone(), stop.clone()));
    // In a task of its own: a node that does not answer must not hold up what this one knows.
    let others = poll_again_and_again(Arc::clone(office), applied);
    tasks.spawn(stop.clone().run_until_cancelled_owned(others));
}

/// Notes what the own replica applies. Ends between two states, never within one.
async fn remember(office: Arc<Office>, mut applied: Applied, stop: CancellationToken) {
    // What was applied before counts too.
    applied.mark_changed();
    while let Some(Ok(())) = stop.run_until_cancelled(applied.changed()).await {
        let state = applied.borrow_and_update().clone();
        if let Some(state) = state
            && let Err(error) = office.remember(&state).await
        {
            error!(%error, "keep the state of the cluster");
        }
    }
}

async fn poll_again_and_again(office: Arc<Office>, applied: Applied) {
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for polls in 1_u64.. {
        ticks.tick().await;
        let has_replica = applied.borrow().is_some();
        let asks = !has_replica || polls.is_multiple_of(POLLS_PER_QUESTION);
        poll(&office, asks).await;
    }
}

/// Says where this node is if that changed, or that it is still there, and asks others for a newer state.
async fn poll(office: &Arc<Office>, asks: bool) {
    let state = office.state().borrow().clone();
    let known = state.as_ref().and_then(|state| {
        let id = number_of(state, office.info())?;
        state.nodes.get(&id)
    });
    if let Some(known) = known
        && known != office.info()
    {
        tell(office, MetaCommand::Moved(office.info().clone())).await;
    }
    if let Some(state) = &state
        && is_forgotten(state, office.info())
    {
        info!("the cluster has given this gateway up: it is let in again");
        tell(office, MetaCommand::Join(office.info().clone())).await;
    }
    if !asks {
        return;
    }
    let version = state.as_ref().map_or(0, |state| state.version);
    let request = Request::State { version };
    for address in office.peers() {
        // Whoever has nothing newer may be as lost as this node, so the others are asked too.
        if let Ok(Answer::State(Some(state))) = office.ask(&address, &request, POLL_TIMEOUT).await {
            if let Err(error) = office.remember(&state).await {
                error!(%error, "keep the state of the cluster");
            }
            return;
        }
    }
}

async fn tell(office: &Arc<Office>, command: MetaCommand) {
    let deadline = Instant::now() + PROPOSE_TIMEOUT;
    match office.propose(command, deadline).await {
        Ok(MetaReply::Refused(why)) | Err(why) => {
            debug!(why, "tell the cluster of this node");
        }
        Ok(_) => {}
    }
}

/// Writes the first state as soon as this node leads the meta shard and as long as there is none.
pub(super) async fn write_first_state(
    office: Arc<Office>,
    shard: Shard,
    mut states: Applied,
    founding: Founding,
    stop: CancellationToken,
) {
    let mut role = shard.role();
    loop {
        let now = *role.borrow_and_update();
        if let Role::Leader { .. } = now {
            let deadline = Instant::now() + PROPOSE_TIMEOUT;
            let create = MetaCommand::Create(founding.clone());
            match office.propose(create, deadline).await {
                Ok(_) => return,
                Err(why) => warn!(why, "write the first state of the cluster"),
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            state = states.wait_for(Option::is_some) => {
                let _ = state;
                return;
            }
            changed = role.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}
