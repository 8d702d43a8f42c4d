//! Connections of clients, packet by packet, for each version of MQTT.

use super::Seed;
use crate::gateway::mqtt::wire::{ClientPacket, Decoder, SizeLimits};

/// How the target cuts what follows into pieces: all at once, nearly, or byte by byte.
const WHOLE: u8 = 0xfc;
const BYTES: u8 = 0x00;

const V31: u8 = 3;
const V311: u8 = 4;
const V5: u8 = 5;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for version in [V31, V311, V5] {
        for (name, packets) in connections(version) {
            let bytes = packets.concat();
            assert_eq!(
                decoded(&bytes),
                packets.len(),
                "{name} of {version} is right"
            );
            let bytes = [&[WHOLE], &bytes[..]].concat();
            seeds.push(Seed::new("mqtt", format!("v{version}-{name}"), bytes));
        }
    }
    for (name, packets) in only_five() {
        let bytes = packets.concat();
        assert_eq!(decoded(&bytes), packets.len(), "{name} is right");
        seeds.push(Seed::new("mqtt", name, [&[WHOLE], &bytes[..]].concat()));
    }
    for (name, bytes) in refused() {
        let bytes = [&[BYTES], &bytes[..]].concat();
        seeds.push(Seed::new("mqtt", format!("refused-{name}"), bytes));
    }
    seeds.push(Seed::new(
        "mqtt",
        "topics",
        &b"\x00$share/group/a/+/#\na/b/c"[..],
    ));
    seeds
}

/// How many packets the decoder makes of the bytes, until it refuses one.
fn decoded(mut bytes: &[u8]) -> usize {
    let mut decoder = Decoder::new(SizeLimits::default());
    let mut packets: Vec<ClientPacket> = Vec::new();
    while let Ok(Some(packet)) = decoder.decode(&mut bytes) {
        packets.push(packet);
    }
    packets.len()
}

fn connections(version: u8) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let hello = plain_connect(version);
    vec![
        ("connect", vec![hello.clone()]),
        ("login", vec![login(version)]),
        ("will", vec![will(version)]),
        (
            "publish",
            vec![
                hello.clone(),
                publish(version, 0, "a/b", None, b"0"),
                publish(version, 1, "a/b", Some(1), b"1"),
                publish(version, 1, "a/b", Some(2), b"!refused"),
                publish(version, 1, "a/b", Some(3), b"?lost"),
                ping(),
                bye(),
            ],
        ),
        (
            "subscribe",
            vec![
                hello.clone(),
                subscribe(
                    version,
                    1,
                    &[("a/+", 1), ("#", 0), ("$aws/things/+/shadow/#", 2)],
                ),
                publish(version, 1, "a/b", Some(2), b"back"),
                acknowledge(1),
                publish(version, 0, "a/b", None, b"again"),
                unsubscribe(version, 3, &["a/+", "none"]),
                ping(),
                bye(),
            ],
        ),
        (
            "shadow",
            vec![
                hello,
                subscribe(version, 1, &[("$aws/things/a/shadow/update/accepted", 1)]),
                publish(
                    version,
                    1,
                    "$aws/things/a/shadow/update",
                    Some(2),
                    br#"{"state":{"reported":{"on":true}}}"#,
                ),
                ping(),
            ],
        ),
    ]
}

/// What only MQTT 5 has.
fn only_five() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let properties = [
        &[0x01, 1][..],                  // payload format
        &[0x02, 0, 0, 0, 60],            // expiry
        &[0x23, 0, 2],                   // topic alias
        &[0x08, 0, 1, b'r'],             // response topic
        &[0x09, 0, 2, 0, 1],             // correlation data
        &[0x26, 0, 1, b'k', 0, 1, b'v'], // user property
        &[0x03, 0, 4, b't', b'e', b'x', b't'],
    ]
    .concat();
    let full = publish_with(1, "a/b", Some(1), &properties, b"{}");
    let alias = publish_with(0, "", None, &[0x23, 0, 2], b"by alias");
    let connect = [
        &[0x11, 0, 0, 0, 60][..], // session expiry
        &[0x21, 0, 2],            // receive maximum
        &[0x27, 0, 0, 4, 0],      // maximum packet size
        &[0x22, 0, 4],            // topic alias maximum
        &[0x19, 1],               // request response information
        &[0x17, 0],               // request problem information
        &[0x26, 0, 1, b'k', 0, 1, b'v'],
    ]
    .concat();
    let numbered = body(&[&[0, 1], &[2, 0x0b, 7], &text(b"a/#"), &[0b0010_1101]]);
    vec![
        (
            "five-properties",
            vec![connect_with(V5, 0, &connect, &[b"five"]), full, alias],
        ),
        (
            "five-subscription-identifier",
            vec![
                plain_connect(V5),
                packet(0x82, &numbered),
                publish(V5, 1, "a/x", Some(9), b"numbered"),
                packet(0x40, &[0, 1, 0x10, 0]),
            ],
        ),
        (
            "five-disconnect-with-expiry",
            vec![
                connect_with(V5, 0, &[0x11, 0, 0, 0, 9], &[b"five"]),
                packet(0xe0, &[0x04, 5, 0x11, 0, 0, 0, 60]),
            ],
        ),
    ]
}

/// What has broken other brokers, and must be refused.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let hello = plain_connect(V5);
    let after = |bytes: &[u8]| [&hello[..], bytes].concat();
    vec![
        ("first-publish", publish(V311, 0, "a", None, b"")),
        ("first-acknowledgement", acknowledge(1)),
        ("server-packet", after(&[0x20, 2, 0, 0])),
        ("second-connect", after(&hello)),
        ("empty-topic", after(&packet(0x30, &[0, 0, 0]))),
        ("long-varint", after(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01])),
        ("large-length", after(&[0x30, 0xff, 0xff, 0xff, 0x7f])),
        ("qos-3", after(&packet(0x36, &[0, 1, b'a', 0, 1, 0]))),
        ("qos-2", after(&publish(V5, 2, "a", Some(1), b""))),
        (
            "text-past-end",
            packet(
                0x10,
                &[0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0xff, 0xff],
            ),
        ),
        ("nul-in-topic", after(&packet(0x30, &[0, 1, 0, 0]))),
        (
            "surrogate",
            after(&packet(0x30, &[0, 3, 0xed, 0xa0, 0x80, 0])),
        ),
        (
            "properties-past-end",
            after(&packet(0x30, &[0, 1, b'a', 0x7f, 1])),
        ),
        (
            "authentication",
            connect_with(V5, 0, &[0x15, 0, 1, b'm'], &[b"a"]),
        ),
    ]
}

fn plain_connect(version: u8) -> Vec<u8> {
    connect_with(version, 0b10, &[], &[b"pump"])
}

fn login(version: u8) -> Vec<u8> {
    connect_with(
        version,
        0b1100_0010,
        &[],
        &[b"pump", b"user?SDK=C", b"secret"],
    )
}

fn will(version: u8) -> Vec<u8> {
    let mut payload = text(b"pump");
    if version == V5 {
        payload.extend([5, 0x18, 0, 0, 0, 5]);
    }
    payload.extend(text(b"will/pump"));
    payload.extend(text(b"gone"));
    connect_of(version, 0b0000_1110, &[], &payload)
}

fn connect_with(version: u8, flags: u8, properties: &[u8], texts: &[&[u8]]) -> Vec<u8> {
    let payload: Vec<u8> = texts.iter().flat_map(|content| text(content)).collect();
    connect_of(version, flags, properties, &payload)
}

fn connect_of(version: u8, flags: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let name: &[u8] = if version == V31 { b"MQIsdp" } else { b"MQTT" };
    let properties = properties_of(version, properties);
    let parts = [
        &text(name)[..],
        &[version, flags, 0, 60],
        &properties,
        payload,
    ];
    packet(0x10, &body(&parts))
}

fn publish(version: u8, qos: u8, topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let id = id.map(u16::to_be_bytes);
    let id = id.as_ref().map_or(&[][..], |id| &id[..]);
    let properties = properties_of(version, &[]);
    let parts = [&text(topic.as_bytes())[..], id, &properties, payload];
    packet(0x30 | qos << 1, &body(&parts))
}

fn publish_with(qos: u8, topic: &str, id: Option<u16>, properties: &[u8], load: &[u8]) -> Vec<u8> {
    let id = id.map(u16::to_be_bytes);
    let id = id.as_ref().map_or(&[][..], |id| &id[..]);
    let properties = properties_of(V5, properties);
    let parts = [&text(topic.as_bytes())[..], id, &properties, load];
    packet(0x30 | qos << 1, &body(&parts))
}

fn subscribe(version: u8, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(properties_of(version, &[]));
    for (filter, qos) in filters {
        bytes.extend(text(filter.as_bytes()));
        bytes.push(*qos);
    }
    packet(0x82, &bytes)
}

fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(properties_of(version, &[]));
    bytes.extend(filters.iter().flat_map(|filter| text(filter.as_bytes())));
    packet(0xa2, &bytes)
}

fn acknowledge(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}

fn ping() -> Vec<u8> {
    vec![0xc0, 0]
}

fn bye() -> Vec<u8> {
    vec![0xe0, 0]
}

fn body(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A fixed header, then the body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = if length < 128 { 0 } else { 0x80 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// Text or binary data behind its length.
fn text(content: &[u8]) -> Vec<u8> {
    super::pair(content, &[])
}

/// Properties behind their length, where the version has them.
fn properties_of(version: u8, content: &[u8]) -> Vec<u8> {
    match version {
        V5 => [&[content.len() as u8], content].concat(),
        _ => Vec::new(),
    }
}
