#![allow(clippy::unwrap_used)]

use super::*;

fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

fn grant(device_id: &str, channels: &[Channel]) -> Vec<Grant> {
    let channels = channels.iter().copied().collect();
    vec![Grant::Shadows(ShadowGrant::of_device(
        device(device_id),
        channels,
    ))]
}

/// Protects the memory of a million idle sessions: the set has two records, without any filter text.
#[test]
fn a_subscription_is_small() {
    assert!(size_of::<Entry>() <= 72, "{}", size_of::<Entry>());
}

/// Protects a client with overlapping filters: one message, with the best QoS; and what is left when one
/// of them is removed.
#[test]
fn overlapping_filters_bring_the_best_qos() {
    let (pump, classic) = (device("pump"), ShadowName::classic());
    let mut set = Subscriptions::default();
    let delta = grant("pump", &[Channel::Desired]);
    assert_eq!(
        set.add("one", delta.clone(), Qos::AtMostOnce),
        Before::Absent
    );
    assert_eq!(
        set.qos(&pump, &classic, Channel::Desired),
        Some(Qos::AtMostOnce)
    );
    set.add("two", delta.clone(), Qos::AtLeastOnce);
    assert_eq!(
        set.qos(&pump, &classic, Channel::Desired),
        Some(Qos::AtLeastOnce)
    );
    assert_eq!(set.filters(), 2);
    assert_eq!(set.remove("two"), Before::Present);
    assert_eq!(
        set.qos(&pump, &classic, Channel::Desired),
        Some(Qos::AtMostOnce)
    );
    assert_eq!(set.remove("two"), Before::Absent);
    assert_eq!(set.qos(&pump, &classic, Channel::Documents), None);
    assert_eq!(set.qos(&device("other"), &classic, Channel::Desired), None);
}

/// A filter that is subscribed to again replaces itself, also with a lower QoS, and also when it brings
/// nothing.
#[test]
fn the_same_filter_replaces_itself() {
    let (pump, classic) = (device("pump"), ShadowName::classic());
    let mut set = Subscriptions::default();
    set.add_implicit(grant("pump", &[Channel::ReadAccepted]), Qos::AtLeastOnce);
    let delta = grant("pump", &[Channel::Desired]);
    set.add("one", delta.clone(), Qos::AtLeastOnce);
    assert_eq!(set.add("one", delta, Qos::AtMostOnce), Before::Present);
    assert_eq!(
        set.qos(&pump, &classic, Channel::Desired),
        Some(Qos::AtMostOnce)
    );
    assert_eq!(set.add("one", Vec::new(), Qos::AtMostOnce), Before::Present);
    assert_eq!(
        set.filters(),
        1,
        "what brings nothing counts, what is implicit does not"
    );
    let wanted: Vec<_> = set.wanted(&pump, &classic).iter().collect();
    assert_eq!(wanted, [Channel::ReadAccepted]);
    assert_eq!(set.remove("one"), Before::Present);
}

/// Protects the leader's table: it gets bit sets, and names only where they add something.
#[test]
fn an_attachment_has_each_channel_once() {
    let (config, other) = (
        ShadowName::parse("config").unwrap(),
        ShadowName::parse("other").unwrap(),
    );
    let of_name = |name: &ShadowName, channel: Channel| {
        Grant::Shadows(ShadowGrant {
            devices: Devices::One(device("pump")),
            classic: Channels::NONE,
            named: [channel].into_iter().collect(),
            names: Names::One(name.clone()),
        })
    };
    let mut set = Subscriptions::default();
    set.add("one", grant("pump", &[Channel::Desired]), Qos::AtLeastOnce);
    set.add(
        "two",
        grant("valve", &[Channel::Documents]),
        Qos::AtLeastOnce,
    );
    set.add(
        "three",
        vec![of_name(&config, Channel::Desired)],
        Qos::AtLeastOnce,
    );
    set.add(
        "four",
        vec![of_name(&other, Channel::Documents)],
        Qos::AtLeastOnce,
    );
    set.add(
        "five",
        vec![of_name(&other, Channel::ReadAccepted)],
        Qos::AtLeastOnce,
    );
    let desired: Channels = [Channel::Desired].into_iter().collect();
    let attachment = set.attachment(&device("pump"));
    assert_eq!((attachment.classic, attachment.named), (desired, desired));
    let extra = [Channel::Documents, Channel::ReadAccepted]
        .into_iter()
        .collect();
    assert_eq!(attachment.names, [(other, extra)]);
    assert!(!set.crosses_devices());
}
