//! Versions, times, tombstones, and what an observer of changes sees.

use antumbra_shadow::{Conditions, FeedRecord, Position, Rejection, Section, Time};

use crate::support::{World, accepted, delete_draft, expecting, rejected, update_draft};

/// Protects the version count: +1 per accepted change, also when nothing changed.
#[test]
fn version_grows_by_exactly_one_per_accepted_change() {
    let mut world = World::new();
    let updates = [
        r#"{"desired":{"a":1}}"#,
        r#"{"desired":{"a":1}}"#,
        "{}",
        "null",
        r#"{"reported":{}}"#,
    ];
    for (step, state) in updates.iter().cycle().take(50).enumerate() {
        let change = world.accept(state);
        assert_eq!(change.version, step as u64 + 1);
        assert_eq!(world.document().unwrap().version(), change.version);
    }
}

/// Protects deletes: N is followed by the tombstone N+1 and the next creation N+2.
#[test]
fn delete_leaves_a_tombstone_and_versions_go_on() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":1},"reported":{"b":2}}"#);
    world.accept(r#"{"desired":{"a":2}}"#);
    let deleted = accepted(world.delete());
    assert!(deleted.deleted);
    assert_eq!(deleted.version, 3);
    assert!(deleted.patch.clears(Section::Desired) && deleted.patch.clears(Section::Reported));
    let tombstone = world.document().unwrap();
    assert!(tombstone.is_deleted());
    assert_eq!(tombstone.state_bytes(), 0);
    assert_eq!(rejected(world.delete()), Rejection::NotFound);

    let created = world.accept(r#"{"reported":{"c":1}}"#);
    assert_eq!(created.version, 4);
    assert!(
        created.previous.is_none(),
        "a tombstone is no document before"
    );
    assert_eq!(
        created.previous_position,
        Some(deleted.position),
        "but its history is linked"
    );
    assert_eq!(
        world.shown(),
        ["-", r#"{"c":1}"#, "-"],
        "nothing of the old one comes back"
    );
    assert_eq!(world.document().unwrap().created(), created.time);
    assert_eq!(
        world.document().unwrap().section_version(Section::Desired),
        0
    );
}

/// Protects conditional creation: version 0 means that the shadow must not exist.
#[test]
fn version_zero_means_must_not_exist() {
    let mut world = World::new();
    let conflict = rejected(world.update_if("{}", expecting(3)));
    assert_eq!(conflict, Rejection::VersionConflict { current: 0 });
    accepted(world.update_if("{}", expecting(0)));
    let conflict = rejected(world.update_if("{}", expecting(0)));
    assert_eq!(conflict, Rejection::VersionConflict { current: 1 });
    let conflict = rejected(world.run(delete_draft("", expecting(7))));
    assert_eq!(conflict, Rejection::VersionConflict { current: 1 });
    accepted(world.run(delete_draft("", expecting(1))));
    let conflict = rejected(world.update_if("{}", expecting(2)));
    assert_eq!(conflict, Rejection::VersionConflict { current: 0 });
    assert_eq!(accepted(world.update_if("{}", expecting(0))).version, 3);
}

/// Protects invariant 2: a rejection leaves every row as it was.
#[test]
fn rejection_changes_nothing() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":1}}"#);
    world.limits.document_bytes_max = 20;
    let before = world.rows.clone();
    let large = r#"{"desired":{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}"#;
    rejected(world.update(large));
    rejected(world.update_if(r#"{"desired":{"b":1}}"#, expecting(9)));
    rejected(world.run(delete_draft("missing", Conditions::default())));
    let mut token = update_draft("", "{}", Conditions::default());
    token.client_token = Some("t".repeat(65));
    assert_eq!(rejected(world.run(token)).code(), "CLIENT_TOKEN_TOO_LONG");
    let request = crate::support::with_request(update_draft("", large, Conditions::default()), "r");
    rejected(world.run(request));
    assert_eq!(world.rows, before);
}

/// Protects documents from clocks that run backwards after a change of leader.
#[test]
fn time_of_a_document_never_goes_back() {
    let mut world = World::new();
    world.index = 1;
    let first = accepted(world.run_at(update_draft("", "{}", Conditions::default()), 10_000));
    let second = accepted(world.run_at(update_draft("", "{}", Conditions::default()), 4_000));
    assert_eq!((first.time, second.time), (Time(10_000), Time(10_000)));
    let deleted = accepted(world.run_at(delete_draft("", Conditions::default()), 3_000));
    assert_eq!(deleted.time, Time(10_000));
    let created = accepted(world.run_at(update_draft("", "{}", Conditions::default()), 2_000));
    assert_eq!(created.time, Time(10_000));
}

/// Protects the feed: places run on within an entry, rejections take none, records are linked.
#[test]
fn changes_are_placed_and_linked_in_the_feed() {
    let mut world = World::new();
    world.index = 7;
    let command = |state: &str, conditions| update_draft("", state, conditions).stamp(Time(1_000));
    let applied = world.run_commands(vec![
        command("{}", Conditions::default()),
        command("{}", expecting(9)),
        command(r#"{"desired":{"a":1}}"#, Conditions::default()),
    ]);
    assert_eq!(applied.len(), 3);
    let first = &applied[0].changes[0];
    let last = &applied[2].changes[0];
    assert!(applied[1].changes.is_empty());
    assert_eq!(
        first.position,
        Position {
            index: 7,
            sequence: 0
        }
    );
    assert_eq!(
        last.position,
        Position {
            index: 7,
            sequence: 1
        }
    );
    assert_eq!(first.previous_position, None);
    assert_eq!(last.previous_position, Some(first.position));
    assert_eq!(last.current.feed_position(), last.position);
    for change in [first, last] {
        let record = FeedRecord::from(change);
        assert_eq!(FeedRecord::decode(&record.encode()).unwrap(), record);
    }
}

/// Protects the per-section versions that other clouds show to devices.
#[test]
fn section_versions_move_only_with_their_section() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":1}}"#);
    world.accept(r#"{"reported":{"a":1}}"#);
    world.accept("{}");
    world.accept(r#"{"desired":{}}"#);
    let document = world.document().unwrap();
    assert_eq!(document.section_version(Section::Desired), 1);
    assert_eq!(document.section_version(Section::Reported), 2);
    world.accept(r#"{"desired":null}"#);
    assert_eq!(
        world.document().unwrap().section_version(Section::Desired),
        5
    );
}
