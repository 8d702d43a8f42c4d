//! Applying commands: the only place where a document changes.
//!
//! `apply` is a function of the rows and the entry alone: no clock, no randomness, no settings, no
//! I/O of its own. It is total: what it cannot read or what is over a limit is a rejection, never
//! a panic; only a row that holds damage, or a failing store, is an error, and that stops the
//! replica.
//!
//! # Request ids
//!
//! Ids of *accepted* commands are remembered for 60 s of command time, but always the last 16 and
//! never more than 1,024 per device. A retry of a remembered id returns the first outcome; the same
//! id with another command is refused. What can be told of an id that is *not* remembered depends
//! on [`Draft::issued`](crate::Draft): with it, a retry first issued no later than the newest
//! forgotten id was accepted is refused as [`Rejection::RequestForgotten`], because it may have been
//! applied before. Without it, or when the issuer's clock runs ahead of the leader's, an id that was
//! forgotten cannot be told from a new one, and its retry is applied as new.

use bytes::Bytes;

use crate::change::Change;
use crate::command::{COMMANDS_PER_ENTRY_MAX, Command, DeviceEntry, Kind, RULES};
use crate::id::{DeviceKey, Position, RequestId, ShadowName};
use crate::limits::Limits;
use crate::outcome::{AcceptedItem, Outcome, Rejection};

use self::plan::{Plan, Stop};
use self::request::Remembered;

mod batch;
mod delete;
mod plan;
mod request;
mod update;

/// The name of a row that `apply` reads or writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// Counters of a device; exists once a shadow was created.
    Device(DeviceKey),
    /// A document or tombstone.
    Document(DeviceKey, ShadowName),
    /// What is remembered for a request id.
    Request(DeviceKey, RequestId),
    /// The request id with this running number.
    RequestOrder(DeviceKey, u64),
}

/// The rows of a shard, as one entry sees them.
///
/// For correctness: reads see the writes made before through the same value; all writes of one
/// entry become visible and durable together with its position, or not at all.
pub trait Rows {
    /// Why the store failed.
    type Error;

    /// Reads a row.
    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, Self::Error>;

    /// Writes a row.
    fn put(&mut self, key: &RowKey, value: Bytes);

    /// Removes a row.
    fn delete(&mut self, key: &RowKey);

    /// The error for a row that was read but does not hold what it should. It must stop the
    /// replica: outcomes computed from it could differ from those of the other replicas.
    fn damaged(&self, key: &RowKey) -> Self::Error;
}

/// What one command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The outcome for the caller.
    pub outcome: Outcome,
    /// What observers see; empty for rejections and for retries.
    pub changes: Vec<Change>,
}

/// Applies the commands of one device in order. The first change is placed at `first`: the index of the
/// entry in the log, and a running number for all changes of that entry.
///
/// The rules of the entry should be known here: a replica stops when it reads an entry of later ones
/// ([`Entry::decode`](crate::Entry::decode)).
pub fn apply<R: Rows>(
    rows: &mut R,
    first: Position,
    entry: &DeviceEntry,
) -> Result<Vec<Applied>, R::Error> {
    let mut next = first;
    let mut applied = Vec::with_capacity(entry.commands.len());
    for (at, command) in entry.commands.iter().enumerate() {
        let result = if !(1..=RULES).contains(&entry.rules) {
            Err(Stop::Rejected(Rejection::UnknownRules {
                rules: entry.rules,
            }))
        } else if at >= COMMANDS_PER_ENTRY_MAX {
            Err(Stop::Rejected(Rejection::Undecodable))
        } else {
            apply_command(rows, &entry.device, command, next)
        };
        let one = match result {
            Ok(one) => one,
            Err(Stop::Rejected(rejection)) => Applied {
                outcome: Outcome::Rejected(rejection),
                changes: Vec::new(),
            },
            Err(Stop::Failed(error)) => return Err(error),
        };
        next.sequence += one.changes.len() as u32;
        applied.push(one);
    }
    Ok(applied)
}

fn apply_command<R: Rows>(
    rows: &mut R,
    device: &DeviceKey,
    command: &Command,
    next: Position,
) -> Result<Applied, Stop<R::Error>> {
    let mut remembered = Remembered::look_up(rows, device, command)?;
    if let Some(outcome) = remembered.take_outcome() {
        return Ok(Applied {
            outcome,
            changes: Vec::new(),
        });
    }
    let draft = &command.draft;
    check_limits(command)?;
    let mut plan = Plan::new(rows, device, command, next, remembered.device_row());
    match &draft.kind {
        Kind::Update(update) => update::plan(&mut plan, update)?,
        Kind::Delete(delete) => delete::plan(&mut plan, delete)?,
        Kind::Batch(items) => batch::plan(&mut plan, items)?,
    }
    let (changes, row) = plan.commit();
    let outcome = Outcome::Accepted(changes.iter().map(accepted_item).collect());
    remembered.finish(rows, device, command, &outcome, row)?;
    Ok(Applied { outcome, changes })
}

fn accepted_item(change: &Change) -> AcceptedItem {
    AcceptedItem {
        shadow: change.shadow.clone(),
        version: change.version,
        time: change.time,
        position: change.position,
    }
}

/// Checks what does not depend on any row.
fn check_limits(command: &Command) -> Result<(), Rejection> {
    let draft = &command.draft;
    let limits = &draft.limits;
    let token_bytes = draft.client_token.as_ref().map_or(0, String::len);
    if token_bytes > limits.client_token_bytes_max as usize {
        return Err(Rejection::ClientTokenTooLong {
            max: limits.client_token_bytes_max,
        });
    }
    match &draft.kind {
        Kind::Update(update) => update::check_limits(update, limits),
        Kind::Delete(delete) => delete::check_limits(delete, limits),
        Kind::Batch(items) => batch::check_limits(items, limits),
    }
}

fn check_path_conditions(count: usize, limits: &Limits) -> Result<(), Rejection> {
    if count > limits.path_conditions_max as usize {
        return Err(Rejection::TooManyConditions {
            max: limits.path_conditions_max,
        });
    }
    Ok(())
}
