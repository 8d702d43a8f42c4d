//! Shadows over MQTT, with the topics of AWS IoT: requests and answers, deltas, documents, and the
//! order of versions.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use antumbra_tests::http;
use antumbra_tests::mqtt::{Client, Connect, Publish, Version, Will, with_node};
use serde_json::{Value, json};

/// What a device listens to.
pub(crate) const DEVICE_TOPICS: [&str; 6] = [
    "get/+",
    "delete/+",
    "update/accepted",
    "update/rejected",
    "update/delta",
    "update/documents",
];

pub(crate) fn classic(thing: &str) -> String {
    format!("$aws/things/{thing}/shadow")
}

pub(crate) fn named(thing: &str, shadow: &str) -> String {
    format!("$aws/things/{thing}/shadow/name/{shadow}")
}

pub(crate) fn client(address: SocketAddr, version: Version, client_id: &str) -> Client {
    Client::connect(address, &Connect::new(version, client_id)).unwrap()
}

pub(crate) fn listen(client: &mut Client, prefix: &str, topics: &[&str]) {
    let filters: Vec<String> = topics
        .iter()
        .map(|topic| format!("{prefix}/{topic}"))
        .collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    client.listen(&filters).unwrap();
}

/// Publishes a request and waits for its PUBACK.
pub(crate) fn ask(client: &mut Client, prefix: &str, verb: &str, payload: &Value) {
    client
        .post(&format!("{prefix}/{verb}"), payload.to_string())
        .unwrap();
}

/// The next message of this kind.
pub(crate) fn hear(client: &mut Client, prefix: &str, kind: &str) -> Value {
    client
        .message_on(&format!("{prefix}/{kind}"))
        .unwrap()
        .json()
        .unwrap()
}

pub(crate) fn desired(value: Value) -> Value {
    json!({"state": {"desired": value}})
}

pub(crate) fn reported(value: Value) -> Value {
    json!({"state": {"reported": value}})
}

pub(crate) fn post_http(address: SocketAddr, target: &str, body: &Value) -> Value {
    let answer = http::send(address, "POST", target, body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// A device lives through a shadow's life, classic and named, in both versions: every request is
/// answered where AWS answers it, and deltas come when and only when something differs.
#[test]
fn mqtt_shadows_of_a_device_are_read_changed_and_deleted() {
    with_node(|node| {
        for version in Version::ALL {
            let thing = version.pick("life-311", "life-5");
            let mut device = client(node.mqtt(), version, thing);
            for prefix in [classic(thing), named(thing, "config")] {
                listen(&mut device, &prefix, &DEVICE_TOPICS);
                shadow_begins(&mut device, &prefix);
                shadow_differs_and_agrees(&mut device, &prefix);
                shadow_ends(&mut device, &prefix);
            }
        }
    });
}

fn shadow_begins(device: &mut Client, prefix: &str) {
    ask(device, prefix, "get", &json!({"clientToken": "none"}));
    let rejected = hear(device, prefix, "get/rejected");
    assert_eq!(rejected["code"], 404, "{rejected}");
    assert_eq!(rejected["clientToken"], "none", "{rejected}");
    let message = rejected["message"].as_str().unwrap();
    assert!(
        message.starts_with("No shadow exists with name: '"),
        "{message}"
    );

    let mut update = reported(json!({"c": 1}));
    update["clientToken"] = json!("first");
    ask(device, prefix, "update", &update);
    let accepted = hear(device, prefix, "update/accepted");
    assert_eq!(accepted["state"], json!({"reported": {"c": 1}}));
    assert_eq!(
        (&accepted["version"], &accepted["clientToken"]),
        (&json!(1), &json!("first"))
    );
    let seconds = accepted["timestamp"].as_u64().unwrap();
    assert!(
        (1_600_000_000..10_000_000_000).contains(&seconds),
        "{seconds}"
    );
    assert_eq!(accepted["metadata"]["reported"]["c"]["timestamp"], seconds);
    let documents = hear(device, prefix, "update/documents");
    assert!(documents.get("previous").is_none(), "{documents}");
    assert_eq!(documents["current"]["version"], 1);
    assert_eq!(documents["clientToken"], "first");
}

fn shadow_differs_and_agrees(device: &mut Client, prefix: &str) {
    let mut update = desired(json!({"c": 2}));
    update["clientToken"] = json!("second");
    ask(device, prefix, "update", &update);
    let accepted = hear(device, prefix, "update/accepted");
    assert_eq!(accepted["state"], json!({"desired": {"c": 2}}));
    // The first delta: there was none for version 1.
    let delta = hear(device, prefix, "update/delta");
    assert_eq!(
        (&delta["version"], &delta["state"]),
        (&json!(2), &json!({"c": 2}))
    );
    assert_eq!(delta["clientToken"], "second");
    assert!(delta["metadata"]["c"]["timestamp"].is_u64(), "{delta}");
    let documents = hear(device, prefix, "update/documents");
    assert_eq!(documents["previous"]["version"], 1);
    assert_eq!(documents["current"]["version"], 2);
    assert_eq!(
        documents["current"]["state"],
        json!({"desired": {"c": 2}, "reported": {"c": 1}})
    );

    // An empty payload asks as well as one with a token.
    device.post(&format!("{prefix}/get"), "").unwrap();
    let document = hear(device, prefix, "get/accepted");
    let state = json!({"desired": {"c": 2}, "reported": {"c": 1}, "delta": {"c": 2}});
    assert_eq!(
        (&document["state"], &document["version"]),
        (&state, &json!(2))
    );
    assert!(document.get("clientToken").is_none(), "{document}");

    for (version, value) in [(3, 2), (4, 9)] {
        ask(device, prefix, "update", &reported(json!({"c": value})));
        assert_eq!(hear(device, prefix, "update/accepted")["version"], version);
        assert_eq!(
            hear(device, prefix, "update/documents")["current"]["version"],
            version
        );
    }
    // At version 3 both agreed, so the next delta is of version 4, though nobody sent `desired`.
    let delta = hear(device, prefix, "update/delta");
    assert_eq!(
        (&delta["version"], &delta["state"]),
        (&json!(4), &json!({"c": 2}))
    );
}

fn shadow_ends(device: &mut Client, prefix: &str) {
    ask(device, prefix, "delete", &json!({"clientToken": "end"}));
    let deleted = hear(device, prefix, "delete/accepted");
    assert_eq!(
        (&deleted["version"], &deleted["clientToken"]),
        (&json!(4), &json!("end"))
    );
    assert!(deleted["timestamp"].is_u64(), "{deleted}");
    ask(device, prefix, "delete", &json!({"clientToken": "again"}));
    let rejected = hear(device, prefix, "delete/rejected");
    assert_eq!(
        (&rejected["code"], &rejected["clientToken"]),
        (&json!(404), &json!("again"))
    );
    ask(device, prefix, "get", &json!({}));
    assert_eq!(hear(device, prefix, "get/rejected")["code"], 404);
    // The delete counted as 5.
    ask(device, prefix, "update", &reported(json!({"c": 1})));
    assert_eq!(hear(device, prefix, "update/accepted")["version"], 6);
}

/// What is published to `update`, and the answer: code, message and token.
type Rejection = (String, i64, &'static str, Option<&'static str>);

/// Requests that are rejected, a line each.
macro_rules! rejections {
    ($($payload:expr => $code:expr, $message:expr, $token:expr;)+) => {
        vec![$((String::from($payload), $code, $message, $token)),+]
    };
}

/// Everything that can be wrong with an update of a shadow that has version 1.
fn wrong_updates() -> Vec<Rejection> {
    let long = "x".repeat(65);
    let nested = format!("{}1{}", r#"{"a":"#.repeat(9), "}".repeat(9));
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(9000));
    let deep = "JSON contains too many levels of nesting; maximum is 6";
    let big = "The payload exceeds the maximum size allowed";
    let t = Some("t");
    let in_state = |state: &str| format!(r#"{{"state":{state},"clientToken":"t"}}"#);
    let in_desired = |value: &str| in_state(&format!(r#"{{"desired":{value}}}"#));
    rejections! {
        "{" => 400, "Invalid JSON", None;
        r#"{"clientToken":"t"}"# => 400, "Missing required node: state", t;
        in_state("1") => 400, "State node must be an object", t;
        in_desired("1") => 400, "Desired node must be an object", t;
        in_state(r#"{"reported":[]}"#) => 400, "Reported node must be an object", t;
        in_state(r#"{"foo":1}"#) => 400, "State contains an invalid node", t;
        in_state(r#"{},"version":"1""#) => 400, "Invalid version", t;
        in_state(r#"{},"version":7"#) => 409, "Version conflict", t;
        format!(r#"{{"state":{{}},"clientToken":"{long}"}}"#) => 400, "Invalid clientToken", None;
        in_desired(&nested) => 400, deep, t;
        in_desired(&large) => 413, big, t;
    }
}

/// A request that cannot be met is acknowledged, answered with code, message and token, and
/// changes nothing.
#[test]
fn mqtt_shadow_updates_that_are_rejected_say_why() {
    with_node(|node| {
        let address = node.mqtt();
        let prefix = classic("rejected");
        let mut observer = client(address, Version::V5, "observer");
        listen(
            &mut observer,
            &prefix,
            &["update/accepted", "update/documents", "update/delta"],
        );
        let mut device = client(address, Version::V311, "rejected");
        listen(
            &mut device,
            &prefix,
            &["update/rejected", "update/accepted"],
        );
        ask(&mut device, &prefix, "update", &reported(json!({"a": 1})));
        assert_eq!(hear(&mut device, &prefix, "update/accepted")["version"], 1);
        for (payload, code, message, token) in wrong_updates() {
            device.post(&format!("{prefix}/update"), &payload).unwrap();
            let rejected = hear(&mut device, &prefix, "update/rejected");
            assert_eq!(rejected["code"], code, "{payload:.99}: {rejected}");
            assert_eq!(rejected["message"], message, "{payload:.99}");
            assert_eq!(rejected["clientToken"].as_str(), token, "{payload:.99}");
        }
        device
            .post(
                &format!("{prefix}/update"),
                b"{\"state\":{\"desired\":{\"a\":\"\xFF\"}}}",
            )
            .unwrap();
        assert_eq!(hear(&mut device, &prefix, "update/rejected")["code"], 415);
        ask(
            &mut device,
            &prefix,
            "update",
            &json!({"state": {}, "version": 1}),
        );
        assert_eq!(hear(&mut device, &prefix, "update/accepted")["version"], 2);
        for kind in ["update/accepted", "update/accepted"] {
            hear(&mut observer, &prefix, kind);
        }
        let documents = [(); 2].map(|()| hear(&mut observer, &prefix, "update/documents"));
        assert_eq!(
            documents.map(|document| document["current"]["version"].clone()),
            [1, 2]
        );
    });
}

/// A backend hears all devices by wildcards, each message under the topic of its shadow; what
/// others ask is not among it.
#[test]
fn mqtt_shadows_of_many_devices_are_heard_by_a_backend() {
    with_node(|node| {
        let address = node.mqtt();
        let mut backend = client(address, Version::V5, "backend");
        let filters = [
            "$aws/things/+/shadow/update/accepted",
            "$aws/things/+/shadow/update/documents",
            "$aws/things/+/shadow/name/+/update/accepted",
            "$aws/things/+/shadow/name/+/update/delta",
        ];
        backend.listen(&filters).unwrap();
        let mut everything = client(address, Version::V311, "everything");
        everything.listen(&["$aws/things/#"]).unwrap();
        for thing in ["one", "two", "three"] {
            let mut device = client(address, Version::V311, thing);
            ask(
                &mut device,
                &classic(thing),
                "update",
                &reported(json!({"name": thing})),
            );
            let wanted = desired(json!({"name": thing}));
            ask(&mut device, &named(thing, "config"), "update", &wanted);
        }
        for thing in ["one", "two", "three"] {
            let prefix = classic(thing);
            let accepted = hear(&mut backend, &prefix, "update/accepted");
            assert_eq!(accepted["state"], json!({"reported": {"name": thing}}));
            let documents = hear(&mut backend, &prefix, "update/documents");
            assert_eq!(documents["current"]["version"], 1);
            let prefix = named(thing, "config");
            let accepted = hear(&mut backend, &prefix, "update/accepted");
            assert_eq!(accepted["state"], json!({"desired": {"name": thing}}));
            let delta = hear(&mut backend, &prefix, "update/delta");
            assert_eq!(delta["state"], json!({"name": thing}));
        }
        // What it asks is answered like the questions of anybody else.
        listen(&mut backend, &classic("two"), &["get/accepted"]);
        backend
            .post(&format!("{}/get", classic("two")), "")
            .unwrap();
        let document = hear(&mut backend, &classic("two"), "get/accepted");
        assert_eq!(document["state"], json!({"reported": {"name": "two"}}));
        let last = format!("{}/get/accepted", classic("two"));
        for thing in ["one", "two", "three"] {
            hear(&mut everything, &classic(thing), "update/accepted");
            hear(&mut everything, &named(thing, "config"), "update/accepted");
        }
        let heard = everything.messages_until(&last).unwrap();
        let requests = heard
            .iter()
            .filter(|message| message.topic.ends_with("/update"));
        assert_eq!(requests.count(), 0);
    });
}

const WRITERS: u64 = 4;
const WRITES: u64 = 25;

/// Invariant 8: whoever writes, every subscriber sees every version of a shadow once and in order.
#[test]
fn mqtt_shadow_versions_come_in_order_under_concurrent_writers() {
    with_node(|node| {
        let address = node.mqtt();
        let prefix = classic("contended");
        let kinds = ["update/accepted", "update/documents", "update/delta"];
        let mut observers = Version::ALL.map(|version| {
            let client_id = version.pick("observer-311", "observer-5");
            let mut observer = client(address, version, client_id);
            listen(&mut observer, &prefix, &kinds);
            observer
        });
        let prefix = prefix.as_str();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                scope.spawn(move || {
                    let mut writes = client(address, Version::V5, &format!("writer-{writer}"));
                    for number in 0..WRITES {
                        let key = format!("w{writer}");
                        ask(
                            &mut writes,
                            prefix,
                            "update",
                            &desired(json!({key: number})),
                        );
                    }
                });
            }
            // Who does not read meanwhile would be sent no more at some point.
            for observer in &mut observers {
                scope.spawn(move || see_all_versions(observer, prefix));
            }
        });
    });
}

fn see_all_versions(observer: &mut Client, prefix: &str) {
    for version in 1..=WRITERS * WRITES {
        let accepted = hear(observer, prefix, "update/accepted");
        assert_eq!(accepted["version"], version, "{accepted}");
        let documents = hear(observer, prefix, "update/documents");
        assert_eq!(documents["current"]["version"], version);
        let previous = documents["previous"]["version"].as_u64();
        assert_eq!(previous.unwrap_or(0), version - 1);
        assert_eq!(hear(observer, prefix, "update/delta")["version"], version);
    }
}

/// QoS 0 asks as well; topics of the server, wills and topics beside the shadow change nothing.
#[test]
fn mqtt_shadow_topics_that_are_no_requests_change_nothing() {
    with_node(|node| {
        let address = node.mqtt();
        let prefix = classic("quiet");
        let mut observer = client(address, Version::V5, "observer");
        listen(&mut observer, &prefix, &DEVICE_TOPICS);
        let update = desired(json!({"a": 1})).to_string();
        let will = Will::new(&format!("{prefix}/update"), &update);
        let connect = Connect::new(Version::V311, "dies").with_will(will);
        drop(Client::connect(address, &connect).unwrap());
        let mut forger = client(address, Version::V311, "forger");
        for kind in [
            "update/accepted",
            "update/delta",
            "update/documents",
            "get/rejected",
            "Update",
            "update/",
            "name//update",
            "name/a b/update",
        ] {
            forger.post(&format!("{prefix}/{kind}"), &update).unwrap();
        }
        observer
            .no_message_within(Duration::from_millis(500))
            .unwrap();
        let answer = http::get(node.http(), "/things/quiet/shadow").unwrap();
        assert_eq!(answer.status, 404, "{}", answer.text());

        let request = Publish::new(&format!("{prefix}/update"), &update, 0);
        forger.publish(request).unwrap();
        assert_eq!(
            hear(&mut observer, &prefix, "update/accepted")["version"],
            1
        );
        // Who did not subscribe to the answer gets none.
        forger
            .no_message_within(Duration::from_millis(200))
            .unwrap();
    });
}
