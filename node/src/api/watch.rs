//! `WatchShadows`.

use antumbra_proto::v1;
use antumbra_proto::v1::watch_shadows_response::Event;
use antumbra_shadow::Section;
use futures::{Stream, stream};
use tokio::time::timeout_at;
use tonic::Status;

use super::deadline::Deadline;
use super::{Door, convert};
use crate::error::Error;
use crate::shadows::{WatchChange, WatchEvent, WatchMessage, WatchRequest, WatchSelection};

/// Opens the stream. It ends at the deadline if the caller set one.
pub(super) fn watch(
    door: &Door,
    request: v1::WatchShadowsRequest,
    deadline: Deadline,
) -> Result<impl Stream<Item = Result<v1::WatchShadowsResponse, Status>> + use<>, Error> {
    let request = read(door, request)?;
    let events = door.shadows.watch(&door.caller, request)?;
    let end = deadline.asked.then_some(deadline.at);
    Ok(stream::unfold(Some(events), move |events| async move {
        let mut events = events?;
        let event = match end {
            None => events.next().await,
            Some(at) => match timeout_at(at, events.next()).await {
                Ok(event) => event,
                Err(_) => return Some((Err(Error::Deadline.into()), None)),
            },
        };
        Some((event?.map(message).map_err(Status::from), Some(events)))
    }))
}

fn read(door: &Door, request: v1::WatchShadowsRequest) -> Result<WatchRequest, Error> {
    let tenant = convert::tenant(&request.tenant, &door.caller, "tenant")?;
    let prefix = convert::prefix(&request.device_id_prefix)?;
    let selection = match request.device_ids.is_empty() {
        true => WatchSelection::Prefix(prefix.to_owned()),
        false if !prefix.is_empty() => {
            return Err(Error::invalid(
                "device_id_prefix",
                "must be empty beside device_ids",
            ));
        }
        false => {
            let ids = request
                .device_ids
                .iter()
                .map(|id| convert::device_id(id, "device_ids"));
            WatchSelection::Devices(ids.collect::<Result<_, _>>()?)
        }
    };
    let cursor = Some(request.cursor).filter(|cursor| !cursor.is_empty());
    Ok(WatchRequest {
        tenant,
        selection,
        cursor,
    })
}

fn message(message: WatchMessage) -> v1::WatchShadowsResponse {
    let event = match message.event {
        WatchEvent::Document {
            device,
            shadow,
            document,
        } => Event::Document(convert::whole(&device, &shadow, &document)),
        WatchEvent::Change(changed) => Event::Change(change(&changed)),
        WatchEvent::Synced => Event::Synced(v1::Synced {}),
        WatchEvent::Reset(reason) => Event::Reset(v1::Reset {
            reason: reason.as_str().to_owned(),
        }),
        WatchEvent::Bookmark => Event::Bookmark(v1::Bookmark {}),
    };
    v1::WatchShadowsResponse {
        cursor: message.cursor,
        event: Some(event),
    }
}

fn change(change: &WatchChange) -> v1::Change {
    let deleted = *change.deleted();
    // The patch of a delete clears both sections; `deleted` says that already.
    let patch = |section| match deleted {
        true => None,
        false => change.patch().section_json(section),
    };
    v1::Change {
        key: Some(convert::shadow_key(change.device(), change.shadow())),
        version: *change.version(),
        time: Some(convert::timestamp(*change.time())),
        actor: change.actor().clone(),
        client_token: change.client_token().clone().unwrap_or_default(),
        deleted,
        desired_patch_json: patch(Section::Desired),
        reported_patch_json: patch(Section::Reported),
    }
}
