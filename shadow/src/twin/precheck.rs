//! What a twin looks at before it queues a command: its own shape and weight, never a document.

use crate::command::{BatchItem, Delete, Draft, Kind, Update};
use crate::conditions::{Conditions, PathTest};
use crate::outcome::Rejection;

/// What a command costs beside its variable parts.
const FIXED_BYTES: usize = 256;
/// What one path condition costs beside its value.
const CONDITION_BYTES: usize = 128;

/// Refuses what apply would refuse whatever the documents are, so that it never reaches the log. A
/// command with a request id may be the retry of one that was accepted under other limits, which
/// only apply can tell.
pub(crate) fn check(draft: &Draft) -> Result<(), Rejection> {
    if draft.request_id.is_some() {
        return Ok(());
    }
    let limits = &draft.limits;
    let max = limits.client_token_bytes_max;
    if draft
        .client_token
        .as_ref()
        .is_some_and(|token| token.len() > max as usize)
    {
        return Err(Rejection::ClientTokenTooLong { max });
    }
    if let Kind::Batch(items) = &draft.kind {
        let max = limits.batch_items_max;
        if items.is_empty() || items.len() > max as usize {
            return Err(Rejection::BatchSize { max });
        }
    }
    let max = limits.path_conditions_max;
    let mut conditions = parts(draft).map(|part| part.conditions);
    if conditions.any(|conditions| conditions.paths.len() > max as usize) {
        return Err(Rejection::TooManyConditions { max });
    }
    Ok(())
}

/// About how many bytes a command takes, in memory and in the log.
pub(crate) fn weight(draft: &Draft) -> usize {
    let token = draft.client_token.as_ref().map_or(0, String::len);
    let parts: usize = parts(draft).map(|part| part.weight()).sum();
    FIXED_BYTES + draft.actor.len() + token + parts
}

/// One change of a command.
struct Part<'a> {
    patch_bytes: usize,
    name_bytes: usize,
    conditions: &'a Conditions,
}

impl Part<'_> {
    fn weight(&self) -> usize {
        let values = self.conditions.paths.iter().map(|path| match &path.test {
            PathTest::Equals(expected) => CONDITION_BYTES + expected.0.len(),
            PathTest::Exists | PathTest::Absent | PathTest::LeafVersion(_) => CONDITION_BYTES,
        });
        self.patch_bytes + self.name_bytes + values.sum::<usize>()
    }
}

/// The changes that a command is made of.
fn parts(draft: &Draft) -> impl Iterator<Item = Part<'_>> {
    let (one, many) = match &draft.kind {
        Kind::Update(update) => (Some(update_part(update)), &[][..]),
        Kind::Delete(delete) => (Some(delete_part(delete)), &[][..]),
        Kind::Batch(items) => (None, &items[..]),
    };
    one.into_iter().chain(many.iter().map(|item| match item {
        BatchItem::Update(update) => update_part(update),
        BatchItem::Delete(delete) => delete_part(delete),
    }))
}

fn update_part(update: &Update) -> Part<'_> {
    let patch_bytes = update.patch.encoded_bytes();
    let name_bytes = update.shadow.as_str().len();
    Part {
        patch_bytes,
        name_bytes,
        conditions: &update.conditions,
    }
}

fn delete_part(delete: &Delete) -> Part<'_> {
    let name_bytes = delete.shadow.as_str().len();
    Part {
        patch_bytes: 0,
        name_bytes,
        conditions: &delete.conditions,
    }
}
