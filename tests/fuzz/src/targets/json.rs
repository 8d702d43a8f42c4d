//! JSON text to a tree and back, beside another parser, and the change that is made of a tree.

use antumbra_shadow::json::{self, DuplicateKeys, JsonError, Value};
use antumbra_shadow::{Limits, Patch, Section, SectionInput};

use crate::guard::Allowance;

/// A tree takes 128 bytes for the four of `[[],`; the other parser is not more frugal.
pub const ALLOWANCE: Allowance = Allowance {
    base_bytes: 64 * 1024,
    per_byte: 512,
};

/// The other parser stops at this nesting.
const OTHER_DEPTH_MAX: usize = 127;

/// The first byte chooses what happens to keys given twice, and the deepest nesting.
pub fn fuzz(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else {
        return;
    };
    let duplicates = match choice & 1 {
        0 => DuplicateKeys::LastWins,
        _ => DuplicateKeys::Reject,
    };
    let depth_max = usize::from(choice >> 1) + 1;
    let parsed = json::parse(text, duplicates, depth_max);
    compare(text, &parsed, duplicates);
    if let Ok(value) = parsed {
        check_text(&value, duplicates, depth_max);
        check_patch(&value);
    }
}

/// Both parsers take the same texts and read the same from them.
fn compare(text: &[u8], parsed: &Result<Value, JsonError>, duplicates: DuplicateKeys) {
    // The member by which the other parser carries numbers is not one of its texts.
    let private = b"$serde_json";
    if text.windows(private.len()).any(|part| part == private) {
        return;
    }
    let other = serde_json::from_slice::<serde_json::Value>(text);
    match (parsed, other) {
        (Ok(value), Ok(other)) if duplicates == DuplicateKeys::LastWins => {
            let again = serde_json::from_str::<serde_json::Value>(&value.to_string());
            assert_eq!(again.ok(), Some(other), "both read the same");
        }
        (Ok(value), Err(error)) => assert!(
            depth(value) > OTHER_DEPTH_MAX,
            "taken here, refused by the other: {error}"
        ),
        (Err(JsonError::Syntax { offset } | JsonError::NotUtf8 { offset }), Ok(_)) => {
            panic!("refused at byte {offset}, taken by the other");
        }
        (Err(JsonError::Syntax { offset } | JsonError::NotUtf8 { offset }), Err(_)) => {
            assert!(*offset <= text.len(), "an offset is inside of the text");
        }
        _ => {}
    }
}

/// The deepest nesting of containers.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => {
            1 + members
                .iter()
                .map(|(_, value)| depth(value))
                .max()
                .unwrap_or(0)
        }
        _ => 0,
    }
}

/// What a tree is written as gives the same tree.
fn check_text(value: &Value, duplicates: DuplicateKeys, depth_max: usize) {
    assert!(depth(value) <= depth_max, "nesting is limited");
    let text = value.to_string();
    let again = json::parse(text.as_bytes(), duplicates, depth_max);
    assert_eq!(again.as_ref(), Ok(value), "written and read again: {text}");
}

/// What a change is stored as gives the same change, and what it shows is JSON.
fn check_patch(value: &Value) {
    let limits = Limits::default();
    let (desired, reported) = (SectionInput::Merge(value), SectionInput::Absent);
    let Ok(patch) = Patch::build(desired, reported, &limits) else {
        return;
    };
    let stored = patch.encode();
    assert_eq!(
        Patch::decode(&stored).as_ref(),
        Ok(&patch),
        "stored and read"
    );
    let shown = patch.section_json(Section::Desired);
    let shown = shown.expect("the section was mentioned");
    let parsed = json::parse(
        shown.as_bytes(),
        DuplicateKeys::Reject,
        json::NESTING_CEILING,
    );
    let parsed = parsed.expect("what is shown is JSON");
    let again = match &parsed {
        Value::Null => SectionInput::Clear,
        value => SectionInput::Merge(value),
    };
    let again = Patch::build(again, SectionInput::Absent, &limits);
    assert_eq!(again.as_ref(), Ok(&patch), "shown and made again: {shown}");
}
