//! Several shadows of one device: all are changed or none.

use crate::command::BatchItem;
use crate::limits::Limits;
use crate::outcome::Rejection;

use super::plan::{Plan, Stop};
use super::{Rows, delete, update};

pub(super) fn check_limits(items: &[BatchItem], limits: &Limits) -> Result<(), Rejection> {
    if items.is_empty() || items.len() > limits.batch_items_max as usize {
        return Err(Rejection::BatchSize {
            max: limits.batch_items_max,
        });
    }
    for (index, item) in items.iter().enumerate() {
        match item {
            BatchItem::Update(update) => update::check_limits(update, limits),
            BatchItem::Delete(delete) => delete::check_limits(delete, limits),
        }
        .map_err(|rejection| of_item(index, rejection))?;
    }
    Ok(())
}

/// Plans the items in order; a later item sees what the earlier ones did.
pub(super) fn plan<R: Rows>(
    plan: &mut Plan<'_, R>,
    items: &[BatchItem],
) -> Result<(), Stop<R::Error>> {
    for (index, item) in items.iter().enumerate() {
        let planned = match item {
            BatchItem::Update(update) => update::plan(plan, update),
            BatchItem::Delete(delete) => delete::plan(plan, delete),
        };
        planned.map_err(|stop| match stop {
            Stop::Rejected(rejection) => Stop::Rejected(of_item(index, rejection)),
            failed => failed,
        })?;
    }
    Ok(())
}

fn of_item(index: usize, rejection: Rejection) -> Rejection {
    Rejection::Item {
        index: index as u32,
        rejection: Box::new(rejection),
    }
}
