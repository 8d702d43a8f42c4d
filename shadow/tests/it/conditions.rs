//! Conditions: what must hold where a change is applied.

use antumbra_shadow::{
    Conditions, FailedCondition, Limits, PathCondition, PathTest, Pointer, Rejection, Section,
};

use crate::support::{World, accepted, delete_draft, json, rejected};

fn path(section: Section, pointer: &str, test: PathTest) -> Conditions {
    let pointer = Pointer::parse(pointer).unwrap();
    Conditions {
        paths: vec![PathCondition {
            section,
            pointer,
            test,
        }],
        ..Conditions::default()
    }
}

fn equals(text: &str) -> PathTest {
    PathTest::equals(&json(text), &Limits::default()).unwrap()
}

/// Protects every path test in both directions.
#[test]
fn path_conditions_hold_or_reject() {
    let state = r#"{"desired":{"a":{"b":1,"c":[1,2]},"e":{},"s":"x"},"reported":{"a":2}}"#;
    let desired = Section::Desired;
    let cases = [
        ("/a", PathTest::Exists, true),
        ("/a/b", PathTest::Exists, true),
        ("/e", PathTest::Exists, true),
        ("", PathTest::Exists, true),
        ("/z", PathTest::Exists, false),
        ("/a/b/c", PathTest::Exists, false),
        ("/a/c/0", PathTest::Exists, false),
        ("/z", PathTest::Absent, true),
        ("/a", PathTest::Absent, false),
        ("/a/b", equals("1.0"), true),
        ("/a/b", equals("2"), false),
        ("/a", equals(r#"{"c":[1.0,2],"b":1}"#), true),
        ("/a", equals(r#"{"b":1}"#), false),
        ("/a", equals(r#"{"b":1,"c":[1,2],"d":1}"#), false),
        ("/e", equals("{}"), true),
        ("/a", equals("{}"), false),
        ("/s", equals(r#""x""#), true),
        ("/s", equals("null"), false),
        ("/z", equals("null"), true),
        ("/a", PathTest::LeafVersion(1), true),
        ("/a", PathTest::LeafVersion(2), false),
        ("/z", PathTest::LeafVersion(1), false),
    ];
    for (pointer, test, holds) in cases {
        let mut world = World::new();
        world.accept(state);
        let applied = world.update_if("{}", path(desired, pointer, test.clone()));
        if holds {
            accepted(applied);
        } else {
            let condition = FailedCondition::Path { index: 0 };
            let expected = Rejection::ConditionFailed { condition };
            assert_eq!(rejected(applied), expected, "{pointer} {test:?}");
        }
    }
    let mut world = World::new();
    world.accept(state);
    accepted(world.update_if("{}", path(Section::Reported, "/a", equals("2"))));
    accepted(world.run(delete_draft("", path(Section::Reported, "/a", equals("2")))));
    let missing = rejected(world.update_if("{}", path(desired, "", PathTest::Exists)));
    assert_eq!(missing.code(), "CONDITION_FAILED");
    accepted(world.update_if("{}", path(desired, "", PathTest::Absent)));
}

/// Protects the conditional clear of a desired leaf: only while it is the version that was pushed.
#[test]
fn leaf_version_is_that_of_its_last_write() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":1,"b":1}}"#);
    world.accept(r#"{"desired":{"a":1}}"#);
    let clear = r#"{"desired":{"a":null}}"#;
    let stale = path(Section::Desired, "/a", PathTest::LeafVersion(1));
    assert_eq!(
        rejected(world.update_if(clear, stale)).code(),
        "CONDITION_FAILED"
    );
    let document = world.document().unwrap();
    let version = |text| document.leaf_version(Section::Desired, &Pointer::parse(text).unwrap());
    assert_eq!(
        (version("/a"), version("/b"), version("/c")),
        (Some(2), Some(1), None)
    );
    accepted(world.update_if(
        clear,
        path(Section::Desired, "/a", PathTest::LeafVersion(2)),
    ));
    assert_eq!(world.shown()[0], r#"{"b":1}"#);
}

/// Protects devices of clouds that propose versions of their own, apart from ours.
#[test]
fn proposed_version_must_grow_and_is_kept_apart() {
    let propose = |version| Conditions {
        proposed_version_greater: Some(version),
        ..Conditions::default()
    };
    let mut world = World::new();
    assert_eq!(
        accepted(world.update_if("{}", propose(1_700_000_000_000))).version,
        1
    );
    world.accept("{}");
    let refused = rejected(world.update_if("{}", propose(1_700_000_000_000)));
    let condition = FailedCondition::ProposedVersion {
        current: 1_700_000_000_000,
    };
    assert_eq!(refused, Rejection::ConditionFailed { condition });
    let change = accepted(world.update_if("{}", propose(1_700_000_000_001)));
    assert_eq!(change.version, 3);
    assert_eq!(change.current.proposed_version(), Some(1_700_000_000_001));
}

/// Protects writes that depend on one section only.
#[test]
fn section_version_must_match() {
    let expect = |desired, reported| Conditions {
        expected_desired_version: desired,
        expected_reported_version: reported,
        ..Conditions::default()
    };
    let mut world = World::new();
    accepted(world.update_if(r#"{"desired":{"a":1}}"#, expect(Some(0), Some(0))));
    world.accept(r#"{"reported":{"a":1}}"#);
    accepted(world.update_if("{}", expect(Some(1), Some(2))));
    let refused = rejected(world.update_if("{}", expect(Some(1), Some(1))));
    let condition = FailedCondition::SectionVersion {
        section: Section::Reported,
        current: 2,
    };
    assert_eq!(refused, Rejection::ConditionFailed { condition });
}

/// Protects partial reads: the path from the root is kept, other members are left out.
#[test]
fn pointers_cut_what_is_read() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"a":{"b":1,"c":{"d":2}},"ab":3},"reported":{"a":{"b":1}}}"#);
    let document = world.document().unwrap();
    let read = |pointers: &[&str]| {
        let pointers: Vec<_> = pointers
            .iter()
            .map(|text| Pointer::parse(text).unwrap())
            .collect();
        document.state_json(Section::Desired, &pointers)
    };
    assert_eq!(read(&["/a/c"]).as_deref(), Some(r#"{"a":{"c":{"d":2}}}"#));
    assert_eq!(
        read(&["/ab", "/a/b"]).as_deref(),
        Some(r#"{"a":{"b":1},"ab":3}"#)
    );
    assert_eq!(read(&["", "/a"]), read(&[]));
    assert_eq!(read(&["/a/b/c", "/x"]), None);
    let pointers = [Pointer::parse("/a/b").unwrap()];
    assert_eq!(document.delta_json(&pointers), None);
    let pointers = [Pointer::parse("/a").unwrap()];
    assert_eq!(
        document.delta_json(&pointers).as_deref(),
        Some(r#"{"a":{"c":{"d":2}}}"#)
    );
}
