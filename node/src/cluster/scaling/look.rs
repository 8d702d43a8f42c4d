//! Asks all nodes that keep data whether they are there, and what their replicas do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::cluster::control::{Answer, ReplicaReport, Request};
use crate::cluster::office::Office;
use crate::cluster::state::{ClusterState, NodeId, NodeInfo};

use super::view::View;

/// A node that takes longer does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// What all nodes say at about the same moment. Takes three seconds at most; may be dropped midway.
pub(super) async fn look(office: &Arc<Office>, set: &str, state: &ClusterState) -> View {
    let keepers = state.nodes.iter().filter(|(_, info)| info.storage);
    let asked = keepers.map(|(id, info)| async move {
        let reports = ask(office, *id, info).await?;
        Some((*id, reports))
    });
    let reports = join_all(asked).await.into_iter().flatten().collect();
    View::of(state, set, &reports)
}

/// What a node says of its replicas. Nothing from one that answers for another data directory: it is not the one
/// that is meant.
async fn ask(
    office: &Arc<Office>,
    id: NodeId,
    info: &NodeInfo,
) -> Option<BTreeMap<u32, ReplicaReport>> {
    let hello = Request::Hello {
        cluster: office.cluster_name().to_owned(),
    };
    match office.ask_node(id, &hello, ANSWER_TIMEOUT).await {
        Ok(Answer::Hello { node, .. }) if node.incarnation == info.incarnation => {}
        _ => return None,
    }
    let asked = office.ask_node(id, &Request::Replicas, ANSWER_TIMEOUT);
    match asked.await {
        Ok(Answer::Replicas(reports)) => Some(reports),
        _ => None,
    }
}
