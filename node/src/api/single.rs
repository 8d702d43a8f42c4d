//! `GetShadow`, `UpdateShadow` and `DeleteShadow`.

use antumbra_proto::v1;
use antumbra_shadow::{AcceptedItem, DeviceKey, Kind, Outcome, Update};
use tokio::time::Instant;

use super::{Door, convert};
use crate::error::Error;
use crate::shadows::Order;

pub(super) async fn get(
    door: &Door,
    request: v1::GetShadowRequest,
    deadline: Instant,
) -> Result<v1::GetShadowResponse, Error> {
    let get = convert::get(request, &door.caller)?;
    let convert::Key { device, shadow } = &get.key;
    let read = door
        .shadows
        .get(&door.caller, device, shadow, get.options, deadline)
        .await?;
    Ok(convert::got(&get, &read.document, read.cursor))
}

pub(super) async fn update(
    door: &Door,
    request: v1::UpdateShadowRequest,
    deadline: Instant,
) -> Result<v1::UpdateShadowResponse, Error> {
    let change = convert::update(request, &door.caller, &door.limits)?;
    apply(door, change, Order::ByTwin, deadline).await
}

/// Carries out an update that was read already.
pub(super) async fn apply(
    door: &Door,
    change: convert::Change<Update>,
    order: Order,
    deadline: Instant,
) -> Result<v1::UpdateShadowResponse, Error> {
    let convert::Change {
        device,
        header,
        what,
    } = change;
    let draft = header.draft(&door.caller, Kind::Update(what));
    let outcome = door
        .shadows
        .update_in_order(&door.caller, &device, draft, order, deadline)
        .await?;
    let (item, cursor) = first(door, &device, outcome)?;
    Ok(convert::updated(&item, cursor))
}

pub(super) async fn delete(
    door: &Door,
    request: v1::DeleteShadowRequest,
    deadline: Instant,
) -> Result<v1::DeleteShadowResponse, Error> {
    let convert::Change {
        device,
        header,
        what,
    } = convert::delete(request, &door.caller, &door.limits)?;
    let outcome = door
        .shadows
        .delete(&door.caller, &device, header, what, deadline)
        .await?;
    let (item, cursor) = first(door, &device, outcome)?;
    Ok(convert::deleted(&item, cursor))
}

fn first(
    door: &Door,
    device: &DeviceKey,
    outcome: Outcome,
) -> Result<(AcceptedItem, String), Error> {
    match outcome {
        Outcome::Rejected(rejection) => Err(rejection.into()),
        Outcome::Accepted(items) => {
            let item = items
                .into_iter()
                .next()
                .ok_or(Error::Internal("accepted without item"))?;
            let cursor = door.shadows.cursor(device, item.position);
            Ok((item, cursor))
        }
    }
}
