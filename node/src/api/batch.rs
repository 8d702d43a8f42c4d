//! `BatchGetShadows` and `BatchUpdateShadows`: a status per item.
//!
//! The updates of one device are one atomic change; devices do not wait for each other.

use antumbra_proto::v1;
use antumbra_shadow::{BatchItem, DeviceKey, Outcome, Rejection, Update};
use futures::future::join_all;
use prost::Message;
use tokio::time::{Instant, timeout_at};

use super::{Door, convert, single};
use crate::error::Error;
use crate::shadows::{CommandHeader, Order};

/// Most items of a batch.
const ITEMS_MAX: usize = 100;
/// Largest batch.
const BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) async fn get(
    door: &Door,
    request: v1::BatchGetShadowsRequest,
    deadline: Instant,
) -> Result<v1::BatchGetShadowsResponse, Error> {
    check_size(request.requests.len(), &request)?;
    let reads = request.requests.into_iter().map(|request| async move {
        let read = timeout_at(deadline, single::get(door, request, deadline)).await;
        convert::get_result(read.unwrap_or(Err(Error::Deadline)))
    });
    Ok(v1::BatchGetShadowsResponse {
        results: join_all(reads).await,
    })
}

pub(super) async fn update(
    door: &Door,
    request: v1::BatchUpdateShadowsRequest,
    deadline: Instant,
) -> Result<v1::BatchUpdateShadowsResponse, Error> {
    check_size(request.requests.len(), &request)?;
    let mut results = vec![v1::BatchUpdateResult::default(); request.requests.len()];
    let groups = groups(door, request.requests, &mut results);
    let changes = groups.into_iter().map(|group| async move {
        let members = group.members();
        let changed = timeout_at(deadline, group.apply(door, deadline)).await;
        (
            members,
            changed.unwrap_or_else(|_| Err(Refused::all(Error::Deadline))),
        )
    });
    for (members, changed) in join_all(changes).await {
        fill(&mut results, &members, changed);
    }
    Ok(v1::BatchUpdateShadowsResponse { results })
}

fn check_size(items: usize, request: &impl Message) -> Result<(), Error> {
    if items == 0 || items > ITEMS_MAX {
        return Err(Error::invalid(
            "requests",
            format!("a batch has 1 to {ITEMS_MAX} items"),
        ));
    }
    let bytes = request.encoded_len();
    if bytes > BYTES_MAX {
        return Err(Error::TooLarge {
            what: "batch",
            bytes: bytes as u64,
            max: BYTES_MAX as u64,
        });
    }
    Ok(())
}

/// The items of one device.
struct Group {
    device: DeviceKey,
    header: CommandHeader,
    /// Place in the request, and what to change, or why it is wrong.
    items: Vec<(usize, Result<Update, Error>)>,
}

/// Why a group was refused, and for which of its items.
struct Refused {
    error: Error,
    /// Place in the request of the item that is to blame; `None` when it is all of them.
    culprit: Option<usize>,
}

impl Refused {
    fn all(error: Error) -> Refused {
        Refused {
            error,
            culprit: None,
        }
    }
}

/// Sorts the items by device. An item whose device cannot be read is answered at once.
fn groups(
    door: &Door,
    requests: Vec<v1::UpdateShadowRequest>,
    results: &mut [v1::BatchUpdateResult],
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (place, request) in requests.into_iter().enumerate() {
        let device = convert::device(request.key.as_ref(), &door.caller);
        let change = convert::update(request, &door.caller, &door.limits);
        let (device, (header, item)) = match (device, change) {
            (Err(error), _) => {
                results[place] = convert::update_result(Err(error), None);
                continue;
            }
            (Ok(device), Ok(change)) => (device, (Some(change.header), Ok(change.what))),
            (Ok(device), Err(error)) => (device, (None, Err(error))),
        };
        let header = header.unwrap_or_else(|| convert::no_header(&door.limits));
        match groups.iter_mut().find(|group| group.device == device) {
            Some(group) => {
                let item = item.and_then(|update| group.agree(&header).map(|()| update));
                group.items.push((place, item));
            }
            None => groups.push(Group {
                device,
                header,
                items: vec![(place, item)],
            }),
        }
    }
    groups
}

impl Group {
    fn members(&self) -> Vec<usize> {
        self.items.iter().map(|(place, _)| *place).collect()
    }

    /// One change has one request id and one client token.
    fn agree(&self, other: &CommandHeader) -> Result<(), Error> {
        let same = self.header.request_id == other.request_id && self.header.issued == other.issued;
        if !same {
            let reason = "must be the same for all items of one device";
            return Err(Error::invalid("request_id", reason));
        }
        if self.header.client_token != other.client_token {
            let reason = "must be the same for all items of one device";
            return Err(Error::invalid("client_token", reason));
        }
        Ok(())
    }

    /// Applies all items or none.
    async fn apply(
        self,
        door: &Door,
        deadline: Instant,
    ) -> Result<Vec<v1::UpdateShadowResponse>, Refused> {
        let members = self.members();
        let Group {
            device,
            header,
            items,
        } = self;
        let mut updates = Vec::with_capacity(items.len());
        for (place, item) in items {
            let refuse = |error| Refused {
                error,
                culprit: Some(place),
            };
            updates.push(item.map_err(refuse)?);
        }
        if updates.len() == 1 {
            let what = updates.remove(0);
            let change = convert::Change {
                device,
                header,
                what,
            };
            let response = single::apply(door, change, Order::ByTwin, deadline)
                .await
                .map_err(Refused::all)?;
            return Ok(vec![response]);
        }
        let items = updates.into_iter().map(BatchItem::Update).collect();
        let outcome = door
            .shadows
            .update_many(&door.caller, &device, header, items, deadline);
        match outcome.await.map_err(Refused::all)? {
            Outcome::Accepted(items) if items.len() == members.len() => Ok(items
                .iter()
                .map(|item| convert::updated(item, door.shadows.cursor(&device, item.position)))
                .collect()),
            Outcome::Accepted(_) => Err(Refused::all(Error::Internal("items without outcome"))),
            Outcome::Rejected(rejection) => Err(Refused {
                culprit: culprit(&rejection, &members),
                error: rejection.into(),
            }),
        }
    }
}

fn culprit(rejection: &Rejection, members: &[usize]) -> Option<usize> {
    members.get(rejection.item()? as usize).copied()
}

/// Every item of a refused group has the error; those that are not to blame say which one is.
fn fill(
    results: &mut [v1::BatchUpdateResult],
    members: &[usize],
    changed: Result<Vec<v1::UpdateShadowResponse>, Refused>,
) {
    match changed {
        Ok(responses) => {
            for (place, response) in members.iter().zip(responses) {
                results[*place] = convert::update_result(Ok(response), None);
            }
        }
        Err(Refused { error, culprit }) => {
            for place in members {
                let blamed = culprit.filter(|culprit| culprit != place);
                results[*place] = convert::update_result(Err(error.clone()), blamed);
            }
        }
    }
}
