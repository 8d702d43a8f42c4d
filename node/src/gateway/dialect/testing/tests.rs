#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::Error;
use crate::gateway::dialect::aws::Aws;
use crate::gateway::dialect::harness::{Published, World, backend, connect, device};

use super::*;

/// The credential is the whole identity: no client id, no device name, and no other dialect takes it.
#[test]
fn a_token_names_the_device() {
    let dialects = Dialects::new(vec![Arc::new(TestDialect), Arc::new(Aws)]);
    let client = Connect {
        username: Some("token=secret"),
        ..connect()
    };
    let chosen = dialects.choose(&client).unwrap();
    assert_eq!(chosen.name(), "test");
    let claims = chosen.claims(&client).unwrap();
    assert_eq!((claims.device, &*claims.client_id), (None, ""));
    assert_eq!(claims.proof, Proof::Token(b"secret"[..].into()));
    assert!(!format!("{:?} {client:?}", claims.proof).contains("secret\""));
    assert_eq!(dialects.choose(&connect()).unwrap().name(), "aws");
}

/// Implicit subscription and patch push: without a SUBSCRIBE the device is sent what was applied, with
/// its nulls, and not what is left to do.
#[test]
fn a_change_of_desired_is_pushed_as_the_patch() {
    let mut world = World::default();
    let pump = world.join(&TestDialect, device("pump"));
    world.change("pump", r#"{"a":1,"b":{"c":2}}"#);
    world.change("pump", r#"{"b":{"c":null}}"#);
    world.change("valve", r#"{"a":1}"#);
    assert_eq!(
        world.take(pump),
        [
            ("t/desired/1".to_owned(), json!({"a": 1, "b": {"c": 2}})),
            ("t/desired/2".to_owned(), json!({"b": {"c": null}})),
        ]
    );
    assert_eq!(
        world.publish(pump, "t/report", r#"{"a":1}"#),
        Published::Acknowledged
    );
    assert_eq!(world.take(pump), [], "a report is no news to the device");
    assert_eq!(world.publish(pump, "t/done/2", ""), Published::Delivered(2));
}

/// A push is repeated until the device says so in a message.
#[test]
fn a_push_waits_for_the_word_of_the_device() {
    let mut world = World::default();
    let pump = world.join(&TestDialect, device("pump"));
    world.change("pump", r#"{"a":1}"#);
    let confirm = Confirm::Message;
    assert_eq!(
        world.take_publishes(pump)[0].push,
        Some(Push {
            version: 1,
            part: 0,
            confirm
        })
    );
}

/// Section versions: changes of the other section do not count.
#[test]
fn a_report_is_bound_to_the_version_of_its_section() {
    let mut world = World::default();
    let pump = world.join(&TestDialect, device("pump"));
    world.publish(pump, "t/report/r1/0", r#"{"n":1}"#);
    world.change("pump", r#"{"a":1}"#);
    world.take(pump);
    world.publish(pump, "t/report/r2/1", r#"{"n":2}"#);
    world.publish(pump, "t/report/r3/1", r#"{"n":3}"#);
    let topics = world.take(pump).into_iter().map(|(topic, _)| topic);
    assert_eq!(
        topics.collect::<Vec<_>>(),
        ["t/reply/r2/204/3", "t/reply/r3/409/0"]
    );
}

/// Where the PUBACK is the only answer, a failure may not be acknowledged.
#[test]
fn a_report_without_id_is_answered_by_its_puback() {
    let mut world = World::default();
    let pump = world.join(&TestDialect, device("pump"));
    assert_eq!(
        world.publish(pump, "t/report", r#"{"n":1}"#),
        Published::Acknowledged
    );
    world.fault = Some(Error::Overloaded);
    assert_eq!(
        world.publish(pump, "t/report", r#"{"n":2}"#),
        Published::Closed
    );
    assert_eq!(world.take(pump), []);
}

/// A device that comes back is sent what it missed, once.
#[test]
fn a_device_that_missed_a_change_catches_up() {
    let mut world = World::default();
    world.change("pump", r#"{"a":1}"#);
    let pump = world.join(&TestDialect, device("pump"));
    world.catch_up(pump, "pump", 0);
    assert_eq!(
        world.take(pump),
        [("t/desired/1".to_owned(), json!({"a": 1}))]
    );
    world.catch_up(pump, "pump", 1);
    assert_eq!(world.take(pump), []);
}

/// Two clouds, one shadow: a report in one dialect is a message of the other, and answers stay with who
/// asked where that is the custom.
#[test]
fn dialects_meet_in_one_shadow() {
    let mut world = World::default();
    let pump = world.join(&TestDialect, device("pump"));
    let cloud = world.join(&Aws, backend());
    world
        .subscribe(cloud, "$aws/things/+/shadow/update/+")
        .unwrap();
    world.publish(pump, "t/report/r1/0", r#"{"on":true}"#);
    let seen = world.take(cloud);
    assert_eq!(seen[0].0, "$aws/things/pump/shadow/update/accepted");
    assert_eq!(seen[0].1["state"], json!({"reported": {"on": true}}));
    assert_eq!(seen[1].0, "$aws/things/pump/shadow/update/documents");
    assert_eq!(
        world.take(pump),
        [("t/reply/r1/204/1".to_owned(), Value::Null)]
    );
    let update = r#"{"state":{"desired":{"on":false}}}"#;
    world.publish(cloud, "$aws/things/pump/shadow/update", update);
    assert_eq!(
        world.take(pump),
        [("t/desired/2".to_owned(), json!({"on": false}))]
    );
}

/// What is not of the dialect is refused, and so is a client that is no device.
#[test]
fn other_topics_are_refused() {
    let mut world = World::default();
    let pump = world.join(&TestDialect, device("pump"));
    let refused = Published::Refused(Refusal::NotAuthorized);
    assert_eq!(
        world.publish(pump, "$aws/things/pump/shadow/get", ""),
        refused
    );
    let cloud = world.join(&TestDialect, backend());
    assert_eq!(world.publish(cloud, "t/report", "{}"), refused);
    let invalid = Published::Refused(Refusal::InvalidPayload);
    assert_eq!(world.publish(pump, "t/report", "["), invalid);
}
