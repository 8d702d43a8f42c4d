//! A device can touch only its own shadows (invariant 14), by no topic and no filter.

use std::sync::Arc;

use antumbra_shadow::{DeviceId, Limits, ShadowName};
use proptest::prelude::*;

use crate::gateway::dialect::aws::Aws;
use crate::gateway::dialect::harness::{backend, connect, device};
use crate::gateway::dialect::topic::{TOPIC_BYTES_MAX, matches};
use crate::gateway::dialect::{
    DeviceScope, Grant, Identity, Intent, Message, Origin, Qos, Refusal, Role, ShadowRule,
    TopicRule, Translator, Verb,
};

fn translator(identity: Identity) -> Translator {
    Translator::open(&Aws, &connect(), identity, &[])
}

fn receive(translator: &mut Translator, topic: &str) -> Vec<Intent> {
    let message = Message {
        topic,
        payload: br#"{"state":{"desired":{"a":1}}}"#,
        qos: Qos::AtLeastOnce,
        origin: Origin::Publish,
    };
    translator.receive(&Limits::default(), &message).intents
}

/// The tricks of `security.md`, by name.
#[test]
fn known_tricks_reach_nobody_else() {
    let mut pump = translator(device("pump"));
    let long = "x".repeat(TOPIC_BYTES_MAX);
    for topic in [
        "$aws/things/valve/shadow/update",
        "$aws/things/valve/shadow/name/config/get",
        "$aws/things/valve/shadow/update/accepted",
        "$aws/things/valve/jobs/start-next",
        "$aws/things/+/shadow/update",
        "$aws/things/#",
        "$aws/things/pump/../valve/shadow/update",
        "$aws/things/pump%2F..%2Fvalve/shadow/update",
        "$aws/things/%70ump/shadow/update",
        "$aws/things/PUMP/shadow/update",
        "$aws/things/pump /shadow/update",
        "$aws/things/pump\0/shadow/update",
        "$aws/things/рump/shadow/update",
        "$aws/things/pump\u{200b}/shadow/update",
        "$aws/things//shadow/update",
        "$aws/things/pump2/shadow/update",
        "$aws/things/pum/shadow/update",
        "$share/g/$aws/things/valve/shadow/update",
        "$SYS/broker/x",
        "device/valve/x",
        "device",
        "x",
        "/",
        "",
        &format!("$aws/things/pump/shadow/{long}"),
    ] {
        let intents = receive(&mut pump, topic);
        assert!(
            matches!(intents[..], [Intent::Refuse(_) | Intent::Ignore { .. }]),
            "{topic}: {intents:?}"
        );
    }
    for filter in [
        "#",
        "+",
        "+/#",
        "+/+/+/+/+/+",
        "/#",
        "$aws/#",
        "$aws/+/#",
        "$aws/things/#",
        "$aws/things/+/shadow/#",
        "$aws/things/+/shadow/update/delta",
        "$aws/things/valve/#",
        "$aws/things/valve/jobs/#",
        "$aws/+/valve/shadow/get/accepted",
        "$aws/+/+/shadow/#",
        "$aws/things/pump2/shadow/#",
        "$aws/things/+/jobs/#",
        "$aws/things/+",
        "$aws/+/+/jobs/get",
        "$aws/things/pu mp/jobs/#",
        "$aws/things//shadow/#",
        "$aws/things/%70ump/shadow/#",
        "$aws/events/presence/#",
        "$aws/events/presence/connected/pump",
        "$aws/events/#",
        "$aws/+/presence/connected/+",
        "device/#",
        "device/+/x",
        "device/valve/#",
        "$SYS/#",
        "$+/#",
    ] {
        assert!(pump.subscribe(filter).is_err(), "{filter}");
    }
    for shared in [
        "$share/g/device/pump/x",
        "$share/g/$aws/things/pump/shadow/#",
        "$share",
    ] {
        assert_eq!(
            pump.subscribe(shared),
            Err(Refusal::SharedSubscription),
            "{shared}"
        );
    }
    for invalid in [
        "",
        "device/pump/#/x",
        "device/pump/a#",
        "a\0",
        &long.repeat(2),
    ] {
        assert_eq!(pump.subscribe(invalid), Err(Refusal::InvalidTopic));
    }
}

/// Topics of another thing are refused, also those that do nothing.
#[test]
fn topics_of_another_thing_are_refused() {
    let mut pump = translator(device("pump"));
    for end in [
        "shadow/get",
        "shadow/update/accepted",
        "shadow/x",
        "jobs/get",
        "x",
    ] {
        for thing in ["valve", "pu mp", "%70ump", ""] {
            let topic = format!("$aws/things/{thing}/{end}");
            let refused = [Intent::Refuse(Refusal::NotAuthorized)];
            assert_eq!(receive(&mut pump, &topic), refused, "{topic}");
        }
    }
}

/// Backends have what their role lists, verb by verb and prefix by prefix.
#[test]
fn a_role_is_kept_by_verb_and_prefix() {
    let role = Role {
        shadows: vec![ShadowRule {
            verbs: vec![Verb::Read, Verb::Update],
            devices: DeviceScope::Prefix("site1-".into()),
        }],
        topics: vec![TopicRule {
            filter: "site1/+/command".into(),
            publish: true,
            subscribe: false,
        }],
        presence: false,
    };
    let mut operator = translator(Identity {
        role: Arc::new(role),
        ..backend()
    });
    let refused = vec![Intent::Refuse(Refusal::NotAuthorized)];
    let mut allowed = |topic: &str| receive(&mut operator, topic) != refused;
    assert!(allowed("$aws/things/site1-pump/shadow/update"));
    assert!(allowed("$aws/things/site1-pump/shadow/name/x/get"));
    assert!(!allowed("$aws/things/site1-pump/shadow/delete"));
    assert!(!allowed("$aws/things/site2-pump/shadow/update"));
    assert!(!allowed("$aws/things/site2-pump/jobs/x"));
    assert!(allowed("site1/7/command"));
    assert!(!allowed("site1/7/8/command"));
    assert!(
        operator
            .subscribe("$aws/things/site1-pump/shadow/#")
            .is_ok()
    );
    for filter in [
        "$aws/things/+/shadow/#",
        "site1/+/command",
        "$aws/events/presence/#",
    ] {
        assert_eq!(
            operator.subscribe(filter),
            Err(Refusal::NotAuthorized),
            "{filter}"
        );
    }
}

/// A rule that is no filter would allow more than it says.
#[test]
fn a_role_with_a_wrong_filter_is_refused() {
    let mut role = Role::device();
    assert_eq!(role.check(), Ok(()));
    assert_eq!(Role::backend().check(), Ok(()));
    role.topics[0].filter = "device/#/{me}".into();
    assert!(role.check().is_err());
}

/// A rule about the own device is nothing to a client that is none.
#[test]
fn a_rule_about_oneself_needs_a_device() {
    let role = Arc::new(Role::device());
    let mut nobody = translator(Identity { role, ..backend() });
    for topic in [
        "device/pump/x",
        "device/{me}/x",
        "device//x",
        "$aws/things/pump/shadow/get",
    ] {
        let refused = [Intent::Refuse(Refusal::NotAuthorized)];
        assert_eq!(receive(&mut nobody, topic), refused, "{topic}");
        assert!(nobody.subscribe(topic).is_err(), "{topic}");
    }
}

/// A session that is granted something about itself keeps one copy of its name.
#[test]
fn the_own_name_is_shared() {
    let identity = device("pump");
    let own = identity.device.clone().unwrap();
    let grants = translator(identity)
        .subscribe("$aws/things/pump/shadow/#")
        .unwrap();
    let Grant::Shadows(grant) = &grants[0] else {
        panic!("{grants:?}")
    };
    let crate::gateway::dialect::Devices::One(granted) = &grant.devices else {
        panic!("{grant:?}")
    };
    assert!(std::ptr::eq(granted.as_str(), own.as_str()));
}

fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "$aws", "things", "pump", "valve", "shadow", "name", "config", "get", "update", "delete",
            "accepted", "delta", "documents", "jobs", "events", "presence", "device", "+", "#", "", "..",
            "%2F", "pump%00", "$share", "{me}", "pu", "pumpx", "рump",
        ]).prop_map(str::to_owned),
        1 => "[\\PC/]{0,6}",
        1 => "[a-z+#$%/]{0,4}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec![
        "",
        "$aws/",
        "$aws/things/",
        "$aws/things/valve/shadow/",
        "$aws/things/pump/",
        "device/",
        "$aws/things/pump/shadow/name/",
        "$aws/events/presence/",
    ]);
    let levels = prop::collection::vec(level(), 0..8);
    let tail = prop_oneof![9 => Just(0_usize), 1 => 200_usize..1_200];
    (start, levels, tail).prop_map(|(start, levels, tail)| {
        format!("{start}{}{}", levels.join("/"), "x".repeat(tail))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40_000))]

    /// Whatever a device publishes to, it changes or reads itself or nobody.
    #[test]
    fn a_device_reaches_only_itself_by_topics(topic in text()) {
        let own = DeviceId::parse("pump").unwrap();
        for intent in receive(&mut translator(device("pump")), &topic) {
            match intent {
                Intent::Read { target, .. }
                | Intent::Answer { target, .. }
                | Intent::Delivered { target, .. } => prop_assert_eq!(&target.device, &own),
                Intent::Change { device, .. } => prop_assert_eq!(&device, &own),
                Intent::Forward => prop_assert!(topic.starts_with("device/pump"), "{topic}"),
                Intent::Ignore { .. } | Intent::Refuse(_) | Intent::Send(_) => {}
            }
        }
    }

    /// Whatever a device subscribes to, it hears of itself or nobody.
    #[test]
    fn a_device_hears_only_of_itself(filter in text()) {
        let Ok(grants) = translator(device("pump")).subscribe(&filter) else {
            return Ok(());
        };
        let valve = DeviceId::parse("valve").unwrap();
        for grant in grants {
            match grant {
                Grant::Shadows(grant) => for shadow in ["", "config", "name", "get"] {
                    let shadow = ShadowName::parse(shadow).unwrap();
                    prop_assert!(grant.channels(&valve, &shadow).is_empty(), "{filter}");
                },
                Grant::Presence(_) => prop_assert!(false, "{filter}"),
                Grant::Topics(granted) => {
                    for topic in ["device/valve/x", "x", "/", "a/b/c", "device", "$aws/things/valve/shadow/get"] {
                        prop_assert!(!matches(&granted, topic), "{filter}");
                    }
                }
            }
        }
        prop_assert!(!matches(&filter, "$aws/things/valve/shadow/update/delta"));
        prop_assert!(!matches(&filter, "$aws/things/valve/jobs/notify"));
    }
}
