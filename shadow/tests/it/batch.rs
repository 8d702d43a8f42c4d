//! Atomic batches over the shadows of one device.

use antumbra_shadow::{BatchItem, Conditions, Outcome, Rejection, Section};

use crate::support::{World, batch_draft, delete_item, expecting, rejected, update_item};

fn update(shadow: &str, state: &str, conditions: Conditions) -> BatchItem {
    BatchItem::Update(update_item(shadow, state, conditions))
}

/// Protects atomicity: all shadows change in one entry, each with a version and place of its own.
#[test]
fn a_batch_changes_all_its_shadows() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":1}}"#);
    let applied = world.run(batch_draft(vec![
        update("", r#"{"desired":{"a":2}}"#, expecting(1)),
        update("x", r#"{"reported":{"b":1}}"#, expecting(0)),
        update("x", r#"{"reported":{"c":1}}"#, expecting(1)),
        BatchItem::Delete(delete_item("", expecting(2))),
    ]));
    let Outcome::Accepted(items) = &applied.outcome else {
        panic!("{:?}", applied.outcome)
    };
    let versions: Vec<_> = items.iter().map(|item| item.version).collect();
    assert_eq!(versions, [2, 1, 2, 3]);
    let places: Vec<_> = items.iter().map(|item| item.position.sequence).collect();
    assert_eq!(places, [0, 1, 2, 3]);
    assert_eq!(
        applied.changes[2].previous_position,
        Some(items[1].position)
    );
    assert!(world.document().unwrap().is_deleted());
    let reported = world.named("x").unwrap().state_json(Section::Reported, &[]);
    assert_eq!(reported.as_deref(), Some(r#"{"b":1,"c":1}"#));
}

/// Protects atomicity: one refused item and nothing is changed, and the item is named.
#[test]
fn one_rejected_item_rejects_the_batch() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":1}}"#);
    let before = world.rows.clone();
    let refused = rejected(world.run(batch_draft(vec![
        update("new", r#"{"desired":{"a":2}}"#, Conditions::default()),
        update("", r#"{"desired":{"a":2}}"#, expecting(7)),
    ])));
    assert_eq!(refused.item(), Some(1));
    assert_eq!(refused.cause(), &Rejection::VersionConflict { current: 1 });
    assert_eq!(refused.code(), "VERSION_CONFLICT");
    let refused = rejected(world.run(batch_draft(vec![
        update("new", "{}", Conditions::default()),
        BatchItem::Delete(delete_item("missing", Conditions::default())),
    ])));
    assert_eq!(
        (refused.item(), refused.cause()),
        (Some(1), &Rejection::NotFound)
    );
    assert_eq!(world.rows, before);
}
