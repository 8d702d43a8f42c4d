use super::*;

fn with_will(version: Version, session_expiry_s: u32, delay_s: u32) -> Client {
    let mut will = will();
    will.as_mut().unwrap().delay_s = delay_s;
    let asks = Connect {
        will,
        session_expiry_s,
        ..connect(version)
    };
    Client::connected_with(SessionLimits::default(), asks, Acceptance::default())
}

fn published_will(delay_s: u32, asked_s: u32) -> Output {
    let mut will = will().unwrap();
    will.delay_s = asked_s;
    Output::Will(WillOutcome::Publish { will, delay_s })
}

/// A normal DISCONNECT deletes the will [MQTT-3.14.4-3].
#[test]
fn normal_disconnect() {
    for version in VERSIONS {
        let mut client = with_will(version, 0, 0);
        let out = client.packet(disconnect_packet(Reason::Success, None));
        let cause = CloseCause::ClientDisconnected(Reason::Success);
        assert_eq!(
            out,
            [
                Output::Will(WillOutcome::Discard),
                ended(Expiry::Now),
                Output::Close(cause)
            ]
        );
        assert_eq!(client.session.intake(client.now_ms), Intake::Blocked);
    }
}

/// Any other DISCONNECT publishes it.
#[test]
fn disconnect_with_will() {
    for reason in [Reason::DisconnectWithWill, Reason::UnspecifiedError] {
        let mut client = with_will(Version::V5, 0, 0);
        let out = client.packet(disconnect_packet(reason, None));
        let cause = CloseCause::ClientDisconnected(reason);
        assert_eq!(
            out,
            [
                published_will(0, 0),
                ended(Expiry::Now),
                Output::Close(cause)
            ]
        );
    }
}

/// Without a will nothing is said about one.
#[test]
fn no_will() {
    let mut client = Client::connected(Version::V311);
    let out = client.input(Input::ConnectionLost);
    assert_eq!(
        out,
        [
            ended(Expiry::Now),
            Output::Close(CloseCause::ConnectionLost)
        ]
    );
    assert_eq!(client.input(Input::ConnectionLost), [], "only once");
    assert_eq!(client.packet(ClientPacket::PingRequest), []);
}

/// The will waits for its delay, or for the end of the session if that comes first
/// [MQTT-3.1.3-9].
#[test]
fn will_delay() {
    for (session_expiry_s, delay_s, used_s) in [(60, 5, 5), (5, 60, 5), (0, 60, 0), (60, 0, 0)] {
        let mut client = with_will(Version::V5, session_expiry_s, delay_s);
        let out = client.input(Input::ConnectionLost);
        assert_eq!(out[0], published_will(used_s, delay_s));
        assert_eq!(out[1], ended(Expiry::from_seconds(session_expiry_s)));
    }
}

/// A DISCONNECT that shortens the session shortens the delay, too.
#[test]
fn disconnect_changes_the_expiry() {
    let mut client = with_will(Version::V5, 60, 30);
    let out = client.packet(disconnect_packet(Reason::DisconnectWithWill, Some(10)));
    assert_eq!(out[..2], [published_will(10, 30), ended(Expiry::After(10))]);
    let mut client = with_will(Version::V5, 60, 0);
    let out = client.packet(disconnect_packet(Reason::Success, Some(u32::MAX)));
    assert_eq!(
        out[1],
        ended(Expiry::After(7 * 24 * 3_600)),
        "never more than is allowed"
    );
}

/// A session that was to end cannot be kept (section 3.14.2.2.2).
#[test]
fn disconnect_cannot_keep_what_was_to_end() {
    let mut client = with_will(Version::V5, 0, 0);
    let out = client.packet(disconnect_packet(Reason::Success, Some(10)));
    let cause = CloseCause::Violation(Reason::ProtocolError);
    assert_closed(&out, Version::V5, cause, Reason::ProtocolError);
    assert!(
        out.contains(&published_will(0, 0)),
        "that was no normal DISCONNECT"
    );
    let mut client = with_will(Version::V5, 0, 0);
    let out = client.packet(disconnect_packet(Reason::Success, Some(0)));
    assert_eq!(out[0], Output::Will(WillOutcome::Discard));
}

/// How long each session lives on.
#[test]
fn session_expiry() {
    let week = Expiry::After(7 * 24 * 3_600);
    let unbounded = SessionLimits {
        session_expiry_max_s: u32::MAX,
        ..SessionLimits::default()
    };
    let bounded = SessionLimits::default();
    for (version, clean_start, asked_s, limits, acceptance_s, expiry) in [
        (Version::V311, true, 0, &bounded, None, Expiry::Now),
        (Version::V311, false, 0, &bounded, None, week),
        (
            Version::V31,
            false,
            0,
            &bounded,
            Some(60),
            Expiry::After(60),
        ),
        (Version::V311, false, 0, &unbounded, None, Expiry::Never),
        (Version::V5, true, 0, &bounded, None, Expiry::Now),
        (Version::V5, false, 0, &bounded, None, Expiry::Now),
        (Version::V5, true, 60, &bounded, None, Expiry::After(60)),
        (Version::V5, true, u32::MAX, &bounded, None, week),
        (Version::V5, true, u32::MAX, &unbounded, None, Expiry::Never),
        (Version::V5, true, 60, &bounded, Some(0), Expiry::Now),
    ] {
        let asks = Connect {
            clean_start,
            session_expiry_s: asked_s,
            ..connect(version)
        };
        let acceptance = Acceptance {
            session_expiry_max_s: acceptance_s,
            ..Acceptance::default()
        };
        let mut client = Client::connected_with(limits.clone(), asks, acceptance);
        assert_eq!(
            client.session.expiry(),
            expiry,
            "{version:?} {clean_start} {asked_s}"
        );
        let out = client.input(Input::ConnectionLost);
        assert_eq!(out[0], ended(expiry));
    }
}

/// Every way in which the server closes is told to MQTT 5, and publishes the will.
#[test]
fn server_causes() {
    for (cause, reason) in [
        (ServerCause::TakenOver, Reason::SessionTakenOver),
        (ServerCause::ShuttingDown, Reason::ServerShuttingDown),
        (ServerCause::UseAnotherServer, Reason::UseAnotherServer),
        (ServerCause::Administrative, Reason::AdministrativeAction),
        (ServerCause::NotAuthorized, Reason::NotAuthorized),
        (ServerCause::QuotaExceeded, Reason::QuotaExceeded),
        (ServerCause::MessageRateTooHigh, Reason::MessageRateTooHigh),
        (ServerCause::Overloaded, Reason::ServerBusy),
    ] {
        for version in VERSIONS {
            let mut client = with_will(version, 0, 0);
            let out = client.input(Input::Close(cause));
            assert_closed(&out, version, CloseCause::Server(cause), reason);
            assert!(out.contains(&published_will(0, 0)));
        }
    }
}

/// A taken-over session hands on what it has.
#[test]
fn take_over_hands_on_the_state() {
    let asks = Connect {
        session_expiry_s: 60,
        clean_start: false,
        ..connect(Version::V5)
    };
    let mut client = Client::connected_with(SessionLimits::default(), asks, Acceptance::default());
    client.subscribe("a/#", Qos::AtLeastOnce);
    client.deliver(1, Message::new("a/b", "x"), Qos::AtLeastOnce);
    let out = client.input(Input::Close(ServerCause::TakenOver));
    let Output::Ended(end) = &out[1] else {
        panic!("{out:?}");
    };
    assert_eq!(end.expiry, Expiry::After(60));
    assert_eq!(end.state.subscriptions.len(), 1);
    assert_eq!(end.state.pending.len(), 1);
}

/// An invalid packet of a connected client is answered with its reason.
#[test]
fn invalid_packet() {
    for version in VERSIONS {
        for error in [
            wire::Error::Malformed("x"),
            wire::Error::QosNotSupported,
            wire::Error::TooLarge {
                bytes: 2,
                bytes_max: 1,
            },
            wire::Error::TopicNameInvalid,
        ] {
            let mut client = with_will(version, 0, 0);
            let out = client.input(Input::Invalid {
                error,
                version: Some(version),
            });
            assert_closed(&out, version, CloseCause::Invalid(error), error.reason());
            assert!(out.contains(&published_will(0, 0)));
        }
    }
}

/// A client that takes tiny packets only gets no DISCONNECT.
#[test]
fn disconnect_larger_than_the_client_takes() {
    let asks = Connect {
        packet_size_max: NonZeroU32::new(40),
        ..connect(Version::V5)
    };
    let mut client = Client::connected_with(SessionLimits::default(), asks, Acceptance::default());
    client.session.packet_size_max = 3;
    let out = client.input(Input::Close(ServerCause::TakenOver));
    let cause = CloseCause::Server(ServerCause::TakenOver);
    assert_eq!(out, [ended(Expiry::Now), Output::Close(cause)]);
}
