//! Request ids: a retry is harmless, for as long as it can be recognised.

use antumbra_shadow::{Conditions, Outcome, Rejection, RowKey, Time};

use crate::support::{
    World, accepted, batch_draft, delete_draft, expecting, rejected, update_draft, update_item,
    with_request,
};

fn write(n: u64) -> antumbra_shadow::Draft {
    update_draft(
        "",
        &format!(r#"{{"reported":{{"n":{n}}}}}"#),
        Conditions::default(),
    )
}

fn remembered(world: &World) -> usize {
    world
        .rows
        .0
        .keys()
        .filter(|key| matches!(key, RowKey::Request(..)))
        .count()
}

fn ordered(world: &World) -> usize {
    world
        .rows
        .0
        .keys()
        .filter(|key| matches!(key, RowKey::RequestOrder(..)))
        .count()
}

/// Protects callers that retry: one request id gives one version, and the first outcome again.
#[test]
fn a_retry_returns_the_first_outcome() {
    let mut world = World::new();
    let first = world.run(with_request(write(1), "id"));
    world.accept(r#"{"reported":{"n":5}}"#);
    let before = world.rows.clone();
    let retry = world.run(with_request(write(1), "id"));
    assert_eq!(retry.outcome, first.outcome);
    assert!(retry.changes.is_empty(), "a retry changes nothing");
    assert_eq!(world.rows, before);
    // Who asks, the token and the time are not part of what is compared.
    let mut again = with_request(write(1), "id");
    again.actor = "another".to_owned();
    again.client_token = Some("token".to_owned());
    assert_eq!(world.run(again).outcome, first.outcome);
}

/// Protects against mistakes: the same id with another command is refused.
#[test]
fn a_reused_request_id_is_rejected() {
    let mut world = World::new();
    accepted(world.run(with_request(write(1), "id")));
    assert_eq!(
        rejected(world.run(with_request(write(2), "id"))),
        Rejection::RequestIdReused
    );
    let delete = with_request(delete_draft("", Conditions::default()), "id");
    assert_eq!(rejected(world.run(delete)), Rejection::RequestIdReused);
    assert_eq!(world.document().unwrap().version(), 1);
}

/// Protects the meaning of a rejection: it is not remembered, a corrected world accepts the retry.
#[test]
fn rejected_commands_are_not_remembered() {
    let mut world = World::new();
    let draft = with_request(update_draft("", "{}", expecting(1)), "id");
    assert_eq!(
        rejected(world.run(draft.clone())),
        Rejection::VersionConflict { current: 0 }
    );
    world.accept("{}");
    assert_eq!(accepted(world.run(draft)).version, 2);
}

/// Protects batches and deletes with a request id: the whole outcome comes back.
#[test]
fn retries_of_batches_and_deletes_are_recognised() {
    let mut world = World::new();
    let item = |shadow: &str| {
        antumbra_shadow::BatchItem::Update(update_item(shadow, "{}", Conditions::default()))
    };
    let batch = with_request(batch_draft(vec![item("a"), item("b")]), "batch");
    let first = world.run(batch.clone());
    assert_eq!(world.run(batch).outcome, first.outcome);
    assert!(matches!(&first.outcome, Outcome::Accepted(items) if items.len() == 2));
    let delete = with_request(delete_draft("a", Conditions::default()), "delete");
    let first = world.run(delete.clone());
    assert_eq!(first.outcome.accepted().unwrap().version, 2);
    assert_eq!(world.run(delete).outcome, first.outcome);
}

/// Protects the disk: ids go after 60 s of command time, but the last 16 stay.
#[test]
fn old_request_ids_are_forgotten_but_sixteen_stay() {
    let mut world = World::new();
    for n in 0..40 {
        accepted(world.run_at(with_request(write(n), &format!("id{n}")), 1_000 + n));
    }
    assert_eq!(remembered(&world), 40, "within 60 s nothing is forgotten");
    for n in 40..50 {
        accepted(world.run_at(with_request(write(n), &format!("id{n}")), 100_000 + n));
    }
    assert_eq!(remembered(&world), 16);
    assert_eq!(ordered(&world), 16);
    // 6 of the old ones and all new ones are still recognised, however long it takes.
    let retry = world.run_at(with_request(write(34), "id34"), 900_000_000);
    assert!(retry.changes.is_empty());
    assert!(matches!(retry.outcome, Outcome::Accepted(_)));
}

/// Protects the disk from floods: never more than 1,024 ids per device.
#[test]
fn at_most_1024_request_ids_are_remembered() {
    let mut world = World::new();
    for n in 0..1_100 {
        accepted(world.run_at(with_request(write(n), &format!("id{n}")), 5_000));
    }
    assert_eq!(remembered(&world), 1_024);
    assert_eq!(ordered(&world), 1_024);
    let version = world.document().unwrap().version();
    assert!(
        world
            .run_at(with_request(write(76), "id76"), 5_000)
            .changes
            .is_empty()
    );
    assert_eq!(world.document().unwrap().version(), version);
}

/// Protects against a second application: a retry as old as forgotten ids is not applied.
#[test]
fn a_retry_older_than_what_was_forgotten_is_not_applied() {
    let mut world = World::new();
    let mut first = with_request(write(0), "first");
    first.issued = Some(Time(900));
    accepted(world.run_at(first.clone(), 1_000));
    for n in 1..=20 {
        accepted(world.run_at(with_request(write(n), &format!("id{n}")), 70_000 + n));
    }
    let version = world.document().unwrap().version();
    assert_eq!(
        rejected(world.run_at(first, 200_000)),
        Rejection::RequestForgotten
    );
    assert_eq!(world.document().unwrap().version(), version);
    // A new request was issued after everything that is forgotten, and is applied.
    let mut fresh = with_request(write(99), "fresh");
    fresh.issued = Some(Time(1_001));
    accepted(world.run_at(fresh, 200_000));
    // Without a note of when it was issued it cannot be told from a new one.
    accepted(world.run_at(with_request(write(0), "first"), 200_000));
}

/// Protects request ids against clocks that run backwards after a change of leader.
#[test]
fn request_times_never_go_back() {
    let mut world = World::new();
    accepted(world.run_at(with_request(write(0), "a"), 500_000));
    for n in 1..=30 {
        accepted(world.run_at(with_request(write(n), &format!("b{n}")), 1_000));
    }
    assert_eq!(
        remembered(&world),
        31,
        "nothing looks old because a clock went back"
    );
}

/// Protects ordinary writes: without a request id no row but the document is touched.
#[test]
fn writes_without_request_id_touch_only_the_document() {
    let mut world = World::new();
    world.accept("{}");
    let before: Vec<_> = world.rows.0.keys().cloned().collect();
    let device_row = world.rows.0[&RowKey::Device(world.device.clone())].clone();
    world.accept(r#"{"desired":{"a":1}}"#);
    let after: Vec<_> = world.rows.0.keys().cloned().collect();
    assert_eq!(before, after);
    assert_eq!(
        world.rows.0[&RowKey::Device(world.device.clone())],
        device_row
    );
    assert_eq!(after.len(), 2);
}
