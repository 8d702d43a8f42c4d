#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Protects the door against texts that later code would take for topics.
#[test]
fn names_and_filters_are_checked_as_in_the_standard() {
    for name in ["a", "/", "a/b", "$aws/x", "a//b", "ü/€", " ", "a%2Fb"] {
        assert_eq!(check_name(name), Ok(()), "{name}");
        assert_eq!(check_filter(name), Ok(()), "{name}");
    }
    for filter in ["#", "+", "a/#", "+/+", "a/+/b", "/#", "+/#"] {
        assert_eq!(check_name(filter), Err(TopicError::Wildcard), "{filter}");
        assert_eq!(check_filter(filter), Ok(()), "{filter}");
    }
    for wrong in [
        "a#", "a/#/b", "#/", "##", "a+", "+a/b", "++", "a/b+/c", "a/#b",
    ] {
        assert_eq!(check_filter(wrong), Err(TopicError::Wildcard), "{wrong}");
    }
    assert_eq!(check_name(""), Err(TopicError::Empty));
    assert_eq!(check_filter(""), Err(TopicError::Empty));
    assert_eq!(check_filter("a/\0"), Err(TopicError::Nul));
    assert_eq!(check_name(&"x".repeat(TOPIC_BYTES_MAX)), Ok(()));
    assert_eq!(
        check_name(&"x".repeat(TOPIC_BYTES_MAX + 1)),
        Err(TopicError::TooLong)
    );
}

/// Protects the matcher that others are held against: the examples of MQTT 5.0, section 4.7.
#[test]
fn filters_match_as_in_the_standard() {
    let table = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        ("sport/tennis/player1/#", "sport/tennis/player12", false),
        ("sport/#", "sport", true),
        ("#", "a/b", true),
        ("#", "$SYS/x", false),
        ("+/monitor", "$SYS/monitor", false),
        ("$SYS/#", "$SYS/monitor", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("a/b", "A/b", false),
    ];
    for (filter, name, expected) in table {
        assert_eq!(matches(filter, name), expected, "{filter} {name}");
    }
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "$x", "+"])
}

fn filter() -> impl Strategy<Value = String> {
    let levels = prop::collection::vec(level(), 1..5);
    (levels, any::<bool>()).prop_map(|(levels, open)| {
        let text = levels.join("/");
        if open { format!("{text}/#") } else { text }
    })
}

fn name() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "$x", "c"]);
    prop::collection::vec(level, 1..6).prop_map(|levels| levels.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Protects roles: a filter that is allowed reaches nothing that the rule does not.
    #[test]
    fn a_covered_filter_matches_no_more(allowed in filter(), wanted in filter(), name in name()) {
        if covers(allowed.split('/'), &wanted) && matches(&wanted, &name) {
            prop_assert!(matches(&allowed, &name), "{allowed} {wanted} {name}");
        }
    }

    /// A filter covers itself, and every name that it matches.
    #[test]
    fn a_filter_covers_what_it_matches(filter in filter(), name in name()) {
        let root = filter.starts_with('+') || filter.starts_with('#');
        prop_assert!(covers(filter.split('/'), &filter) || root);
        prop_assert_eq!(covers(filter.split('/'), &name), matches(&filter, &name));
    }
}
