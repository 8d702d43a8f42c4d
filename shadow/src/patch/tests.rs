use crate::json::{DuplicateKeys, parse};

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
