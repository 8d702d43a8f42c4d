//! `SetLogFilter`: has nodes log by another filter, side by side.

use std::time::Duration;

use antumbra_proto::cluster::v1;
use futures::future::join_all;
use tokio::time::Instant;

use crate::api::Door;
use crate::cluster::{Answer, NodeId, Request};
use crate::error::Error;
use crate::telemetry;

use super::maintenance::{known, node};
use super::survey::cause;
use super::{remaining, soon};

/// A node that takes longer does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

pub(super) async fn set(
    door: &Door,
    request: v1::SetLogFilterRequest,
    deadline: Instant,
) -> Result<v1::SetLogFilterResponse, Error> {
    let v1::SetLogFilterRequest {
        node: named,
        filter,
    } = request;
    if !filter.is_empty() {
        let checked = telemetry::check_filter(&filter);
        checked.map_err(|error| Error::invalid("filter", error.to_string()))?;
    }
    let state = known(&door.cluster)?;
    let wanted: Vec<NodeId> = match named.is_empty() {
        true => state.nodes.keys().copied().collect(),
        false => vec![node(&state, "node", &named)?],
    };
    let limit = ANSWER_TIMEOUT.min(remaining(soon(deadline)));
    let ask = Request::LogFilter { filter };
    let asked = wanted.into_iter().map(|id| {
        let (ask, info) = (&ask, state.nodes.get(&id));
        async move {
            let answer = door.cluster.ask_node(id, ask, limit).await;
            let name = info.map_or_else(|| format!("node number {id}"), |info| info.name.clone());
            said(name, answer.map_err(cause))
        }
    });
    Ok(v1::SetLogFilterResponse {
        nodes: join_all(asked).await,
    })
}

/// What a node said, or why it said nothing.
fn said(node: String, answer: Result<Answer, String>) -> v1::NodeLogFilter {
    let (filter, finest_level, reason) = match answer {
        Ok(Answer::LogFilter {
            filter,
            finest_level,
        }) => (filter, finest_level, String::new()),
        Ok(Answer::Refused(why)) | Err(why) => (String::new(), String::new(), why),
        Ok(_) => {
            let why = "its answer is to another question".to_owned();
            (String::new(), String::new(), why)
        }
    };
    v1::NodeLogFilter {
        node,
        filter,
        finest_level,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node either has a filter or a reason why not.
    #[test]
    fn node_that_did_not_do_it_says_why() {
        let told = Answer::LogFilter {
            filter: "info".to_owned(),
            finest_level: "trace".to_owned(),
        };
        let did = said("node-1".to_owned(), Ok(told));
        assert_eq!((did.filter.as_str(), did.reason.as_str()), ("info", ""));
        for answer in [
            Ok(Answer::Refused("it refuses".to_owned())),
            Ok(Answer::Done),
            Err("no connection".to_owned()),
        ] {
            let did_not = said("node-2".to_owned(), answer);
            assert!(did_not.filter.is_empty() && !did_not.reason.is_empty());
        }
    }
}
