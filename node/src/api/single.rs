//! `GetShadow`, `UpdateShadow` and `DeleteShadow`.

use antumbra_proto::v1;
use antumbra_shadow::{AcceptedItem, DeviceKey, Draft, Kind, Outcome, Update};
use tokio::time::Instant;

use super::{Door, convert};
use crate::error::Error;

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
    apply(door, change, deadline).await
}

/// Carries out an update that was read already.
pub(super) async fn apply(
    door: &Door,
    change: convert::Change<Update>,
    deadline: Instant,
) -> Result<v1::UpdateShadowResponse, Error> {
    let (device, draft) = drafted(door, change);
    let outcome = door
        .shadows
        .update(&door.caller, &device, draft, deadline)
        .await?;
    updated(door, &device, outcome)
}

/// The same for a stream, which sends the next update of the device when this one has ended.
pub(super) async fn update_in_turn(
    door: &Door,
    change: convert::Change<Update>,
    deadline: Instant,
) -> Result<v1::UpdateShadowResponse, Error> {
    let (device, draft) = drafted(door, change);
    let outcome = door
        .shadows
        .update_in_turn(&door.caller, &device, draft, deadline)
        .await?;
    updated(door, &device, outcome)
}

fn drafted(door: &Door, change: convert::Change<Update>) -> (DeviceKey, Draft) {
    let convert::Change {
        device,
        header,
        what,
    } = change;
    (device, header.draft(&door.caller, Kind::Update(what)))
}

fn updated(
    door: &Door,
    device: &DeviceKey,
    outcome: Outcome,
) -> Result<v1::UpdateShadowResponse, Error> {
    let (item, cursor) = first(door, device, outcome)?;
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
