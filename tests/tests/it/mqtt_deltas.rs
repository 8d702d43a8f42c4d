//! What a device hears without having asked: what others change through other doors, and what is
//! left to do when it listens or comes back.

use std::time::Duration;

use antumbra_tests::http;
use antumbra_tests::mqtt::{Client, Connect, Message, Version, with_node};
use serde_json::{Value, json};

use crate::mqtt_shadows::{
    DEVICE_TOPICS, ask, classic, client, desired, hear, listen, named, post_http, reported,
};

/// The doors show one shadow: what HTTP changes is heard on MQTT, and what was acknowledged on
/// MQTT is there for HTTP at once (invariant 7).
#[test]
fn mqtt_and_http_change_the_same_shadows() {
    with_node(|node| {
        let address = node.mqtt();
        for (prefix, target) in [
            (classic("doors"), "/things/doors/shadow"),
            (named("doors", "config"), "/things/doors/shadow?name=config"),
        ] {
            let mut device = client(address, Version::V5, "doors");
            listen(&mut device, &prefix, &DEVICE_TOPICS);
            let mut update = desired(json!({"a": {"b": 1, "c": 2}}));
            update["clientToken"] = json!("http");
            post_http(node.http(), target, &update);
            let delta = hear(&mut device, &prefix, "update/delta");
            assert_eq!(delta["state"], json!({"a": {"b": 1, "c": 2}}));
            assert_eq!(
                (&delta["version"], &delta["clientToken"]),
                (&json!(1), &json!("http"))
            );
            let documents = hear(&mut device, &prefix, "update/documents");
            assert_eq!(documents["current"]["version"], 1);
            assert_eq!(hear(&mut device, &prefix, "update/accepted")["version"], 1);

            ask(
                &mut device,
                &prefix,
                "update",
                &reported(json!({"a": {"b": 1}})),
            );
            assert_eq!(
                hear(&mut device, &prefix, "update/delta")["state"],
                json!({"a": {"c": 2}})
            );
            for number in 3..=20 {
                ask(
                    &mut device,
                    &prefix,
                    "update",
                    &reported(json!({"n": number})),
                );
                let answer = http::get(node.http(), target).unwrap();
                let document: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(document["version"], number, "{document}");
                assert_eq!(document["state"]["reported"]["n"], number);
            }
            // An error of HTTP is nobody else's.
            let wrong = http::send(node.http(), "POST", target, b"{}").unwrap();
            assert_eq!(wrong.status, 400);
            ask(&mut device, &prefix, "update", &json!({}));
            assert_eq!(hear(&mut device, &prefix, "update/rejected")["code"], 400);
            device.ping().unwrap();
            let deleted = http::send(node.http(), "DELETE", target, b"").unwrap();
            assert_eq!(deleted.status, 200);
            ask(&mut device, &prefix, "get", &json!({}));
            assert_eq!(hear(&mut device, &prefix, "get/rejected")["code"], 404);
        }
    });
}

/// A device that was away is told what is left to do as soon as it listens, unasked; when nothing
/// is left, it is told nothing.
#[test]
fn mqtt_shadow_deltas_are_pushed_when_a_device_subscribes() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let thing = version.pick("asleep-311", "asleep-5");
            let target = format!("/things/{thing}/shadow");
            post_http(node.http(), &target, &desired(json!({"a": 1})));
            post_http(
                node.http(),
                &format!("{target}?name=n"),
                &desired(json!({"n": 1})),
            );
            let mut device = client(address, version, thing);
            let prefix = classic(thing);
            listen(&mut device, &prefix, &["update/delta", "update/accepted"]);
            let delta = hear(&mut device, &prefix, "update/delta");
            assert_eq!(
                (&delta["version"], &delta["state"]),
                (&json!(1), &json!({"a": 1}))
            );
            assert!(delta.get("clientToken").is_none(), "{delta}");
            listen(&mut device, &named(thing, "n"), &["update/delta"]);
            let delta = hear(&mut device, &named(thing, "n"), "update/delta");
            assert_eq!(delta["state"], json!({"n": 1}));

            let filter = format!("{prefix}/update/delta");
            device.unsubscribe(&[&filter]).unwrap();
            post_http(node.http(), &target, &desired(json!({"a": 2})));
            assert_eq!(hear(&mut device, &prefix, "update/accepted")["version"], 2);
            device.listen(&[&filter]).unwrap();
            let delta = hear(&mut device, &prefix, "update/delta");
            assert_eq!(
                (&delta["version"], &delta["state"]),
                (&json!(2), &json!({"a": 2}))
            );

            ask(
                &mut device,
                &named(thing, "n"),
                "update",
                &reported(json!({"n": 1})),
            );
            device.unsubscribe(&[&filter]).unwrap();
            ask(&mut device, &prefix, "update", &reported(json!({"a": 2})));
            assert_eq!(hear(&mut device, &prefix, "update/accepted")["version"], 3);
            device.listen(&[&filter]).unwrap();
            device
                .no_message_within(Duration::from_millis(500))
                .unwrap();
        }
    });
}

/// A kept session is told what is left to do without a SUBSCRIBE: the present difference, not
/// every step to it.
#[test]
fn mqtt_shadow_deltas_are_pushed_when_a_session_is_resumed() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let thing = version.pick("resumed-311", "resumed-5");
            let target = format!("/things/{thing}/shadow");
            let connect = Connect::durable(version, thing);
            let mut device = Client::connect(address, &connect).unwrap();
            listen(&mut device, &classic(thing), &["update/delta"]);
            listen(&mut device, &named(thing, "n"), &["update/delta"]);
            device.disconnect().unwrap();
            for number in 1..=5 {
                post_http(node.http(), &target, &desired(json!({"a": number})));
            }
            post_http(
                node.http(),
                &format!("{target}?name=n"),
                &desired(json!({"n": 1})),
            );
            let (mut device, ack) = Client::dial(address, &connect).unwrap();
            assert!(ack.session_present, "{version:?}");
            let delta = hear(&mut device, &classic(thing), "update/delta");
            assert_eq!(
                (&delta["version"], &delta["state"]),
                (&json!(5), &json!({"a": 5}))
            );
            let delta = hear(&mut device, &named(thing, "n"), "update/delta");
            assert_eq!(delta["state"], json!({"n": 1}));
        }
    });
}

/// A delta that was not acknowledged when the line was cut comes again on the next connection.
#[test]
fn mqtt_shadow_delta_without_puback_comes_again() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let thing = version.pick("again-311", "again-5");
            let prefix = classic(thing);
            let connect = Connect::durable(version, thing);
            let mut device = Client::connect(address, &connect).unwrap();
            device.hold_acknowledgements();
            listen(&mut device, &prefix, &["update/delta"]);
            let target = format!("/things/{thing}/shadow");
            post_http(node.http(), &target, &desired(json!({"a": 1})));
            let first = device.message().unwrap();
            assert_eq!((first.qos, first.duplicate), (1, false), "{first:?}");
            drop(device);
            let mut device = Client::connect(address, &connect).unwrap();
            let second = device.message().unwrap();
            let version_of = |message: &Message| message.json().unwrap()["version"].clone();
            assert_eq!(second.topic, first.topic);
            assert_eq!(version_of(&second), version_of(&first));
        }
    });
}
