//! What must be taken, among it what the codec behind would refuse.

use super::*;

/// All of a CONNECT of MQTT 5 arrives.
#[test]
fn connect_v5_with_everything() {
    let bytes = connect(
        Version::V5,
        0b1110_1100,
        &[
            &[0x11, 0, 0, 0, 60],
            &[0x21, 0, 10],
            &[0x27, 0, 0, 4, 0],
            &[0x22, 0, 3],
            &[0x19, 1],
            &[0x17, 0],
            &[0x26, 0, 1, b'k', 0, 1, b'v'],
            &[0x15, 0, 1, b'm'],
            &[0x16, 0, 1, 9],
        ],
        &[
            &text("client"),
            &properties(&[
                &[0x18, 0, 0, 0, 5],
                &[0x01, 1],
                &[0x02, 0, 0, 0, 7],
                &[0x03, 0, 1, b't'],
                &[0x08, 0, 1, b'r'],
                &[0x09, 0, 1, 8],
            ]),
            &text("will"),
            &text("gone"),
            &text("user"),
            &text([0, 0xFF]),
        ],
    );
    let connect = decode_connect(&bytes);
    assert_eq!(connect.version, Version::V5);
    assert_eq!(&*connect.client_id, "client");
    assert!(!connect.clean_start);
    assert_eq!(connect.keep_alive_s, 60);
    assert_eq!(connect.username.as_deref(), Some("user"));
    assert_eq!(connect.password.as_deref(), Some(&[0, 0xFF][..]));
    assert_eq!(connect.session_expiry_s, 60);
    assert_eq!(connect.receive_max.map(u16::from), Some(10));
    assert_eq!(connect.packet_size_max.map(u32::from), Some(1024));
    assert_eq!(connect.topic_alias_max, 3);
    assert!(connect.request_response_information);
    assert!(!connect.request_problem_information);
    assert_eq!(connect.user_properties, [("k".into(), "v".into())]);
    assert_eq!(connect.authentication_method.as_deref(), Some("m"));
    let will = connect.will.unwrap();
    assert_eq!(
        (will.qos, will.retain, will.delay_s),
        (Qos::AtLeastOnce, true, 5)
    );
    assert_eq!(&*will.message.topic, "will");
    assert_eq!(&will.message.payload[..], b"gone");
    assert_eq!(
        *will.message.properties.unwrap(),
        MessageProperties {
            payload_is_utf8: true,
            expiry_s: Some(7),
            content_type: Some("t".into()),
            response_topic: Some("r".into()),
            correlation_data: Some(vec![8].into()),
            user_properties: Vec::new(),
        }
    );
}

/// 3.1 and 3.1.1 differ in name and level only.
#[test]
fn connect_of_each_old_version() {
    for version in [Version::V31, Version::V311] {
        let bytes = connect(
            version,
            0b1100_0110,
            &[],
            &[&text("c"), &text("w"), &text("x"), &text("u"), &text("p")],
        );
        let connect = decode_connect(&bytes);
        assert_eq!(connect.version, version);
        assert!(connect.clean_start);
        assert_eq!(connect.will.unwrap().qos, Qos::AtMostOnce);
        assert_eq!(connect.password.as_deref(), Some(&b"p"[..]));
    }
}

/// MQTT 5 lets a client without identifier keep its session [MQTT-3.1.3-6].
#[test]
fn empty_client_id_without_clean_start_v5() {
    let connect = decode_connect(&connect(Version::V5, 0, &[], &[&text("")]));
    assert!(connect.client_id.is_empty());
    assert!(!connect.clean_start);
}

/// ThingsBoard devices send it.
#[test]
fn empty_client_id_with_clean_session() {
    let connect = decode_connect(&connect(Version::V311, 0b10, &[], &[&text("")]));
    assert!(connect.client_id.is_empty() && connect.clean_start);
}

/// MQTT 5 allows a password alone: tokens.
#[test]
fn password_without_user_name_v5() {
    let connect = decode_connect(&connect(
        Version::V5,
        0b0100_0010,
        &[],
        &[&text("a"), &text("p")],
    ));
    assert_eq!(connect.username, None);
    assert_eq!(connect.password.as_deref(), Some(&b"p"[..]));
}

/// Nothing forbids an expiry of zero, neither in a message nor in a will.
#[test]
fn message_expiry_zero() {
    let bytes = packet(
        0x30,
        &[&text("a"), &properties(&[&[0x02, 0, 0, 0, 0]]), b"x"],
    );
    let ClientPacket::Publish(publish) = decode_after_connect(Version::V5, &bytes) else {
        panic!("not a PUBLISH");
    };
    assert_eq!(publish.message.expiry_s(), Some(0));
    let will = [
        &text("a")[..],
        &properties(&[&[0x01, 1], &[0x02, 0, 0, 0, 0]]),
        &text("w"),
        &text(""),
    ]
    .concat();
    let connect = decode_connect(&connect(Version::V5, 0b110, &[], &[&will]));
    assert_eq!(connect.will.unwrap().message.expiry_s(), Some(0));
}

/// Topic, identifier, flags, properties and payload of a PUBLISH.
#[test]
fn publish_v5_with_everything() {
    let props = properties(&[
        &[0x01, 1],
        &[0x02, 0, 0, 1, 0],
        &[0x23, 0, 7],
        &[0x08, 0, 1, b'r'],
        &[0x09, 0, 2, 0, 1],
        &[0x03, 0, 1, b't'],
        &[0x26, 0, 1, b'a', 0, 1, b'1'],
        &[0x26, 0, 1, b'a', 0, 1, b'2'],
    ]);
    let bytes = packet(0x3B, &[&text("t/x"), &[1, 2], &props, b"payload"]);
    let ClientPacket::Publish(publish) = decode_after_connect(Version::V5, &bytes) else {
        panic!("not a PUBLISH");
    };
    let wanted = Publish {
        message: Message {
            topic: "t/x".into(),
            payload: b"payload".to_vec().into(),
            properties: Some(Box::new(MessageProperties {
                payload_is_utf8: true,
                expiry_s: Some(256),
                content_type: Some("t".into()),
                response_topic: Some("r".into()),
                correlation_data: Some(vec![0, 1].into()),
                user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            })),
        },
        delivery: Delivery::AtLeastOnce {
            packet_id: id(0x0102),
            duplicate: true,
        },
        retain: true,
        topic_alias: std::num::NonZeroU16::new(7),
        subscription_identifiers: Vec::new(),
    };
    assert_eq!(*publish, wanted);
}

/// A topic alias may stand for the topic.
#[test]
fn publish_with_alias_only() {
    let bytes = packet(0x30, &[&text(""), &properties(&[&[0x23, 0, 1]])]);
    let ClientPacket::Publish(publish) = decode_after_connect(Version::V5, &bytes) else {
        panic!("not a PUBLISH");
    };
    assert!(publish.message.topic.is_empty());
    assert!(
        publish.message.properties.is_none(),
        "no memory for properties that say nothing"
    );
}

/// Before MQTT 5 everything behind topic and identifier is payload.
#[test]
fn publish_of_old_versions() {
    for version in [Version::V31, Version::V311] {
        let bytes = packet(0x32, &[&text("$iothub/twin/GET/?$rid=1"), &[0, 9], &[0, 0]]);
        let ClientPacket::Publish(publish) = decode_after_connect(version, &bytes) else {
            panic!("not a PUBLISH");
        };
        assert_eq!(&publish.message.payload[..], &[0, 0]);
        assert_eq!(
            publish.delivery,
            Delivery::AtLeastOnce {
                packet_id: id(9),
                duplicate: false
            }
        );
    }
}

/// A subscription for QoS 2 is one for QoS 1 here [MQTT-3.2.2-10].
#[test]
fn subscribe_reads_qos_2_as_qos_1() {
    let bytes = packet(
        0x82,
        &[
            &[0, 1, 2, 0x0B, 5],
            &text("a"),
            &[0b0000_0110],
            &text("b/#"),
            &[0b0010_0000],
        ],
    );
    let wanted = Subscribe {
        packet_id: id(1),
        identifier: std::num::NonZeroU32::new(5),
        filters: vec![
            SubscribeFilter {
                filter: "a".into(),
                qos: Qos::AtLeastOnce,
                no_local: true,
            },
            SubscribeFilter {
                filter: "b/#".into(),
                qos: Qos::AtMostOnce,
                no_local: false,
            },
        ],
    };
    assert_eq!(
        decode_after_connect(Version::V5, &bytes),
        ClientPacket::Subscribe(wanted)
    );
}

/// MQTT 3.1 sends a SUBSCRIBE again with DUP, and says nothing about the other option bits.
#[test]
fn subscribe_of_3_1_with_dup() {
    let bytes = packet(0x8A, &[&[0, 1], &text("a"), &[0xF1]]);
    let ClientPacket::Subscribe(subscribe) = decode_after_connect(Version::V31, &bytes) else {
        panic!("not a SUBSCRIBE");
    };
    assert_eq!(subscribe.filters[0].qos, Qos::AtLeastOnce);
    let bytes = packet(0xAA, &[&[0, 1], &text("a")]);
    let unsubscribe = decode_after_connect(Version::V31, &bytes);
    assert!(matches!(unsubscribe, ClientPacket::Unsubscribe(_)));
}

/// The short packets, in all their lengths.
#[test]
fn short_packets() {
    for version in [Version::V31, Version::V311, Version::V5] {
        assert_eq!(
            decode_after_connect(version, &[0xC0, 0]),
            ClientPacket::PingRequest
        );
        let ack = ClientPacket::PublishAck {
            packet_id: id(258),
            reason: Reason::Success,
        };
        assert_eq!(decode_after_connect(version, &[0x40, 2, 1, 2]), ack);
        let bye = ClientPacket::Disconnect(Disconnect {
            reason: Reason::Success,
            session_expiry_s: None,
            reason_string: None,
        });
        assert_eq!(decode_after_connect(version, &[0xE0, 0]), bye);
    }
    let ack = ClientPacket::PublishAck {
        packet_id: id(1),
        reason: Reason::QuotaExceeded,
    };
    assert_eq!(
        decode_after_connect(Version::V5, &[0x40, 3, 0, 1, 0x97]),
        ack
    );
    let props = properties(&[&[0x1F], &text("why"), &[0x26], &text("k"), &text("v")]);
    let long = packet(0x40, &[&[0, 1, 0x97], &props]);
    assert_eq!(decode_after_connect(Version::V5, &long), ack);
    let props = properties(&[&[0x11, 0, 0, 0, 9], &[0x1F], &text("bye")]);
    let bye = ClientPacket::Disconnect(Disconnect {
        reason: Reason::DisconnectWithWill,
        session_expiry_s: Some(9),
        reason_string: Some("bye".into()),
    });
    assert_eq!(
        decode_after_connect(Version::V5, &packet(0xE0, &[&[4], &props])),
        bye
    );
}

/// Small clients before MQTT 5 write every length with the same number of bytes.
#[test]
fn length_not_shortest_before_v5() {
    assert_eq!(
        decode_after_connect(Version::V311, &[0xC0, 0x80, 0x80, 0x00]),
        ClientPacket::PingRequest
    );
}

/// The largest packet is taken, one byte more is not.
#[test]
fn the_size_limit_is_exact() {
    let limits = SizeLimits {
        publish_bytes_max: 100,
        ..SizeLimits::default()
    };
    for (payload_bytes, taken) in [(95, true), (96, false)] {
        let publish = packet(0x30, &[&text("a"), &vec![0; payload_bytes]]);
        let bytes = [plain_connect(Version::V311), publish].concat();
        let mut decoder = Decoder::new(limits);
        let mut input = &bytes[..];
        assert!(decoder.decode(&mut input).unwrap().is_some());
        assert_eq!(decoder.decode(&mut input).is_ok(), taken, "{payload_bytes}");
    }
}

/// Memory follows what arrived, not what was announced, and is given back.
#[test]
fn an_announced_length_reserves_nothing() {
    let mut decoder = Decoder::new(SizeLimits::default());
    let bytes = plain_connect(Version::V311);
    assert!(decoder.decode(&mut &bytes[..]).unwrap().is_some());
    assert_eq!(decoder.heap_bytes(), 0);
    let publish = packet(0x30, &[&text("a"), &vec![7; 100_000]]);
    let (beginning, end) = publish.split_at(50);
    assert_eq!(decoder.decode(&mut &beginning[..]), Ok(None));
    assert!(decoder.heap_bytes() <= 128, "{}", decoder.heap_bytes());
    assert_eq!(decoder.partial_bytes(), 50);
    assert!(decoder.decode(&mut &end[..]).unwrap().is_some());
    assert_eq!(decoder.heap_bytes(), 0);
}

/// Several packets in one read come one by one.
#[test]
fn packets_come_one_by_one() {
    let bytes = [plain_connect(Version::V5), vec![0xC0, 0, 0xC0, 0, 0xE0, 0]].concat();
    let (packets, error) = decode(&bytes);
    assert_eq!((packets.len(), error), (4, None));
}

/// Nothing secret is in the debug form.
#[test]
fn debug_form_has_no_secrets() {
    let connect = decode_connect(&connect(
        Version::V311,
        0b1100_0110,
        &[],
        &[
            &text("c"),
            &text("w"),
            &text("payload9"),
            &text("username9"),
            &text("password9"),
        ],
    ));
    let shown = format!("{connect:?}");
    for secret in ["payload9", "username9", "password9"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
