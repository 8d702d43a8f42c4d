use crate::json::{DuplicateKeys, parse};
use crate::limits::Limits;
use crate::patch::{Patch, Section, SectionInput};
use crate::render;

use super::*;

fn ops(text: &str) -> SectionPatch {
    let value = parse(text.as_bytes(), DuplicateKeys::LastWins, 32).unwrap();
    let patch = Patch::build(
        SectionInput::Merge(&value),
        SectionInput::Absent,
        &Limits::default(),
    );
    patch.unwrap().section(Section::Desired).clone()
}

fn leaves(text: &str) -> Vec<u8> {
    merge(
        &[],
        &ops(text),
        Stamp {
            time: 1,
            version: 1,
        },
    )
    .unwrap()
    .unwrap()
    .leaves
}

fn shown(leaves: &[u8]) -> String {
    render::values(leaves, Form::Stamped, &[]).unwrap_or_else(|| "{}".to_owned())
}

fn shown_undo(undo: &SectionPatch) -> String {
    match undo {
        SectionPatch::Absent => "-".to_owned(),
        SectionPatch::Clear => "null".to_owned(),
        SectionPatch::Merge(ops) => render::values(ops, Form::Plain, &[]).unwrap(),
    }
}

/// Protects history: the undo says exactly what it takes to go back, and going back works.
#[test]
fn undo_brings_the_state_before_back() {
    let cases = [
        (r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":1}"#),
        (r#"{"a":1}"#, r#"{"a":1}"#, "-"),
        (r#"{"a":1}"#, r#"{"a":1.0}"#, r#"{"a":1}"#),
        (r#"{"a":1}"#, r#"{"b":1}"#, r#"{"b":null}"#),
        (
            r#"{"a":1}"#,
            r#"{"b":{"c":{"d":1,"e":2},"f":3}}"#,
            r#"{"b":null}"#,
        ),
        (
            r#"{"b":{"a":1}}"#,
            r#"{"b":{"c":{"d":1,"e":2}}}"#,
            r#"{"b":{"c":null}}"#,
        ),
        (
            r#"{"b":{"z":1}}"#,
            r#"{"b":{"c":{"d":1,"e":2}}}"#,
            r#"{"b":{"c":null}}"#,
        ),
        (
            r#"{"a":{"b":1,"c":2}}"#,
            r#"{"a":null}"#,
            r#"{"a":{"b":1,"c":2}}"#,
        ),
        (
            r#"{"a":{"b":1}}"#,
            r#"{"a":{"b":null}}"#,
            r#"{"a":{"b":1}}"#,
        ),
        (r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#),
        (r#"{"a":5}"#, r#"{"a":{"b":{"x":1},"c":2}}"#, r#"{"a":5}"#),
        (
            r#"{"a":{}}"#,
            r#"{"a":{"b":{"x":1},"c":2}}"#,
            r#"{"a":{"b":null,"c":null}}"#,
        ),
        (r#"{"a":{}}"#, r#"{"a":7}"#, r#"{"a":{}}"#),
        (r#"{"a":7}"#, r#"{"a":{}}"#, r#"{"a":7}"#),
        (r#"{"a":{"b":1}}"#, r#"{"a":{}}"#, "-"),
        (r#"{"a":1}"#, r#"{"x":null,"a":{"b":null}}"#, "-"),
        (r#"{}"#, r#"{"a":1,"b":{"c":2}}"#, r#"{"a":null,"b":null}"#),
    ];
    for (old, patch, undo) in cases {
        let before = leaves(old);
        let stamp = Stamp {
            time: 2,
            version: 2,
        };
        let merged = merge(&before, &ops(patch), stamp).unwrap().unwrap();
        assert_eq!(shown_undo(&merged.undo), undo, "{old} + {patch}");
        let back = merge(&merged.leaves, &merged.undo, stamp).unwrap();
        let back = back.map_or(merged.leaves, |back| back.leaves);
        assert_eq!(shown(&back), shown(&before), "{old} + {patch} + undo");
    }
    let before = leaves(r#"{"a":{"b":1},"c":[2]}"#);
    let cleared = merge(&before, &SectionPatch::Clear, Stamp::default())
        .unwrap()
        .unwrap();
    assert_eq!((cleared.leaves.len(), cleared.json_bytes), (0, 0));
    assert_eq!(shown_undo(&cleared.undo), r#"{"a":{"b":1},"c":[2]}"#);
}

/// Protects the size limit and the byte form: both depend on the state alone, not on its history.
#[test]
fn result_depends_on_the_state_alone() {
    let stamp = Stamp {
        time: 1,
        version: 1,
    };
    let at_once = merge(&[], &ops(r#"{"a":{"b":1,"c":2},"d":3}"#), stamp)
        .unwrap()
        .unwrap();
    let mut step = Vec::new();
    let mut json_bytes = 0;
    for patch in [
        r#"{"d":{"x":1}}"#,
        r#"{"a":{"c":2}}"#,
        r#"{"d":3}"#,
        r#"{"a":{"b":1,"e":null}}"#,
    ] {
        let merged = merge(&step, &ops(patch), stamp).unwrap().unwrap();
        step = merged.leaves;
        json_bytes = merged.json_bytes;
    }
    assert_eq!(step, at_once.leaves);
    assert_eq!(json_bytes, at_once.json_bytes);
    assert_eq!(json_bytes, shown(&step).len());
}

/// Protects leaves that were not sent: they keep the stamp of their last write.
#[test]
fn only_sent_leaves_take_the_stamp() {
    let before = leaves(r#"{"a":1,"b":{"c":1,"d":1}}"#);
    let stamp = Stamp {
        time: 9,
        version: 5,
    };
    let merged = merge(&before, &ops(r#"{"b":{"c":1}}"#), stamp)
        .unwrap()
        .unwrap();
    let mut reader = Reader::open(&merged.leaves, Form::Stamped).unwrap();
    let mut versions = Vec::new();
    while reader.live() {
        versions.push(reader.stamp().version);
        reader.advance().unwrap();
    }
    assert_eq!(versions, [1, 5, 1]);
}
