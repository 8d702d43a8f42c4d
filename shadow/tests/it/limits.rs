//! Limits of documents and devices, judged where a change is applied.

use antumbra_shadow::json::Value;
use antumbra_shadow::{
    Conditions, Kind, Limits, Patch, PathCondition, PathTest, Pointer, Rejection, Section,
    SectionInput,
};

use crate::support::{World, accepted, delete_draft, json, patch, rejected, update_draft};

fn nested(levels: usize, inner: &str) -> String {
    format!("{}{inner}{}", r#"{"k":"#.repeat(levels), "}".repeat(levels))
}

/// Protects the size limit: compact desired plus reported, judged on the merged result.
#[test]
fn document_size_counts_both_sections_as_compact_json() {
    let mut world = World::new();
    let state =
        r#"{"desired":{"a\n\u0001é":[1, 2 , {"x" : null0}]},"reported":{"b":{"c":{},"d":1.50}}}"#
            .replace("null0", "true");
    world.accept(&state);
    let document = world.document().unwrap();
    let text = |section| document.state_json(section, &[]).unwrap();
    let expected = text(Section::Desired).len() + text(Section::Reported).len();
    assert_eq!(document.state_bytes(), expected);
    assert_eq!(text(Section::Desired), r#"{"a\n\u0001é":[1,2,{"x":true}]}"#);
}

/// Protects the boundary: exactly the limit fits, one byte more does not.
#[test]
fn a_document_of_exactly_the_limit_is_accepted() {
    let limits = Limits::default();
    let max = limits.document_bytes_max as usize;
    let state = |bytes: usize| format!(r#"{{"desired":{{"k":"{}"}}}}"#, "x".repeat(bytes - 8));
    let mut world = World::new();
    let refused = rejected(world.update(&state(max + 1)));
    let expected = Rejection::DocumentTooLarge {
        bytes: max as u64 + 1,
        max: max as u64,
    };
    assert_eq!(refused, expected);
    world.accept(&state(max));
    assert_eq!(world.document().unwrap().state_bytes(), max);
    let grown = rejected(world.update(r#"{"reported":{"a":1}}"#));
    assert_eq!(
        grown.code(),
        "DOCUMENT_TOO_LARGE",
        "the sections are counted together"
    );
}

/// Protects documents that were large before a limit was lowered: they can shrink and stay.
#[test]
fn a_write_that_does_not_grow_an_oversized_document_is_accepted() {
    let mut world = World::new();
    world.accept(&format!(
        r#"{{"desired":{{"k":"{}","a":1}}}}"#,
        "x".repeat(500)
    ));
    world.limits.document_bytes_max = 100;
    world.accept(r#"{"desired":{"a":2}}"#);
    assert_eq!(
        rejected(world.update(r#"{"desired":{"a":22}}"#)).code(),
        "DOCUMENT_TOO_LARGE"
    );
    world.accept(r#"{"desired":{"a":null}}"#);
    world.accept(r#"{"desired":{"k":null}}"#);
}

/// Protects the depth limit at both places that check it: the door's patch and apply.
#[test]
fn nesting_deeper_than_the_limit_is_rejected() {
    let limits = Limits::default();
    let deepest = format!(r#"{{"desired":{}}}"#, nested(8, "1"));
    let deeper = format!(r#"{{"desired":{}}}"#, nested(9, "1"));
    assert!(patch(&deepest, &limits).is_ok());
    assert_eq!(patch(&deeper, &limits), Err(Rejection::TooDeep { max: 8 }));
    let mut world = World::new();
    assert_eq!(
        rejected(world.update(&deeper)),
        Rejection::TooDeep { max: 8 }
    );
    world.accept(&deepest);
    let emptied = format!(r#"{{"desired":{}}}"#, nested(9, "null"));
    assert_eq!(
        rejected(world.update(&emptied)),
        Rejection::TooDeep { max: 8 }
    );
    // Containers inside arrays are levels too.
    let array = |levels| format!(r#"{{"desired":{}}}"#, nested(levels, "[1]"));
    let object = |levels| format!(r#"{{"desired":{}}}"#, nested(levels, r#"[{"x":1}]"#));
    assert!(patch(&array(8), &limits).is_ok());
    assert!(patch(&object(7), &limits).is_ok());
    assert_eq!(
        patch(&object(8), &limits),
        Err(Rejection::TooDeep { max: 8 })
    );
    assert_eq!(
        rejected(world.update(&object(8))),
        Rejection::TooDeep { max: 8 }
    );
    // No setting goes above the ceiling.
    let wild = Limits {
        depth_max: 1_000,
        ..limits
    };
    let too_deep = format!(r#"{{"desired":{}}}"#, nested(17, "1"));
    assert_eq!(patch(&too_deep, &wild), Err(Rejection::TooDeep { max: 16 }));
}

/// Protects sections and arrays: what AWS calls an invalid node.
#[test]
fn wrong_nodes_are_rejected() {
    let limits = Limits::default();
    for wrong in ["1", "\"x\"", "[]", "true"] {
        let state = format!(r#"{{"reported":{wrong}}}"#);
        let expected = Rejection::SectionNotObject {
            section: Section::Reported,
        };
        assert_eq!(patch(&state, &limits), Err(expected));
    }
    for wrong in ["[null]", "[1,[2,null]]", r#"[{"a":null}]"#] {
        let state = format!(r#"{{"desired":{{"l":{wrong}}}}}"#);
        assert_eq!(patch(&state, &limits), Err(Rejection::ArrayNull));
    }
    let state = format!(r#"{{"desired":{{"{}":1}}}}"#, "k".repeat(1_025));
    assert_eq!(
        patch(&state, &limits),
        Err(Rejection::KeyTooLong { max: 1_024 })
    );
    let mut world = World::new();
    assert_eq!(
        rejected(world.update(&state)),
        Rejection::KeyTooLong { max: 1_024 }
    );
}

/// Protects trees made by hand: members in any order, twice, and null for a whole section.
#[test]
fn patches_of_unordered_trees_are_sound() {
    let member = |key: &str, value: &str| (key.to_owned(), json(value));
    let list = Value::Array(vec![Value::Object(vec![
        member("z", "1"),
        member("y", "2"),
    ])]);
    let tree = Value::Object(vec![
        member("b", "1"),
        member("a", r#"{"x":1}"#),
        member("b", "2"),
        ("l".to_owned(), list),
    ]);
    let built = Patch::build(
        SectionInput::Merge(&tree),
        SectionInput::Merge(&Value::Null),
        &Limits::default(),
    )
    .unwrap();
    let expected = r#"{"a":{"x":1},"b":2,"l":[{"y":2,"z":1}]}"#;
    assert_eq!(built.section_json(Section::Desired).unwrap(), expected);
    assert!(built.clears(Section::Reported));
    assert_eq!(Patch::decode(&built.encode()).unwrap(), built);
}

/// Protects a device from endless shadows, tombstones included.
#[test]
fn shadows_of_a_device_are_counted() {
    let mut world = World::new();
    world.limits.shadows_per_device_max = 2;
    world.limits.shadow_names_per_device_max = 3;
    let create =
        |world: &mut World, name: &str| world.run(update_draft(name, "{}", Conditions::default()));
    accepted(create(&mut world, ""));
    accepted(create(&mut world, "one"));
    accepted(create(&mut world, "one"));
    assert_eq!(
        rejected(create(&mut world, "two")),
        Rejection::TooManyShadows { max: 2 }
    );
    accepted(world.run(delete_draft("one", Conditions::default())));
    accepted(create(&mut world, "two"));
    accepted(world.run(delete_draft("two", Conditions::default())));
    assert_eq!(
        rejected(create(&mut world, "three")),
        Rejection::TooManyShadows { max: 3 }
    );
    accepted(create(&mut world, "one"));
}

/// Protects apply from endless lists of conditions.
#[test]
fn path_conditions_are_counted() {
    let condition = PathCondition {
        section: Section::Desired,
        pointer: Pointer::default(),
        test: PathTest::Absent,
    };
    let conditions = Conditions {
        paths: vec![condition; 17],
        ..Conditions::default()
    };
    let mut world = World::new();
    let refused = rejected(world.update_if("{}", conditions.clone()));
    assert_eq!(refused, Rejection::TooManyConditions { max: 16 });
    let refused = rejected(world.run(delete_draft("", conditions)));
    assert_eq!(refused, Rejection::TooManyConditions { max: 16 });
}

/// Protects the client token limit of 64 bytes, vector 14.
#[test]
fn long_client_tokens_are_rejected() {
    let mut world = World::new();
    let mut draft = update_draft("", "{}", Conditions::default());
    draft.client_token = Some("t".repeat(64));
    accepted(world.run(draft.clone()));
    draft.client_token = Some("t".repeat(65));
    assert_eq!(
        rejected(world.run(draft)),
        Rejection::ClientTokenTooLong { max: 64 }
    );
}

/// Protects batches: at least one item and not more than the limit.
#[test]
fn batches_are_counted() {
    let mut world = World::new();
    let empty = crate::support::batch_draft(Vec::new());
    assert!(matches!(&empty.kind, Kind::Batch(items) if items.is_empty()));
    assert_eq!(
        rejected(world.run(empty)),
        Rejection::BatchSize { max: 100 }
    );
}
