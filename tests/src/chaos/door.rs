//! One attempt of one operation at the gRPC door of one node, and what its answer is worth.

use std::net::SocketAddr;
use std::time::Duration;

use antumbra_proto::v1;
use prost_types::Timestamp;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::history::{Action, Change, Final, Outcome};
use crate::client::Client;

/// Carried by every document besides its value.
const PADDING: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// How much longer than its deadline an answer is waited for.
const GRACE: Duration = Duration::from_millis(200);

/// An operation as it is sent, the same in every attempt.
#[derive(Clone, Debug)]
pub struct Errand {
    /// On what.
    pub key: v1::ShadowKey,
    /// What is asked.
    pub action: Action,
    /// When it was first sent, by the wall clock.
    pub issued: Timestamp,
}

/// The doors of all nodes.
#[derive(Clone)]
pub struct Doors {
    clients: Vec<Client>,
}

impl Doors {
    /// Connects when first used, to each node once.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Doors {
        let clients = addresses.into_iter().map(Client::new).collect();
        Doors { clients }
    }

    /// Number of nodes.
    pub fn count(&self) -> usize {
        self.clients.len()
    }

    /// The client of one node.
    pub fn client(&self, node: usize) -> &Client {
        &self.clients[node]
    }

    /// Sends an errand to a node, once.
    pub async fn attempt(&self, node: usize, errand: &Errand, limit: Duration) -> Outcome {
        let client = self.clients[node].with_limit(limit);
        let answered = send(&client, errand);
        match tokio::time::timeout(limit + GRACE, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(status)) => judge(&status),
            Err(_) => Outcome::Unknown,
        }
    }
}

async fn send(client: &Client, errand: &Errand) -> Result<Outcome, Status> {
    let mut shadows = client.raw();
    let key = Some(errand.key.clone());
    let read = |consistency: v1::Consistency| v1::GetShadowRequest {
        key: key.clone(),
        consistency: consistency.into(),
        ..Default::default()
    };
    let request_id = errand.action.value().unwrap_or_default().to_string();
    match errand.action {
        Action::Update { value, expected } => {
            let update = v1::UpdateShadowRequest {
                key: key.clone(),
                desired_json: Some(format!(r#"{{"n":{value},"p":"{PADDING}"}}"#)),
                conditions: expected.map(|expected| v1::Conditions {
                    expected_version: Some(expected),
                    ..Default::default()
                }),
                client_token: request_id.clone(),
                request_id,
                issued: Some(errand.issued),
                ..Default::default()
            };
            let answer = shadows.update_shadow(client.request(update)).await?;
            let version = answer.into_inner().version;
            Ok(Outcome::Accepted { version })
        }
        Action::Delete { .. } => {
            let delete = v1::DeleteShadowRequest {
                key: key.clone(),
                client_token: request_id.clone(),
                request_id,
                issued: Some(errand.issued),
                ..Default::default()
            };
            let answer = shadows.delete_shadow(client.request(delete)).await?;
            let version = answer.into_inner().version;
            Ok(Outcome::Accepted { version })
        }
        Action::Read => {
            let request = client.request(read(v1::Consistency::Linearizable));
            let answer = shadows.get_shadow(request).await?.into_inner();
            Ok(found(answer.shadow.as_ref()))
        }
        Action::ReadLocal { .. } => {
            let request = client.request(read(v1::Consistency::Local));
            let answer = shadows.get_shadow(request).await?.into_inner();
            Ok(found(answer.shadow.as_ref()))
        }
    }
}

fn found(shadow: Option<&v1::Shadow>) -> Outcome {
    match shadow {
        Some(shadow) => Outcome::Found {
            version: shadow.version,
            value: value_of(&shadow.desired_json),
        },
        None => Outcome::Absent,
    }
}

/// What an error binds the cluster to. Only what the node itself said in so many words counts; a
/// connection that broke, or could not be made, says nothing.
pub fn judge(status: &Status) -> Outcome {
    let Some(info) = status.get_details_error_info() else {
        return Outcome::Unknown;
    };
    match (status.code(), info.reason.as_str()) {
        (Code::NotFound, "NOT_FOUND") => Outcome::Absent,
        (Code::Aborted, "VERSION_CONFLICT") => {
            let current = info.metadata.get("current_version");
            match current.and_then(|current| current.parse().ok()) {
                Some(current) => Outcome::Conflict { current },
                None => Outcome::Refused,
            }
        }
        (Code::Unavailable | Code::ResourceExhausted, _) => Outcome::Failed,
        (Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::DataLoss, _)
        | (Code::Cancelled, _) => Outcome::Unknown,
        _ => Outcome::Refused,
    }
}

/// The value in a document or a patch; 0, which nobody writes, when there is none.
pub fn value_of(desired: &str) -> u64 {
    let parsed: serde_json::Value = serde_json::from_str(desired).unwrap_or_default();
    parsed["n"].as_u64().unwrap_or_default()
}

/// What a change of the feed did. Its value is in the client token, and in the patch unless it
/// deletes; two that differ make a value that nobody wrote.
pub fn change_of(change: &v1::Change) -> Change {
    let token = change.client_token.parse().unwrap_or_default();
    let patch = change.desired_patch_json.as_deref().map(value_of);
    let agrees = change.deleted || patch == Some(token);
    Change {
        value: if agrees { token } else { 0 },
        deleted: change.deleted,
    }
}

/// What an item of a batch of reads shows; `None` when it could not be read.
pub fn shown(result: &v1::BatchGetResult) -> Option<Final> {
    let shadow = result
        .response
        .as_ref()
        .and_then(|answer| answer.shadow.as_ref());
    match (result.code, shadow) {
        (0, Some(shadow)) => Some(Final::Present {
            version: shadow.version,
            value: value_of(&shadow.desired_json),
        }),
        (code, _) if code == Code::NotFound as i32 => Some(Final::Absent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, reason: &str) -> Status {
        let metadata = [("current_version".to_owned(), "7".to_owned())];
        let details = ErrorDetails::with_error_info(reason, "antumbra", metadata);
        Status::with_error_details(code, "text", details)
    }

    /// An answer binds the cluster only as far as `docs/errors.md` says.
    #[test]
    fn judges_errors_as_documented() {
        let cases = [
            (Code::NotFound, "NOT_FOUND", Outcome::Absent),
            (
                Code::Aborted,
                "VERSION_CONFLICT",
                Outcome::Conflict { current: 7 },
            ),
            (Code::Unavailable, "UNAVAILABLE", Outcome::Failed),
            (Code::ResourceExhausted, "OVERLOADED", Outcome::Failed),
            (Code::Unknown, "OUTCOME_UNKNOWN", Outcome::Unknown),
            (
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                Outcome::Unknown,
            ),
            (Code::Internal, "INTERNAL", Outcome::Unknown),
            (Code::DataLoss, "DATA_DAMAGED", Outcome::Unknown),
            (
                Code::FailedPrecondition,
                "CONDITION_FAILED",
                Outcome::Refused,
            ),
        ];
        for (code, reason, expected) in cases {
            assert_eq!(judge(&status(code, reason)), expected, "{reason}");
        }
        // Without details it is the connection that speaks, not the node.
        for code in [Code::Unavailable, Code::NotFound, Code::ResourceExhausted] {
            assert_eq!(judge(&Status::new(code, "text")), Outcome::Unknown);
        }
    }

    /// A patch and a token that differ are something nobody wrote.
    #[test]
    fn reads_values_from_changes() {
        let change = |patch: Option<&str>, token: &str, deleted| {
            change_of(&v1::Change {
                client_token: token.to_owned(),
                desired_patch_json: patch.map(str::to_owned),
                deleted,
                ..Default::default()
            })
        };
        let is = |value, deleted| Change { value, deleted };
        assert_eq!(change(Some(r#"{"n":5}"#), "5", false), is(5, false));
        assert_eq!(change(Some(r#"{"n":5}"#), "6", false), is(0, false));
        assert_eq!(change(None, "6", false), is(0, false));
        assert_eq!(change(None, "6", true), is(6, true));
    }
}
