use proptest::prelude::*;

use super::*;

fn entry(filter: &str, qos: Qos, identifier: u32) -> Subscription<'_> {
    Subscription {
        filter,
        qos,
        no_local: false,
        identifier: NonZeroU32::new(identifier),
    }
}

/// One filter is there once, in its first place, as it was last subscribed.
#[test]
fn insert_replaces() {
    let mut all = Subscriptions::default();
    all.insert(entry("a", Qos::AtMostOnce, 0));
    all.insert(entry("b", Qos::AtMostOnce, 0));
    all.insert(entry("a", Qos::AtLeastOnce, 9));
    let list: Vec<_> = all.iter().collect();
    assert_eq!(
        list,
        [
            entry("a", Qos::AtLeastOnce, 9),
            entry("b", Qos::AtMostOnce, 0)
        ]
    );
    assert!(all.remove("a") && !all.remove("a"));
    assert_eq!(all.len(), 1);
}

/// A message goes out once, with the highest QoS and all identifiers of what it matches.
#[test]
fn route_joins_overlapping_subscriptions() {
    let mut all = Subscriptions::default();
    all.insert(entry("a/#", Qos::AtMostOnce, 1));
    all.insert(entry("a/+", Qos::AtLeastOnce, 0));
    all.insert(entry("a/b", Qos::AtMostOnce, 2));
    all.insert(entry("c", Qos::AtLeastOnce, 3));
    let identifiers = [1, 2]
        .map(|number| NonZeroU32::new(number).unwrap())
        .to_vec();
    let route = Route {
        qos: Qos::AtLeastOnce,
        identifiers,
    };
    assert_eq!(all.route("a/b", Origin::Other), Some(route));
    assert_eq!(all.route("d", Origin::Other), None);
}

/// Golden bytes: this form is stored and sent to other nodes.
#[test]
fn stored_form() {
    let mut all = Subscriptions::default();
    all.insert(entry("a/+", Qos::AtLeastOnce, 0));
    all.insert(Subscription {
        no_local: true,
        ..entry("b", Qos::AtMostOnce, 258)
    });
    let bytes = [0, 3, 1, b'a', b'/', b'+', 0, 1, 6, 0, 0, 1, 2, b'b'];
    assert_eq!(all.as_bytes(), bytes);
    assert_eq!(Subscriptions::from_bytes(&bytes), Ok(all));
}

/// Damaged bytes are refused, whatever the damage.
#[test]
fn damaged_bytes_are_refused() {
    for bytes in [
        &[0][..],
        &[0, 1, 1],
        &[0, 2, 1, b'a'],
        &[0, 0, 1],
        &[0, 1, 8, b'a'],
        &[0, 1, 4, 0, 0, 0, 0, b'a'],
        &[0, 1, 4, 0, 0, 0],
        &[0, 1, 4, 0x10, 0, 0, 0, b'a'],
        &[0, 1, 0, 0xFF],
        &[0, 2, 0, b'#', b'a'],
        &[0, 1, 0, b'a', 0],
    ] {
        assert_eq!(Subscriptions::from_bytes(bytes), Err(Damaged), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Agrees with a list of pairs after any inserts and removals, and survives storing.
    #[test]
    fn agrees_with_a_list(
        steps in prop::collection::vec((any::<bool>(), "[ab]{1,2}", 0..3_u32), 0..30),
    ) {
        let mut all = Subscriptions::default();
        let mut list: Vec<(String, u32)> = Vec::new();
        for (insert, filter, number) in steps {
            let known = list.iter().position(|(name, _)| *name == filter);
            if insert {
                all.insert(entry(&filter, Qos::AtLeastOnce, number));
                match known {
                    Some(index) => list[index].1 = number,
                    None => list.push((filter, number)),
                }
            } else {
                prop_assert_eq!(all.remove(&filter), known.is_some());
                known.map(|index| list.remove(index));
            }
        }
        let found: Vec<_> = all
            .iter()
            .map(|entry| (entry.filter.to_string(), entry.identifier.map_or(0, NonZeroU32::get)))
            .collect();
        prop_assert_eq!(found, list);
        prop_assert_eq!(Subscriptions::from_bytes(all.as_bytes()), Ok(all));
    }

    /// No bytes make it panic.
    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(all) = Subscriptions::from_bytes(&bytes) {
            prop_assert!(all.len() <= bytes.len());
        }
    }
}
