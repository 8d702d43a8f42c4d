//! How other nodes are let in.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::cluster::control::Answer;
use crate::cluster::state::{ClusterState, MetaCommand, MetaReply, NodeInfo};

use super::{Office, PROPOSE_TIMEOUT};

impl Office {
    /// Lets a node in, and answers once this node knows of it.
    pub(super) async fn let_in(self: &Arc<Self>, node: NodeInfo) -> Answer {
        let state = self.state.borrow().clone();
        if let Err(why) = self.charter.lets_in(&node, state.as_deref()) {
            return Answer::Refused(why);
        }
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let name = node.name.clone();
        let reply = self.propose(MetaCommand::Join(node), deadline).await;
        let (number, version) = match reply {
            Ok(MetaReply::Joined { node, version }) => (node, version),
            Ok(MetaReply::Refused(why)) | Err(why) => return Answer::Refused(why),
            Ok(MetaReply::Done { .. }) => return Answer::Refused("unexpected reply".into()),
        };
        info!(node = name, number = %number, "node joined");
        let mut states = self.state();
        let seen =
            states.wait_for(|state| state.as_ref().is_some_and(|state| state.version >= version));
        match timeout_at(deadline, seen).await {
            Ok(Ok(state)) => match state.as_ref() {
                Some(state) => Answer::Joined {
                    node: number,
                    state: ClusterState::clone(state),
                },
                None => Answer::Refused("no state yet".into()),
            },
            _ => Answer::Refused("the state did not arrive in time".into()),
        }
    }
}
