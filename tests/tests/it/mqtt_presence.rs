//! Who is connected: lifecycle events, and the two HTTP operations on connections.

use antumbra_tests::http;
use antumbra_tests::mqtt::{Client, Connect, Version, with_node};
use antumbra_tests::node::Node;
use antumbra_tests::waiting;
use serde_json::Value;
use std::time::Duration;

use crate::mqtt_shadows::client;

const PATIENCE: Duration = Duration::from_secs(20);

/// A client that hears of clients that come and go.
fn watcher(node: &Node) -> Client {
    let mut watcher = client(node.mqtt(), Version::V5, "watcher");
    watcher
        .listen(&[
            "$aws/events/presence/connected/visitor",
            "$aws/events/presence/disconnected/visitor",
        ])
        .unwrap();
    watcher
}

fn event(watcher: &mut Client) -> Value {
    watcher.message().unwrap().json().unwrap()
}

fn connection(node: &Node) -> (u16, Value) {
    let answer = http::get(node.http(), "/connections/visitor").unwrap();
    let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    (answer.status, body)
}

/// What GetConnection says, once it is as wanted: the record of a clean session is written after
/// CONNACK.
fn connection_until(node: &Node, wanted: impl Fn(&Value) -> bool) -> Value {
    waiting::until("the connection is as wanted", PATIENCE, || {
        let (_, body) = connection(node);
        wanted(&body).then_some(body)
    })
    .unwrap()
}

/// Every connection is told once when it begins and once when it ends, with the same names and the
/// reason.
#[test]
fn mqtt_presence_tells_of_clients_that_come_and_go() {
    with_node(|node| {
        let mut watcher = watcher(node);
        for version in [Version::V311, Version::V5] {
            let visitor = client(node.mqtt(), version, "visitor");
            let came = event(&mut watcher);
            assert_eq!(came["eventType"], "connected", "{came}");
            assert_eq!(came["clientId"], "visitor");
            assert_eq!(came["thingName"], "visitor");
            assert_eq!(came["ipAddress"], "127.0.0.1");
            visitor.disconnect().unwrap();
            let went = event(&mut watcher);
            assert_eq!(went["eventType"], "disconnected", "{went}");
            assert_eq!(went["disconnectReason"], "CLIENT_INITIATED_DISCONNECT");
            assert_eq!(went["clientInitiatedDisconnect"], true);
            assert_eq!(went["sessionIdentifier"], came["sessionIdentifier"]);
            assert_eq!(went["versionNumber"], came["versionNumber"]);

            drop(client(node.mqtt(), version, "visitor"));
            assert_eq!(event(&mut watcher)["eventType"], "connected");
            let went = event(&mut watcher);
            assert_eq!(went["disconnectReason"], "CONNECTION_LOST", "{went}");
        }
        let first = client(node.mqtt(), Version::V5, "visitor");
        let came = event(&mut watcher);
        let second = client(node.mqtt(), Version::V5, "visitor");
        let went = event(&mut watcher);
        assert_eq!(went["disconnectReason"], "DUPLICATE_CLIENTID", "{went}");
        assert_eq!(went["sessionIdentifier"], came["sessionIdentifier"]);
        let came = event(&mut watcher);
        assert_eq!(came["eventType"], "connected", "{came}");
        assert_ne!(went["sessionIdentifier"], came["sessionIdentifier"]);
        drop((first, second));
    });
}

/// `GetConnection` shows what is known of a client, `DeleteConnection` closes its connection and
/// leaves a session that is kept, or ends that, too.
#[test]
fn mqtt_presence_is_read_and_ended_over_http() {
    with_node(|node| {
        assert_eq!(connection(node).0, 404);
        let visitor = client(node.mqtt(), Version::V311, "visitor");
        let seen = connection_until(node, |seen| seen["connected"] == true);
        assert_eq!(seen["thingName"], "visitor");
        assert_eq!(seen["cleanSession"], true);
        visitor.disconnect().unwrap();
        let seen = connection_until(node, |seen| seen["connected"] == false);
        assert_eq!(seen["disconnectReason"], "CLIENT_INITIATED_DISCONNECT");

        let durable = Connect::durable(Version::V5, "visitor");
        let (mut visitor, _) = Client::dial(node.mqtt(), &durable).unwrap();
        let delete = |target| http::send(node.http(), "DELETE", target, b"").unwrap();
        assert_eq!(delete("/connections/visitor").status, 200);
        assert_eq!(visitor.ended().unwrap().reason(), Some(0x98));
        assert_eq!(delete("/connections/visitor").status, 404);
        assert_eq!(delete("/connections/nobody").status, 404);
        let seen = connection_until(node, |seen| seen["connected"] == false);
        assert_eq!(seen["disconnectReason"], "API_INITIATED_DISCONNECT");

        let (_visitor, ack) = Client::dial(node.mqtt(), &durable).unwrap();
        assert!(ack.session_present);
        let clean = "/connections/visitor?cleanSession=true";
        assert_eq!(delete(clean).status, 200);
        let (_visitor, ack) = Client::dial(node.mqtt(), &durable).unwrap();
        assert!(!ack.session_present);
        let wrong = "/connections/visitor?cleanSession=perhaps";
        assert_eq!(delete(wrong).status, 400);
    });
}
