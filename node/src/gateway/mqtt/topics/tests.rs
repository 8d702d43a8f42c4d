use proptest::prelude::*;

use super::*;

/// Section 4.7 says what is well formed; each case is one sentence of it.
#[test]
fn accepts_and_refuses_names_by_the_specification() {
    for good in [
        "a",
        "/",
        "a/b",
        "/a",
        "a/",
        "a b",
        "$aws/things/x",
        "é",
        "a//b",
        "?x=1&$",
    ] {
        assert_eq!(check_name(good), Ok(()), "{good:?}");
    }
    for (bad, error) in [
        ("", Error::Empty),
        ("a\0b", Error::Null),
        ("a/+/b", Error::WildcardInName),
        ("a#", Error::WildcardInName),
    ] {
        assert_eq!(check_name(bad), Err(error), "{bad:?}");
    }
    assert_eq!(check_name(&"a".repeat(65_536)), Err(Error::TooLong));
}

/// Wildcards stand alone in their level, and `#` is last.
#[test]
fn accepts_and_refuses_filters_by_the_specification() {
    for good in [
        "#",
        "+",
        "a/#",
        "+/+/#",
        "/+",
        "+/",
        "a/+/b",
        "$share/g/a/#",
        "$share",
        "$x/#",
    ] {
        assert_eq!(check_filter(good), Ok(()), "{good:?}");
    }
    for (bad, error) in [
        ("", Error::Empty),
        ("a\0", Error::Null),
        ("#/a", Error::WildcardMisplaced),
        ("a/#/b", Error::WildcardMisplaced),
        ("a#", Error::WildcardMisplaced),
        ("a/b+", Error::WildcardMisplaced),
        ("a/++", Error::WildcardMisplaced),
        ("##", Error::WildcardMisplaced),
        ("$share/", Error::SharedIncomplete),
        ("$share/g", Error::SharedIncomplete),
        ("$share/g/", Error::SharedIncomplete),
        ("$share//a", Error::SharedIncomplete),
        ("$share/+/a", Error::WildcardMisplaced),
        ("$share/g/a#", Error::WildcardMisplaced),
    ] {
        assert_eq!(check_filter(bad), Err(error), "{bad:?}");
    }
}

/// The longest shadow topics of AWS IoT must fit the default limits, one level more must not.
#[test]
fn default_limits_fit_named_shadows_exactly() {
    let limits = TopicLimits::default();
    let thing = "t".repeat(128);
    let shadow = "s".repeat(64);
    let topic = format!("$aws/things/{thing}/shadow/name/{shadow}/update/documents");
    assert_eq!(check_limits(&topic, &limits), Ok(()));
    assert_eq!(
        check_limits(&format!("{topic}/x"), &limits),
        Err(Error::TooDeep)
    );
    assert_eq!(check_limits(&"a".repeat(256), &limits), Ok(()));
    assert_eq!(check_limits(&"a".repeat(257), &limits), Err(Error::TooLong));
}

/// The examples of section 4.7.
#[test]
fn matches_the_examples_of_the_specification() {
    for (filter, name) in [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon",
        ),
        ("sport/#", "sport"),
        ("#", "a/b"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("$SYS/#", "$SYS/monitor"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("+", "a"),
    ] {
        assert!(matches(filter, name), "{filter} covers {name}");
    }
    for (filter, name) in [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/monitor"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("a/b", "A/b"),
        ("a/b", "a/b/"),
        ("a", "b"),
        ("$share/g/a", "a"),
    ] {
        assert!(!matches(filter, name), "{filter} does not cover {name}");
    }
}

/// A matcher that tries every way, level by level.
fn naive(filter: &[&str], name: &[&str], first: bool) -> bool {
    match (filter.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((&"#", _)), None) => true,
        (Some((&"#", _)), Some((level, rest))) => {
            !(first && level.starts_with('$')) && (rest.is_empty() || naive(filter, rest, false))
        }
        (Some((&"+", filters)), Some((level, names))) => {
            !(first && level.starts_with('$')) && naive(filters, names, false)
        }
        (Some((wanted, filters)), Some((level, names))) => {
            wanted == level && naive(filters, names, false)
        }
        _ => false,
    }
}

fn levels(options: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(options), 1..6).prop_map(|levels| levels.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_global_rejects: 1_000_000,
        ..ProptestConfig::with_cases(20_000)
    })]

    /// Matching agrees with the naive matcher on every well-formed pair.
    #[test]
    fn matching_agrees_with_a_naive_matcher(
        filter in levels(&["a", "b", "", "+", "#", "$s"]),
        name in levels(&["a", "b", "", "$s"]),
    ) {
        prop_assume!(check_filter(&filter).is_ok() && check_name(&name).is_ok());
        let filters: Vec<&str> = filter.split('/').collect();
        let names: Vec<&str> = name.split('/').collect();
        prop_assert_eq!(matches(&filter, &name), naive(&filters, &names, true));
    }

    /// A name is a filter that covers itself, and no text makes the checks panic.
    #[test]
    fn a_name_covers_itself(name in "[a-c/$+#\0é]{0,12}") {
        let is_filter = check_filter(&name);
        if check_name(&name).is_ok() && !is_shared(&name) {
            prop_assert!(is_filter.is_ok());
            prop_assert!(matches(&name, &name));
        }
    }
}

/// A shared subscription is not served, so it must not bring anything either; found by fuzzing.
#[test]
fn shared_filter_covers_nothing() {
    assert!(!matches("$share/g/a", "$share/g/a"));
    assert!(!matches("$share/g/+", "$share/g/a"));
    assert!(matches("$shared/g", "$shared/g"));
}
