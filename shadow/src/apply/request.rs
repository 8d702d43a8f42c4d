//! Remembered request ids: what makes a retry harmless.

use crate::command::Command;
use crate::id::{DeviceKey, RequestId, Time};
use crate::outcome::{Outcome, Rejection};
use crate::stored::{self, DeviceRow, OrderRow, RequestRow};

use super::plan::{Stop, read, read_device_row};
use super::{RowKey, Rows};

/// How long an accepted id is remembered, in milliseconds of command time.
pub(super) const REMEMBERED_MS: u64 = 60_000;
/// Ids that are remembered however old they are.
pub(super) const REMEMBERED_MIN: u64 = 16;
/// Ids that are remembered at most.
pub(super) const REMEMBERED_MAX: u64 = 1_024;
/// Ids that one command forgets at most, which bounds its work: more than it can add.
const FORGOTTEN_PER_COMMAND: usize = 8;

/// What the rows know about the request id of a command.
pub(super) struct Remembered {
    outcome: Option<Outcome>,
    /// The device row and the hash of the command; `None` for a command without a request id.
    request: Option<(DeviceRow, u128)>,
}

impl Remembered {
    /// Finds the first outcome of a retry, or refuses a request id that cannot be taken.
    pub(super) fn look_up<R: Rows>(
        rows: &mut R,
        device: &DeviceKey,
        command: &Command,
    ) -> Result<Self, Stop<R::Error>> {
        let Some(request_id) = &command.draft.request_id else {
            return Ok(Self {
                outcome: None,
                request: None,
            });
        };
        let hash = stored::command_hash(&command.draft.kind);
        let key = RowKey::Request(device.clone(), request_id.clone());
        if let Some(row) = read(rows, &key, |bytes| RequestRow::decode(&bytes))? {
            if row.hash != hash {
                return Err(Stop::Rejected(Rejection::RequestIdReused));
            }
            return Ok(Self {
                outcome: Some(row.outcome),
                request: None,
            });
        }
        let row = read_device_row(rows, device)?;
        // Whatever was accepted under this id was accepted no earlier than it was issued, so it can
        // be among the forgotten only if the newest of those is not older than the issue.
        if let (Some(issued), Some(forgotten)) = (command.draft.issued, row.forgotten)
            && issued <= forgotten
        {
            return Err(Stop::Rejected(Rejection::RequestForgotten));
        }
        Ok(Self {
            outcome: None,
            request: Some((row, hash)),
        })
    }

    /// The first outcome, when the command is a retry.
    pub(super) fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// The device row, if it was read.
    pub(super) fn device_row(&self) -> Option<DeviceRow> {
        self.request.as_ref().map(|(row, _)| *row)
    }

    /// Remembers an accepted command, forgets old ones, and writes the device row if it changed.
    pub(super) fn finish<R: Rows>(
        self,
        rows: &mut R,
        device: &DeviceKey,
        command: &Command,
        outcome: &Outcome,
        changed: Option<DeviceRow>,
    ) -> Result<(), Stop<R::Error>> {
        let row = match (self.request, &command.draft.request_id) {
            (Some((row, hash)), Some(request_id)) => {
                let mut row = changed.unwrap_or(row);
                let request = RequestRow {
                    hash,
                    outcome: outcome.clone(),
                };
                remember(rows, device, &mut row, request_id, command.time, request);
                forget(rows, device, &mut row)?;
                Some(row)
            }
            _ => changed,
        };
        if let Some(row) = row {
            rows.put(&RowKey::Device(device.clone()), row.encode().into());
        }
        Ok(())
    }
}

fn remember<R: Rows>(
    rows: &mut R,
    device: &DeviceKey,
    row: &mut DeviceRow,
    request_id: &RequestId,
    time: Time,
    request: RequestRow,
) {
    // Clocks of successive leaders may differ; here time never runs backwards.
    let time = time.max(row.latest_request);
    row.latest_request = time;
    if row.requests_from == row.requests_to {
        row.oldest_request = time;
    }
    let order = OrderRow {
        request_id: request_id.clone(),
        time,
    };
    rows.put(
        &RowKey::RequestOrder(device.clone(), row.requests_to),
        order.encode().into(),
    );
    rows.put(
        &RowKey::Request(device.clone(), request_id.clone()),
        request.encode().into(),
    );
    row.requests_to = row.requests_to.saturating_add(1);
}

/// Forgets from the oldest on, a bounded number at a time.
fn forget<R: Rows>(
    rows: &mut R,
    device: &DeviceKey,
    row: &mut DeviceRow,
) -> Result<(), Stop<R::Error>> {
    for _ in 0..FORGOTTEN_PER_COMMAND {
        let count = row.requests_to - row.requests_from;
        let age = row.latest_request.0.saturating_sub(row.oldest_request.0);
        let old = age > REMEMBERED_MS && count > REMEMBERED_MIN;
        if !old && count <= REMEMBERED_MAX {
            return Ok(());
        }
        let oldest = order_row(rows, device, row.requests_from)?;
        rows.delete(&RowKey::RequestOrder(device.clone(), row.requests_from));
        rows.delete(&RowKey::Request(device.clone(), oldest.request_id));
        row.forgotten = row.forgotten.max(Some(oldest.time));
        row.requests_from += 1;
        // More than one is left, because `count` was above a limit of at least 16.
        row.oldest_request = order_row(rows, device, row.requests_from)?.time;
    }
    Ok(())
}

fn order_row<R: Rows>(
    rows: &mut R,
    device: &DeviceKey,
    number: u64,
) -> Result<OrderRow, Stop<R::Error>> {
    let key = RowKey::RequestOrder(device.clone(), number);
    match read(rows, &key, |bytes| OrderRow::decode(&bytes))? {
        Some(row) => Ok(row),
        None => Err(Stop::Failed(rows.damaged(&key))),
    }
}
