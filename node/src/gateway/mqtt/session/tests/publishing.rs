use super::*;

fn duplicate(topic: &str, packet_id: u16) -> Publish {
    Publish {
        delivery: Delivery::AtLeastOnce {
            packet_id: id(packet_id),
            duplicate: true,
        },
        ..publish(topic, packet_id)
    }
}

/// PUBACK comes after the commit, never before.
#[test]
fn puback_only_after_commit() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let token = client.publish(publish("a", 7));
        let out = client.published(token, PublishOutcome::Committed);
        assert_eq!(out, [puback(7, Reason::Success)]);
        assert_eq!(
            client.published(token, PublishOutcome::Committed),
            [],
            "only once"
        );
    }
}

/// PUBACKs keep the order of the PUBLISHes [MQTT-4.6.0-2].
#[test]
fn pubacks_in_order_of_publishes() {
    let mut client = Client::connected(Version::V5);
    let tokens: Vec<_> = (1..=4)
        .map(|packet_id| client.publish(publish("a", packet_id)))
        .collect();
    assert_eq!(client.published(tokens[2], PublishOutcome::Committed), []);
    assert_eq!(
        client.published(tokens[1], PublishOutcome::Refused(Reason::NotAuthorized)),
        []
    );
    assert_eq!(
        client.published(tokens[0], PublishOutcome::Committed),
        [
            puback(1, Reason::Success),
            puback(2, Reason::NotAuthorized),
            puback(3, Reason::Success)
        ]
    );
    assert_eq!(
        client.published(tokens[3], PublishOutcome::Committed),
        [puback(4, Reason::Success)]
    );
}

/// QoS 0 is asked for, too, delays no PUBACK and gets none.
#[test]
fn at_most_once_gets_no_puback() {
    let mut client = Client::connected(Version::V5);
    let first = client.publish(publish("a", 0));
    let second = client.publish(publish("a", 1));
    assert_eq!(
        client.published(second, PublishOutcome::Committed),
        [puback(1, Reason::Success)]
    );
    assert_eq!(
        client.published(first, PublishOutcome::Refused(Reason::NotAuthorized)),
        []
    );
    assert!(client.session.is_connected());
}

/// Only MQTT 5 can say that a publish is refused; others are disconnected.
#[test]
fn refused_publish() {
    for version in [Version::V31, Version::V311] {
        for packet_id in [0, 1] {
            let mut client = Client::connected(version);
            let token = client.publish(publish("a", packet_id));
            let out = client.published(token, PublishOutcome::Refused(Reason::NotAuthorized));
            let cause = CloseCause::PublishRefused(Reason::NotAuthorized);
            assert_closed(&out, version, cause, Reason::NotAuthorized);
        }
    }
}

/// An unknown outcome is never acknowledged; the client has to come back and send it again.
#[test]
fn unknown_outcome() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let token = client.publish(publish("a", 1));
        let out = client.published(token, PublishOutcome::Unknown);
        assert_closed(
            &out,
            version,
            CloseCause::OutcomeUnknown,
            Reason::UnspecifiedError,
        );
        assert!(
            !out.iter()
                .any(|output| matches!(output, Output::Send(ServerPacket::PublishAck { .. })))
        );
    }
}

/// RETAIN is refused on MQTT 5, which was told so, and counts as 0 before.
#[test]
fn retain_flag() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let retained = Publish {
            retain: true,
            ..publish("a", 1)
        };
        let out = client.packet(ClientPacket::Publish(Box::new(retained)));
        if version == Version::V5 {
            let cause = CloseCause::Violation(Reason::RetainNotSupported);
            assert_closed(&out, version, cause, Reason::RetainNotSupported);
        } else {
            assert!(matches!(out[..], [Output::Publish { .. }]), "{out:?}");
        }
    }
}

/// More than the Receive Maximum is a breach on MQTT 5 [MQTT-3.3.4-7]; before, reading pauses, and
/// a caller that does not pause loses the client.
#[test]
fn receive_maximum() {
    let limits = SessionLimits {
        receive_max: NonZeroU16::new(2).unwrap(),
        ..SessionLimits::default()
    };
    for version in VERSIONS {
        let mut client =
            Client::connected_with(limits.clone(), connect(version), Acceptance::default());
        let token = client.publish(publish("a", 1));
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
        client.publish(publish("a", 2));
        let reason = if version == Version::V5 {
            assert_eq!(client.session.intake(client.now_ms), Intake::Open);
            Reason::ReceiveMaximumExceeded
        } else {
            assert_eq!(client.session.intake(client.now_ms), Intake::Blocked);
            Reason::QuotaExceeded
        };
        client.published(token, PublishOutcome::Committed);
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
        client.publish(publish("a", 3));
        let out = client.packet(ClientPacket::Publish(Box::new(publish("a", 4))));
        assert_closed(&out, version, CloseCause::Violation(reason), reason);
    }
}

/// A publish whose predecessors are not acknowledged still counts: PUBACK frees it, not the commit.
#[test]
fn receive_maximum_counts_until_puback() {
    let limits = SessionLimits {
        receive_max: NonZeroU16::new(2).unwrap(),
        ..SessionLimits::default()
    };
    let mut client = Client::connected_with(limits, connect(Version::V5), Acceptance::default());
    client.publish(publish("a", 1));
    let second = client.publish(publish("a", 2));
    assert_eq!(client.published(second, PublishOutcome::Committed), []);
    let out = client.packet(ClientPacket::Publish(Box::new(publish("a", 3))));
    let reason = Reason::ReceiveMaximumExceeded;
    assert_closed(&out, Version::V5, CloseCause::Violation(reason), reason);
}

/// QoS 0 beyond what may wait is dropped: nobody was promised anything.
#[test]
fn too_many_at_most_once_are_dropped() {
    let limits = SessionLimits {
        at_most_once_max: 1,
        ..SessionLimits::default()
    };
    let mut client = Client::connected_with(limits, connect(Version::V5), Acceptance::default());
    let token = client.publish(publish("a", 0));
    assert_eq!(client.session.intake(client.now_ms), Intake::Blocked);
    assert_eq!(
        client.packet(ClientPacket::Publish(Box::new(publish("a", 0)))),
        []
    );
    client.published(token, PublishOutcome::Committed);
    assert_eq!(client.session.intake(client.now_ms), Intake::Open);
}

/// A repetition of a publish that waits is answered by the one PUBACK.
#[test]
fn repeated_publish_is_absorbed() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let token = client.publish(publish("a", 1));
        assert_eq!(
            client.packet(ClientPacket::Publish(Box::new(duplicate("a", 1)))),
            []
        );
        assert_eq!(client.published(token, PublishOutcome::Committed).len(), 1);
        client.publish(duplicate("a", 1));
    }
}

/// An identifier in use is a breach on MQTT 5 [MQTT-2.2.1-3]; small clients before it have only
/// one.
#[test]
fn packet_identifier_in_use() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let first = client.publish(publish("a", 1));
        if version == Version::V5 {
            let out = client.packet(ClientPacket::Publish(Box::new(publish("b", 1))));
            let cause = CloseCause::Violation(Reason::ProtocolError);
            assert_closed(&out, version, cause, Reason::ProtocolError);
            continue;
        }
        let second = client.publish(publish("b", 1));
        assert_eq!(client.published(second, PublishOutcome::Committed), []);
        assert_eq!(client.published(first, PublishOutcome::Committed).len(), 2);
    }
}

/// A topic over the limits is refused as a publish is, in its order.
#[test]
fn topic_over_the_limits() {
    let deep = "a/b/c/d/e/f/g/h/i";
    let mut client = Client::connected(Version::V5);
    let token = client.publish(publish("a", 1));
    assert_eq!(
        client.packet(ClientPacket::Publish(Box::new(publish(deep, 2)))),
        []
    );
    assert_eq!(
        client.packet(ClientPacket::Publish(Box::new(publish(deep, 0)))),
        []
    );
    assert_eq!(
        client.published(token, PublishOutcome::Committed),
        [
            puback(1, Reason::Success),
            puback(2, Reason::TopicNameInvalid)
        ]
    );
    let mut client = Client::connected(Version::V311);
    let out = client.packet(ClientPacket::Publish(Box::new(publish(deep, 0))));
    let cause = CloseCause::PublishRefused(Reason::TopicNameInvalid);
    assert_closed(&out, Version::V311, cause, Reason::TopicNameInvalid);
}

fn with_alias(topic: &str, alias: u16) -> Publish {
    Publish {
        topic_alias: NonZeroU16::new(alias),
        ..publish(topic, 0)
    }
}

fn published_topic(client: &mut Client, publish: Publish) -> String {
    match &client.packet(ClientPacket::Publish(Box::new(publish)))[..] {
        [Output::Publish { message, .. }] => message.topic.to_string(),
        other => panic!("no publish request: {other:?}"),
    }
}

/// An alias stands for the topic it was last sent with.
#[test]
fn topic_alias() {
    let mut client = Client::connected(Version::V5);
    assert_eq!(published_topic(&mut client, with_alias("a/b", 8)), "a/b");
    assert_eq!(published_topic(&mut client, with_alias("", 8)), "a/b");
    assert_eq!(published_topic(&mut client, with_alias("c", 8)), "c");
    assert_eq!(published_topic(&mut client, with_alias("", 8)), "c");
}

/// An alias that stands for nothing is a breach, and so is one above the maximum.
#[test]
fn unknown_topic_alias() {
    for (alias, reason) in [
        (1, Reason::ProtocolError),
        (3, Reason::ProtocolError),
        (9, Reason::TopicAliasInvalid),
    ] {
        let mut client = Client::connected(Version::V5);
        published_topic(&mut client, with_alias("a", 2));
        let out = client.packet(ClientPacket::Publish(Box::new(with_alias("", alias))));
        assert_closed(&out, Version::V5, CloseCause::Violation(reason), reason);
    }
}

/// A topic over the limits takes no memory for its alias.
#[test]
fn alias_of_a_topic_over_the_limits() {
    let mut client = Client::connected(Version::V5);
    let long = "a".repeat(60_000);
    assert_eq!(
        client.packet(ClientPacket::Publish(Box::new(with_alias(&long, 1)))),
        []
    );
    assert_eq!(client.session.heap_bytes(), 0);
}

/// Reading pauses when packets come faster than the rate, for as long as it takes.
#[test]
fn packet_rate() {
    let limits = SessionLimits {
        packet_rate_max: NonZeroU32::new(10).unwrap(),
        packet_burst_max: NonZeroU32::new(5).unwrap(),
        ..SessionLimits::default()
    };
    let mut client = Client::connected_with(limits, connect(Version::V5), Acceptance::default());
    for _ in 0..5 {
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
        client.publish(publish("a", 0));
    }
    let later = Intake::Until(client.now_ms + 100);
    assert_eq!(client.session.intake(client.now_ms), later);
    client.acknowledge(1);
    assert_eq!(
        client.session.intake(client.now_ms),
        later,
        "PUBACK is not counted"
    );
    for _ in 0..20 {
        client.now_ms += 100;
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
        client.packet(ClientPacket::PingRequest);
        assert!(matches!(
            client.session.intake(client.now_ms),
            Intake::Until(_)
        ));
    }
    client.now_ms += 500;
    for _ in 0..5 {
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
        client.publish(publish("a", 0));
    }
}

/// Reading pauses when bytes come faster than the rate, also amid a packet, for as long as it takes;
/// a CONNECT is read whatever it takes.
#[test]
fn byte_rate() {
    let limits = SessionLimits {
        byte_rate_max: NonZeroU32::new(1_000).unwrap(),
        ..SessionLimits::default()
    };
    let mut client = Client::new(limits);
    client.session.count_bytes(4_000, client.now_ms);
    assert_eq!(client.session.intake(client.now_ms), Intake::Open);
    client.connect(connect(Version::V5));
    client.accept(Acceptance::default());
    client.now_ms += 4_000;
    for _ in 0..4 {
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
        client.session.count_bytes(300, client.now_ms);
    }
    let later = client.now_ms + 200;
    let paused = Intake::Until(later);
    assert_eq!(client.session.intake(client.now_ms), paused);
    client.now_ms = later;
    assert_eq!(client.session.intake(client.now_ms), Intake::Open);
    client.session.count_bytes(500, client.now_ms);
    let paused = Intake::Until(client.now_ms + 500);
    assert_eq!(client.session.intake(client.now_ms), paused);
    client.now_ms += 60_000;
    client.session.count_bytes(1_000, client.now_ms);
    assert_eq!(client.session.intake(client.now_ms), Intake::Open);
}

/// An outcome for a connection that is over changes nothing.
#[test]
fn outcome_after_the_end() {
    let mut client = Client::connected(Version::V5);
    let token = client.publish(publish("a", 1));
    client.input(Input::ConnectionLost);
    assert_eq!(client.published(token, PublishOutcome::Committed), []);
}
