use proptest::prelude::*;
use proptest::sample::select;

use crate::json::{Number, Value};
use crate::leaves::{EMPTY_OBJECT, path};
use crate::limits::Limits;
use crate::patch::{Patch, Section, SectionInput, SectionPatch};

use super::super::{Merge, merge};
use super::*;

const STAMP: Stamp = Stamp {
    time: 1_700_000_000_000,
    version: 129,
};

/// The rule that every replica knows.
fn general(leaves: &[u8], ops: &[u8]) -> Result<Merged, DecodeError> {
    Merge::open(leaves, ops, STAMP)?.run()
}

/// Everything that a merge makes, in a form that can be compared.
fn made(merged: Merged) -> (Vec<u8>, usize, SectionPatch) {
    (merged.leaves, merged.json_bytes, merged.undo)
}

/// Both ways give the same bytes, or the same error, and [`merge`] gives them too. Whether the
/// short way was taken.
fn agree(leaves: &[u8], ops: &[u8]) -> bool {
    let general = general(leaves, ops).map(made);
    let short = replace(leaves, ops, STAMP).map(|merged| merged.map(made));
    let taken = matches!(short, Ok(Some(_)));
    match short {
        Ok(None) => {}
        short => assert_eq!(short, general.clone().map(Some)),
    }
    let patch = SectionPatch::Merge(ops.to_vec().into());
    let merged = merge(leaves, &patch, STAMP).map(|merged| merged.map(made));
    assert_eq!(merged, general.map(Some));
    taken
}

fn ops_of(value: &Value) -> Vec<u8> {
    let limits = Limits {
        depth_max: 16,
        ..Limits::default()
    };
    let patch = Patch::build(SectionInput::Merge(value), SectionInput::Absent, &limits);
    match patch.unwrap().section(Section::Desired) {
        SectionPatch::Merge(ops) => ops.to_vec(),
        _ => Vec::new(),
    }
}

fn leaves_of(value: &Value) -> Vec<u8> {
    let stamp = Stamp {
        time: 100,
        version: 1,
    };
    let merged = Merge::open(&[], &ops_of(value), stamp).unwrap().run();
    merged.unwrap().leaves
}

/// What a patch does to one leaf of a document.
#[derive(Debug, Clone)]
enum Touch {
    Leave,
    Repeat,
    Give(&'static str),
    Delete,
    Descend,
}

/// A plain run with one operation at most for each leaf.
fn touch(leaves: &[u8], touches: &[Touch]) -> Vec<u8> {
    let mut ops = Writer::new(Form::Plain, 0);
    let mut reader = Reader::open(leaves, Form::Stamped).unwrap();
    let mut touches = touches.iter().cycle();
    while reader.live() {
        let mut path = reader.path().to_vec();
        let value = match touches.next() {
            None | Some(Touch::Leave) => None,
            Some(Touch::Repeat) => Some(reader.value()),
            Some(Touch::Give(value)) => Some(value.as_bytes()),
            Some(Touch::Delete) => Some(NULL),
            Some(Touch::Descend) => {
                path::push(&mut path, "below");
                Some(&b"7"[..])
            }
        };
        if let Some(value) = value {
            ops.put(&path, value, Stamp::default());
        }
        reader.advance().unwrap();
    }
    ops.finish()
}

/// The same leaves in records that no writer makes: more spelled out than need be, integers longer
/// than need be, bits that are lost.
fn spell_out(leaves: &[u8], oddities: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before: Vec<u8> = Vec::new();
    let mut oddities = oddities.iter().copied().cycle();
    let mut reader = Reader::open(leaves, Form::Stamped).unwrap();
    while reader.live() {
        let path = reader.path();
        let most = path::shared(&before, path);
        let ends = (0..most).filter(|&at| path[at] == path::END);
        let fewer = ends.map(|at| at + 1).rev().nth(1).unwrap_or(0);
        let mut odd = || oddities.next().unwrap_or(0);
        let shared = if odd() == 1 { fewer } else { most };
        put_odd(&mut out, shared as u64, odd());
        put_odd(&mut out, (path.len() - shared) as u64, odd());
        out.extend_from_slice(&path[shared..]);
        put_odd(&mut out, reader.stamp().time, odd());
        put_odd(&mut out, reader.stamp().version, odd());
        put_odd(&mut out, reader.value().len() as u64, odd());
        out.extend_from_slice(reader.value());
        before = path.to_vec();
        reader.advance().unwrap();
    }
    out
}

fn put_odd(out: &mut Vec<u8>, mut value: u64, oddity: u8) {
    let length = match oddity {
        2 => 3,
        3 | 4 => 10,
        _ => 1,
    };
    for at in 1.. {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 && at >= length {
            // The tenth byte has room for one bit; a reader drops the others.
            out.push(byte | if oddity == 4 && at == 10 { 2 } else { 0 });
            return;
        }
        out.push(byte | 0x80);
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    let long = Value::String("long ".repeat(40));
    let list = vec![Value::Bool(true), Value::Object(Vec::new())];
    select(vec![
        Value::Null,
        Value::Bool(false),
        Value::Number(Number::from(1_u64)),
        Value::Number(Number::from(70_000_u64)),
        Value::String("ü\"\n".to_owned()),
        long,
        Value::Array(Vec::new()),
        Value::Array(list),
        Value::Object(Vec::new()),
    ])
}

fn members<S: Strategy<Value = Value>>(value: S) -> impl Strategy<Value = Value> {
    let long = "k".repeat(140);
    let keys = [
        "a",
        "b",
        "ab",
        "abc",
        "",
        "\0",
        "\u{1}",
        "\"",
        "ü",
        long.as_str(),
    ];
    let key = select(keys.map(str::to_owned).to_vec());
    prop::collection::vec((key, value), 0..8).prop_map(Value::Object)
}

fn object() -> impl Strategy<Value = Value> {
    members(scalar().prop_recursive(4, 40, 8, members))
}

fn replacing() -> impl Strategy<Value = Touch> {
    let values = ["1", "false", "\"a longer text\"", "[1,2]", "{}", "[]"];
    prop_oneof![
        3 => Just(Touch::Leave),
        1 => Just(Touch::Repeat),
        3 => select(values.to_vec()).prop_map(Touch::Give),
    ]
}

fn any_touch() -> impl Strategy<Value = Touch> {
    prop_oneof![
        12 => replacing(),
        1 => Just(Touch::Delete),
        1 => Just(Touch::Descend),
    ]
}

fn touches<S: Strategy<Value = Touch>>(touch: S) -> impl Strategy<Value = Vec<Touch>> {
    prop::collection::vec(touch, 1..12)
}

fn oddities() -> impl Strategy<Value = Vec<u8>> {
    // Mostly none, so that some patches meet only records that are as they should be.
    let oddity = prop_oneof![20 => Just(0_u8), 1 => 1_u8..5];
    prop::collection::vec(oddity, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Protects the gain: a patch that only replaces takes the short way, whatever it replaces.
    #[test]
    fn replacing_takes_the_short_way(object in object(), touches in touches(replacing())) {
        let leaves = leaves_of(&object);
        prop_assert!(agree(&leaves, &touch(&leaves, &touches)));
    }

    /// Protects replicas that know only the merge: deletes and new leaves among what is replaced.
    #[test]
    fn patches_near_a_document_agree(object in object(), touches in touches(any_touch())) {
        let leaves = leaves_of(&object);
        agree(&leaves, &touch(&leaves, &touches));
    }

    /// Protects replicas that know only the merge: documents and patches that are alike by chance.
    #[test]
    fn random_patches_agree(old in object(), between in object(), patch in object()) {
        let leaves = general(&leaves_of(&old), &ops_of(&between)).unwrap().leaves;
        agree(&leaves, &ops_of(&patch));
    }

    /// Protects rows whose records are readable but not as a writer makes them.
    #[test]
    fn odd_records_agree(
        object in object(),
        touches in touches(any_touch()),
        oddities in oddities(),
    ) {
        let leaves = leaves_of(&object);
        agree(&spell_out(&leaves, &oddities), &touch(&leaves, &touches));
    }

    /// Protects replicas from each other when a row is damaged: all of them stop, or none.
    #[test]
    fn damaged_rows_agree(
        object in object(),
        touches in touches(any_touch()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let leaves = leaves_of(&object);
        let ops = touch(&leaves, &touches);
        for damage_ops in [false, true] {
            let (mut leaves, mut ops) = (leaves.clone(), ops.clone());
            let damaged = if damage_ops { &mut ops } else { &mut leaves };
            if !damaged.is_empty() {
                let at = at.index(damaged.len());
                damaged[at] = byte;
            }
            agree(&leaves, &ops);
        }
    }
}

/// Protects the edges: nothing, the first leaf, the last, all of them, `{}` for what is there, and
/// all that is not for the short way.
#[test]
fn short_way_is_for_leaves_that_are_there() {
    use Touch::{Delete, Descend, Give, Leave, Repeat};
    let text = r#"{"a":{"b":1,"c":{}},"d":[1,2],"e":{"f":{"g":"x"}}}"#;
    let object = crate::json::parse(text.as_bytes(), crate::json::DuplicateKeys::Reject, 8);
    let leaves = leaves_of(&object.unwrap());
    let cases = [
        ([Leave, Leave, Leave, Leave], true),
        ([Give("2"), Leave, Leave, Leave], true),
        ([Leave, Leave, Leave, Give("{}")], true),
        ([Leave, Give("2"), Give("3"), Leave], true),
        ([Give("{}"), Give("{}"), Give("[]"), Repeat], true),
        ([Repeat, Repeat, Repeat, Repeat], true),
        ([Give("2"), Delete, Leave, Leave], false),
        ([Give("2"), Descend, Leave, Leave], false),
        ([Leave, Leave, Leave, Descend], false),
    ];
    for (touches, short) in cases {
        let ops = touch(&leaves, &touches);
        assert_eq!(agree(&leaves, &ops), short, "{touches:?}");
    }
    assert!(agree(&[], &[]));
    assert!(!agree(&[], &leaves_as_ops(&leaves)));
    assert!(agree(&leaves, &leaves_as_ops(&leaves)));
    // Objects that the document has below its root, as a whole: `{}` merges nothing, others replace.
    for value in [EMPTY_OBJECT, b"1"] {
        let mut ops = Writer::new(Form::Plain, 0);
        ops.put(b"a\0", value, Stamp::default());
        assert!(!agree(&leaves, &ops.finish()));
    }
}

fn leaves_as_ops(leaves: &[u8]) -> Vec<u8> {
    touch(leaves, &[Touch::Repeat])
}
