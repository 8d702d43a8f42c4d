use proptest::prelude::*;

use crate::json::{DuplicateKeys, NESTING_CEILING, parse};

use super::*;

fn build(text: &str) -> Patch {
    let value = parse(text.as_bytes(), DuplicateKeys::LastWins, 32).unwrap();
    Patch::build(
        SectionInput::Merge(&value),
        SectionInput::Absent,
        &Limits::default(),
    )
    .unwrap()
}

/// Protects the four things an update can say of a section.
#[test]
fn absent_clear_and_empty_are_different() {
    let none = Patch::default();
    assert!(none.is_empty());
    assert_eq!(none.section_json(Section::Desired), None);
    let empty = build("{}");
    assert!(!empty.is_empty());
    assert_eq!(empty.section_json(Section::Desired).as_deref(), Some("{}"));
    assert_eq!(empty.section_json(Section::Reported), None);
    let clear = Patch::clear_both();
    assert!(clear.clears(Section::Reported) && !clear.is_empty());
    assert_eq!(
        clear.section_json(Section::Reported).as_deref(),
        Some("null")
    );
    for patch in [none, empty, clear, build(r#"{"a":{"b":[1]},"c":null}"#)] {
        assert_eq!(Patch::decode(&patch.encode()).unwrap(), patch);
    }
}

/// Protects the merge from operations that are out of order or in each other's way.
#[test]
fn decode_refuses_operations_that_no_builder_makes() {
    let leaf = |path: &[u8], value: &[u8]| (path.to_vec(), value.to_vec());
    let run = |leaves: &[(Vec<u8>, Vec<u8>)]| {
        let mut out = Writer::new(Form::Plain, 0);
        for (path, value) in leaves {
            out.put(path, value, Stamp::default());
        }
        let patch = Patch {
            sections: [
                SectionPatch::Merge(Bytes::from(out.finish())),
                SectionPatch::Absent,
            ],
        };
        Patch::decode(&patch.encode())
    };
    assert!(run(&[leaf(b"a\0", b"1"), leaf(b"b\0", b"1")]).is_ok());
    let wrong = [
        vec![leaf(b"b\0", b"1"), leaf(b"a\0", b"1")],
        vec![leaf(b"a\0", b"1"), leaf(b"a\0", b"1")],
        vec![leaf(b"a\0", b"1"), leaf(b"a\0b\0", b"1")],
        vec![leaf(b"", b"1")],
        vec![leaf(b"a", b"1")],
        vec![leaf(b"\xff\0", b"1")],
        vec![leaf(b"a\0", b"")],
        vec![leaf(b"a\0", b"\"\xff\"")],
    ];
    for leaves in wrong {
        assert_eq!(run(&leaves), Err(DecodeError::Malformed), "{leaves:?}");
    }
}

/// Small limits, so that texts break them.
fn tight() -> Limits {
    Limits {
        depth_max: 3,
        key_bytes_max: 8,
        ..Limits::default()
    }
}

/// What the way over a tree makes of the text of an object; `None` where it refuses.
fn over_a_tree(text: &str) -> Option<Patch> {
    let value = parse(text.as_bytes(), DuplicateKeys::Reject, NESTING_CEILING).ok()?;
    let desired = SectionInput::Merge(value.is_object().then_some(&value)?);
    Patch::build(desired, SectionInput::Absent, &tight()).ok()
}

/// Protects the short way from being idle: texts as devices print them take it.
#[test]
fn sorted_texts_need_no_tree() {
    for text in [
        "{}",
        r#" { "a" : 1 } "#,
        r#"{"a":{"b":{"c":-1.50e+2}},"b":{},"c":null,"d":[],"e":[1,"x",[true]]}"#,
        r#"{"":"","\u0000":false,"\u0001":"\ud83d\ude00","a":"\"\\\n\/"}"#,
        r#"{"a":{"z":1},"ab":{"a":1},"b":1,"ä":2}"#,
    ] {
        let patch = Patch::from_sorted(Some(text), None, &tight());
        assert!(patch.is_some(), "{text}");
        assert_eq!(patch, over_a_tree(text), "{text}");
    }
    let both = Patch::from_sorted(Some("{}"), Some(r#"{"a":1}"#), &tight()).unwrap();
    assert_eq!(both.section_json(Section::Desired).as_deref(), Some("{}"));
    let reported = both.section_json(Section::Reported);
    assert_eq!(reported.as_deref(), Some(r#"{"a":1}"#));
}

/// Protects outcomes: whatever needs a closer look is left to the way over a tree.
#[test]
fn other_texts_are_left_to_the_way_over_a_tree() {
    for text in [
        "",
        "null",
        "[]",
        "{} {}",
        r#"{"b":1,"a":2}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"x":{"b":1,"a":2}}"#,
        r#"{"a":[{"b":1}]}"#,
        r#"{"a":[null]}"#,
        r#"{"a":1,}"#,
        r#"{"a":01}"#,
        r#"{"a":NaN}"#,
        r#"{"a":1e401}"#,
        r#"{"123456789":1}"#,
        r#"{"a":{"b":{"c":{"d":1}}}}"#,
        r#"{"a":{"b":{"c":[[1]]}}}"#,
    ] {
        assert_eq!(
            Patch::from_sorted(Some(text), None, &tight()),
            None,
            "{text}"
        );
        assert_eq!(
            Patch::from_sorted(None, Some(text), &tight()),
            None,
            "{text}"
        );
    }
    let long = format!(r#"{{"a":{}}}"#, "1".repeat(65));
    assert_eq!(Patch::from_sorted(Some(&long), None, &tight()), None);
}

/// Any JSON over few keys, so that they repeat, nest and sort closely.
fn any_value() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "",
        "a",
        "ab",
        "b",
        "ä",
        "\\u0000",
        "\\u0001",
        "123456789",
    ]);
    let leaf = prop::sample::select(vec![
        "null", "true", "0", "-1.5e3", "1e401", r#""""#, r#""\n""#,
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(5, 40, 4, move |inner| {
        let members = prop::collection::vec((key.clone(), inner.clone()), 0..4);
        prop_oneof![
            1 => prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            4 => (members, any::<bool>()).prop_map(|(mut members, is_sorted)| {
                if is_sorted {
                    members.sort();
                    members.dedup_by(|next, kept| next.0 == kept.0);
                }
                let member = |(key, value)| format!(r#""{key}":{value}"#);
                let members: Vec<String> = members.into_iter().map(member).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// Protects every byte of a patch: the short way makes what the long one makes, or nothing. Also of
    /// texts with one byte off.
    #[test]
    fn short_way_agrees_with_the_way_over_a_tree(
        text in any_value(), at in any::<prop::sample::Index>(), other in prop::char::range(' ', '~'),
    ) {
        let mut broken: Vec<char> = text.chars().collect();
        let at = at.index(broken.len());
        broken[at] = other;
        for text in [text, broken.into_iter().collect()] {
            if let Some(patch) = Patch::from_sorted(Some(&text), None, &tight()) {
                prop_assert_eq!(Some(patch), over_a_tree(&text), "{}", text);
            }
        }
    }
}
