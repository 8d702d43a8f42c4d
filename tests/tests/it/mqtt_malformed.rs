//! Wrong bytes at the MQTT door: the connection ends, with a reason where the version has one, and
//! nobody else notices. The classes of known holes in other brokers are among the cases.

use std::net::SocketAddr;

use antumbra_tests::mqtt::build::{packet, text};
use antumbra_tests::mqtt::{
    Client, Connect, Packet, Publish, Version, assert_serves, with_node, with_options,
};
use antumbra_tests::node::{Node, Options};

use Version::{V5, V311};

const MIB: u64 = 1 << 20;

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;
const FILTER: u8 = 0x8F;
const TOPIC: u8 = 0x90;
const ALIAS: u8 = 0x94;
const LARGE: u8 = 0x95;
const QUOTA: u8 = 0x97;
const QOS: u8 = 0x9B;

/// What is sent, and what an MQTT 5 client is told; 3.1.1 has no word for it.
type Case = (&'static str, Version, Vec<u8>, u8);

/// Cases of one version, a line each.
macro_rules! cases {
    ($version:expr; $($name:literal: $bytes:expr => $reason:ident;)+) => {
        vec![$(($name, $version, Vec::from($bytes), $reason)),+]
    };
}

/// Sends wrong bytes on connected clients.
fn refuse_after_connect(node: &Node, all: Vec<Case>) {
    let address = node.mqtt();
    let mut bystander = Client::connect(address, &Connect::new(V5, "bystander")).unwrap();
    for (name, version, bytes, reason) in all {
        let connect = Connect::new(version, "wrong");
        let mut client = Client::connect(address, &connect).unwrap();
        client.send(&bytes).unwrap();
        // Nothing behind a wrong packet is read.
        client
            .send(&Publish::new("behind", "x", 0).encode(version))
            .unwrap();
        let ended = client.ended().unwrap();
        let wanted = match version {
            V311 => Vec::new(),
            V5 => vec![Packet::Disconnect { reason }],
        };
        assert_eq!(ended.packets, wanted, "{name}, {version:?}: {bytes:02x?}");
        bystander.ping().unwrap();
    }
    assert_serves(address);
}

/// Sends wrong first bytes, and expects this answer.
fn refuse_at_once(
    address: SocketAddr,
    name: &str,
    version: Version,
    bytes: &[u8],
    code: Option<u8>,
) {
    let mut client = Client::open(address, version).unwrap();
    client.send(bytes).unwrap();
    let ended = client.ended().unwrap();
    assert_eq!(ended.reason(), code, "{name}, {version:?}: {ended:?}");
    let packets = usize::from(code.is_some());
    assert_eq!(
        ended.packets.len(),
        packets,
        "{name}, {version:?}: {ended:?}"
    );
}

/// A CONNECT with these flags, properties and rest.
fn connect(version: Version, flags: u8, properties: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    let length = [u8::try_from(properties.len()).unwrap()];
    let length: &[u8] = version.pick(&[], &length);
    let head = [version.level(), flags, 0, 60];
    packet(
        0x10,
        &[&text("MQTT"), &head, length, properties, &rest.concat()],
    )
}

/// What is no CONNECT is not answered, whatever it is (class of CVE-2023-0809 and of a null
/// dereference by an early acknowledgement).
#[test]
fn mqtt_malformed_first_packet_other_than_connect_is_closed_silently() {
    let good = connect(V311, 0b10, &[], &[&text("a")]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("PUBLISH", Publish::new("a", "x", 0).encode(V311)),
        ("PUBLISH of QoS 1", packet(0x32, &[&text("a"), &[0, 1]])),
        ("PUBACK", vec![0x40, 2, 0, 1]),
        ("PUBREC", vec![0x50, 2, 0, 1]),
        ("PUBREL", vec![0x62, 2, 0, 1]),
        ("PUBCOMP", vec![0x70, 2, 0, 1]),
        ("SUBSCRIBE", packet(0x82, &[&[0, 1], &text("a"), &[0]])),
        ("UNSUBSCRIBE", packet(0xA2, &[&[0, 1], &text("a")])),
        ("PINGREQ", vec![0xC0, 0]),
        ("DISCONNECT", vec![0xE0, 0]),
        ("AUTH", vec![0xF0, 0]),
        ("CONNACK", vec![0x20, 2, 0, 0]),
        ("reserved type", vec![0x00, 0]),
        ("zeros", vec![0; 64]),
        (
            "CONNECT with header flags",
            [&[0x11][..], &good[1..]].concat(),
        ),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("gRPC", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("PROXY", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec()),
        // CVE-2026-21888.
        (
            "length of five bytes",
            vec![0x10, 0x80, 0x80, 0x80, 0x80, 1],
        ),
        ("CONNECT too large", vec![0x10, 0x81, 0x20, 0, 4]),
        (
            "CONNECT of 256 MiB",
            vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4],
        ),
        (
            "CONNECT too short",
            packet(0x10, &[&text("MQTT"), &[4, 2, 0, 60]]),
        ),
        (
            "name longer than packet",
            packet(0x10, &[&[0xFF, 0xFF], &[0; 12]]),
        ),
    ];
    with_node(|node| {
        for (name, bytes) in cases {
            refuse_at_once(node.mqtt(), name, V311, &bytes, None);
            // Byte by byte it is the same.
            let mut client = Client::open(node.mqtt(), V311).unwrap();
            for byte in bytes {
                client.send(&[byte]).unwrap();
            }
            assert!(client.ended().unwrap().packets.is_empty(), "{name}");
        }
    });
}

/// What is wrong with a CONNECT: name, flags, rest, and the answers in 3.1.1 and 5.
type Connection = (&'static str, u8, Vec<u8>, Option<u8>, u8);

/// Wrong CONNECT packets, a line each.
macro_rules! connections {
    ($($name:literal: $flags:expr, $rest:expr => $code:expr, $reason:ident;)+) => {
        vec![$(($name, $flags, Vec::from($rest), $code, $reason)),+]
    };
}

/// A wrong CONNECT is refused: by CONNACK with the reason in MQTT 5, in 3.1.1 only where a return
/// code exists for it.
#[test]
fn mqtt_malformed_connects_are_refused() {
    let a = text("a");
    let all: Vec<Connection> = connections! {
        "reserved flag": 0b11, text("a") => None, MALFORMED;
        "will QoS without will": 0b0000_1010, text("a") => None, MALFORMED;
        "will RETAIN without will": 0b0010_0010, text("a") => None, MALFORMED;
        "will missing": 0b0110, text("abcdef") => None, MALFORMED;
        "user missing": 0b1000_0010, text("abc") => None, MALFORMED;
        "bytes behind": 0b10, [&a[..], b"x"].concat() => None, MALFORMED;
        "identifier not UTF-8": 0b10, text([0xC3, 0x28]) => None, MALFORMED;
        "surrogate": 0b10, text([0xED, 0xA0, 0x80]) => None, MALFORMED;
        "overlong UTF-8": 0b10, text([0xC0, 0xAF]) => None, MALFORMED;
        "NUL in identifier": 0b10, text("a\0b") => None, MALFORMED;
        "identifier cut off": 0b10, [0xFF, 0xFF, b'a', b'b'] => None, MALFORMED;
    };
    with_node(|node| {
        let address = node.mqtt();
        for (name, flags, rest, code, reason) in all {
            let old = connect(V311, flags, &[], &[&rest]);
            refuse_at_once(address, name, V311, &old, code);
            let new = connect(V5, flags, &[], &[&rest]);
            refuse_at_once(address, name, V5, &new, Some(reason));
        }
        wrong_wills_are_refused(address);
        wrong_properties_are_refused(address);
        let alone = connect(V311, 0b0100_0010, &[], &[&a, &text("p")]);
        refuse_at_once(address, "password without user", V311, &alone, None);
    });
}

fn wrong_wills_are_refused(address: SocketAddr) {
    // In the place of the rest stands the topic of the will.
    let all: Vec<Connection> = connections! {
        "will QoS 3": 0b0001_1110, *b"w" => None, MALFORMED;
        "will topic with wildcard": 0b0110, *b"w/#" => Some(5), TOPIC;
        "will topic empty": 0b0110, [] => Some(5), TOPIC;
        "will topic with NUL": 0b0110, *b"w\0" => None, MALFORMED;
        "will topic not UTF-8": 0b0110, [0xFF] => None, MALFORMED;
    };
    for (name, flags, topic, code, reason) in all {
        for version in Version::ALL {
            let none: &[u8] = version.pick(&[], &[0]);
            let rest: [&[u8]; 4] = [&text("a"), none, &text(&topic), &text("x")];
            let bytes = connect(version, flags, &[], &rest);
            let answer = version.pick(code, Some(reason));
            refuse_at_once(address, name, version, &bytes, answer);
        }
    }
}

fn wrong_properties_are_refused(address: SocketAddr) {
    let a = text("a");
    let all: Vec<Case> = cases! { V5;
        "receive maximum 0": [0x21, 0, 0] => PROTOCOL;
        "maximum packet size 0": [0x27, 0, 0, 0, 0] => PROTOCOL;
        "property twice": [0x21, 0, 1, 0x21, 0, 1] => PROTOCOL;
        "flag of 2": [0x19, 2] => PROTOCOL;
        "authentication data alone": [0x16, 0, 1, 7] => PROTOCOL;
        "property of PUBLISH": [0x23, 0, 1] => MALFORMED;
        "property unknown": [0x7F, 0] => MALFORMED;
        "property cut off": [0x11, 0, 0] => MALFORMED;
        "user property with NUL": [0x26, 0, 1, 0, 0, 0] => MALFORMED;
    };
    for (name, version, properties, reason) in all {
        let bytes = connect(version, 0b10, &properties, &[&a]);
        refuse_at_once(address, name, version, &bytes, Some(reason));
    }
    let long = packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 100], &a]);
    refuse_at_once(address, "properties too long", V5, &long, Some(MALFORMED));
    let padded = packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 0x80, 0], &a]);
    refuse_at_once(address, "padded length", V5, &padded, Some(MALFORMED));
}

/// Packets of the wrong type, flags or length (classes of CVE-2021-28166 and CVE-2026-21888).
#[test]
fn mqtt_malformed_headers_close_the_connection() {
    let again = |version| Connect::new(version, "wrong").encode();
    let mut all: Vec<Case> = Vec::new();
    for version in Version::ALL {
        all.extend::<Vec<Case>>(cases! { version;
            "second CONNECT": again(version) => PROTOCOL;
            "CONNACK": [0x20, 2, 0, 0] => PROTOCOL;
            "SUBACK": [0x90, 4, 0, 1, 0, 0] => PROTOCOL;
            "UNSUBACK": [0xB0, 2, 0, 1] => PROTOCOL;
            "PINGRESP": [0xD0, 0] => PROTOCOL;
            "PUBREC": [0x50, 2, 0, 1] => PROTOCOL;
            "PUBREL": [0x62, 2, 0, 1] => PROTOCOL;
            "PUBCOMP": [0x70, 2, 0, 1] => PROTOCOL;
            "reserved type": [0x00, 0] => MALFORMED;
            "length of five bytes": [0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F] => MALFORMED;
            "PINGREQ with body": [0xC0, 1, 0] => MALFORMED;
            "PINGREQ with flags": [0xC1, 0] => MALFORMED;
            "DISCONNECT with flags": [0xE2, 0] => MALFORMED;
            "PUBACK with flags": [0x42, 2, 0, 1] => MALFORMED;
            "PUBACK too short": [0x40, 1, 0] => MALFORMED;
            "PUBACK of packet 0": [0x40, 2, 0, 0] => PROTOCOL;
            "PUBLISH too short": [0x30, 2, 0, 1] => MALFORMED;
        });
    }
    all.extend::<Vec<Case>>(cases! { V311;
        "AUTH": [0xF0, 0] => MALFORMED;
        "PUBACK too long": [0x40, 3, 0, 1, 0] => MALFORMED;
        "DISCONNECT with body": [0xE0, 1, 0] => MALFORMED;
    });
    all.extend::<Vec<Case>>(cases! { V5;
        "CONNECT of another version": again(V311) => PROTOCOL;
        "AUTH without method": [0xF0, 0] => PROTOCOL;
        "padded length": [0xC0, 0x80, 0] => MALFORMED;
        "PUBACK of unknown reason": [0x40, 3, 0, 1, 0x42] => MALFORMED;
        "PUBACK with bytes behind": [0x40, 5, 0, 1, 0, 0, 9] => MALFORMED;
        "DISCONNECT of unknown reason": [0xE0, 1, 0x42] => MALFORMED;
        "DISCONNECT with bytes behind": [0xE0, 3, 0, 0, 0] => MALFORMED;
    });
    with_node(|node| refuse_after_connect(node, all));
}

/// PUBLISH packets that break a rule (classes of CVE-2021-34432 and CVE-2026-25627).
#[test]
fn mqtt_malformed_publishes_close_the_connection() {
    let mut all: Vec<Case> = Vec::new();
    for version in Version::ALL {
        let none: &[u8] = version.pick(&[], &[0]);
        let named = |topic: &[u8]| packet(0x30, &[&text(topic), none, b"x"]);
        let numbered = |first, id: u8| packet(first, &[&text("a"), &[0, id], none]);
        let empty = version.pick(TOPIC, PROTOCOL);
        all.extend::<Vec<Case>>(cases! { version;
            "topic empty": named(b"") => empty;
            "topic with +": named(b"a/+/b") => TOPIC;
            "topic with #": named(b"a/#") => TOPIC;
            "reserved topic with +": named(b"$aws/things/+/shadow/update") => TOPIC;
            "topic with NUL": named(b"a\0b") => MALFORMED;
            "topic not UTF-8": named(&[0xFF, 0xFE]) => MALFORMED;
            "topic with surrogate": named(&[0xED, 0xA0, 0x80]) => MALFORMED;
            "topic cut off": packet(0x30, &[&[0xFF, 0xFF], b"abc"]) => MALFORMED;
            "DUP with QoS 0": packet(0x38, &[&text("a"), none]) => MALFORMED;
            "QoS 3": numbered(0x36, 1) => MALFORMED;
            "QoS 2": numbered(0x34, 1) => QOS;
            "packet 0": numbered(0x32, 0) => PROTOCOL;
            "identifier cut off": packet(0x32, &[&text("abc"), &[0]]) => MALFORMED;
            "too large": [0x30, 0xFF, 0xFF, 0xFF, 0x7F] => LARGE;
        });
    }
    let with = |properties: &[u8]| {
        let length = [u8::try_from(properties.len()).unwrap()];
        packet(0x30, &[&text("a"), &length, properties])
    };
    let many = [0x26, 0, 0, 0, 0].repeat(101);
    all.extend::<Vec<Case>>(cases! { V5;
        "topic alias 0": with(&[0x23, 0, 0]) => ALIAS;
        "subscription identifier": with(&[0x0B, 1]) => PROTOCOL;
        "response topic with #": with(&[0x08, 0, 1, b'#']) => PROTOCOL;
        "payload format 2": with(&[0x01, 2]) => PROTOCOL;
        "content type not UTF-8": with(&[0x03, 0, 1, 0xFF]) => MALFORMED;
        "property of CONNECT": with(&[0x21, 0, 1]) => MALFORMED;
        "property twice": with(&[0x01, 1, 0x01, 1]) => PROTOCOL;
        "no property length": packet(0x30, &[&text("abc")]) => MALFORMED;
        "properties cut off": packet(0x30, &[&text("a"), &[9, 1]]) => MALFORMED;
        "101 user properties": packet(0x30, &[&text("a"), &[0xF9, 3], &many]) => QUOTA;
    });
    with_node(|node| refuse_after_connect(node, all));
}

/// SUBSCRIBE and UNSUBSCRIBE packets that break a rule.
#[test]
fn mqtt_malformed_subscriptions_close_the_connection() {
    let mut all: Vec<Case> = Vec::new();
    for version in Version::ALL {
        let id: &[u8] = version.pick(&[0, 1], &[0, 1, 0]);
        let zero: &[u8] = version.pick(&[0, 0], &[0, 0, 0]);
        let wants = |filter: &[u8], options| packet(0x82, &[id, &text(filter), &[options]]);
        let reserved = version.pick(0x11, 0x41);
        let many = [0, 1, b'a', 0].repeat(257);
        all.extend::<Vec<Case>>(cases! { version;
            "# not last": wants(b"a/#/b", 0) => FILTER;
            "# in a level": wants(b"a#", 0) => FILTER;
            "+ in a level": wants(b"a+/b", 0) => FILTER;
            "filter empty": wants(b"", 0) => FILTER;
            "filter with NUL": wants(b"a\0", 0) => MALFORMED;
            "filter not UTF-8": wants(&[0xC3, 0x28], 0) => MALFORMED;
            "QoS 3": wants(b"a", 3) => MALFORMED;
            "reserved bits": wants(b"a", reserved) => MALFORMED;
            "share without filter": wants(b"$share/group", 0) => FILTER;
            "share without group": wants(b"$share//a", 0) => FILTER;
            "no filter": packet(0x82, &[id]) => PROTOCOL;
            "no options": packet(0x82, &[id, &text("a")]) => MALFORMED;
            "packet 0": packet(0x82, &[zero, &text("a"), &[0]]) => PROTOCOL;
            "wrong flags": packet(0x80, &[id, &text("a"), &[0]]) => MALFORMED;
            "filter cut off": packet(0x82, &[id, &[16, 0], b"a", &[0]]) => MALFORMED;
            "257 filters": packet(0x82, &[id, &many]) => QUOTA;
            "too large": [0x82, 0x80, 0x80, 2] => LARGE;
            "UNSUBSCRIBE nothing": packet(0xA2, &[id]) => PROTOCOL;
            "UNSUBSCRIBE of packet 0": packet(0xA2, &[zero, &text("a")]) => PROTOCOL;
            "UNSUBSCRIBE with flags": packet(0xA0, &[id, &text("a")]) => MALFORMED;
            "UNSUBSCRIBE # not last": packet(0xA2, &[id, &text("#/a")]) => FILTER;
        });
    }
    let no_local = [0x05];
    all.extend::<Vec<Case>>(cases! { V5;
        "identifier 0": packet(0x82, &[&[0, 1, 2, 0x0B, 0], &text("a"), &[0]]) => PROTOCOL;
        "retain handling 3": packet(0x82, &[&[0, 1, 0], &text("a"), &[0x31]]) => PROTOCOL;
        "shared, No Local": packet(0x82, &[&[0, 1, 0], &text("$share/g/a"), &no_local]) => PROTOCOL;
    });
    with_node(|node| refuse_after_connect(node, all));
}

/// What a packet promises costs nothing until it comes (class of CVE-2021-22116, -33175, -33176):
/// a thousand clients that announce the largest packet and send its beginning.
#[test]
fn mqtt_malformed_sizes_take_no_memory() {
    with_node(|node| {
        let address = node.mqtt();
        assert_serves(address);
        let before = node.rss().unwrap();
        let mut clients = Vec::new();
        for number in 0..1000 {
            let connect = Connect::new(V5, &format!("promises-{number}"));
            let mut client = Client::connect(address, &connect).unwrap();
            // 148,000 bytes, of which a topic length of 65,535 and a little more comes.
            client
                .send(&[0x30, 0xA0, 0x84, 9, 0xFF, 0xFF, b'a', b'b'])
                .unwrap();
            clients.push(client);
        }
        assert_serves(address);
        let grown = node.rss().unwrap().saturating_sub(before);
        assert!(grown < 48 * MIB, "{} KiB", grown / 1024);
        // And when they are gone in the middle of it, everybody else is still served.
        drop(clients);
    });
}

/// A client that hears much and reads nothing does not fill the memory of the node.
#[test]
fn mqtt_client_that_does_not_read_takes_no_memory() {
    let rate = "ANTUMBRA_LIMITS_MQTT_BYTES_PER_SECOND_MAX";
    let unpaced = |options: Options| options.with_env(rate, "1GiB");
    with_options(unpaced, |node| {
        let address = node.mqtt();
        let mut deaf = Client::connect(address, &Connect::new(V5, "deaf")).unwrap();
        deaf.subscribe(&[("loud/#", 1)]).unwrap();
        let before = node.rss().unwrap();
        for publisher in 0..4 {
            let connect = Connect::new(V5, &format!("loud-{publisher}"));
            let mut client = Client::connect(address, &connect).unwrap();
            let message = Publish::new("loud/a", vec![0; 100 * 1024], 0).encode(V5);
            for _ in 0..300 {
                client.send(&message).unwrap();
            }
            client.ping().unwrap();
        }
        let grown = node.rss().unwrap().saturating_sub(before);
        assert!(grown < 64 * MIB, "{} KiB", grown / 1024);
    });
}
