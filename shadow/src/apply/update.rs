//! Merging a patch into one shadow.

use crate::command::Update;
use crate::document::{Document, Head};
use crate::leaves::Stamp;
use crate::limits::Limits;
use crate::merge::{self, Merged};
use crate::outcome::Rejection;
use crate::patch::{Patch, Section, SectionPatch};
use crate::stored;

use super::Rows;
use super::plan::{Plan, Step, Stop};

/// Checks a patch that came through the log against the limits.
pub(super) fn check_limits(update: &Update, limits: &Limits) -> Result<(), Rejection> {
    super::check_path_conditions(update.conditions.paths.len(), limits)?;
    let shape = update.patch.shape().map_err(|_| Rejection::Undecodable)?;
    if shape.depth > limits.depth() {
        return Err(Rejection::TooDeep {
            max: limits.depth() as u32,
        });
    }
    if shape.key_bytes > limits.key_bytes_max as usize {
        return Err(Rejection::KeyTooLong {
            max: limits.key_bytes_max,
        });
    }
    Ok(())
}

pub(super) fn plan<R: Rows>(plan: &mut Plan<'_, R>, update: &Update) -> Result<(), Stop<R::Error>> {
    let stored = plan.load(&update.shadow)?;
    let live = stored.as_ref().filter(|document| !document.is_deleted());
    update.conditions.check(live)?;
    if live.is_none() {
        plan.count_created(stored.is_none())?;
    }
    let head = plan.next_head(stored.as_ref());
    let stamp = Stamp {
        time: head.updated.0,
        version: head.version,
    };
    let merged = Section::ALL.map(|section| {
        let leaves = live.map_or(&[][..], |document| document.leaves(section));
        merge::merge(leaves, update.patch.section(section), stamp)
    });
    let [Ok(desired), Ok(reported)] = merged else {
        return Err(plan.damaged(&update.shadow));
    };
    let (current, undo) = assemble(live, head, update, [desired, reported]);
    let (bytes, max) = (current.state_bytes(), plan.limits().document_bytes());
    if bytes > max && bytes > live.map_or(0, Document::state_bytes) {
        return Err(Stop::Rejected(Rejection::DocumentTooLarge {
            bytes: bytes as u64,
            max: max as u64,
        }));
    }
    let shadow = update.shadow.clone();
    plan.add(Step {
        shadow,
        stored,
        current,
        patch: update.patch.clone(),
        undo,
    });
    Ok(())
}

/// Puts the merged sections and those that were not mentioned into a new document.
fn assemble(
    live: Option<&Document>,
    mut head: Head,
    update: &Update,
    merged: [Option<Merged>; 2],
) -> (Document, Patch) {
    let mut undo = Patch::default();
    for section in Section::ALL {
        let at = section.index();
        head.json_bytes[at] = match &merged[at] {
            Some(merged) => u32::try_from(merged.json_bytes).unwrap_or(u32::MAX),
            None => live.map_or(0, |document| document.head.json_bytes[at]),
        };
        if touches(update.patch.section(section)) {
            head.section_versions[at] = head.version;
        }
    }
    if let Some(proposed) = update.conditions.proposed_version_greater {
        head.proposed_version = Some(proposed);
    }
    let leaves = |section: Section| match &merged[section.index()] {
        Some(merged) => merged.leaves.as_slice(),
        None => live.map_or(&[][..], |document| document.leaves(section)),
    };
    let current =
        stored::encode_document(head, leaves(Section::Desired), leaves(Section::Reported));
    for (at, merged) in merged.into_iter().enumerate() {
        undo.sections[at] = merged.map_or(SectionPatch::Absent, |merged| merged.undo);
    }
    (current, undo)
}

/// Whether a section counts as changed: an object without members merges nothing.
fn touches(section: &SectionPatch) -> bool {
    match section {
        SectionPatch::Absent => false,
        SectionPatch::Clear => true,
        SectionPatch::Merge(ops) => !ops.is_empty(),
    }
}
