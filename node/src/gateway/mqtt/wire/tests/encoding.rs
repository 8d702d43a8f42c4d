//! Golden bytes of everything that the server sends.

use std::num::{NonZeroU16, NonZeroU32};

use proptest::prelude::*;

use super::*;

const OLD: [Version; 2] = [Version::V31, Version::V311];

fn ack(reason: Reason) -> ConnectAck {
    ConnectAck::refusal(reason)
}

fn connect_ack(ack: ConnectAck) -> ServerPacket {
    ServerPacket::ConnectAck(Box::new(ack))
}

/// A success announces what this server does not have.
#[test]
fn connect_ack_announces_the_fixed_limits() {
    let bytes = encoded(&connect_ack(ack(Reason::Success)), Version::V5);
    // Maximum QoS 1, Retain Available 0, Shared Subscription Available 0.
    assert_eq!(bytes, [0x20, 9, 0, 0, 6, 0x24, 1, 0x25, 0, 0x2A, 0]);
}

#[test]
fn connect_ack_with_everything() {
    let packet = connect_ack(ConnectAck {
        reason: Reason::Success,
        session_present: true,
        session_expiry_s: Some(9),
        receive_max: NonZeroU16::new(10),
        packet_size_max: Some(1024),
        assigned_client_id: Some("id".into()),
        topic_alias_max: 8,
        server_keep_alive_s: Some(30),
        response_information: Some("r/".into()),
        reason_string: Some("ok".into()),
    });
    let bytes = encoded(&packet, Version::V5);
    assert_eq!(bytes[..5], [0x20, 43, 1, 0, 40]);
    for property in [
        &[0x11, 0, 0, 0, 9][..],
        &[0x21, 0, 10],
        &[0x24, 1],
        &[0x25, 0],
        &[0x27, 0, 0, 4, 0],
        &[0x12, 0, 2, b'i', b'd'],
        &[0x22, 0, 8],
        &[0x2A, 0],
        &[0x13, 0, 30],
        &[0x1A, 0, 2, b'r', b'/'],
        &[0x1F, 0, 2, b'o', b'k'],
    ] {
        let found = bytes
            .windows(property.len())
            .any(|window| window == property);
        assert!(found, "{property:x?} in {bytes:x?}");
    }
    // Before MQTT 5 only two bytes are left; in 3.1 the first is reserved.
    assert_eq!(encoded(&packet, Version::V311), [0x20, 2, 1, 0]);
    assert_eq!(encoded(&packet, Version::V31), [0x20, 2, 0, 0]);
}

/// The reasons and the return codes of 3.1.1 (section 3.2.2.3 there).
#[test]
fn connect_ack_refusals() {
    for (reason, return_code) in [
        (Reason::UnsupportedProtocolVersion, Some(1)),
        (Reason::ClientIdentifierNotValid, Some(2)),
        (Reason::ServerUnavailable, Some(3)),
        (Reason::QuotaExceeded, Some(3)),
        (Reason::ConnectionRateExceeded, Some(3)),
        (Reason::BadUserNameOrPassword, Some(4)),
        (Reason::NotAuthorized, Some(5)),
        (Reason::QosNotSupported, Some(5)),
        (Reason::MalformedPacket, None),
        (Reason::ProtocolError, None),
        (Reason::PacketTooLarge, None),
    ] {
        let packet = connect_ack(ack(reason));
        assert_eq!(
            encoded(&packet, Version::V5),
            [0x20, 3, 0, reason.code(), 0]
        );
        let mut bytes = BytesMut::new();
        match return_code {
            Some(code) => assert_eq!(encoded(&packet, Version::V311), [0x20, 2, 0, code]),
            None => assert_eq!(
                encode(&packet, Version::V311, &mut bytes),
                Err(EncodeError::NotInVersion)
            ),
        }
        assert!(bytes.is_empty());
    }
}

#[test]
fn acknowledgements() {
    let packet = ServerPacket::PublishAck {
        packet_id: id(258),
        reason: Reason::NotAuthorized,
    };
    assert_eq!(encoded(&packet, Version::V5), [0x40, 4, 1, 2, 0x87, 0]);
    for version in OLD {
        assert_eq!(encoded(&packet, version), [0x40, 2, 1, 2]);
    }
    // A reason that PUBACK does not have.
    let packet = ServerPacket::PublishAck {
        packet_id: id(1),
        reason: Reason::ServerMoved,
    };
    assert_eq!(encoded(&packet, Version::V5), [0x40, 4, 0, 1, 0x80, 0]);

    let grants = vec![
        Ok(Qos::AtMostOnce),
        Ok(Qos::AtLeastOnce),
        Err(Reason::SharedSubscriptionsNotSupported),
        Err(Reason::Success),
    ];
    let packet = ServerPacket::SubscribeAck {
        packet_id: id(3),
        grants,
    };
    assert_eq!(
        encoded(&packet, Version::V5),
        [0x90, 7, 0, 3, 0, 0, 1, 0x9E, 0x80]
    );
    for version in OLD {
        assert_eq!(encoded(&packet, version), [0x90, 6, 0, 3, 0, 1, 0x80, 0x80]);
    }

    let reasons = vec![Reason::Success, Reason::NoSubscriptionExisted];
    let packet = ServerPacket::UnsubscribeAck {
        packet_id: id(4),
        reasons,
    };
    assert_eq!(encoded(&packet, Version::V5), [0xB0, 5, 0, 4, 0, 0, 0x11]);
    for version in OLD {
        assert_eq!(encoded(&packet, version), [0xB0, 2, 0, 4]);
        assert_eq!(encoded(&ServerPacket::PingResponse, version), [0xD0, 0]);
    }
    assert_eq!(encoded(&ServerPacket::PingResponse, Version::V5), [0xD0, 0]);
}

/// Only MQTT 5 has a DISCONNECT from the server.
#[test]
fn disconnect() {
    let packet = ServerPacket::Disconnect(DisconnectNotice {
        reason: Reason::SessionTakenOver,
        reason_string: None,
    });
    assert_eq!(encoded(&packet, Version::V5), [0xE0, 2, 0x8E, 0]);
    let mut bytes = BytesMut::from(&b"before"[..]);
    for version in OLD {
        assert_eq!(
            encode(&packet, version, &mut bytes),
            Err(EncodeError::NotInVersion)
        );
    }
    assert_eq!(&bytes[..], b"before");
}

/// A failed packet leaves nothing behind.
#[test]
fn a_packet_that_cannot_be_written_leaves_nothing() {
    let publish = Publish {
        message: Message::new("a".repeat(70_000), Vec::new()),
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
    };
    let mut bytes = BytesMut::from(&b"before"[..]);
    for version in [Version::V311, Version::V5] {
        let packet = ServerPacket::Publish(Box::new(publish.clone()));
        assert_eq!(
            encode(&packet, version, &mut bytes),
            Err(EncodeError::TooLong)
        );
        assert_eq!(&bytes[..], b"before");
    }
    let long = ServerPacket::Disconnect(DisconnectNotice {
        reason: Reason::Banned,
        reason_string: Some("x".repeat(70_000).into()),
    });
    assert_eq!(
        encode(&long, Version::V5, &mut bytes),
        Err(EncodeError::TooLong)
    );
    assert_eq!(&bytes[..], b"before");
}

/// Golden bytes of a PUBLISH, and no expiry of zero.
#[test]
fn publish() {
    let mut publish = Publish {
        message: Message {
            topic: "a/b".into(),
            payload: b"x".to_vec().into(),
            properties: Some(Box::new(MessageProperties {
                expiry_s: Some(0),
                ..MessageProperties::default()
            })),
        },
        delivery: Delivery::AtLeastOnce {
            packet_id: id(5),
            duplicate: true,
        },
        retain: false,
        topic_alias: None,
        subscription_identifiers: vec![NonZeroU32::new(200).unwrap()],
    };
    let packet = ServerPacket::Publish(Box::new(publish.clone()));
    assert_eq!(
        encoded(&packet, Version::V5),
        [
            0x3A, 17, 0, 3, b'a', b'/', b'b', 0, 5, 8, 0x02, 0, 0, 0, 1, 0x0B, 0xC8, 1, b'x'
        ]
    );
    assert_eq!(
        encoded(&packet, Version::V311),
        [0x3A, 8, 0, 3, b'a', b'/', b'b', 0, 5, b'x']
    );
    publish.delivery = Delivery::AtMostOnce;
    publish.message.properties = None;
    publish.subscription_identifiers.clear();
    let packet = ServerPacket::Publish(Box::new(publish));
    assert_eq!(
        encoded(&packet, Version::V5),
        [0x30, 7, 0, 3, b'a', b'/', b'b', 0, b'x']
    );
}

/// The list of reasons and its codes agree.
#[test]
fn reasons_and_codes_agree() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_code(reason.code()), Some(*reason));
    }
    assert_eq!(Reason::from_code(0x42), None);
    assert!(!Reason::NoSubscriptionExisted.is_failure() && Reason::UnspecifiedError.is_failure());
}

fn any_publish() -> impl Strategy<Value = Publish> {
    let properties = (
        any::<bool>(),
        prop::option::of(1..1000_u32),
        prop::option::of("[a-z]{0,200}"),
        prop::option::of("[a-z]{1,20}"),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        prop::collection::vec(("[a-z]{0,9}", "[a-z]{0,9}"), 0..20),
    );
    let parts = (
        "[a-z/]{1,40}",
        prop::collection::vec(any::<u8>(), 0..20_000),
        properties,
    );
    let how = (prop::option::of(1..=u16::MAX), any::<bool>());
    (parts, how, prop::option::of(1..=u16::MAX)).prop_map(
        |((topic, payload, given), (packet_id, duplicate), alias)| {
            let (payload_is_utf8, expiry_s, content, response, correlation, users) = given;
            let properties = MessageProperties {
                payload_is_utf8,
                expiry_s,
                content_type: content.map(Into::into),
                response_topic: response.map(Into::into),
                correlation_data: correlation.map(Into::into),
                user_properties: users
                    .into_iter()
                    .map(|(k, v)| (k.into(), v.into()))
                    .collect(),
            };
            Publish {
                message: Message {
                    topic: topic.into(),
                    payload: payload.into(),
                    properties: (properties != MessageProperties::default())
                        .then(|| Box::new(properties)),
                },
                delivery: match packet_id {
                    Some(packet_id) => Delivery::AtLeastOnce {
                        packet_id: id(packet_id),
                        duplicate,
                    },
                    None => Delivery::AtMostOnce,
                },
                retain: false,
                topic_alias: alias.and_then(NonZeroU16::new),
                subscription_identifiers: Vec::new(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A PUBLISH that is written is read as it was, and its length was counted right.
    #[test]
    fn publishes_survive_a_round_trip(publish in any_publish()) {
        let packet = ServerPacket::Publish(Box::new(publish.clone()));
        let bytes = encoded(&packet, Version::V5);
        prop_assert_eq!(Ok(bytes.len()), publish_len(&publish, Version::V5));
        let read = decode_after_connect(Version::V5, &bytes);
        prop_assert_eq!(read, ClientPacket::Publish(Box::new(publish)));
    }
}
