//! Plain messages between MQTT clients: what is routed, to whom, and in which form.

use std::net::SocketAddr;
use std::time::Duration;

use antumbra_tests::mqtt::{
    Client, Connect, Message, Properties, Publish, Version, property, with_node,
};

const NO_LOCAL: u8 = 0b0100;

fn client(address: SocketAddr, version: Version, client_id: &str) -> Client {
    Client::connect(address, &Connect::new(version, client_id)).unwrap()
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(Message::text).collect()
}

/// Messages come in their order and with the lower of both QoS, from every version to every
/// version.
#[test]
fn mqtt_messages_are_routed_between_clients_of_every_version() {
    with_node(|node| {
        let address = node.mqtt();
        for from in Version::ALL {
            for to in Version::ALL {
                let mut sender = client(address, from, "sender");
                let mut receiver = client(address, to, "receiver");
                let granted = receiver.subscribe(&[("to/0", 0), ("to/1/#", 1)]).unwrap();
                assert_eq!(granted, [0, 1]);
                qos_is_the_lower_one(&mut sender, &mut receiver);
                order_is_kept(&mut sender, &mut receiver);
            }
        }
        payloads_pass_unchanged(address);
    });
}

fn qos_is_the_lower_one(sender: &mut Client, receiver: &mut Client) {
    for (topic, qos, delivered) in [
        ("to/0", 0, 0),
        ("to/0", 1, 0),
        ("to/1", 0, 0),
        ("to/1", 1, 1),
    ] {
        sender.publish(Publish::new(topic, "x", qos)).unwrap();
        let message = receiver.message().unwrap();
        let seen = (message.topic.as_str(), message.qos);
        assert_eq!(seen, (topic, delivered), "published with {qos}");
        assert!(!message.duplicate && !message.retain, "{message:?}");
    }
}

fn order_is_kept(sender: &mut Client, receiver: &mut Client) {
    let numbers: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    for number in &numbers {
        sender.post("to/1/order", number).unwrap();
    }
    sender.post("to/1/end", "").unwrap();
    let messages = receiver.messages_until("to/1/end").unwrap();
    assert_eq!(texts(&messages), numbers);
}

/// Any bytes, none and as many as are allowed.
fn payloads_pass_unchanged(address: SocketAddr) {
    let mut both = client(address, Version::V5, "payloads");
    both.listen(&["payload"]).unwrap();
    let all: Vec<u8> = (0..=255).collect();
    for payload in [Vec::new(), vec![0], all, vec![7; 128 * 1024]] {
        both.post("payload", &payload).unwrap();
        assert!(
            both.message().unwrap().payload == payload,
            "{}",
            payload.len()
        );
    }
}

/// A wildcard at the first level does not reach topics that begin with `$` [MQTT-4.7.2-1].
#[test]
fn mqtt_wildcards_do_not_bring_reserved_topics() {
    with_node(|node| {
        let address = node.mqtt();
        let accepted = "$aws/things/dollar/shadow/update/accepted";
        let mut wild = client(address, Version::V5, "wild");
        wild.listen(&["#", "+/things/dollar/shadow/update/accepted"])
            .unwrap();
        let mut named = client(address, Version::V311, "named");
        named.listen(&[accepted]).unwrap();
        let update = r#"{"state":{"desired":{"a":1}}}"#;
        named
            .post("$aws/things/dollar/shadow/update", update)
            .unwrap();
        named.message_on(accepted).unwrap();
        named.post("plain/end", "").unwrap();
        let seen = wild.messages_until("plain/end").unwrap();
        assert_eq!(seen, Vec::<Message>::new());
        // A slash in front makes it a plain topic.
        named.post("/$aws/plain", "x").unwrap();
        assert_eq!(wild.message().unwrap().topic, "/$aws/plain");
    });
}

/// Reserved topics of services that do not exist here are granted, acknowledged and dropped, so
/// that firmware which uses them keeps working; what belongs to nobody is refused.
#[test]
fn mqtt_reserved_topics_of_other_services_are_dropped() {
    with_node(|node| {
        let address = node.mqtt();
        let served = [
            "$aws/things/reserved/jobs/notify",
            "$aws/things/reserved/jobs/start-next",
            "$aws/rules/myrule/plain",
        ];
        for version in Version::ALL {
            let mut one = client(address, version, "reserved");
            let mut filters = served.to_vec();
            filters.push("plain/end");
            one.listen(&filters).unwrap();
            for topic in served {
                one.post(topic, "{}").unwrap();
            }
            one.post("plain/end", "").unwrap();
            let seen = one.messages_until("plain/end").unwrap();
            assert_eq!(seen, Vec::<Message>::new(), "{version:?}");
            let refused = one.subscribe(&[("$SYS/#", 1), ("$other/a", 0)]).unwrap();
            assert_eq!(refused, version.pick([0x80, 0x80], [0x87, 0x87]));
        }
        let mut modern = client(address, Version::V5, "foreign");
        let refused = modern.publish(Publish::new("$other/a", "x", 1)).unwrap();
        assert_eq!(refused, 0x87);
        modern.ping().unwrap();
        // 3.1.1 has no other way to say no.
        let mut old = client(address, Version::V311, "foreign-311");
        old.send(&Publish::new("$other/a", "x", 0).encode(Version::V311))
            .unwrap();
        old.ended().unwrap();
    });
}

/// After UNSUBACK nothing comes any more, and the answer says which filters were subscribed.
#[test]
fn mqtt_unsubscribe_stops_what_was_subscribed() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let mut one = client(address, version, "unsubscribes");
            one.listen(&["a/1", "a/2", "a/3", "end"]).unwrap();
            let reasons = one.unsubscribe(&["a/1", "a/+", "a/3"]).unwrap();
            assert_eq!(reasons, version.pick(vec![], vec![0, 0x11, 0]));
            for topic in ["a/1", "a/2", "a/3", "end"] {
                one.post(topic, "x").unwrap();
            }
            let seen = one.messages_until("end").unwrap();
            let topics: Vec<&str> = seen.iter().map(|message| message.topic.as_str()).collect();
            assert_eq!(topics, ["a/2"], "{version:?}");
        }
    });
}

/// A message that several filters of a client match comes once, with the highest QoS and the
/// identifiers of all of them; a second SUBSCRIBE with a filter takes the place of the first.
#[test]
fn mqtt_overlapping_subscriptions_deliver_once() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let mut one = client(address, version, "overlaps");
            let filters = [("over/+/x", 0), ("over/#", 1), ("over/lap/x", 0)];
            one.subscribe(&filters).unwrap();
            one.post("over/lap/x", "once").unwrap();
            one.post("over/end", "").unwrap();
            let seen = one.messages_until("over/end").unwrap();
            assert_eq!(texts(&seen), ["once"], "{version:?}");
            assert_eq!(seen[0].qos, 1, "{version:?}");
            one.subscribe(&[("over/#", 0)]).unwrap();
            one.post("over/lap/x", "again").unwrap();
            assert_eq!(one.message().unwrap().qos, 0, "{version:?}");
        }
        identifiers_name_all_that_match(address);
    });
}

fn identifiers_name_all_that_match(address: SocketAddr) {
    let identified = |number| Properties::new().variable(property::SUBSCRIPTION_IDENTIFIER, number);
    let mut one = client(address, Version::V5, "identified");
    one.subscribe_with(&[("number/+", 1)], &identified(1))
        .unwrap();
    one.subscribe_with(&[("number/#", 0)], &identified(268_435_455))
        .unwrap();
    one.subscribe(&[("number/a", 0), ("none", 1)]).unwrap();
    let mut numbers = |topic: &str| {
        one.post(topic, "x").unwrap();
        let properties = one.message().unwrap().properties;
        let mut numbers = properties.numbers(property::SUBSCRIPTION_IDENTIFIER);
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers("number/a"), [1, 268_435_455]);
    assert_eq!(numbers("number/a/b"), [268_435_455]);
    assert_eq!(numbers("none"), Vec::<u32>::new());
    one.subscribe_with(&[("number/+", 1)], &identified(2))
        .unwrap();
    one.unsubscribe(&["number/#"]).unwrap();
    one.post("number/a", "x").unwrap();
    let properties = one.message().unwrap().properties;
    assert_eq!(properties.numbers(property::SUBSCRIPTION_IDENTIFIER), [2]);
}

/// A client may refuse to hear itself, in MQTT 5; others hear it all the same.
#[test]
fn mqtt_no_local_keeps_own_messages_away() {
    with_node(|node| {
        let address = node.mqtt();
        let mut one = client(address, Version::V5, "hears-others");
        let mut other = client(address, Version::V5, "other");
        one.subscribe(&[("local/quiet", 1 | NO_LOCAL), ("local/loud", 1)])
            .unwrap();
        other.subscribe(&[("local/#", 1 | NO_LOCAL)]).unwrap();
        one.post("local/quiet", "own").unwrap();
        one.post("local/loud", "own").unwrap();
        other.post("local/quiet", "other").unwrap();
        let seen = [one.message().unwrap(), one.message().unwrap()];
        let seen = seen.map(|message| (message.topic.clone(), message.text()));
        let wanted = [("local/loud", "own"), ("local/quiet", "other")];
        assert_eq!(
            seen,
            wanted.map(|(topic, text)| (topic.to_owned(), text.to_owned()))
        );
        assert_eq!(other.message().unwrap().topic, "local/quiet");
        assert_eq!(other.message().unwrap().topic, "local/loud");
        one.no_message_within(Duration::from_millis(200)).unwrap();
    });
}

/// What is asked beyond the limits is refused by its own, and the rest granted: QoS 2, shared
/// subscriptions, depth, filters of a packet, filters of a session.
#[test]
fn mqtt_subscriptions_beyond_the_limits_are_refused_one_by_one() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let refusal = |reason: u8| version.pick(0x80, reason);
            let mut one = client(address, version, "limits");
            let filters = [
                ("exactly/once", 2),
                ("$share/group/a", 1),
                ("1/2/3/4/5/6/7/8/9", 1),
                ("fine", 0),
            ];
            let wanted = [1, refusal(0x9E), refusal(0x8F), 0];
            assert_eq!(one.subscribe(&filters).unwrap(), wanted, "{version:?}");

            let names: Vec<String> = (0..60).map(|number| format!("many/{number}")).collect();
            let all: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 0)).collect();
            let mut wanted = vec![0; 8];
            wanted.push(refusal(0x97));
            assert_eq!(one.subscribe(&all[..9]).unwrap(), wanted, "{version:?}");
            // Ten are subscribed now, two above and eight here.
            for eight in all[8..48].chunks(8) {
                assert_eq!(one.subscribe(eight).unwrap(), [0; 8], "{version:?}");
            }
            let last = [all[0], all[48], ("fine", 1)];
            let wanted = [0, refusal(0x97), 1];
            assert_eq!(one.subscribe(&last).unwrap(), wanted, "{version:?}");
            one.unsubscribe(&[all[0].0]).unwrap();
            assert_eq!(one.subscribe(&[all[48]]).unwrap(), [0], "{version:?}");
        }
    });
}

/// A PUBLISH that this server never takes ends the connection or, where PUBACK can say so, is
/// refused.
#[test]
fn mqtt_publishes_beyond_the_limits_are_refused() {
    let deep = "1/2/3/4/5/6/7/8/9";
    let retained = |topic| Publish {
        retain: true,
        ..Publish::new(topic, "x", 0)
    };
    let numbered = |publish| Publish {
        packet_id: 1,
        ..publish
    };
    let huge = Publish::new("huge", vec![0; 149_504], 0);
    let cases = [
        (
            "QoS 2",
            Version::V5,
            numbered(Publish::new("a", "x", 2)),
            Some(0x9B),
        ),
        (
            "QoS 2",
            Version::V311,
            numbered(Publish::new("a", "x", 2)),
            None,
        ),
        ("RETAIN", Version::V5, retained("a"), Some(0x9A)),
        ("too large", Version::V5, huge.clone(), Some(0x95)),
        ("too large", Version::V311, huge, None),
        (
            "too deep",
            Version::V311,
            numbered(Publish::new(deep, "x", 1)),
            None,
        ),
    ];
    with_node(|node| {
        let address = node.mqtt();
        for (name, version, publish, reason) in cases {
            let mut one = client(address, version, "beyond");
            one.send(&publish.encode(version)).unwrap();
            let ended = one.ended().unwrap();
            assert_eq!(ended.reason(), reason, "{name}, {version:?}: {ended:?}");
        }
        let mut one = client(address, Version::V5, "beyond");
        assert_eq!(one.publish(Publish::new(deep, "x", 1)).unwrap(), 0x90);
        // Of 3.1.1 the flag is taken as 0: delivered as new, and kept for nobody.
        let mut old = client(address, Version::V311, "old");
        old.listen(&["kept"]).unwrap();
        old.send(&retained("kept").encode(Version::V311)).unwrap();
        assert!(!old.message().unwrap().retain);
        one.listen(&["kept"]).unwrap();
        one.no_message_within(Duration::from_millis(300)).unwrap();
    });
}

/// A client never gets a packet larger than it takes, and what follows still comes.
#[test]
fn mqtt_maximum_packet_size_of_the_client_is_kept() {
    with_node(|node| {
        let size = Properties::new().four(property::MAXIMUM_PACKET_SIZE, 100);
        let connect = Connect::new(Version::V5, "small").with_properties(size);
        let mut small = Client::connect(node.mqtt(), &connect).unwrap();
        let mut large = client(node.mqtt(), Version::V5, "large");
        small.subscribe(&[("size/0", 0), ("size/1", 1)]).unwrap();
        large.listen(&["size/+"]).unwrap();
        // Two bytes of header, eight of topic, one for no properties.
        for (topic, length) in [
            ("size/0", 89),
            ("size/0", 90),
            ("size/1", 87),
            ("size/1", 88),
        ] {
            large.post(topic, vec![b'x'; length]).unwrap();
        }
        large.post("size/1", "end").unwrap();
        let seen = [(); 3].map(|()| small.message().unwrap().payload.len());
        assert_eq!(seen, [89, 87, 3]);
        let all = [(); 5].map(|()| large.message().unwrap().payload.len());
        assert_eq!(all, [89, 90, 87, 88, 3]);
    });
}

/// No more messages of QoS 1 are under way than the client takes; QoS 0 does not wait for them.
#[test]
fn mqtt_receive_maximum_of_the_client_is_kept() {
    with_node(|node| {
        let two = Properties::new().two(property::RECEIVE_MAXIMUM, 2);
        let connect = Connect::new(Version::V5, "two").with_properties(two);
        let mut slow = Client::connect(node.mqtt(), &connect).unwrap();
        slow.hold_acknowledgements();
        slow.subscribe(&[("flow", 1), ("free", 0)]).unwrap();
        let mut fast = client(node.mqtt(), Version::V5, "fast");
        for number in 0..5 {
            fast.post("flow", number.to_string()).unwrap();
        }
        fast.post("free", "not held up").unwrap();
        let first = slow.message_on("flow").unwrap();
        let second = slow.message_on("flow").unwrap();
        assert_eq!([first.text(), second.text()], ["0", "1"]);
        slow.message_on("free").unwrap();
        slow.no_message_within(Duration::from_millis(300)).unwrap();
        // In another order than they came; each makes room for one.
        slow.acknowledge(&second).unwrap();
        let third = slow.message().unwrap();
        assert_eq!(third.text(), "2");
        slow.no_message_within(Duration::from_millis(200)).unwrap();
        slow.acknowledge(&first).unwrap();
        slow.acknowledge(&third).unwrap();
        assert_eq!(slow.message().unwrap().text(), "3");
        assert_eq!(slow.message().unwrap().text(), "4");
    });
}

/// Aliases of the client stand for topics of its connection; wrong ones end it. The server uses
/// none, whatever the client allows: the reader would fail.
#[test]
fn mqtt_topic_aliases_stand_for_topics_of_the_connection() {
    let aliased = |topic: &str, payload: &str, alias| {
        let alias = Properties::new().two(property::TOPIC_ALIAS, alias);
        Publish::new(topic, payload, 1).with_properties(alias)
    };
    let send = |client: &mut Client, publish| client.publish(publish).unwrap();
    with_node(|node| {
        let address = node.mqtt();
        let allowed = Properties::new().two(property::TOPIC_ALIAS_MAXIMUM, 10);
        let connect = Connect::new(Version::V5, "aliases").with_properties(allowed);
        let mut one = Client::connect(address, &connect).unwrap();
        one.listen(&["alias/+"]).unwrap();
        send(&mut one, aliased("alias/a", "1", 1));
        send(&mut one, aliased("alias/b", "2", 8));
        send(&mut one, aliased("", "3", 1));
        send(&mut one, aliased("", "4", 8));
        send(&mut one, aliased("alias/c", "5", 1));
        send(&mut one, aliased("", "6", 1));
        send(&mut one, Publish::new("alias/end", "", 1));
        let seen = one.messages_until("alias/end").unwrap();
        let seen: Vec<String> = seen
            .iter()
            .map(|message| format!("{}{}", &message.topic[6..], message.text()))
            .collect();
        assert_eq!(seen, ["a1", "b2", "a3", "b4", "c5", "c6"]);

        let cases = [
            ("zero", aliased("alias/a", "x", 0), 0x94),
            ("above the maximum", aliased("alias/a", "x", 9), 0x94),
            ("unknown", aliased("", "x", 2), 0x82),
            ("of the connection before", aliased("", "x", 1), 0x82),
        ];
        for (name, publish, reason) in cases {
            let mut one = Client::connect(address, &connect).unwrap();
            let publish = Publish { qos: 0, ..publish };
            one.send(&publish.encode(Version::V5)).unwrap();
            assert_eq!(one.ended().unwrap().reason(), Some(reason), "{name}");
        }
    });
}

/// What a publisher says about a message reaches MQTT 5 subscribers unchanged, and older ones get
/// the message without it.
#[test]
fn mqtt_properties_of_a_message_pass_through() {
    with_node(|node| {
        let address = node.mqtt();
        let properties = Properties::new()
            .byte(property::PAYLOAD_FORMAT, 1)
            .four(property::MESSAGE_EXPIRY, 3600)
            .text(property::CONTENT_TYPE, "application/json")
            .text(property::RESPONSE_TOPIC, "answers/1")
            .binary(property::CORRELATION_DATA, &[0, 255, 1])
            .user("b", "2")
            .user("a", "1")
            .user("b", "");
        let mut modern = client(address, Version::V5, "modern");
        let mut old = client(address, Version::V311, "old");
        modern.listen(&["question"]).unwrap();
        old.listen(&["question"]).unwrap();
        let publish = Publish::new("question", "{}", 1).with_properties(properties);
        modern.publish(publish).unwrap();
        let seen = modern.message().unwrap().properties;
        assert_eq!(seen.number(property::PAYLOAD_FORMAT), Some(1));
        assert_eq!(
            seen.string(property::CONTENT_TYPE),
            Some("application/json")
        );
        assert_eq!(seen.string(property::RESPONSE_TOPIC), Some("answers/1"));
        assert_eq!(
            seen.bytes(property::CORRELATION_DATA),
            Some(&[0, 255, 1][..])
        );
        assert_eq!(seen.users(), [("b", "2"), ("a", "1"), ("b", "")]);
        let expiry = seen.number(property::MESSAGE_EXPIRY).unwrap();
        assert!((3500..=3600).contains(&expiry), "{expiry}");
        assert_eq!(old.message().unwrap().text(), "{}");
    });
}

/// A message whose time is over while it waits is not delivered; what waited says how much is left.
#[test]
fn mqtt_messages_expire_while_they_wait() {
    with_node(|node| {
        let one = Properties::new().two(property::RECEIVE_MAXIMUM, 1);
        let connect = Connect::new(Version::V5, "waits").with_properties(one);
        let mut slow = Client::connect(node.mqtt(), &connect).unwrap();
        slow.hold_acknowledgements();
        slow.listen(&["expiry"]).unwrap();
        let mut fast = client(node.mqtt(), Version::V5, "fast");
        let mut post = |payload: &str, seconds| {
            let expiry = Properties::new().four(property::MESSAGE_EXPIRY, seconds);
            let publish = Publish::new("expiry", payload, 1).with_properties(expiry);
            fast.publish(publish).unwrap();
        };
        post("first", 600);
        post("gone", 1);
        post("left", 600);
        let first = slow.message().unwrap();
        assert_eq!(first.text(), "first");
        slow.no_message_within(Duration::from_millis(2100)).unwrap();
        slow.acknowledge(&first).unwrap();
        let left = slow.message().unwrap();
        assert_eq!(left.text(), "left");
        let seconds = left.properties.number(property::MESSAGE_EXPIRY).unwrap();
        assert!((500..=598).contains(&seconds), "{seconds}");
    });
}
