use proptest::prelude::*;

use super::*;

fn last_wins(text: &str) -> Result<Value, JsonError> {
    parse(text.as_bytes(), DuplicateKeys::LastWins, 64)
}

/// Protects every request from text that is no JSON, and nothing after the value.
#[test]
fn text_that_is_not_json_is_a_syntax_error() {
    let wrong = [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "nul",
        "True",
        "1 2",
        "{} x",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\t\"",
        "\"unended",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "1.",
        "[1 2]",
        "{\"a\":}",
        "'a'",
        "// c\n1",
    ];
    for text in wrong {
        assert!(
            matches!(last_wins(text), Err(JsonError::Syntax { .. })),
            "{text}"
        );
    }
    assert_eq!(last_wins("[1, x]"), Err(JsonError::Syntax { offset: 4 }));
}

/// Protects stored texts: what is not UTF-8 is an error of its own.
#[test]
fn bytes_that_are_not_utf8_are_an_error() {
    let parsed = parse(b"{\"a\":\"\xff\"}", DuplicateKeys::LastWins, 8);
    assert_eq!(parsed, Err(JsonError::NotUtf8 { offset: 6 }));
}

/// Protects numbers: the text is kept, long ones and wild exponents are refused.
#[test]
fn numbers_keep_their_text() {
    for text in [
        "0",
        "-0",
        "1.0",
        "1e5",
        "1E+05",
        "12345678901234567890123",
        "0.10",
        "-1.5e-3",
    ] {
        assert_eq!(last_wins(text).unwrap().to_string(), text);
    }
    assert_eq!(last_wins(&"1".repeat(65)), Err(JsonError::NumberTooLong));
    assert_eq!(
        last_wins(&"1".repeat(100_000)),
        Err(JsonError::NumberTooLong)
    );
    assert_eq!(last_wins("[1e401]"), Err(JsonError::NumberOutOfRange));
    assert_eq!(last_wins("1.0").unwrap(), last_wins("1").unwrap());
}

/// Protects both meanings of a key that is given twice.
#[test]
fn duplicate_keys_are_taken_or_refused() {
    let text = r#"{"b":1,"a":{"x":1,"x":2,"x":3},"b":4}"#;
    assert_eq!(
        last_wins(text).unwrap().to_string(),
        r#"{"a":{"x":3},"b":4}"#
    );
    let refused = parse(text.as_bytes(), DuplicateKeys::Reject, 8);
    assert_eq!(
        refused,
        Err(JsonError::DuplicateKey {
            key: "x".to_owned()
        })
    );
    let long = format!("{{\"{0}\":1,\"{0}\":2}}", "ü".repeat(100));
    let Err(JsonError::DuplicateKey { key }) = parse(long.as_bytes(), DuplicateKeys::Reject, 8)
    else {
        panic!("a key given twice is refused")
    };
    assert_eq!(key, "ü".repeat(32));
}

/// Protects the depth guard at its boundary.
#[test]
fn nesting_is_counted_from_the_outermost_container() {
    let text = r#"{"a":[{"b":1}]}"#;
    assert!(parse(text.as_bytes(), DuplicateKeys::Reject, 3).is_ok());
    let refused = parse(text.as_bytes(), DuplicateKeys::Reject, 2);
    assert_eq!(refused, Err(JsonError::TooDeep { max: 2 }));
    assert!(parse(b"1", DuplicateKeys::Reject, 0).is_ok());
}

/// Protects members and strings.
#[test]
fn values_are_read_by_key() {
    let value = last_wins(r#"{"n":5.0,"s":"a\u00fc\n\/","o":{},"z":null}"#).unwrap();
    assert_eq!(value.get("n").and_then(Value::as_u64), Some(5));
    assert_eq!(value.get("s").and_then(Value::as_str), Some("aü\n/"));
    assert!(value.get("o").is_some_and(Value::is_object));
    assert!(value.get("z").is_some_and(Value::is_null));
    assert_eq!(value.get("missing"), None);
    assert_eq!(Value::Null.get("n"), None);
}

/// Any JSON, as the reference parser's tree.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Protects texts: what we write is what we read, and what others read.
    #[test]
    fn json_survives_a_round_trip(reference in any_json()) {
        let ours = last_wins(&reference.to_string()).unwrap();
        let text = ours.to_string();
        prop_assert_eq!(&last_wins(&text).unwrap(), &ours);
        let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(theirs, reference);
    }

    /// Protects strings of any characters.
    #[test]
    fn strings_are_escaped_as_the_grammar_demands(text in any::<String>()) {
        let mut ours = String::new();
        write_string(&text, &mut ours);
        prop_assert_eq!(&ours, &serde_json::to_string(&text).unwrap());
    }

    /// Protects comparison: it agrees with integer arithmetic on scaled decimals.
    #[test]
    fn number_comparison_agrees_with_arithmetic(
        left in -2_000_i64..2_000, left_scale in 0_u32..6,
        right in -2_000_i64..2_000, right_scale in 0_u32..6,
    ) {
        let texts = [format!("{left}e-{left_scale}"), format!("{right}e-{right_scale}")];
        let expected = left * 10_i64.pow(right_scale) == right * 10_i64.pow(left_scale);
        let [one, two] = texts.map(|text| Number::from_text(&text).unwrap());
        prop_assert_eq!(one == two, expected);
    }

    /// Protects comparison: shifting the point and padding zeros keeps the value.
    #[test]
    fn equal_numbers_are_equal_however_written(digits in "[1-9][0-9]{0,12}", shift in 0_usize..10) {
        let padded = format!("{digits}{}e-{shift}", "0".repeat(shift));
        let split = format!("0.{digits}e{}", digits.len());
        let plain = Number::from_text(&digits).unwrap();
        prop_assert_eq!(&Number::from_text(&padded).unwrap(), &plain);
        prop_assert_eq!(&Number::from_text(&split).unwrap(), &plain);
    }
}
