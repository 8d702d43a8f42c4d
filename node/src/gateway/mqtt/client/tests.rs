//! The two sides of the wire against each other: what one writes, the other reads as it was.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::gateway::mqtt::wire::{
    self, ClientPacket, Connect, ConnectAck, Delivery, Disconnect, DisconnectNotice, EncodeError,
    Message, MessageProperties, PacketId, Publish, Qos, Reason, ServerPacket, SizeLimits,
    Subscribe, SubscribeFilter, Unsubscribe, Version, Will,
};

use Version::{V5, V31, V311};

const PACKET_BYTES_MAX: u32 = 1 << 20;

fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).unwrap()
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        client_id: "lamp-1".into(),
        clean_start: true,
        keep_alive_s: 60,
        username: None,
        password: None,
        will: None,
        session_expiry_s: 0,
        receive_max: None,
        packet_size_max: None,
        topic_alias_max: 0,
        request_response_information: false,
        request_problem_information: true,
        user_properties: Vec::new(),
        authentication_method: None,
    }
}

fn full_properties() -> MessageProperties {
    MessageProperties {
        payload_is_utf8: true,
        expiry_s: Some(0),
        content_type: Some("application/json".into()),
        response_topic: Some("answers/1".into()),
        correlation_data: Some(Bytes::from_static(&[0, 1, 255])),
        user_properties: vec![("a".into(), "b".into()), ("a".into(), "".into())],
    }
}

fn message(payload: impl Into<Bytes>, version: Version) -> Message {
    Message {
        properties: (version == V5).then(|| Box::new(full_properties())),
        ..Message::new("$aws/things/lamp-1/shadow/update", payload)
    }
}

fn full_connect(version: Version) -> Connect {
    let mut full = Connect {
        clean_start: false,
        username: Some("ann".into()),
        password: Some(Bytes::from_static(&[0xFF, 0])),
        will: Some(Box::new(Will {
            message: message("gone", version),
            qos: Qos::AtLeastOnce,
            retain: true,
            delay_s: 0,
        })),
        ..connect(version)
    };
    if version == V5 {
        full.session_expiry_s = u32::MAX;
        full.receive_max = NonZeroU16::new(7);
        full.packet_size_max = NonZeroU32::new(70_000);
        full.topic_alias_max = 3;
        full.request_response_information = true;
        full.request_problem_information = false;
        full.user_properties = vec![("x".into(), "y".into())];
        full.authentication_method = Some("SCRAM".into());
        if let Some(will) = &mut full.will {
            will.delay_s = 5;
        }
    }
    full
}

fn publish(version: Version, qos: Qos, payload_bytes: usize) -> Publish {
    Publish {
        message: message(vec![b'x'; payload_bytes], version),
        delivery: match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce {
                packet_id: id(300),
                duplicate: true,
            },
        },
        retain: qos == Qos::AtMostOnce,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
    }
}

/// Every packet of a client, in its barest and its fullest form.
fn client_packets(version: Version) -> Vec<ClientPacket> {
    let is_v5 = version == V5;
    let filter = |filter: &str, qos| SubscribeFilter {
        filter: filter.into(),
        qos,
        no_local: is_v5,
    };
    let mut packets = vec![
        ClientPacket::Publish(Box::new(publish(version, Qos::AtMostOnce, 0))),
        ClientPacket::PublishAck {
            packet_id: id(65_535),
            reason: Reason::Success,
        },
        ClientPacket::Subscribe(Subscribe {
            packet_id: id(1),
            identifier: NonZeroU32::new(200).filter(|_| is_v5),
            filters: vec![
                filter("a/+/b", Qos::AtMostOnce),
                filter("#", Qos::AtLeastOnce),
            ],
        }),
        ClientPacket::Unsubscribe(Unsubscribe {
            packet_id: id(2),
            filters: vec!["a/+/b".into(), "#".into()],
        }),
        ClientPacket::PingRequest,
        ClientPacket::Disconnect(Disconnect {
            reason: Reason::Success,
            session_expiry_s: None,
            reason_string: None,
        }),
    ];
    // Lengths of one, two and three bytes.
    packets.extend(
        [1, 200, 20_000].map(|bytes| {
            ClientPacket::Publish(Box::new(publish(version, Qos::AtLeastOnce, bytes)))
        }),
    );
    if is_v5 {
        packets.extend([
            ClientPacket::PublishAck {
                packet_id: id(3),
                reason: Reason::NotAuthorized,
            },
            ClientPacket::Publish(Box::new(Publish {
                topic_alias: NonZeroU16::new(9),
                ..publish(version, Qos::AtLeastOnce, 5)
            })),
            ClientPacket::Disconnect(Disconnect {
                reason: Reason::DisconnectWithWill,
                session_expiry_s: None,
                reason_string: None,
            }),
            ClientPacket::Disconnect(Disconnect {
                reason: Reason::Success,
                session_expiry_s: Some(10),
                reason_string: Some("bye".into()),
            }),
        ]);
    }
    packets
}

/// Every packet of a server that `wire::encode` can write, in both forms.
fn server_packets(version: Version) -> Vec<ServerPacket> {
    let is_v5 = version == V5;
    let refused = |reason: Reason| match version {
        V5 => Err(reason),
        _ => Err(Reason::UnspecifiedError),
    };
    let mut packets = vec![
        ServerPacket::ConnectAck(Box::new(ConnectAck {
            session_present: version != V31,
            ..ConnectAck::refusal(Reason::Success)
        })),
        ServerPacket::ConnectAck(Box::new(ConnectAck::refusal(Reason::NotAuthorized))),
        ServerPacket::Publish(Box::new(publish(version, Qos::AtMostOnce, 0))),
        ServerPacket::PublishAck {
            packet_id: id(1),
            reason: Reason::Success,
        },
        ServerPacket::SubscribeAck {
            packet_id: id(2),
            grants: vec![
                Ok(Qos::AtMostOnce),
                Ok(Qos::AtLeastOnce),
                refused(Reason::NotAuthorized),
            ],
        },
        ServerPacket::UnsubscribeAck {
            packet_id: id(3),
            reasons: match version {
                V5 => vec![Reason::Success, Reason::NoSubscriptionExisted],
                _ => Vec::new(),
            },
        },
        ServerPacket::PingResponse,
    ];
    packets.extend([1, 200, 20_000].map(|bytes| {
        let mut publish = publish(version, Qos::AtLeastOnce, bytes);
        if let Some(properties) = &mut publish.message.properties {
            // The codec of the server cannot write 0.
            properties.expiry_s = Some(1);
        }
        ServerPacket::Publish(Box::new(publish))
    }));
    if let Some(ServerPacket::Publish(first)) = packets.get_mut(2)
        && let Some(properties) = &mut first.message.properties
    {
        properties.expiry_s = Some(77);
        first.subscription_identifiers = vec![NonZeroU32::MIN, NonZeroU32::new(300).unwrap()];
    }
    if is_v5 {
        packets.extend([
            ServerPacket::ConnectAck(Box::new(full_connect_ack())),
            ServerPacket::PublishAck {
                packet_id: id(4),
                reason: Reason::QuotaExceeded,
            },
            ServerPacket::Disconnect(DisconnectNotice {
                reason: Reason::SessionTakenOver,
                reason_string: Some("elsewhere".into()),
            }),
            ServerPacket::Disconnect(DisconnectNotice {
                reason: Reason::ServerShuttingDown,
                reason_string: None,
            }),
        ]);
    }
    packets
}

fn full_connect_ack() -> ConnectAck {
    ConnectAck {
        reason: Reason::Success,
        session_present: true,
        session_expiry_s: Some(60),
        receive_max: NonZeroU16::new(10),
        packet_size_max: Some(149_504),
        assigned_client_id: Some("given".into()),
        topic_alias_max: 8,
        server_keep_alive_s: Some(0),
        response_information: Some("answers".into()),
        reason_string: Some("welcome".into()),
    }
}

fn encoded(packets: &[ClientPacket], version: Version) -> Vec<u8> {
    let mut out = BytesMut::new();
    for packet in packets {
        encode(packet, version, &mut out).unwrap();
    }
    out.to_vec()
}

/// What a client makes of the bytes of a server that come in pieces.
fn read_by_client(
    version: Version,
    bytes: &[u8],
    piece_bytes: usize,
) -> (Vec<ServerPacket>, Option<Error>) {
    let mut decoder = Decoder::new(version, PACKET_BYTES_MAX);
    let mut packets = Vec::new();
    for mut piece in bytes.chunks(piece_bytes) {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fn written_by_server(version: Version) -> (Vec<ServerPacket>, Vec<u8>) {
    let packets = server_packets(version);
    let mut out = BytesMut::new();
    for packet in &packets {
        wire::encode(packet, version, &mut out).unwrap();
    }
    (packets, out.to_vec())
}

/// A tool that wrote something else than it meant would measure something else.
#[test]
fn server_reads_what_the_client_writes() {
    for version in [V31, V311, V5] {
        for first in [connect(version), full_connect(version)] {
            let mut packets = vec![ClientPacket::Connect(Box::new(first))];
            packets.extend(client_packets(version));
            let bytes = encoded(&packets, version);
            let mut decoder = wire::Decoder::new(SizeLimits::default());
            let mut input = &bytes[..];
            for packet in &packets {
                assert_eq!(
                    decoder.decode(&mut input).as_ref(),
                    Ok(&Some(packet.clone()))
                );
            }
            assert!(input.is_empty());
        }
    }
}

/// However the bytes are cut.
#[test]
fn client_reads_what_the_server_writes() {
    for version in [V31, V311, V5] {
        let (packets, bytes) = written_by_server(version);
        for piece_bytes in [1, 3, 1_000, bytes.len()] {
            let read = read_by_client(version, &bytes, piece_bytes);
            assert_eq!(read, (packets.clone(), None), "in pieces of {piece_bytes}");
        }
    }
}

/// A server is not trusted to be small.
#[test]
fn too_large_packet_is_refused_by_its_header() {
    let mut decoder = Decoder::new(V311, 100);
    let error = Error::TooLarge {
        bytes: 103,
        bytes_max: 100,
    };
    assert_eq!(decoder.decode(&mut &[0x30, 101][..]), Err(error));
    assert_eq!(
        decoder.decode(&mut &[0xD0, 0][..]),
        Err(error),
        "it stays failed"
    );
}

#[test]
fn text_that_is_too_long_writes_nothing() {
    let mut packet = connect(V5);
    packet.client_id = "x".repeat(65_536).into();
    let mut out = BytesMut::from(&b"before"[..]);
    let packet = ClientPacket::Connect(Box::new(packet));
    assert_eq!(encode(&packet, V5, &mut out), Err(EncodeError::TooLong));
    assert_eq!(&out[..], b"before");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// Damaged bytes of a server never panic, and how they are cut changes nothing.
    #[test]
    fn damage_is_harmless(
        version in prop::sample::select(vec![V31, V311, V5]),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        start in any::<prop::sample::Index>(),
        piece_bytes in 1..40_usize,
    ) {
        let (packets, _) = written_by_server(version);
        let mut out = BytesMut::new();
        for packet in packets.iter().skip(start.index(packets.len())).take(4) {
            wire::encode(packet, version, &mut out).unwrap();
        }
        let mut bytes = out.to_vec();
        for (place, value) in damages {
            // Most of the damage to where the structure is.
            let at = place.index(bytes.len().min(120));
            bytes[at] = value;
        }
        let whole = read_by_client(version, &bytes, bytes.len());
        prop_assert_eq!(read_by_client(version, &bytes, piece_bytes), whole);
    }

    /// Bytes without any meaning.
    #[test]
    fn noise_is_harmless(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        for version in [V31, V311, V5] {
            read_by_client(version, &bytes, 7);
        }
    }
}
