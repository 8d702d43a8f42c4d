//! The AWS rules of messages, merge, delta and metadata, one row each, and the published vectors.

use antumbra_shadow::{Outcome, Section, TimeUnit};

use crate::support::{World, accepted, expecting, rejected};

/// (rule, updates in order, `[desired, reported, delta]` after them; `-` is not shown)
type Row = (&'static str, &'static str, [&'static str; 3]);

const MERGE: &[Row] = &[
    (
        "objects merge recursively",
        r#"{"desired":{"a":{"b":1},"x":1}} + {"desired":{"a":{"c":2}}}"#,
        [
            r#"{"a":{"b":1,"c":2},"x":1}"#,
            "-",
            r#"{"a":{"b":1,"c":2},"x":1}"#,
        ],
    ),
    (
        "a scalar replaces a scalar",
        r#"{"reported":{"a":1}} + {"reported":{"a":"x"}}"#,
        ["-", r#"{"a":"x"}"#, "-"],
    ),
    (
        "a scalar replaces an object",
        r#"{"reported":{"a":{"b":1,"c":{"d":2}},"z":0}} + {"reported":{"a":true}}"#,
        ["-", r#"{"a":true,"z":0}"#, "-"],
    ),
    (
        "an object replaces a scalar",
        r#"{"reported":{"a":1}} + {"reported":{"a":{"b":{"c":1}}}}"#,
        ["-", r#"{"a":{"b":{"c":1}}}"#, "-"],
    ),
    (
        "an array replaces an array whole",
        r#"{"reported":{"a":[1,2,3]}} + {"reported":{"a":[{"k":9}]}}"#,
        ["-", r#"{"a":[{"k":9}]}"#, "-"],
    ),
    (
        "an object replaces an array",
        r#"{"reported":{"a":[1,2,3]}} + {"reported":{"a":{"0":1}}}"#,
        ["-", r#"{"a":{"0":1}}"#, "-"],
    ),
    (
        "null deletes a leaf",
        r#"{"reported":{"a":1,"b":2}} + {"reported":{"a":null}}"#,
        ["-", r#"{"b":2}"#, "-"],
    ),
    (
        "null deletes a subtree",
        r#"{"reported":{"a":{"x":1,"y":{"z":2}},"ab":3}} + {"reported":{"a":null}}"#,
        ["-", r#"{"ab":3}"#, "-"],
    ),
    (
        "null for an absent key changes nothing",
        r#"{"reported":{"a":1}} + {"reported":{"b":null,"c":{"d":null}}}"#,
        ["-", r#"{"a":1}"#, "-"],
    ),
    (
        "null below a scalar changes nothing",
        r#"{"reported":{"a":1}} + {"reported":{"a":{"b":null}}}"#,
        ["-", r#"{"a":1}"#, "-"],
    ),
    (
        "nulls beside a value below a scalar are dropped",
        r#"{"reported":{"a":1}} + {"reported":{"a":{"b":null,"c":2}}}"#,
        ["-", r#"{"a":{"c":2}}"#, "-"],
    ),
    (
        "a new subtree of nulls is dropped",
        r#"{"reported":{"a":1}} + {"reported":{"n":{"x":null,"y":{"z":null}}}}"#,
        ["-", r#"{"a":1}"#, "-"],
    ),
    (
        "an object whose last member is nulled stays empty",
        r#"{"reported":{"a":{"b":1},"z":1}} + {"reported":{"a":{"b":null}}}"#,
        ["-", r#"{"a":{},"z":1}"#, "-"],
    ),
    (
        "also when it is nested",
        r#"{"reported":{"a":{"b":{"c":1}}}} + {"reported":{"a":{"b":{"c":null}}}}"#,
        ["-", r#"{"a":{"b":{}}}"#, "-"],
    ),
    (
        "also when several members go by several nulls",
        r#"{"reported":{"a":{"b":{"c":1},"d":2,"e":{"f":3}}}} + {"reported":{"a":{"b":{"c":null},"d":null,"e":null}}}"#,
        ["-", r#"{"a":{"b":{}}}"#, "-"],
    ),
    (
        "the root is the exception: an empty section is not shown",
        r#"{"desired":{"x":1}} + {"desired":{"x":null}}"#,
        ["-", "-", "-"],
    ),
    (
        "desired null removes the section",
        r#"{"desired":{"x":1},"reported":{"x":1}} + {"desired":null}"#,
        ["-", r#"{"x":1}"#, "-"],
    ),
    (
        "reported null removes the section",
        r#"{"desired":{"x":1},"reported":{"x":1}} + {"reported":null}"#,
        [r#"{"x":1}"#, "-", r#"{"x":1}"#],
    ),
    (
        "state null removes both",
        r#"{"desired":{"x":1},"reported":{"x":1}} + null"#,
        ["-", "-", "-"],
    ),
    (
        "state {} changes nothing",
        r#"{"desired":{"x":1},"reported":{"x":1}} + {}"#,
        [r#"{"x":1}"#, r#"{"x":1}"#, "-"],
    ),
    (
        "desired {} merges nothing and clears nothing",
        r#"{"desired":{"x":1}} + {"desired":{}}"#,
        [r#"{"x":1}"#, "-", r#"{"x":1}"#],
    ),
    (
        "an explicit empty object is stored and in the delta",
        r#"{} + {"desired":{"a":1,"d":{}}}"#,
        [r#"{"a":1,"d":{}}"#, "-", r#"{"a":1,"d":{}}"#],
    ),
    (
        "an empty object merges nothing into an object",
        r#"{"reported":{"a":{"b":1}}} + {"reported":{"a":{}}}"#,
        ["-", r#"{"a":{"b":1}}"#, "-"],
    ),
    (
        "an empty object replaces a scalar",
        r#"{"reported":{"a":5}} + {"reported":{"a":{}}}"#,
        ["-", r#"{"a":{}}"#, "-"],
    ),
    (
        "a member fills an empty object",
        r#"{"reported":{"a":{}}} + {"reported":{"a":{"b":{"c":null},"d":1}}}"#,
        ["-", r#"{"a":{"d":1}}"#, "-"],
    ),
    (
        "null inside an empty object leaves it",
        r#"{"reported":{"a":{}}} + {"reported":{"a":{"b":null}}}"#,
        ["-", r#"{"a":{}}"#, "-"],
    ),
    (
        "keys with odd characters keep their place",
        r#"{"reported":{"":1,"a\u0000":{"b":1},"a":{"b":1}}} + {"reported":{"a":null,"\"\n":2}}"#,
        ["-", r#"{"":1,"\"\n":2,"a\u0000":{"b":1}}"#, "-"],
    ),
    (
        "both sections in one update",
        r#"{} + {"desired":{"c":2},"reported":{"c":1}}"#,
        [r#"{"c":2}"#, r#"{"c":1}"#, r#"{"c":2}"#],
    ),
];

const DELTA: &[Row] = &[
    (
        "only what differs, with the path from the root",
        r#"{"desired":{"a":{"b":1,"c":2}},"reported":{"a":{"b":1}}}"#,
        [
            r#"{"a":{"b":1,"c":2}}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{"c":2}}"#,
        ],
    ),
    (
        "arrays are compared and copied whole",
        r#"{"desired":{"l":[1,3]},"reported":{"l":[1,2]}}"#,
        [r#"{"l":[1,3]}"#, r#"{"l":[1,2]}"#, r#"{"l":[1,3]}"#],
    ),
    (
        "equal arrays are no difference, numbers by value",
        r#"{"desired":{"l":[1,{"x":2.50}]},"reported":{"l":[1.0,{"x":25e-1}]}}"#,
        [r#"{"l":[1,{"x":2.50}]}"#, r#"{"l":[1.0,{"x":25e-1}]}"#, "-"],
    ),
    (
        "numbers are compared by value",
        r#"{"desired":{"a":1,"b":1e2,"c":0.1},"reported":{"a":1.0,"b":100,"c":0.10000000000000000001}}"#,
        [
            r#"{"a":1,"b":1e2,"c":0.1}"#,
            r#"{"a":1.0,"b":100,"c":0.10000000000000000001}"#,
            r#"{"c":0.1}"#,
        ],
    ),
    (
        "booleans and strings are no numbers",
        r#"{"desired":{"a":true,"b":"1"},"reported":{"a":1,"b":1}}"#,
        [
            r#"{"a":true,"b":"1"}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":true,"b":"1"}"#,
        ],
    ),
    (
        "what is only in reported never appears",
        r#"{"desired":{"a":1},"reported":{"a":1,"b":2,"c":{"d":1}}}"#,
        [r#"{"a":1}"#, r#"{"a":1,"b":2,"c":{"d":1}}"#, "-"],
    ),
    (
        "an object against a scalar differs whole",
        r#"{"desired":{"a":{"b":1,"c":{"d":2}}},"reported":{"a":1}}"#,
        [
            r#"{"a":{"b":1,"c":{"d":2}}}"#,
            r#"{"a":1}"#,
            r#"{"a":{"b":1,"c":{"d":2}}}"#,
        ],
    ),
    (
        "a scalar against an object differs",
        r#"{"desired":{"a":1},"reported":{"a":{"b":1}}}"#,
        [r#"{"a":1}"#, r#"{"a":{"b":1}}"#, r#"{"a":1}"#],
    ),
    (
        "an empty object is met by any object",
        r#"{"desired":{"a":{},"b":{},"c":{},"d":{}},"reported":{"a":{},"b":{"x":1},"c":1}}"#,
        [
            r#"{"a":{},"b":{},"c":{},"d":{}}"#,
            r#"{"a":{},"b":{"x":1},"c":1}"#,
            r#"{"c":{},"d":{}}"#,
        ],
    ),
];

fn check(rows: &[Row]) {
    for (name, steps, shown) in rows {
        let mut world = World::new();
        for step in steps.split(" + ") {
            world.accept(step);
        }
        assert_eq!(world.shown(), *shown, "{name}");
    }
}

/// Protects the merge rules: objects merge, the rest replaces, null deletes, `{}` is kept.
#[test]
fn merge_follows_the_aws_rules() {
    check(MERGE);
}

/// Protects the delta rules: what desired has and reported lacks or has differently.
#[test]
fn delta_follows_the_aws_rules() {
    check(DELTA);
}

/// Protects vectors 1 to 5: creation, echo of only what was sent, delta over the whole document.
#[test]
fn vectors_of_a_first_conversation() {
    let mut world = World::new();
    assert!(world.document().is_none(), "vector 1: nothing to get");

    let change = world.accept(r#"{"reported":{"c":1}}"#);
    assert_eq!(
        (change.version, change.previous.is_none()),
        (1, true),
        "vector 2"
    );
    assert_eq!(change.current.delta_json(&[]), None);

    let change = world.accept(r#"{"desired":{"c":2}}"#);
    assert_eq!(change.version, 2, "vector 3");
    assert_eq!(
        change.patch.section_json(Section::Desired).as_deref(),
        Some(r#"{"c":2}"#)
    );
    assert_eq!(change.patch.section_json(Section::Reported), None);
    assert_eq!(
        change.current.delta_json(&[]).as_deref(),
        Some(r#"{"c":2}"#)
    );
    assert_eq!(change.previous.unwrap().version(), 1);

    let change = world.accept(r#"{"reported":{"c":2}}"#);
    assert_eq!(
        (change.version, change.current.has_delta()),
        (3, false),
        "vector 4"
    );

    let change = world.accept(r#"{"reported":{"c":9}}"#);
    assert_eq!(
        change.current.delta_json(&[]).as_deref(),
        Some(r#"{"c":2}"#),
        "vector 5"
    );
}

/// Protects vectors 8 to 13: versions, clearing, deleting, explicit empty objects.
#[test]
fn vectors_of_versions_and_clearing() {
    let mut world = World::new();
    world.accept(r#"{"desired":{"x":1}}"#);
    world.accept(r#"{"reported":{"x":1}}"#);
    let conflict = rejected(world.update_if(r#"{"desired":{"x":2}}"#, expecting(1)));
    assert_eq!(conflict.code(), "VERSION_CONFLICT", "vector 8");
    let change = accepted(world.update_if(r#"{"desired":{"x":2}}"#, expecting(2)));
    assert_eq!(change.version, 3, "vector 8");

    world.accept(r#"{"desired":{"x":null}}"#);
    assert_eq!(world.shown()[0], "-", "vector 9");

    let change = world.accept("null");
    assert_eq!(change.version, 5, "vector 10");
    assert_eq!(
        change.patch.section_json(Section::Desired).as_deref(),
        Some("null")
    );
    assert_eq!(world.shown(), ["-", "-", "-"], "vector 10");
    assert_eq!(world.metadata(Section::Reported), None, "vector 10");

    world.accept(r#"{"desired":{"a":1,"d":{}}}"#);
    let before = world.shown();
    assert_eq!(before[0], r#"{"a":1,"d":{}}"#, "vector 13");
    assert_eq!(before[2], r#"{"a":1,"d":{}}"#, "vector 13");
    assert_eq!(world.accept("{}").version, 7, "vector 11");
    assert_eq!(world.shown(), before, "vector 11");

    world.accept(r#"{"desired":{"a":2}}"#);
    world.accept(r#"{"desired":{"a":3}}"#);
    let deleted = accepted(world.delete());
    assert_eq!(deleted.previous.unwrap().version(), 9, "vector 12");
    assert_eq!(deleted.version, 10, "vector 12");
    assert!(world.document().unwrap().is_deleted(), "vector 12");
    assert_eq!(
        world.accept(r#"{"reported":{"a":1}}"#).version,
        11,
        "vector 12"
    );
}

/// Protects `state:{}` on a missing shadow, which creates an empty one.
#[test]
fn empty_state_creates_an_empty_shadow() {
    let mut world = World::new();
    assert_eq!(world.accept("{}").version, 1);
    assert_eq!(world.shown(), ["-", "-", "-"]);
    assert_eq!(world.document().unwrap().state_bytes(), 0);
}

/// Protects metadata: a timestamp per leaf and per array element, refreshed whenever it is sent.
#[test]
fn metadata_is_refreshed_for_every_leaf_that_was_sent() {
    let mut world = World::new();
    world.time = 999_000;
    world.accept(r#"{"desired":{"a":1,"b":{"c":2},"l":[1,[2,{"k":3}],{}],"e":{}}}"#);
    assert_eq!(
        world.metadata(Section::Desired).unwrap(),
        concat!(
            r#"{"a":{"timestamp":1000},"b":{"c":{"timestamp":1000}},"e":{},"#,
            r#""l":[{"timestamp":1000},[{"timestamp":1000},{"k":{"timestamp":1000}}],{}]}"#
        )
    );
    world.accept(r#"{"desired":{"a":1,"l":null,"b":{"c":null}}}"#);
    assert_eq!(
        world.metadata(Section::Desired).unwrap(),
        r#"{"a":{"timestamp":1001},"b":{},"e":{}}"#
    );
    assert_eq!(world.metadata(Section::Reported), None);
    let document = world.document().unwrap();
    assert_eq!(
        document
            .delta_metadata_json(TimeUnit::Milliseconds)
            .unwrap(),
        r#"{"a":{"timestamp":1001000},"b":{},"e":{}}"#
    );
}

/// Protects the accepted message: only what was sent, nulls echoed with a timestamp.
#[test]
fn accepted_echoes_what_was_sent_with_nulls() {
    let mut world = World::new();
    world.time = 4_000;
    let change = world.accept(r#"{"desired":{"b":{"x":null},"a":1,"e":{}},"reported":null}"#);
    let echo = |section| {
        let metadata = change
            .patch
            .metadata_json(section, change.time, TimeUnit::Seconds);
        (
            change.patch.section_json(section).unwrap(),
            metadata.unwrap(),
        )
    };
    assert_eq!(
        echo(Section::Desired),
        (
            r#"{"a":1,"b":{"x":null},"e":{}}"#.to_owned(),
            r#"{"a":{"timestamp":5},"b":{"x":{"timestamp":5}},"e":{}}"#.to_owned()
        )
    );
    assert_eq!(
        echo(Section::Reported),
        ("null".to_owned(), r#"{"timestamp":5}"#.to_owned())
    );
    let change = world.accept(r#"{"desired":{}}"#);
    assert_eq!(change.patch.section_json(Section::Desired).unwrap(), "{}");
}

/// Protects clients that send one constant token: it is echoed and never used to drop anything.
#[test]
fn client_token_never_drops_anything() {
    let mut world = World::new();
    for version in 1..=100 {
        let mut draft =
            crate::support::update_draft("", r#"{"reported":{"n":1}}"#, Default::default());
        draft.client_token = Some("always-the-same".to_owned());
        let applied = world.run(draft);
        assert!(matches!(applied.outcome, Outcome::Accepted(_)));
        let change = accepted(applied);
        assert_eq!(change.version, version);
        assert_eq!(change.client_token.as_deref(), Some("always-the-same"));
    }
}
