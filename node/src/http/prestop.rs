//! `/prestop`: whether the node may be stopped now. `antumbra prestop` asks it from within the pod, where there are no
//! credentials; it says no more than the name of the node and what becomes of it.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::cluster::scaling::outlook::outlook;
use crate::error::Error;

use super::{Door, reply};

/// Where it is.
pub(super) const PATH: &str = "/prestop";

/// Answers with an outlook as JSON. Whoever asks, the API of Kubernetes is asked every two seconds at most.
pub(super) async fn prestop(State(door): State<Door>) -> Response<Body> {
    match serde_json::to_string(&outlook(&door.office).await) {
        Ok(text) => reply::document(text),
        Err(_) => reply::error(&Error::Internal("an outlook is not JSON"), ""),
    }
}
