//! Deleting one shadow: a change like any other, which leaves a tombstone.

use crate::command::Delete;
use crate::document::Head;
use crate::leaves::Stamp;
use crate::limits::Limits;
use crate::merge;
use crate::outcome::Rejection;
use crate::patch::{Patch, Section, SectionPatch};
use crate::stored;

use super::Rows;
use super::plan::{Plan, Step, Stop};

pub(super) fn check_limits(delete: &Delete, limits: &Limits) -> Result<(), Rejection> {
    super::check_path_conditions(delete.conditions.paths.len(), limits)
}

pub(super) fn plan<R: Rows>(plan: &mut Plan<'_, R>, delete: &Delete) -> Result<(), Stop<R::Error>> {
    let Some(document) = plan
        .load(&delete.shadow)?
        .filter(|document| !document.is_deleted())
    else {
        return Err(Stop::Rejected(Rejection::NotFound));
    };
    delete.conditions.check(Some(&document))?;
    plan.count_deleted()?;
    let next = plan.next_head(Some(&document));
    let head = Head {
        deleted: true,
        version: next.version,
        created: next.created,
        updated: next.updated,
        position: next.position,
        ..Head::default()
    };
    let mut undo = Patch::default();
    for section in Section::ALL {
        let cleared = merge::merge(
            document.leaves(section),
            &SectionPatch::Clear,
            Stamp::default(),
        );
        match cleared {
            Ok(Some(cleared)) => undo.sections[section.index()] = cleared.undo,
            Ok(None) => {}
            Err(_) => return Err(plan.damaged(&delete.shadow)),
        }
    }
    plan.add(Step {
        shadow: delete.shadow.clone(),
        stored: Some(document),
        current: stored::encode_document(head, &[], &[]),
        patch: Patch::clear_both(),
        undo,
    });
    Ok(())
}
