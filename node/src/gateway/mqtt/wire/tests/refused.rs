//! Every way in which a packet can break the specification, one test each: what it is called, and
//! what the client is told. The classes of known holes in other brokers are among them.

use super::*;

/// What `bytes` are refused with, in any pieces. With a version, a good CONNECT goes before.
fn refusal(version: Option<Version>, bytes: impl AsRef<[u8]>) -> Error {
    let before = version.map(plain_connect).unwrap_or_default();
    let (packets, error) = decode(&[&before, bytes.as_ref()].concat());
    assert_eq!(packets.len(), usize::from(version.is_some()), "{packets:?}");
    error.expect("is refused")
}

macro_rules! refused {
    ($(
        $(#[$doc:meta])*
        $name:ident: $version:expr, $bytes:expr => $error:pat, $reason:ident;
    )+) => {
        $($(#[$doc])* #[test] fn $name() {
            let error = refusal($version, $bytes);
            assert!(matches!(error, $error), "{error:?}");
            assert_eq!(error.reason(), Reason::$reason);
        })+
    };
}

use Version::{V5, V31, V311};

refused! {
    /// Section 3.1; first packet not CONNECT (class of CVE-2023-0809).
    publish_before_connect: None, packet(0x30, &[&text("a")]) => Error::NotConnect, ProtocolError;
    /// An acknowledgement before CONNECT (null dereference elsewhere).
    ack_before_connect: None, packet(0x40, &[&[0, 1]]) => Error::NotConnect, ProtocolError;
    /// TLS on a plain port is told from its first byte.
    tls_hello: None, [0x16, 3, 1] => Error::NotConnect, ProtocolError;
    /// So is HTTP.
    http_request: None, b"GET / HTTP/1.1\r\n" => Error::NotConnect, ProtocolError;
    connect_with_header_flags: None, packet(0x11, &[&[0; 12]]) => Error::NotConnect, ProtocolError;
    connect_too_short: None, packet(0x10, &[&text("MQTT"), &[4, 2, 0, 60]])
        => Error::Malformed(_), MalformedPacket;
    unknown_protocol_name: None, packet(0x10, &[&text("MQTX"), &[4, 2, 0, 60], &text("a")])
        => Error::ProtocolNameUnknown, UnsupportedProtocolVersion;
    unknown_level: None, packet(0x10, &[&text("MQTT"), &[6, 2, 0, 60], &text("a")])
        => Error::VersionUnsupported { level: 6 }, UnsupportedProtocolVersion;
    /// A name and a level that do not belong together, which the codec takes.
    mqtt_with_level_3: None, packet(0x10, &[&text("MQTT"), &[3, 2, 0, 60], &text("a")])
        => Error::VersionUnsupported { level: 3 }, UnsupportedProtocolVersion;
    mqisdp_with_level_4: None, packet(0x10, &[&text("MQIsdp"), &[4, 2, 0, 60], &text("a")])
        => Error::VersionUnsupported { level: 4 }, UnsupportedProtocolVersion;
    bridge_level: None, packet(0x10, &[&text("MQTT"), &[0x84, 2, 0, 60], &text("a")])
        => Error::VersionUnsupported { level: 0x84 }, UnsupportedProtocolVersion;
    protocol_name_longer_than_packet: None, packet(0x10, &[&[0xFF, 0xFF], &[0; 12]])
        => Error::Malformed(_), MalformedPacket;
    connect_reserved_flag: None, connect(V311, 0b11, &[], &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    connect_reserved_flag_v5: None, connect(V5, 0b11, &[], &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    will_qos_without_will: None, connect(V311, 0b0000_1010, &[], &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    will_retain_without_will_v5: None, connect(V5, 0b0010_0010, &[], &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    will_qos_3: None, connect(V311, 0b0001_1110, &[], &[&text("a"), &text("w"), &text("")])
        => Error::Malformed(_), MalformedPacket;
    will_qos_2: None, connect(V311, 0b0001_0110, &[], &[&text("a"), &text("w"), &text("")])
        => Error::QosNotSupported, QosNotSupported;
    will_qos_2_v5: None, connect(V5, 0b0001_0110, &[], &[&text("a"), &[0], &text("w"), &text("")])
        => Error::QosNotSupported, QosNotSupported;
    will_topic_with_wildcard: None,
        connect(V311, 0b0110, &[], &[&text("a"), &text("w/#"), &text("")])
        => Error::TopicNameInvalid, TopicNameInvalid;
    will_topic_empty: None, connect(V5, 0b0110, &[], &[&text("a"), &[0], &text(""), &text("")])
        => Error::TopicNameInvalid, TopicNameInvalid;
    will_missing: None, connect(V311, 0b0110, &[], &[&text("abcdef")])
        => Error::Malformed(_), MalformedPacket;
    password_without_user_name: None, connect(V311, 0b0100_0010, &[], &[&text("a"), &text("p")])
        => Error::Malformed(_), MalformedPacket;
    user_name_missing: None, connect(V311, 0b1000_0010, &[], &[&text("abc")])
        => Error::Malformed(_), MalformedPacket;
    bytes_behind_connect: None, connect(V311, 0b10, &[], &[&text("a"), &[0]])
        => Error::Malformed(_), MalformedPacket;
    bytes_behind_connect_v5: None, connect(V5, 0b10, &[], &[&text("a"), b"x"])
        => Error::Malformed(_), MalformedPacket;
    empty_client_id_without_clean_session: None, connect(V311, 0, &[], &[&text("")])
        => Error::ClientIdInvalid, ClientIdentifierNotValid;
    empty_client_id_in_3_1: None, connect(V31, 0b10, &[], &[&text("")])
        => Error::ClientIdInvalid, ClientIdentifierNotValid;
    client_id_not_utf8: None, connect(V311, 0b10, &[], &[&text([0xC3, 0x28])])
        => Error::Malformed(_), MalformedPacket;
    /// Surrogates are not UTF-8 [MQTT-1.5.4-1].
    client_id_with_surrogate: None, connect(V5, 0b10, &[], &[&text([0xED, 0xA0, 0x80])])
        => Error::Malformed(_), MalformedPacket;
    client_id_with_null: None, connect(V311, 0b10, &[], &[&text("a\0b")])
        => Error::Malformed(_), MalformedPacket;
    user_name_with_null: None, connect(V5, 0b1000_0010, &[], &[&text("a"), &text("u\0")])
        => Error::Malformed(_), MalformedPacket;
    receive_maximum_zero: None, connect(V5, 0b10, &[&[0x21, 0, 0]], &[&text("a")])
        => Error::Protocol(_), ProtocolError;
    maximum_packet_size_zero: None, connect(V5, 0b10, &[&[0x27, 0, 0, 0, 0]], &[&text("a")])
        => Error::Protocol(_), ProtocolError;
    property_twice: None, connect(V5, 0b10, &[&[0x21, 0, 1, 0x21, 0, 1]], &[&text("a")])
        => Error::Protocol(_), ProtocolError;
    property_of_another_packet: None, connect(V5, 0b10, &[&[0x23, 0, 1]], &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    property_unknown: None, connect(V5, 0b10, &[&[0x7F, 0]], &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    property_cut_off: None, connect(V5, 0b10, &[&[0x11, 0, 0]], &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    properties_longer_than_packet: None,
        packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60], &[100], &text("a")])
        => Error::Malformed(_), MalformedPacket;
    property_length_not_shortest: None,
        packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60], &[0x80, 0], &text("a")])
        => Error::Malformed(_), MalformedPacket;
    flag_property_2: None, connect(V5, 0b10, &[&[0x19, 2]], &[&text("a")])
        => Error::Protocol(_), ProtocolError;
    authentication_data_alone: None, connect(V5, 0b10, &[&[0x16, 0, 1, 7]], &[&text("a")])
        => Error::Protocol(_), ProtocolError;
    /// A length of five bytes (class of CVE-2026-21888).
    length_of_five_bytes: None, [0x10, 0x80, 0x80, 0x80, 0x80, 0x01]
        => Error::Malformed(_), MalformedPacket;
    length_of_five_bytes_later: Some(V311), [0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]
        => Error::Malformed(_), MalformedPacket;
    length_not_shortest_v5: Some(V5), [0xC0, 0x80, 0x00]
        => Error::Malformed(_), MalformedPacket;
    connect_length_not_shortest_v5: None,
        [&[0x10, 0x8E, 0x00][..], &text("MQTT"), &[5, 2, 0, 60, 0], &text("a")].concat()
        => Error::Malformed(_), MalformedPacket;
    /// Refused by its header, before anything is buffered (class of CVE-2021-22116).
    connect_too_large: None, [0x10, 0x81, 0x20]
        => Error::TooLarge { bytes: 4_100, .. }, PacketTooLarge;
    publish_too_large: Some(V5), [0x30, 0xFF, 0xFF, 0xFF, 0x7F]
        => Error::TooLarge { .. }, PacketTooLarge;
    subscribe_too_large: Some(V5), [0x82, 0x80, 0x80, 0x02]
        => Error::TooLarge { .. }, PacketTooLarge;

    second_connect: Some(V311), plain_connect(V311) => Error::Protocol(_), ProtocolError;
    second_connect_of_another_version: Some(V5), plain_connect(V311)
        => Error::Protocol(_), ProtocolError;
    reserved_type_0: Some(V311), [0x00, 0] => Error::Malformed(_), MalformedPacket;
    auth_before_v5: Some(V311), [0xF0, 0] => Error::Malformed(_), MalformedPacket;
    auth_without_method: Some(V5), [0xF0, 0] => Error::Protocol(_), ProtocolError;
    /// Packets that only a server sends (class of CVE-2021-28166).
    connack_from_client: Some(V311), [0x20, 2, 0, 0] => Error::Protocol(_), ProtocolError;
    suback_from_client: Some(V5), [0x90, 4, 0, 1, 0, 0] => Error::Protocol(_), ProtocolError;
    unsuback_from_client: Some(V311), [0xB0, 2, 0, 1] => Error::Protocol(_), ProtocolError;
    pingresp_from_client: Some(V311), [0xD0, 0] => Error::Protocol(_), ProtocolError;

    /// Topic of length 0 (class of CVE-2021-34432).
    publish_topic_empty: Some(V311), packet(0x30, &[&text(""), b"x"])
        => Error::TopicNameInvalid, TopicNameInvalid;
    publish_topic_empty_without_alias: Some(V5), packet(0x30, &[&text(""), &[0]])
        => Error::Protocol(_), ProtocolError;
    publish_topic_with_plus: Some(V311), packet(0x30, &[&text("a/+")])
        => Error::TopicNameInvalid, TopicNameInvalid;
    publish_topic_with_hash: Some(V5), packet(0x30, &[&text("a/#"), &[0]])
        => Error::TopicNameInvalid, TopicNameInvalid;
    publish_topic_with_null: Some(V311), packet(0x30, &[&text("a\0")])
        => Error::Malformed(_), MalformedPacket;
    publish_topic_not_utf8: Some(V5), packet(0x30, &[&text([0xFF]), &[0]])
        => Error::Malformed(_), MalformedPacket;
    /// A topic length beyond the frame (class of CVE-2026-25627).
    publish_topic_longer_than_packet: Some(V311), packet(0x30, &[&[0xFF, 0xFF], b"abc"])
        => Error::Malformed(_), MalformedPacket;
    publish_qos_3: Some(V311), packet(0x36, &[&text("a"), &[0, 1]])
        => Error::Malformed(_), MalformedPacket;
    publish_qos_2: Some(V311), packet(0x34, &[&text("a"), &[0, 1]])
        => Error::QosNotSupported, QosNotSupported;
    publish_qos_2_v5: Some(V5), packet(0x34, &[&text("a"), &[0, 1, 0]])
        => Error::QosNotSupported, QosNotSupported;
    publish_dup_with_qos_0: Some(V311), packet(0x38, &[&text("a")])
        => Error::Malformed(_), MalformedPacket;
    publish_packet_id_0: Some(V311), packet(0x32, &[&text("a"), &[0, 0]])
        => Error::Protocol(_), ProtocolError;
    publish_packet_id_missing: Some(V311), packet(0x32, &[&text("abc"), &[0]])
        => Error::Malformed(_), MalformedPacket;
    publish_topic_alias_0: Some(V5), packet(0x30, &[&text("a"), &properties(&[&[0x23, 0, 0]])])
        => Error::TopicAliasInvalid, TopicAliasInvalid;
    publish_subscription_identifier: Some(V5),
        packet(0x30, &[&text("a"), &properties(&[&[0x0B, 1]])])
        => Error::Protocol(_), ProtocolError;
    publish_response_topic_with_wildcard: Some(V5),
        packet(0x30, &[&text("a"), &properties(&[&[0x08], &text("r/#")])])
        => Error::Protocol(_), ProtocolError;
    publish_payload_format_2: Some(V5), packet(0x30, &[&text("a"), &properties(&[&[0x01, 2]])])
        => Error::Protocol(_), ProtocolError;
    publish_without_property_length: Some(V5), packet(0x30, &[&text("abc")])
        => Error::Malformed(_), MalformedPacket;
    publish_user_property_with_null: Some(V5),
        packet(0x30, &[&text("a"), &properties(&[&[0x26], &text("k"), &text("\0")])])
        => Error::Malformed(_), MalformedPacket;
    publish_too_many_user_properties: Some(V5),
        packet(0x30, &[&text("a"), &[0xF9, 0x03], &[0x26, 0, 0, 0, 0].repeat(101)])
        => Error::TooMany(_), QuotaExceeded;

    puback_packet_id_0: Some(V311), [0x40, 2, 0, 0] => Error::Protocol(_), ProtocolError;
    puback_flags: Some(V311), [0x42, 2, 0, 1] => Error::Malformed(_), MalformedPacket;
    puback_too_long: Some(V311), [0x40, 3, 0, 1, 0] => Error::Malformed(_), MalformedPacket;
    puback_too_short: Some(V5), [0x40, 1, 0] => Error::Malformed(_), MalformedPacket;
    puback_unknown_reason: Some(V5), [0x40, 3, 0, 1, 0x42] => Error::Malformed(_), MalformedPacket;
    puback_bytes_behind: Some(V5), [0x40, 5, 0, 1, 0, 0, 9] => Error::Malformed(_), MalformedPacket;
    pubrec_without_qos_2: Some(V311), [0x50, 2, 0, 1] => Error::Protocol(_), ProtocolError;
    pubrel_without_qos_2: Some(V5), [0x62, 2, 0, 1] => Error::Protocol(_), ProtocolError;
    pubcomp_without_qos_2: Some(V311), [0x70, 2, 0, 1] => Error::Protocol(_), ProtocolError;

    subscribe_flags: Some(V311), packet(0x80, &[&[0, 1], &text("a"), &[0]])
        => Error::Malformed(_), MalformedPacket;
    subscribe_dup_flag: Some(V311), packet(0x8A, &[&[0, 1], &text("a"), &[0]])
        => Error::Malformed(_), MalformedPacket;
    subscribe_packet_id_0: Some(V311), packet(0x82, &[&[0, 0], &text("a"), &[0]])
        => Error::Protocol(_), ProtocolError;
    subscribe_without_filter: Some(V311), packet(0x82, &[&[0, 1]])
        => Error::Protocol(_), ProtocolError;
    subscribe_without_filter_v5: Some(V5), packet(0x82, &[&[0, 1, 0]])
        => Error::Protocol(_), ProtocolError;
    subscribe_without_options: Some(V311), packet(0x82, &[&[0, 1], &text("a")])
        => Error::Malformed(_), MalformedPacket;
    subscribe_qos_3: Some(V311), packet(0x82, &[&[0, 1], &text("a"), &[3]])
        => Error::Malformed(_), MalformedPacket;
    subscribe_reserved_bits: Some(V311), packet(0x82, &[&[0, 1], &text("a"), &[0x11]])
        => Error::Malformed(_), MalformedPacket;
    subscribe_reserved_bits_v5: Some(V5), packet(0x82, &[&[0, 1, 0], &text("a"), &[0x41]])
        => Error::Malformed(_), MalformedPacket;
    subscribe_retain_handling_3: Some(V5), packet(0x82, &[&[0, 1, 0], &text("a"), &[0x31]])
        => Error::Protocol(_), ProtocolError;
    subscribe_no_local_shared: Some(V5), packet(0x82, &[&[0, 1, 0], &text("$share/g/a"), &[0x05]])
        => Error::Protocol(_), ProtocolError;
    subscribe_identifier_0: Some(V5), packet(0x82, &[&[0, 1, 2, 0x0B, 0], &text("a"), &[0]])
        => Error::Protocol(_), ProtocolError;
    subscribe_filter_empty: Some(V311), packet(0x82, &[&[0, 1], &text(""), &[0]])
        => Error::TopicFilterInvalid, TopicFilterInvalid;
    subscribe_hash_not_last: Some(V311), packet(0x82, &[&[0, 1], &text("a/#/b"), &[0]])
        => Error::TopicFilterInvalid, TopicFilterInvalid;
    subscribe_plus_in_level: Some(V5), packet(0x82, &[&[0, 1, 0], &text("a+/b"), &[0]])
        => Error::TopicFilterInvalid, TopicFilterInvalid;
    subscribe_filter_with_null: Some(V311), packet(0x82, &[&[0, 1], &text("a\0"), &[0]])
        => Error::Malformed(_), MalformedPacket;
    subscribe_filter_longer_than_packet: Some(V311),
        packet(0x82, &[&[0, 1], &[0x10, 0], b"a", &[0]])
        => Error::Malformed(_), MalformedPacket;
    subscribe_too_many_filters: Some(V311),
        packet(0x82, &[&[0, 1], &[0, 1, b'a', 0].repeat(257)])
        => Error::TooMany(_), QuotaExceeded;
    unsubscribe_flags: Some(V311), packet(0xA0, &[&[0, 1], &text("a")])
        => Error::Malformed(_), MalformedPacket;
    unsubscribe_packet_id_0: Some(V5), packet(0xA2, &[&[0, 0, 0], &text("a")])
        => Error::Protocol(_), ProtocolError;
    unsubscribe_without_filter: Some(V311), packet(0xA2, &[&[0, 1]])
        => Error::Protocol(_), ProtocolError;
    unsubscribe_filter_empty: Some(V311), packet(0xA2, &[&[0, 1], &text("")])
        => Error::TopicFilterInvalid, TopicFilterInvalid;

    pingreq_with_body: Some(V311), [0xC0, 1, 0] => Error::Malformed(_), MalformedPacket;
    pingreq_flags: Some(V5), [0xC1, 0] => Error::Malformed(_), MalformedPacket;
    disconnect_with_body: Some(V311), [0xE0, 1, 0] => Error::Malformed(_), MalformedPacket;
    disconnect_flags: Some(V311), [0xE2, 0] => Error::Malformed(_), MalformedPacket;
    disconnect_unknown_reason: Some(V5), [0xE0, 1, 0x42] => Error::Malformed(_), MalformedPacket;
    disconnect_server_reference: Some(V5),
        packet(0xE0, &[&[0], &properties(&[&[0x1C], &text("s")])])
        => Error::Malformed(_), MalformedPacket;
    disconnect_bytes_behind: Some(V5), [0xE0, 3, 0, 0, 0] => Error::Malformed(_), MalformedPacket;
}

/// What is not MQTT gets no answer; everything else does.
#[test]
fn only_strangers_are_closed_silently() {
    assert!(Error::NotConnect.is_silent());
    assert!(Error::ProtocolNameUnknown.is_silent());
    assert!(!Error::VersionUnsupported { level: 9 }.is_silent());
    assert!(!Error::Malformed("").is_silent());
}

/// An error ends the stream: nothing behind it is read, and the version stays known.
#[test]
fn an_error_stays() {
    let bytes = [plain_connect(Version::V5), vec![0xC0, 1], vec![0xC0, 0]].concat();
    let mut decoder = Decoder::new(SizeLimits::default());
    let mut input = &bytes[..];
    assert!(decoder.decode(&mut input).unwrap().is_some());
    let error = decoder.decode(&mut input).unwrap_err();
    assert_eq!(decoder.decode(&mut &[0xC0, 0][..]), Err(error));
    assert_eq!(decoder.version(), Some(Version::V5));
    assert_eq!(decoder.heap_bytes(), 0);
}
