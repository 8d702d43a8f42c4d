//! How MQTT connections begin and end: CONNECT and its answer, identifiers, keep-alive, take-over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antumbra_tests::mqtt::{
    Client, Connect, Packet, Properties, Version, Will, build, property, with_node,
};

/// The keep-alive of the clients that fall silent, in seconds.
const KEEP_ALIVE_S: u16 = 4;
/// The longest that is granted.
const KEEP_ALIVE_MAX_S: u32 = 1200;

/// A CONNECT is accepted, a PINGREQ answered and a DISCONNECT carried out, in all versions.
#[test]
fn mqtt_connect_ping_and_disconnect_work_in_every_version() {
    with_node(|node| {
        let address = node.mqtt();
        for version in Version::ALL {
            let connect = Connect::new(version, "basic");
            let (mut client, ack) = Client::dial(address, &connect).unwrap();
            assert_eq!((ack.reason, ack.session_present), (0, false), "{version:?}");
            client.ping().unwrap();
            client.disconnect().unwrap();
        }
        oldest_version_is_served(address);
        limits_are_announced(address);
        name_with_metadata_is_no_credential(address);
    });
}

/// MQTT 3.1 differs in name and level; what follows is read as 3.1.1.
fn oldest_version_is_served(address: SocketAddr) {
    let mut client = Client::open(address, Version::V311).unwrap();
    let head = [3, 0b10, 0, 60];
    let parts: [&[u8]; 3] = [&build::text("MQIsdp"), &head, &build::text("old")];
    client.send(&build::packet(0x10, &parts)).unwrap();
    assert_eq!(client.connect_ack().unwrap().reason, 0);
    client.ping().unwrap();
}

/// MQTT 5 clients learn what the server does not do, instead of finding out.
fn limits_are_announced(address: SocketAddr) {
    let (_client, ack) = Client::dial(address, &Connect::new(Version::V5, "limits")).unwrap();
    let wanted = [
        (property::MAXIMUM_QOS, 1),
        (property::RETAIN_AVAILABLE, 0),
        (property::SHARED_AVAILABLE, 0),
        (property::RECEIVE_MAXIMUM, 100),
        (property::TOPIC_ALIAS_MAXIMUM, 8),
        (property::MAXIMUM_PACKET_SIZE, 149_504),
    ];
    for (identifier, value) in wanted {
        let found = ack.properties.number(identifier);
        assert_eq!(found, Some(value), "{identifier:#04x} of {ack:?}");
    }
    for absent in [property::ASSIGNED_CLIENT_ID, property::SERVER_KEEP_ALIVE] {
        assert!(!ack.properties.has(absent), "{ack:?}");
    }
}

/// The SDKs of AWS say what they are in the user name; that is not a name without a password.
fn name_with_metadata_is_no_credential(address: SocketAddr) {
    for version in Version::ALL {
        let mut connect = Connect::new(version, "sdk");
        connect.user = Some("?SDK=Python&Version=1".to_owned());
        Client::connect(address, &connect).unwrap();
    }
}

/// An empty client identifier is one that the server chooses, where it can be told or is not
/// needed; a session of 3.1.1 that is to be kept has nobody to belong to.
#[test]
fn mqtt_client_without_an_identifier_gets_one_or_is_refused() {
    with_node(|node| {
        let address = node.mqtt();
        let clean = Connect::new(Version::V311, "");
        let mut first = Client::connect(address, &clean).unwrap();
        let mut second = Client::connect(address, &clean).unwrap();
        first.ping().unwrap();
        second.ping().unwrap();

        let kept = Connect::durable(Version::V311, "");
        let (mut client, ack) = Client::dial(address, &kept).unwrap();
        assert_eq!((ack.reason, ack.session_present), (2, false));
        client.ended().unwrap();

        let mut assigned = Vec::new();
        let mut clients = Vec::new();
        for clean in [true, false] {
            let connect = Connect {
                clean,
                ..Connect::new(Version::V5, "")
            };
            let (mut client, ack) = Client::dial(address, &connect).unwrap();
            assert_eq!((ack.reason, ack.session_present), (0, false), "{clean}");
            assigned.push(ack.assigned_id().unwrap().to_owned());
            client.ping().unwrap();
            clients.push(client);
        }
        assert_ne!(assigned[0], assigned[1]);
        assert!(!assigned[0].is_empty());

        // It is an identifier like any other: whoever connects with it takes the session over.
        let connect = Connect::new(Version::V5, &assigned[0]);
        let (_again, ack) = Client::dial(address, &connect).unwrap();
        assert_eq!(ack.assigned_id(), None);
        assert_eq!(clients[0].ended().unwrap().reason(), Some(0x8E));
        clients[1].ping().unwrap();
    });
}

/// A CONNECT that asks for what is never done is refused with the reason, as far as the version
/// has one.
#[test]
fn mqtt_connect_that_asks_too_much_is_refused() {
    let will = |topic: &str, qos, retain| Will {
        qos,
        retain,
        ..Will::new(topic, "x")
    };
    let deep = "a/b/c/d/e/f/g/h/i";
    let with_will = |version, will| Connect::new(version, "refused").with_will(will);
    let enhanced = Properties::new().text(property::AUTHENTICATION_METHOD, "SCRAM-SHA-1");
    let enhanced = Connect::new(Version::V5, "refused").with_properties(enhanced);
    let cases = [
        (
            "will of QoS 2",
            with_will(Version::V311, will("w", 2, false)),
            0x05,
        ),
        (
            "will of QoS 2",
            with_will(Version::V5, will("w", 2, false)),
            0x9B,
        ),
        (
            "retained will",
            with_will(Version::V5, will("w", 1, true)),
            0x9A,
        ),
        (
            "will too deep",
            with_will(Version::V311, will(deep, 1, false)),
            0x05,
        ),
        (
            "will too deep",
            with_will(Version::V5, will(deep, 1, false)),
            0x90,
        ),
        ("authentication method", enhanced, 0x8C),
    ];
    with_node(|node| {
        let address = node.mqtt();
        for (name, connect, reason) in cases {
            let (mut client, ack) = Client::dial(address, &connect).unwrap();
            let what = format!("{name}, {:?}", connect.version);
            assert_eq!((ack.reason, ack.session_present), (reason, false), "{what}");
            client.ended().unwrap();
        }
        // Before MQTT 5 RETAIN counts as 0, so such a will is as good as any.
        let connect = with_will(Version::V311, will("w", 1, true));
        Client::connect(address, &connect).unwrap();
        levels_that_do_not_exist_are_refused(address);
    });
}

/// Levels nobody knows are answered in the form of 3.1.1 [MQTT-3.1.2-2]; another name is not MQTT
/// and gets no answer.
fn levels_that_do_not_exist_are_refused(address: SocketAddr) {
    let cases: [(&str, u8, Option<u8>); 6] = [
        ("MQTT", 0, Some(1)),
        ("MQTT", 3, Some(1)),
        ("MQTT", 6, Some(1)),
        ("MQTT", 0x84, Some(1)),
        ("MQIsdp", 4, Some(1)),
        ("MQTX", 4, None),
    ];
    for (name, level, reason) in cases {
        let mut client = Client::open(address, Version::V311).unwrap();
        let head = [level, 0b10, 0, 60];
        let parts: [&[u8]; 3] = [&build::text(name), &head, &build::text("a")];
        client.send(&build::packet(0x10, &parts)).unwrap();
        let ended = client.ended().unwrap();
        assert_eq!(ended.reason(), reason, "{name} {level}: {ended:?}");
    }
}

/// The second connection of a client closes the first, which may be told why; other clients do
/// not notice.
#[test]
fn mqtt_second_connection_of_a_client_takes_the_session_over() {
    with_node(|node| {
        let address = node.mqtt();
        let mut other = Client::connect(address, &Connect::new(Version::V5, "other")).unwrap();
        for first in Version::ALL {
            for second in Version::ALL {
                let mut old = Client::connect(address, &Connect::new(first, "twice")).unwrap();
                let mut new = Client::connect(address, &Connect::new(second, "twice")).unwrap();
                let ended = old.ended().unwrap();
                let reason = first.pick(None, Some(0x8E));
                assert_eq!(ended.reason(), reason, "{first:?} then {second:?}");
                new.ping().unwrap();
            }
        }
        for version in Version::ALL {
            durable_session_moves_to_the_second_connection(address, version);
        }
        other.ping().unwrap();
        many_connections_leave_one(address);
    });
}

fn durable_session_moves_to_the_second_connection(address: SocketAddr, version: Version) {
    let client_id = version.pick("moves-311", "moves-5");
    let connect = Connect::durable(version, client_id);
    let mut old = Client::connect(address, &connect).unwrap();
    old.listen(&[client_id]).unwrap();
    let (mut new, ack) = Client::dial(address, &connect).unwrap();
    assert!(ack.session_present, "{version:?}");
    old.ended().unwrap();
    new.post(client_id, "still subscribed").unwrap();
    assert_eq!(new.message().unwrap().text(), "still subscribed");
}

/// Connections of one client in a row, without waiting: the last one stays, every other ends.
fn many_connections_leave_one(address: SocketAddr) {
    let connect = Connect::durable(Version::V5, "storm");
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::open(address, Version::V5).unwrap();
        client.send(&connect.encode()).unwrap();
        clients.push(client);
    }
    // They are accepted in any order, so which one stays cannot be known before.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut open = clients;
    while open.len() > 1 {
        assert!(Instant::now() < deadline, "{} are open", open.len());
        open.retain_mut(|client| client.ended_within(Duration::from_millis(50)).is_err());
    }
    let mut last = open.pop().expect("one stays");
    assert_eq!(last.connect_ack().unwrap().reason, 0);
    last.ping().unwrap();
}

/// A client that wants another keep-alive than it may have is told which one it has.
#[test]
fn mqtt_server_keep_alive_bounds_what_clients_ask_for() {
    let cases = [
        (0, Some(KEEP_ALIVE_MAX_S)),
        (1, None),
        (60, None),
        (1200, None),
        (1201, Some(KEEP_ALIVE_MAX_S)),
        (u16::MAX, Some(KEEP_ALIVE_MAX_S)),
    ];
    with_node(|node| {
        for (asked, given) in cases {
            let mut connect = Connect::new(Version::V5, "keep-alive");
            connect.keep_alive_s = asked;
            let (_client, ack) = Client::dial(node.mqtt(), &connect).unwrap();
            let found = ack.properties.number(property::SERVER_KEEP_ALIVE);
            assert_eq!(found, given, "{asked} s");
        }
    });
}

/// Who is silent for one and a half keep-alives is gone, his will is published, and an unfinished
/// packet does not count as a sign of life; who pings stays.
#[test]
fn mqtt_silent_clients_are_disconnected_and_pinging_ones_stay() {
    with_node(|node| {
        let address = node.mqtt();
        let connect = |version, client_id: &str| Connect {
            keep_alive_s: KEEP_ALIVE_S,
            ..Connect::new(version, client_id)
        };
        let mut heir = Client::connect(address, &Connect::new(Version::V5, "heir")).unwrap();
        heir.listen(&["silent/+"]).unwrap();
        let mut pinging = Client::connect(address, &connect(Version::V311, "pinging")).unwrap();

        let started = Instant::now();
        let will = Will::new("silent/5", "gone");
        let silent = connect(Version::V5, "silent-5").with_will(will);
        let mut silent_5 = Client::connect(address, &silent).unwrap();
        let will = Will::new("silent/311", "gone");
        let silent = connect(Version::V311, "silent-311").with_will(will);
        let mut silent_311 = Client::connect(address, &silent).unwrap();
        // A packet that promises more than comes (class of CVE-2026-25627).
        let mut cut = Client::connect(address, &connect(Version::V5, "cut")).unwrap();
        cut.send(&[0x30, 0xFF, 0xFF, 0x07, 0, 1]).unwrap();

        let span = Duration::from_secs(u64::from(KEEP_ALIVE_S)) * 3 / 2;
        while started.elapsed() + Duration::from_secs(2) < span {
            cut.send(b"x").unwrap();
            pinging.ping().unwrap();
            heir.no_message_within(Duration::from_millis(500)).unwrap();
        }
        assert_eq!(silent_5.ended().unwrap().reason(), Some(0x8D));
        assert_eq!(silent_311.ended().unwrap().reason(), None);
        assert_eq!(cut.ended().unwrap().reason(), Some(0x8D));
        assert!(started.elapsed() >= span);
        let mut wills = [heir.message().unwrap().topic, heir.message().unwrap().topic];
        wills.sort();
        assert_eq!(wills, ["silent/311", "silent/5"]);
        pinging.ping().unwrap();
    });
}

/// A connection that does not become a client in time is closed, whatever part of a CONNECT came.
#[test]
fn mqtt_connect_that_does_not_come_in_time_closes_the_connection() {
    with_node(|node| {
        let address = node.mqtt();
        let whole = Connect::new(Version::V5, "slow").encode();
        let parts = [0, 1, 2, 9, whole.len() - 1];
        let started = Instant::now();
        let mut clients: Vec<Client> = Vec::new();
        for part in parts {
            let mut client = Client::open(address, Version::V5).unwrap();
            client.send(&whole[..part]).unwrap();
            clients.push(client);
        }
        for (client, part) in clients.iter_mut().zip(parts) {
            let ended = client.ended().unwrap();
            assert_eq!(ended.packets, Vec::<Packet>::new(), "after {part} bytes");
        }
        let waited = started.elapsed();
        assert!(waited > Duration::from_secs(4), "{waited:?}");
        assert!(waited < Duration::from_secs(15), "{waited:?}");
    });
}

/// A client that cannot take the CONNACK is not left waiting for it.
#[test]
fn mqtt_client_that_takes_no_connack_is_closed() {
    with_node(|node| {
        let smallest = Properties::new().four(property::MAXIMUM_PACKET_SIZE, 4);
        let connect = Connect::new(Version::V5, "tiny").with_properties(smallest);
        let mut client = Client::open(node.mqtt(), Version::V5).unwrap();
        client.send(&connect.encode()).unwrap();
        let ended = client.ended().unwrap();
        assert_eq!(ended.packets, Vec::<Packet>::new());
    });
}
