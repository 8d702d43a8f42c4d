use antumbra_shadow::Limits;
use proptest::prelude::*;
use serde_json::json;

use super::{Pump, names};
use crate::error::Error;
use crate::gateway::dialect::aws::Aws;
use crate::gateway::dialect::harness::{Published, World, backend, connect, device};
use crate::gateway::dialect::{
    Acknowledge, Confirm, Intent, Message, Origin, Push, Qos, Reaction, Refusal, Route, Translator,
};

const ALL: [&str; 3] = ["update/accepted", "update/delta", "update/documents"];

/// A session is sent what it subscribed to and nothing else; a subscription that is removed brings no
/// more.
#[test]
fn a_session_hears_what_it_subscribed_to() {
    let mut pump = Pump::new();
    pump.world
        .subscribe(pump.device, "$aws/things/pump/shadow/update/delta")
        .unwrap();
    pump.update(r#"{"state":{"desired":{"a":1}}}"#);
    let topics = |pump: &mut Pump| {
        let seen = pump.world.take(pump.device).into_iter();
        seen.map(|(topic, _)| topic).collect::<Vec<_>>()
    };
    assert_eq!(topics(&mut pump), ["$aws/things/pump/shadow/update/delta"]);
    pump.world
        .unsubscribe(pump.device, "$aws/things/pump/shadow/update/delta");
    pump.update(r#"{"state":{"desired":{"a":2}}}"#);
    assert_eq!(topics(&mut pump), [""; 0]);
}

/// Everybody who listens sees the answers to everybody, with the token of who asked.
#[test]
fn answers_are_public() {
    let mut world = World::default();
    let (one, two) = (
        world.join(&Aws, device("pump")),
        world.join(&Aws, device("pump")),
    );
    for filter in [
        "$aws/things/pump/shadow/get/+",
        "$aws/things/pump/shadow/update/rejected",
    ] {
        world.subscribe(one, filter).unwrap();
        world.subscribe(two, filter).unwrap();
    }
    world.publish(
        one,
        "$aws/things/pump/shadow/update",
        r#"{"clientToken":"u"}"#,
    );
    world.publish(one, "$aws/things/pump/shadow/get", r#"{"clientToken":"g"}"#);
    let seen = world.take(two);
    assert_eq!(seen, world.take(one));
    assert_eq!(
        (&seen[0].1["clientToken"], &seen[1].1["clientToken"]),
        (&json!("u"), &json!("g"))
    );
}

/// Named shadows have topics of their own; the classic shadow does not hear of them.
#[test]
fn named_shadows_are_apart() {
    let mut world = World::default();
    let pump = world.join(&Aws, device("pump"));
    world
        .subscribe(pump, "$aws/things/pump/shadow/update/#")
        .unwrap();
    world
        .subscribe(pump, "$aws/things/pump/shadow/name/config/update/#")
        .unwrap();
    let update = r#"{"state":{"desired":{"a":1}}}"#;
    world.publish(pump, "$aws/things/pump/shadow/name/other/update", update);
    assert_eq!(world.take(pump), []);
    world.publish(pump, "$aws/things/pump/shadow/name/config/update", update);
    let seen = world.take(pump);
    let prefix = "$aws/things/pump/shadow/name/config/";
    assert_eq!(names(&seen), ALL.map(|end| format!("{prefix}{end}")));
    world.publish(pump, "$aws/things/pump/shadow/update", update);
    assert_eq!(world.take(pump).len(), 3);
}

/// A backend follows the fleet by one filter, and writes to any device.
#[test]
fn a_backend_reaches_across_devices() {
    let mut world = World::default();
    let cloud = world.join(&Aws, backend());
    let valve = world.join(&Aws, device("valve"));
    world
        .subscribe(cloud, "$aws/things/+/shadow/update/accepted")
        .unwrap();
    world
        .subscribe(valve, "$aws/things/valve/shadow/update/delta")
        .unwrap();
    let update = r#"{"state":{"desired":{"a":1}}}"#;
    world.publish(cloud, "$aws/things/valve/shadow/update", update);
    world.publish(cloud, "$aws/things/pump/shadow/update", update);
    let topics = world.take(cloud).into_iter().map(|(topic, _)| topic);
    let expected = ["valve", "pump"].map(|id| format!("$aws/things/{id}/shadow/update/accepted"));
    assert_eq!(topics.collect::<Vec<_>>(), expected);
    assert_eq!(world.take(valve).len(), 1);
}

/// A change through another door is told like one through a topic.
#[test]
fn changes_of_other_doors_are_told() {
    let mut pump = Pump::new();
    pump.world.change("pump", r#"{"a":1}"#);
    let seen = pump.world.take(pump.backend);
    assert_eq!(
        names(&seen),
        ALL.map(|end| format!("$aws/things/pump/shadow/{end}"))
    );
}

/// What is left to do is pushed to a device that comes back, as a delta without a token; nothing when
/// nothing is left, or when it does not listen.
#[test]
fn a_device_that_comes_back_gets_its_delta() {
    let mut world = World::default();
    world.change("pump", r#"{"a":1}"#);
    let pump = world.join(&Aws, device("pump"));
    world.catch_up(pump, "pump", 0);
    assert_eq!(world.take(pump), [], "not subscribed");
    world
        .subscribe(pump, "$aws/things/pump/shadow/update/delta")
        .unwrap();
    world.catch_up(pump, "pump", 1);
    let seen = world.take(pump);
    assert_eq!(seen[0].0, "$aws/things/pump/shadow/update/delta");
    assert_eq!(
        seen[0].1,
        json!({"version": 1, "timestamp": 1_700_000_001, "state": {"a": 1},
            "metadata": {"a": {"timestamp": 1_700_000_001}}})
    );
    world.publish(
        pump,
        "$aws/things/pump/shadow/update",
        r#"{"state":{"reported":{"a":1}}}"#,
    );
    world.take(pump);
    world.catch_up(pump, "pump", 1);
    assert_eq!(world.take(pump), []);
}

/// Only the delta to the device itself is a delivery; it has QoS 1 and waits for its PUBACK.
#[test]
fn the_delta_to_the_device_is_a_push() {
    let mut pump = Pump::new();
    pump.world
        .subscribe(pump.device, "$aws/things/pump/shadow/update/#")
        .unwrap();
    pump.world.change("pump", r#"{"a":1}"#);
    let sent = pump.world.take_publishes(pump.device);
    let pushes: Vec<_> = sent.iter().map(|publish| publish.push).collect();
    let push = Push {
        version: 1,
        part: 0,
        confirm: Confirm::Puback,
    };
    assert_eq!(pushes, [None, Some(push), None]);
    assert!(sent.iter().all(|publish| publish.qos == Qos::AtLeastOnce));
    assert!(
        sent.iter()
            .all(|publish| matches!(publish.route, Route::Shadow(_)))
    );
    let seen = pump.world.take_publishes(pump.backend);
    assert!(seen.iter().all(|publish| publish.push.is_none()));
}

/// Failures of ours have the code and text of the service.
#[test]
fn failures_are_rejections_on_the_topic() {
    let table = [
        (Error::Overloaded, 429, "Too many requests"),
        (Error::Unavailable("no leader"), 503, "Service unavailable"),
        (Error::OutcomeUnknown, 500, "Internal service failure"),
        (Error::PermissionDenied, 403, "Forbidden"),
    ];
    for (error, code, text) in table {
        let mut pump = Pump::new();
        pump.world.fault = Some(error);
        let seen = pump.update(r#"{"state":{},"clientToken":"t"}"#);
        assert_eq!(names(&seen), ["update/rejected"]);
        assert_eq!(seen[0].1["code"], code);
        assert_eq!(seen[0].1["message"], text);
        assert_eq!(seen[0].1["clientToken"], "t");
    }
}

/// Reserved topics that are not served are granted, acknowledged and dropped: firmware that is refused
/// connects again and again.
#[test]
fn reserved_topics_are_granted_and_dropped() {
    let mut world = World::default();
    let pump = world.join(&Aws, device("pump"));
    for filter in [
        "$aws/things/pump/jobs/notify-next",
        "$aws/things/pump/jobs/#",
        "$aws/things/pump/jobs/+/update/accepted",
        "$aws/things/pump/tunnels/notify",
        "$aws/things/pump/shadow/name//update/delta",
        "$aws/certificates/create/json/accepted",
        "$aws/provisioning-templates/t/provision/json/+",
    ] {
        assert_eq!(world.subscribe(pump, filter), Ok(()), "{filter}");
    }
    for (topic, family) in [
        ("$aws/things/pump/jobs/start-next", "jobs"),
        ("$aws/things/pump/defender/metrics/json", "defender"),
        ("$aws/things/pump/shadow/update/accepted", "shadow"),
        ("$aws/things/pump/shadow/name/a/b/c/d/e/f/g", "shadow"),
        ("$aws/things/pump/shadow/name//update", "shadow"),
        ("$aws/things/pump/unknown/x", "other"),
        ("$aws/things/pump", "other"),
        ("$aws/rules/my_rule/a/b", "rules"),
        ("$aws/events/presence/connected/pump", "events"),
        ("$aws", "other"),
    ] {
        let published = world.publish(pump, topic, "{");
        assert_eq!(published, Published::Ignored(family), "{topic}");
    }
    assert_eq!(world.take(pump), []);
}

/// Topics between clients pass through; a device has its own branch, a backend all of them.
#[test]
fn plain_topics_pass_by_role() {
    let mut world = World::default();
    let pump = world.join(&Aws, device("pump"));
    let cloud = world.join(&Aws, backend());
    world.subscribe(cloud, "#").unwrap();
    world.subscribe(pump, "device/pump/#").unwrap();
    let forwarded = Published::Forwarded;
    assert_eq!(world.publish(pump, "device/pump/telemetry", "7"), forwarded);
    assert_eq!(world.publish(cloud, "device/pump/command", "8"), forwarded);
    assert_eq!(world.take(cloud).len(), 2);
    assert_eq!(world.take(pump).len(), 2);
    let refused = Published::Refused(Refusal::NotAuthorized);
    assert_eq!(world.publish(pump, "device/valve/command", "9"), refused);
    world.publish(pump, "$aws/things/pump/shadow/update", r#"{"state":{}}"#);
    assert_eq!(
        world.take(cloud),
        [],
        "the root wildcard does not match reserved topics"
    );
}

proptest! {
    /// A token is echoed letter by letter, whatever letters it has.
    #[test]
    fn any_token_is_echoed(token in "\\PC{0,16}|[\u{0}-\u{20}\"\\\\]{0,8}") {
        let mut pump = Pump::new();
        let message = json!({"state": {"desired": {"a": 1}}, "clientToken": token});
        for (topic, payload) in pump.update(&message.to_string()) {
            prop_assert_eq!(&payload["clientToken"], &token, "{}", topic);
        }
        let message = json!({"clientToken": token}).to_string();
        prop_assert_eq!(&pump.send("get", &message)[0].1["clientToken"], &token);
    }
}

fn receive(topic: &str, payload: &str, origin: Origin) -> Reaction {
    let mut translator = Translator::open(&Aws, &connect(), device("pump"), &[]);
    let message = Message {
        topic,
        payload: payload.as_bytes(),
        qos: Qos::AtLeastOnce,
        origin,
    };
    translator.receive(&Limits::default(), &message)
}

/// A change is acknowledged when its outcome is certain, and not before; what changes nothing, at once.
#[test]
fn a_change_is_acknowledged_after_its_outcome() {
    let table = [
        ("$aws/things/pump/shadow/update", Acknowledge::Outcome),
        (
            "$aws/things/pump/shadow/name/x/update",
            Acknowledge::Outcome,
        ),
        ("$aws/things/pump/shadow/delete", Acknowledge::Outcome),
        ("$aws/things/pump/shadow/get", Acknowledge::Now),
        ("$aws/things/pump/jobs/get", Acknowledge::Now),
        ("device/pump/x", Acknowledge::Now),
    ];
    for (topic, acknowledge) in table {
        let reaction = receive(topic, r#"{"state":{}}"#, Origin::Publish);
        assert_eq!(reaction.acknowledge, acknowledge, "{topic}");
    }
}

/// The service takes no wills on its topics.
#[test]
fn a_will_changes_no_shadow() {
    let will = |topic| receive(topic, r#"{"state":{}}"#, Origin::Will);
    assert_eq!(
        will("$aws/things/pump/shadow/update"),
        Reaction::ignore("will")
    );
    assert_eq!(will("device/pump/gone"), Reaction::now(Intent::Forward));
}
