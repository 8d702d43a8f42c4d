use super::*;

fn window(receive_max: u16) -> Client {
    let asks = Connect {
        receive_max: NonZeroU16::new(receive_max),
        ..connect(Version::V5)
    };
    Client::connected_with(SessionLimits::default(), asks, Acceptance::default())
}

fn message() -> Message {
    Message::new("a", "x")
}

fn acknowledged(token: u64) -> Output {
    Output::Acknowledged {
        token: DeliveryToken(token),
        reason: Reason::Success,
    }
}

fn dropped(token: u64, cause: DropCause) -> Output {
    Output::Dropped {
        token: DeliveryToken(token),
        cause,
    }
}

/// QoS 0 leaves at once, without identifier and without a trace.
#[test]
fn at_most_once() {
    let mut client = Client::connected(Version::V311);
    let out = client.deliver(1, message(), Qos::AtMostOnce);
    assert_eq!(sent_publish(&out).delivery, Delivery::AtMostOnce);
    assert_eq!(client.session.pending_deliveries(), 0);
}

/// QoS 1 is held until its PUBACK; a PUBACK for nothing is ignored.
#[test]
fn at_least_once() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let out = client.deliver(5, message(), Qos::AtLeastOnce);
        assert_eq!(identity(sent_publish(&out)), (1, false));
        assert_eq!(client.session.pending_deliveries(), 1);
        assert_eq!(client.acknowledge(9), []);
        assert_eq!(client.acknowledge(1), [acknowledged(5)]);
        assert_eq!(client.acknowledge(1), []);
        assert_eq!(client.session.pending_deliveries(), 0);
    }
}

/// A client may acknowledge with a failure: it is done with the message all the same.
#[test]
fn acknowledged_with_failure() {
    let mut client = Client::connected(Version::V5);
    client.deliver(5, message(), Qos::AtLeastOnce);
    let reason = Reason::PayloadFormatInvalid;
    let out = client.packet(ClientPacket::PublishAck {
        packet_id: id(1),
        reason,
    });
    assert_eq!(
        out,
        [Output::Acknowledged {
            token: DeliveryToken(5),
            reason
        }]
    );
}

/// No more than the client's Receive Maximum is under way [MQTT-3.3.4-9]; the rest follows in
/// order.
#[test]
fn client_receive_maximum() {
    let mut client = window(2);
    assert_eq!(client.deliver(1, message(), Qos::AtLeastOnce).len(), 1);
    assert_eq!(client.deliver(2, message(), Qos::AtLeastOnce).len(), 1);
    assert_eq!(client.deliver(3, message(), Qos::AtLeastOnce), []);
    assert_eq!(client.deliver(4, message(), Qos::AtLeastOnce), []);
    // QoS 0 is not counted.
    assert_eq!(client.deliver(5, message(), Qos::AtMostOnce).len(), 1);
    let out = client.acknowledge(2);
    assert_eq!(out[0], acknowledged(2));
    assert_eq!(identity(sent_publish(&out)), (3, false));
    let out = client.acknowledge(1);
    assert_eq!(identity(sent_publish(&out)), (4, false));
    assert_eq!(client.acknowledge(3), [acknowledged(3)]);
}

/// The server's own limit holds when the client sets none.
#[test]
fn own_window() {
    let limits = SessionLimits {
        unacknowledged_max: NonZeroU16::new(1).unwrap(),
        ..SessionLimits::default()
    };
    for version in VERSIONS {
        let mut client =
            Client::connected_with(limits.clone(), connect(version), Acceptance::default());
        assert_eq!(client.deliver(1, message(), Qos::AtLeastOnce).len(), 1);
        assert_eq!(client.deliver(2, message(), Qos::AtLeastOnce), []);
        assert_eq!(client.acknowledge(1).len(), 2);
    }
}

/// What waits is bounded by number and bytes; the caller learns what is not kept.
#[test]
fn waiting_is_bounded() {
    let limits = SessionLimits {
        waiting_messages_max: 2,
        waiting_bytes_max: 10,
        ..SessionLimits::default()
    };
    let asks = Connect {
        receive_max: NonZeroU16::new(1),
        ..connect(Version::V5)
    };
    let mut client = Client::connected_with(limits, asks, Acceptance::default());
    client.deliver(1, message(), Qos::AtLeastOnce);
    assert_eq!(client.deliver(2, message(), Qos::AtLeastOnce), []);
    let large = Message::new("a", "12345678");
    let full = |token| [dropped(token, DropCause::QueueFull)];
    assert_eq!(client.deliver(3, large, Qos::AtLeastOnce), full(3));
    assert_eq!(client.deliver(4, message(), Qos::AtLeastOnce), []);
    assert_eq!(client.deliver(5, message(), Qos::AtLeastOnce), full(5));
    client.acknowledge(1);
    assert_eq!(
        client.deliver(6, message(), Qos::AtLeastOnce),
        [],
        "room again"
    );
}

/// A message that is too large for the client counts as sent [MQTT-3.1.2-25].
#[test]
fn larger_than_the_client_takes() {
    let asks = Connect {
        packet_size_max: NonZeroU32::new(60),
        ..connect(Version::V5)
    };
    let mut client = Client::connected_with(SessionLimits::default(), asks, Acceptance::default());
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let out = client.deliver(1, Message::new("a", vec![0; 60]), qos);
        assert_eq!(out, [dropped(1, DropCause::TooLarge)]);
    }
    assert_eq!(client.session.pending_deliveries(), 0);
    // 2 bytes of header, 3 of topic, 2 of identifier, 1 of properties: 52 are left.
    let out = client.deliver(2, Message::new("a", vec![0; 52]), Qos::AtLeastOnce);
    assert_eq!(sent_publishes(&out).len(), 1);
    let out = client.deliver(2, Message::new("a", vec![0; 53]), Qos::AtLeastOnce);
    assert_eq!(out, [dropped(2, DropCause::TooLarge)]);
}

/// What no packet can hold does not reach the encoder.
#[test]
fn message_that_is_no_packet() {
    for topic in ["", "a/#", &"a".repeat(65_536)] {
        let mut client = Client::connected(Version::V5);
        let out = client.deliver(1, Message::new(topic.to_string(), ""), Qos::AtLeastOnce);
        assert_eq!(out, [dropped(1, DropCause::NotEncodable)]);
    }
}

/// A number or text beyond what MQTT can express is not sent either.
#[test]
fn properties_that_are_no_packet() {
    let mut client = Client::connected(Version::V5);
    let mut delivery = DeliverMessage {
        token: DeliveryToken(1),
        message: message(),
        qos: Qos::AtMostOnce,
        subscription_identifiers: vec![NonZeroU32::MAX],
    };
    let unsent = [dropped(1, DropCause::NotEncodable)];
    assert_eq!(
        client.input(Input::Deliver(Box::new(delivery.clone()))),
        unsent
    );
    delivery.subscription_identifiers.clear();
    delivery.message.properties = Some(Box::new(MessageProperties {
        correlation_data: Some(vec![0; 65_536].into()),
        ..MessageProperties::default()
    }));
    assert_eq!(client.input(Input::Deliver(Box::new(delivery))), unsent);
}

/// A message that waited too long is not sent [MQTT-3.3.2-5]; one that waited says how much is left
/// [MQTT-3.3.2-6].
#[test]
fn expiry_while_waiting() {
    let mut client = window(1);
    client.deliver(1, message(), Qos::AtLeastOnce);
    let expiring = |expiry_s| Message {
        properties: Some(Box::new(MessageProperties {
            expiry_s: Some(expiry_s),
            ..MessageProperties::default()
        })),
        ..message()
    };
    client.deliver(2, expiring(3), Qos::AtLeastOnce);
    client.deliver(3, expiring(10), Qos::AtLeastOnce);
    client.now_ms += 3_000;
    let out = client.acknowledge(1);
    assert_eq!(out[..2], [acknowledged(1), dropped(2, DropCause::Expired)]);
    assert_eq!(sent_publish(&out).message.expiry_s(), Some(7));
}

/// Identifiers in use are not used again, and never zero [MQTT-2.2.1-4].
#[test]
fn packet_identifiers_wrap_around_those_in_use() {
    let mut client = window(3);
    client.deliver(0, message(), Qos::AtLeastOnce);
    let mut last = 1;
    for token in 1..70_000 {
        let out = client.deliver(token, message(), Qos::AtLeastOnce);
        let (packet_id, _) = identity(sent_publish(&out));
        assert!(packet_id != 1 && packet_id != last);
        client.acknowledge(packet_id);
        last = packet_id;
    }
}

/// Nothing is delivered before the CONNACK and after the end.
#[test]
fn delivery_without_connection() {
    let mut client = Client::new(SessionLimits::default());
    let refused = |token| [dropped(token, DropCause::NotConnected)];
    assert_eq!(client.deliver(1, message(), Qos::AtLeastOnce), refused(1));
    client.connect(connect(Version::V311));
    assert_eq!(client.deliver(2, message(), Qos::AtMostOnce), refused(2));
    client.input(Input::ConnectionLost);
    assert_eq!(client.deliver(3, message(), Qos::AtLeastOnce), refused(3));
}

/// Subscription identifiers travel with the message.
#[test]
fn subscription_identifiers() {
    let mut client = Client::connected(Version::V5);
    let numbers = vec![NonZeroU32::new(5).unwrap(), NonZeroU32::new(6).unwrap()];
    let out = client.input(Input::Deliver(Box::new(DeliverMessage {
        token: DeliveryToken(1),
        message: message(),
        qos: Qos::AtLeastOnce,
        subscription_identifiers: numbers.clone(),
    })));
    assert_eq!(sent_publish(&out).subscription_identifiers, numbers);
}

fn resume(
    version: Version,
    receive_max: Option<u16>,
    stored: SessionState,
) -> (Client, Vec<Output>) {
    let mut client = Client::new(SessionLimits::default());
    client.connect(Connect {
        clean_start: false,
        receive_max: receive_max
            .and_then(NonZeroU16::new)
            .filter(|_| version == Version::V5),
        ..connect(version)
    });
    let acceptance = Acceptance {
        stored: Some(stored),
        ..Acceptance::default()
    };
    let out = client.input(Input::Accept(Box::new(acceptance)));
    (client, out)
}

fn state_after_loss(client: &mut Client) -> SessionState {
    let out = client.input(Input::ConnectionLost);
    match out.into_iter().find_map(|output| match output {
        Output::Ended(end) => Some(end.state),
        _ => None,
    }) {
        Some(state) => state,
        None => panic!("the session does not end"),
    }
}

/// What was sent is sent again with DUP and its identifier, in order; what was not, follows as new
/// [MQTT-4.4.0-1, MQTT-4.6.0-1]. A smaller window of the new connection holds.
#[test]
fn redelivery_on_resume() {
    for version in VERSIONS {
        let mut client = Client::connected_with(
            SessionLimits {
                unacknowledged_max: NonZeroU16::new(3).unwrap(),
                ..SessionLimits::default()
            },
            Connect {
                clean_start: false,
                ..connect(version)
            },
            Acceptance::default(),
        );
        for token in 1..=5 {
            client.deliver(token, message(), Qos::AtLeastOnce);
        }
        client.acknowledge(2);
        let state = state_after_loss(&mut client);
        let pending: Vec<_> = state
            .pending
            .iter()
            .map(|held| (held.token.0, held.packet_id.map(PacketId::get)))
            .collect();
        assert_eq!(
            pending,
            [(1, Some(1)), (3, Some(3)), (4, Some(4)), (5, None)]
        );

        let (mut client, out) = resume(version, Some(2), state);
        let small = version == Version::V5;
        let sent: Vec<_> = sent_publishes(&out).into_iter().map(identity).collect();
        let all = [(1, true), (3, true), (4, true), (2, false)];
        assert_eq!(sent, if small { &all[..2] } else { &all[..] });
        if small {
            let out = client.acknowledge(1);
            assert_eq!(identity(sent_publish(&out)), (4, true));
            let out = client.acknowledge(3);
            assert_eq!(identity(sent_publish(&out)), (1, false));
        }
    }
}

/// A resumed message is acknowledged under the caller's token.
#[test]
fn acknowledgement_after_resume() {
    let mut client = Client::connected(Version::V311);
    client.deliver(42, message(), Qos::AtLeastOnce);
    let state = state_after_loss(&mut client);
    let (mut client, _) = resume(Version::V311, None, state);
    assert_eq!(client.acknowledge(1), [acknowledged(42)]);
}

/// State can be handed on again before anything was sent.
#[test]
fn state_survives_two_losses() {
    let mut client = Client::connected(Version::V5);
    client.deliver(1, message(), Qos::AtLeastOnce);
    client.deliver(2, message(), Qos::AtLeastOnce);
    let state = state_after_loss(&mut client);
    let (mut client, _) = resume(Version::V5, Some(1), state.clone());
    assert_eq!(state_after_loss(&mut client), state);
}
