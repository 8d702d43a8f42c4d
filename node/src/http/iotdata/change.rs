//! `UpdateThingShadow` and `DeleteThingShadow`.

use antumbra_shadow::{AcceptedItem, Conditions, Delete, Draft, Kind, Outcome, Update};
use axum::body::Body;
use axum::http::HeaderMap;

use super::Call;
use crate::dialect::aws;
use crate::error::Error;
use crate::http::body;
use crate::shadows::CommandHeader;

pub(super) async fn update(call: &Call, headers: &HeaderMap, body: Body) -> Result<String, Error> {
    let door = &call.door;
    let bytes = body::read(headers, body, door.body_bytes_max, call.deadline).await?;
    let request = aws::parse_update(&bytes, &door.limits).map_err(|refusal| refusal.error)?;
    let kind = Kind::Update(Update {
        shadow: call.shadow.clone(),
        patch: request.patch.clone(),
        conditions: request.conditions(),
    });
    let draft = draft(call, request.client_token.clone(), kind);
    let item = submit(call, draft).await?;
    Ok(aws::accepted(request.echo(), item.version, item.time))
}

pub(super) async fn delete(call: &Call) -> Result<String, Error> {
    let kind = Kind::Delete(Delete {
        shadow: call.shadow.clone(),
        conditions: Conditions::default(),
    });
    let item = submit(call, draft(call, None, kind)).await?;
    Ok(aws::deleted(item.version, item.time, None))
}

fn draft(call: &Call, client_token: Option<String>, kind: Kind) -> Draft {
    let header = CommandHeader {
        request_id: call.request_id.clone(),
        issued: None,
        client_token,
        limits: call.door.limits,
    };
    header.draft(&call.door.caller, kind)
}

async fn submit(call: &Call, draft: Draft) -> Result<AcceptedItem, Error> {
    let door = &call.door;
    door.gate.memory().admit()?;
    let outcome = door
        .shadows
        .update(&door.caller, &call.device, draft, call.deadline)
        .await?;
    match outcome {
        Outcome::Accepted(items) => items
            .into_iter()
            .next()
            .ok_or(Error::Internal("accepted without an item")),
        Outcome::Rejected(rejection) => Err(rejection.into()),
    }
}
