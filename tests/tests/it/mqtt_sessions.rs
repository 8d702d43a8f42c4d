//! What of an MQTT session outlives its connection: subscriptions, expiry, wills, and nothing of
//! what was given up.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use antumbra_tests::mqtt::{
    Client, Connect, Message, Properties, Publish, Version, Will, build, property, with_node,
};

fn expiring(client_id: &str, clean: bool, seconds: u32) -> Connect {
    let expiry = Properties::new().four(property::SESSION_EXPIRY, seconds);
    Connect {
        clean,
        ..Connect::new(Version::V5, client_id).with_properties(expiry)
    }
}

/// Whether there is a session under this identifier; leaves none behind.
fn is_present(address: SocketAddr, client_id: &str) -> bool {
    let connect = expiring(client_id, false, 0);
    let (client, ack) = Client::dial(address, &connect).unwrap();
    client.disconnect().unwrap();
    ack.session_present
}

/// Subscriptions of a session that is kept are there on the next connection, after a DISCONNECT
/// as after a cut line; plain messages are for who is there.
#[test]
fn mqtt_kept_sessions_keep_their_subscriptions() {
    with_node(|node| {
        let address = node.mqtt();
        let mut other = Client::connect(address, &Connect::new(Version::V5, "other")).unwrap();
        for version in Version::ALL {
            let connect = Connect::durable(version, version.pick("kept-311", "kept-5"));
            let (mut client, ack) = Client::dial(address, &connect).unwrap();
            assert!(!ack.session_present, "{version:?}");
            client.listen(&["kept/a", "kept/b", "kept/end"]).unwrap();
            client.unsubscribe(&["kept/b"]).unwrap();
            client.disconnect().unwrap();
            other.post("kept/a", "missed").unwrap();

            let (mut client, ack) = Client::dial(address, &connect).unwrap();
            assert!(ack.session_present, "{version:?}");
            for topic in ["kept/a", "kept/b", "kept/end"] {
                other.post(topic, "heard").unwrap();
            }
            let seen = client.messages_until("kept/end").unwrap();
            let seen: Vec<String> = seen.iter().map(Message::text).collect();
            assert_eq!(seen, ["heard"], "{version:?}");

            drop(client);
            let (mut client, ack) = Client::dial(address, &connect).unwrap();
            assert!(ack.session_present, "{version:?} after a cut line");
            other.post("kept/a", "heard again").unwrap();
            assert_eq!(client.message().unwrap().text(), "heard again");
        }
    });
}

/// What a client did not acknowledge comes again on the connection that continues its session, under
/// the same identifier and marked as a repeat [MQTT-4.4.0-1]; also when the node still takes the
/// former connection for open. What was acknowledged does not.
#[test]
fn mqtt_kept_sessions_send_again_what_was_not_acknowledged() {
    with_node(|node| {
        let address = node.mqtt();
        let mut other = Client::connect(address, &Connect::new(Version::V5, "other")).unwrap();
        for version in Version::ALL {
            for is_cut in [true, false] {
                let name = format!("again-{}-{is_cut}", version.pick("311", "5"));
                let connect = Connect::durable(version, &name);
                let topic = format!("again/{name}");
                let (mut client, _) = Client::dial(address, &connect).unwrap();
                client.listen(&[&topic]).unwrap();
                client.hold_acknowledgements();
                other.post(&topic, "one").unwrap();
                other.post(&topic, "two").unwrap();
                let seen = [client.message().unwrap(), client.message().unwrap()];
                client.acknowledge(&seen[0]).unwrap();
                client.ping().unwrap();
                let former = (!is_cut).then_some(client);

                let (mut client, ack) = Client::dial(address, &connect).unwrap();
                assert!(ack.session_present, "{name}");
                let again = client.message().unwrap();
                assert_eq!(again.text(), "two", "{name}");
                assert!(again.duplicate, "{name}");
                assert_eq!(again.packet_id, seen[1].packet_id, "{name}");
                client.ping().unwrap();
                drop((former, client));

                let (mut client, _) = Client::dial(address, &connect).unwrap();
                other.post(&topic, "three").unwrap();
                assert_eq!(client.message().unwrap().text(), "three", "{name}");
            }
        }
    });
}

/// A subscription of a kept session keeps its options: identifier, QoS and No Local.
#[test]
fn mqtt_kept_sessions_keep_the_options_of_subscriptions() {
    with_node(|node| {
        let connect = Connect::durable(Version::V5, "options");
        let mut client = Client::connect(node.mqtt(), &connect).unwrap();
        let identifier = Properties::new().variable(property::SUBSCRIPTION_IDENTIFIER, 77);
        client
            .subscribe_with(&[("options/0", 0)], &identifier)
            .unwrap();
        client.subscribe(&[("options/1", 0b0101)]).unwrap();
        drop(client);
        let mut client = Client::connect(node.mqtt(), &connect).unwrap();
        client.post("options/1", "own").unwrap();
        client.post("options/0", "x").unwrap();
        let message = client.message().unwrap();
        assert_eq!((message.topic.as_str(), message.qos), ("options/0", 0));
        let identifiers = message
            .properties
            .numbers(property::SUBSCRIPTION_IDENTIFIER);
        assert_eq!(identifiers, [77]);
    });
}

/// A clean start forgets what was, also for later connections.
#[test]
fn mqtt_clean_starts_forget_the_session() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let kept = Connect::durable(version, version.pick("clean-311", "clean-5"));
            let clean = Connect {
                clean: true,
                ..kept.clone()
            };
            let mut client = Client::connect(address, &kept).unwrap();
            client.listen(&["clean/a"]).unwrap();
            client.disconnect().unwrap();
            let (mut client, ack) = Client::dial(address, &clean).unwrap();
            assert!(!ack.session_present, "{version:?}");
            client.listen(&["clean/end"]).unwrap();
            client.post("clean/a", "x").unwrap();
            client.post("clean/end", "").unwrap();
            let seen = client.messages_until("clean/end").unwrap();
            assert_eq!(seen, Vec::<Message>::new(), "{version:?}");
            client.disconnect().unwrap();
            // A clean session of 3.1.1 ends with its connection; in MQTT 5 the expiry decides.
            let (_client, ack) = Client::dial(address, &kept).unwrap();
            assert_eq!(
                ack.session_present,
                version.pick(false, true),
                "{version:?}"
            );
        }
    });
}

/// A session lives as long as its expiry says, which DISCONNECT may change but not introduce.
#[test]
fn mqtt_sessions_expire_when_they_said() {
    with_node(|node| {
        let address = node.mqtt();
        let dial = |connect: &Connect| Client::dial(address, connect).unwrap();
        let with_expiry = |seconds| {
            let expiry = Properties::new().four(property::SESSION_EXPIRY, seconds);
            build::disconnect_because(0, &expiry)
        };

        let (client, _) = dial(&expiring("zero", true, 0));
        client.disconnect().unwrap();
        assert!(!is_present(address, "zero"));
        // Also for a client that is back before its end is written down.
        for _ in 0..50 {
            let (client, _) = dial(&expiring("hasty", true, 60));
            client.leave(&with_expiry(0)).unwrap();
            assert!(!is_present(address, "hasty"));
        }

        let (client, _) = dial(&Connect::new(Version::V5, "absent"));
        client.disconnect().unwrap();
        assert!(!is_present(address, "absent"));

        let (client, _) = dial(&expiring("ended", true, 3600));
        client.leave(&with_expiry(0)).unwrap();
        assert!(!is_present(address, "ended"));

        let (client, _) = dial(&expiring("longer", true, 1));
        client.leave(&with_expiry(3600)).unwrap();
        let (client, _) = dial(&expiring("shorter", true, 3600));
        client.leave(&with_expiry(1)).unwrap();
        let (client, _) = dial(&expiring("short", true, 1));
        drop(client);
        // That time passes is the condition itself.
        thread::sleep(Duration::from_millis(2500));
        assert!(is_present(address, "longer"));
        assert!(!is_present(address, "shorter"));
        assert!(!is_present(address, "short"));

        // Section 3.14.2.2.2: what was to end cannot be kept.
        let (mut client, _) = dial(&expiring("too late", true, 0));
        client.send(&with_expiry(60)).unwrap();
        assert_eq!(client.ended().unwrap().reason(), Some(0x82));

        // For ever is longer than is allowed, and the client is told for how long it is.
        let (_client, ack) = dial(&expiring("for ever", true, u32::MAX));
        let given = ack.properties.number(property::SESSION_EXPIRY).unwrap();
        assert!((3600..u32::MAX).contains(&given), "{given}");
    });
}

/// A will is published when the connection ends in any way but with an orderly DISCONNECT.
#[test]
fn mqtt_wills_are_published_unless_the_client_took_leave() {
    with_node(|node| {
        let address = node.mqtt();
        let mut heir = Client::connect(address, &Connect::new(Version::V5, "heir")).unwrap();
        heir.listen(&["will/+"]).unwrap();
        for version in Version::ALL {
            let client_id = version.pick("testator-311", "testator-5");
            let dies = |text: &str| {
                let connect = Connect::new(version, client_id);
                let connect = connect.with_will(Will::new("will/a", text));
                Client::connect(address, &connect).unwrap()
            };
            dies("took leave").disconnect().unwrap();
            drop(dies("cut"));
            assert_eq!(heir.message().unwrap().text(), "cut", "{version:?}");
            let mut wrong = dies("broke the protocol");
            wrong.send(&[0xC0, 1, 0]).unwrap();
            wrong.ended().unwrap();
            assert_eq!(heir.message().unwrap().text(), "broke the protocol");
            let _old = dies("taken over");
            let new = Client::connect(address, &Connect::new(version, client_id)).unwrap();
            assert_eq!(heir.message().unwrap().text(), "taken over", "{version:?}");
            new.disconnect().unwrap();
        }
        let connect = Connect::new(Version::V5, "wants it");
        let connect = connect.with_will(Will::new("will/a", "wanted"));
        let client = Client::connect(address, &connect).unwrap();
        let with_will = build::disconnect_because(0x04, &Properties::new());
        client.leave(&with_will).unwrap();
        assert_eq!(heir.message().unwrap().text(), "wanted");
        will_is_a_message_like_any_other(address, &mut heir);
    });
}

fn will_is_a_message_like_any_other(address: SocketAddr, heir: &mut Client) {
    let properties = Properties::new()
        .text(property::CONTENT_TYPE, "text/plain")
        .binary(property::CORRELATION_DATA, &[9])
        .user("a", "2")
        .user("c", "3");
    for qos in [0, 1] {
        let will = Will {
            qos,
            payload: vec![0, 1, 0xFF],
            properties: properties.clone(),
            ..Will::new("will/b", "")
        };
        let connect = Connect::new(Version::V5, "properties").with_will(will);
        drop(Client::connect(address, &connect).unwrap());
        let message = heir.message().unwrap();
        assert_eq!((message.qos, message.retain), (qos, false));
        assert_eq!(message.payload, [0, 1, 0xFF]);
        let seen = message.properties;
        assert_eq!(seen.users(), [("a", "2"), ("c", "3")]);
        assert_eq!(seen.string(property::CONTENT_TYPE), Some("text/plain"));
        assert_eq!(seen.bytes(property::CORRELATION_DATA), Some(&[9][..]));
        assert!(!seen.has(property::WILL_DELAY));
    }
}

/// A will waits for its delay, at most until the session ends, and is forgotten when the client
/// comes back in time.
#[test]
fn mqtt_wills_wait_for_their_delay() {
    with_node(|node| {
        let address = node.mqtt();
        let mut heir = Client::connect(address, &Connect::new(Version::V5, "heir")).unwrap();
        heir.listen(&["will/+"]).unwrap();
        let delayed = |client_id: &str, delay, expiry| {
            let will = Will {
                properties: Properties::new().four(property::WILL_DELAY, delay),
                ..Will::new(&format!("will/{client_id}"), client_id)
            };
            expiring(client_id, false, expiry).with_will(will)
        };
        let cut = |connect: &Connect| drop(Client::connect(address, connect).unwrap());
        let mut waited_for = |client_id: &str, least: u64, most: u64| {
            let started = Instant::now();
            assert_eq!(heir.message().unwrap().text(), client_id);
            let waited = started.elapsed();
            let span = Duration::from_millis(least)..Duration::from_secs(most);
            assert!(span.contains(&waited), "{client_id}: {waited:?}");
        };
        cut(&delayed("delayed", 2, 60));
        waited_for("delayed", 1500, 10);
        cut(&delayed("session-ends-now", 60, 0));
        waited_for("session-ends-now", 0, 10);
        cut(&delayed("session-ends-first", 60, 1));
        waited_for("session-ends-first", 500, 10);
        // A clean start ends the old session, and the will is due with it.
        let connect = delayed("clean-start", 60, 60);
        cut(&connect);
        let _new = Client::connect(address, &expiring("clean-start", true, 0)).unwrap();
        waited_for("clean-start", 0, 10);

        let connect = delayed("comes-back", 2, 60);
        cut(&connect);
        let back = expiring("comes-back", false, 60);
        let (_back, ack) = Client::dial(address, &back).unwrap();
        assert!(ack.session_present);
        heir.no_message_within(Duration::from_secs(3)).unwrap();
    });
}

/// Clients that come, subscribe, publish and go at the same time harm nobody (class of
/// CVE-2025-59946: a subscription list that was freed while it was read).
#[test]
fn mqtt_clients_that_come_and_go_do_not_harm_each_other() {
    with_node(|node| {
        let address = node.mqtt();
        let connect = Connect::new(Version::V5, "witness");
        let mut witness = Client::connect(address, &connect).unwrap();
        witness.listen(&["churn/end/+"]).unwrap();
        thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || churn(address, worker));
            }
        });
        let mut ends: Vec<String> = Vec::new();
        while ends.len() < 4 * ROUNDS {
            ends.push(witness.message().unwrap().text());
        }
        ends.sort();
        ends.dedup();
        assert_eq!(ends.len(), 4 * ROUNDS, "each once");
    });
}

const ROUNDS: usize = 25;

fn churn(address: SocketAddr, worker: usize) {
    for round in 0..ROUNDS {
        let version = Version::ALL[round % 2];
        // Two workers share an identifier, so they take sessions from each other.
        let shared = format!("churn-{}", worker / 2);
        let connect = Connect::durable(version, &shared);
        if let Ok(mut client) = Client::connect(address, &connect) {
            // Any of these may fail: the other worker may have the session by now.
            client.subscribe(&[("churn/a/#", 1), ("churn/+/b", 0)]).ok();
            client.publish(Publish::new("churn/a/b", "x", 1)).ok();
            client.unsubscribe(&["churn/a/#"]).ok();
        }
        let own = format!("own-{worker}");
        let mut client = Client::connect(address, &Connect::new(version, &own)).unwrap();
        let topic = format!("churn/end/{worker}");
        client.post(&topic, format!("{worker}-{round}")).unwrap();
    }
}
