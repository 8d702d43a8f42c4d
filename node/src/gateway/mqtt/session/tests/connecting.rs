use super::*;

fn refusal(reason: Reason) -> Output {
    Output::Send(ServerPacket::ConnectAck(Box::new(ConnectAck::refusal(
        reason,
    ))))
}

/// CONNECT is decided by the caller, and only then answered.
#[test]
fn asks_before_it_answers() {
    for version in VERSIONS {
        let mut client = Client::new(SessionLimits::default());
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
        let out = client.connect(connect(version));
        assert_eq!(out, [Output::Authenticate(Box::new(connect(version)))]);
        assert_eq!(client.session.intake(client.now_ms), Intake::Blocked);
        assert_eq!(client.session.version(), version);
        let ack = client.accept(Acceptance::default());
        assert_eq!((ack.reason, ack.session_present), (Reason::Success, false));
        assert!(client.session.is_connected());
        assert_eq!(client.session.intake(client.now_ms), Intake::Open);
    }
}

/// Everything that an MQTT 5 client has to know is in the CONNACK.
#[test]
fn connect_ack_of_v5_announces_limits() {
    let mut client = Client::new(SessionLimits::default());
    client.connect(Connect {
        session_expiry_s: u32::MAX,
        keep_alive_s: 0,
        request_response_information: true,
        ..connect(Version::V5)
    });
    let ack = client.accept(Acceptance {
        response_information: Some("r/".into()),
        ..Acceptance::default()
    });
    let wanted = ConnectAck {
        session_expiry_s: Some(7 * 24 * 3_600),
        receive_max: NonZeroU16::new(100),
        packet_size_max: Some(149_504),
        topic_alias_max: 8,
        server_keep_alive_s: Some(1_200),
        response_information: Some("r/".into()),
        ..ConnectAck::refusal(Reason::Success)
    };
    assert_eq!(ack, wanted);
}

/// What the client asked for and gets is not repeated; what it did not ask for is not sent.
#[test]
fn connect_ack_of_v5_repeats_nothing() {
    let mut client = Client::new(SessionLimits::default());
    client.connect(Connect {
        session_expiry_s: 60,
        ..connect(Version::V5)
    });
    let ack = client.accept(Acceptance {
        response_information: Some("r/".into()),
        assigned_client_id: Some("unused".into()),
        ..Acceptance::default()
    });
    assert_eq!(ack.session_expiry_s, None);
    assert_eq!(ack.server_keep_alive_s, None);
    assert_eq!(ack.response_information, None);
    assert_eq!(ack.assigned_client_id, None);
    assert_eq!(client.session.expiry(), Expiry::After(60));
}

/// An empty client identifier is replaced by the caller's; MQTT 5 clients learn it
/// [MQTT-3.2.2-16].
#[test]
fn assigned_client_id() {
    for (version, told) in [(Version::V311, None), (Version::V5, Some("auto-1"))] {
        let mut client = Client::new(SessionLimits::default());
        client.connect(Connect {
            client_id: "".into(),
            ..connect(version)
        });
        let ack = client.accept(Acceptance {
            assigned_client_id: Some("auto-1".into()),
            ..Acceptance::default()
        });
        assert_eq!(ack.assigned_client_id.as_deref(), told);
    }
}

/// Without an assigned identifier an empty one is refused.
#[test]
fn empty_client_id_that_is_not_assigned() {
    for version in [Version::V311, Version::V5] {
        let mut client = Client::new(SessionLimits::default());
        client.connect(Connect {
            client_id: "".into(),
            ..connect(version)
        });
        let out = client.input(Input::Accept(Box::default()));
        let reason = Reason::ClientIdentifierNotValid;
        assert_eq!(
            out,
            [refusal(reason), Output::Close(CloseCause::Refused(reason))]
        );
    }
}

/// A stored session is continued, unless the client wants a clean start [MQTT-3.1.2-4].
#[test]
fn session_present() {
    for version in VERSIONS {
        for clean_start in [true, false] {
            let mut state = SessionState::default();
            state.subscriptions.insert(Subscription {
                filter: "a/#",
                qos: Qos::AtLeastOnce,
                no_local: false,
                identifier: None,
            });
            let mut client = Client::new(SessionLimits::default());
            client.connect(Connect {
                clean_start,
                ..connect(version)
            });
            let ack = client.accept(Acceptance {
                stored: Some(state),
                ..Acceptance::default()
            });
            assert_eq!(ack.session_present, !clean_start);
            assert_eq!(client.session.subscriptions().is_empty(), clean_start);
        }
    }
}

/// The caller's refusal is sent in the form of the version, and ends the connection without will.
#[test]
fn refused_by_the_caller() {
    for version in VERSIONS {
        let mut client = Client::new(SessionLimits::default());
        client.connect(Connect {
            will: will(),
            ..connect(version)
        });
        let out = client.input(Input::Refuse(Refusal {
            reason: Reason::NotAuthorized,
            reason_string: Some("no such device".into()),
        }));
        let mut ack = ConnectAck::refusal(Reason::NotAuthorized);
        ack.reason_string = (version == Version::V5).then(|| "no such device".into());
        let cause = CloseCause::Refused(Reason::NotAuthorized);
        assert_eq!(
            out,
            [
                Output::Send(ServerPacket::ConnectAck(Box::new(ack))),
                Output::Close(cause)
            ]
        );
        assert!(client.session.is_closed());
        assert_eq!(client.input(Input::Accept(Box::default())), []);
    }
}

/// A refusal with a reason that is none is one all the same.
#[test]
fn refused_with_success() {
    let mut client = Client::new(SessionLimits::default());
    client.connect(connect(Version::V5));
    let refused = Refusal {
        reason: Reason::Success,
        reason_string: None,
    };
    let out = client.input(Input::Refuse(refused));
    assert_eq!(out[0], refusal(Reason::UnspecifiedError));
}

/// Extended authentication is not offered [MQTT-4.12.0-1].
#[test]
fn authentication_method_is_refused() {
    let mut client = Client::new(SessionLimits::default());
    let out = client.connect(Connect {
        authentication_method: Some("SCRAM-SHA-1".into()),
        ..connect(Version::V5)
    });
    let reason = Reason::BadAuthenticationMethod;
    assert_eq!(
        out,
        [refusal(reason), Output::Close(CloseCause::Refused(reason))]
    );
}

/// A retained will is refused on MQTT 5 and counts as not retained before.
#[test]
fn retained_will() {
    for version in VERSIONS {
        let mut retained = will();
        retained.as_mut().unwrap().retain = true;
        let mut client = Client::new(SessionLimits::default());
        let out = client.connect(Connect {
            will: retained,
            ..connect(version)
        });
        if version == Version::V5 {
            let reason = Reason::RetainNotSupported;
            assert_eq!(
                out,
                [refusal(reason), Output::Close(CloseCause::Refused(reason))]
            );
            continue;
        }
        client.accept(Acceptance::default());
        let out = client.input(Input::ConnectionLost);
        let kept = WillOutcome::Publish {
            will: will().unwrap(),
            delay_s: 0,
        };
        assert!(out.contains(&Output::Will(kept)), "{out:?}");
    }
}

/// A will's topic is bound by the limits as any topic.
#[test]
fn will_topic_over_the_limits() {
    let mut deep = will();
    deep.as_mut().unwrap().message.topic = "a/b/c/d/e/f/g/h/i".into();
    let mut client = Client::new(SessionLimits::default());
    let out = client.connect(Connect {
        will: deep,
        ..connect(Version::V5)
    });
    assert_eq!(out[0], refusal(Reason::TopicNameInvalid));
}

/// Nothing but a CONNECT may come first [MQTT-3.1.0-1]; nobody is told anything.
#[test]
fn packet_before_connect() {
    let mut client = Client::new(SessionLimits::default());
    let out = client.packet(ClientPacket::PingRequest);
    assert_eq!(
        out,
        [Output::Close(CloseCause::Violation(Reason::ProtocolError))]
    );
}

/// A second CONNECT ends the connection [MQTT-3.1.0-2].
#[test]
fn second_connect() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let out = client.connect(connect(version));
        let cause = CloseCause::Violation(Reason::ProtocolError);
        assert_closed(&out, version, cause, Reason::ProtocolError);
    }
}

/// The caller was told to wait; a packet before the decision is not processed.
#[test]
fn packet_before_the_decision() {
    let mut client = Client::new(SessionLimits::default());
    client.connect(connect(Version::V5));
    let out = client.packet(ClientPacket::Publish(Box::new(publish("a", 1))));
    assert_eq!(
        out,
        [Output::Close(CloseCause::Violation(Reason::ProtocolError))]
    );
}

/// What is wrong with a first packet is told as far as the version can.
#[test]
fn invalid_first_packet() {
    use wire::Error;
    for (error, version, answer) in [
        (Error::NotConnect, None, None),
        (Error::ProtocolNameUnknown, None, None),
        (Error::Malformed("x"), None, None),
        (Error::Malformed("x"), Some(Version::V311), None),
        (
            Error::Malformed("x"),
            Some(Version::V5),
            Some(Reason::MalformedPacket),
        ),
        (
            Error::VersionUnsupported { level: 6 },
            None,
            Some(Reason::UnsupportedProtocolVersion),
        ),
        (
            Error::ClientIdInvalid,
            Some(Version::V311),
            Some(Reason::ClientIdentifierNotValid),
        ),
        (
            Error::QosNotSupported,
            Some(Version::V5),
            Some(Reason::QosNotSupported),
        ),
        (
            Error::QosNotSupported,
            Some(Version::V311),
            Some(Reason::QosNotSupported),
        ),
        (
            Error::TooLarge {
                bytes: 9,
                bytes_max: 8,
            },
            None,
            None,
        ),
    ] {
        let mut client = Client::new(SessionLimits::default());
        let out = client.input(Input::Invalid { error, version });
        let mut expected: Vec<Output> = answer.map(refusal).into_iter().collect();
        expected.push(Output::Close(CloseCause::Invalid(error)));
        assert_eq!(out, expected, "{error:?} {version:?}");
    }
}

/// A connection without CONNECT is closed after five seconds.
#[test]
fn connect_timeout() {
    let mut client = Client::new(SessionLimits::default());
    assert_eq!(
        client.session.next_deadline_ms(),
        Some(client.now_ms + 5_000)
    );
    assert_eq!(client.wait(4_999), []);
    assert_eq!(client.wait(1), [Output::Close(CloseCause::ConnectTimeout)]);
    assert_eq!(client.session.next_deadline_ms(), None);
}

/// A decision that does not come is a refusal that says "try again".
#[test]
fn authentication_timeout() {
    for version in VERSIONS {
        let mut client = Client::new(SessionLimits::default());
        client.connect(connect(version));
        assert_eq!(client.wait(9_999), []);
        let out = client.wait(1);
        let reason = Reason::ServerUnavailable;
        assert_eq!(
            out,
            [refusal(reason), Output::Close(CloseCause::Refused(reason))]
        );
    }
}

/// 1.5 times the keep-alive, counted from the last packet [MQTT-3.1.2-22].
#[test]
fn keep_alive() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        assert_eq!(client.wait(60_000), []);
        let pong = client.packet(ClientPacket::PingRequest);
        assert_eq!(pong, [Output::Send(ServerPacket::PingResponse)]);
        assert_eq!(
            client.session.next_deadline_ms(),
            Some(client.now_ms + 90_000)
        );
        assert_eq!(client.wait(89_999), []);
        let out = client.wait(1);
        assert_closed(
            &out,
            version,
            CloseCause::KeepAliveTimeout,
            Reason::KeepAliveTimeout,
        );
    }
}

/// A client that is not read because of us is not silent: its PINGREQ may be waiting.
#[test]
fn keep_alive_while_reading_is_blocked() {
    let limits = SessionLimits {
        requests_max: 1,
        ..SessionLimits::default()
    };
    let mut client = Client::connected_with(limits, connect(Version::V5), Acceptance::default());
    let out = client.packet(ClientPacket::Subscribe(Subscribe {
        packet_id: id(1),
        identifier: None,
        filters: vec![wanted("a", Qos::AtMostOnce)],
    }));
    let [Output::Subscribe { token, .. }] = out[..] else {
        panic!("no request: {out:?}");
    };
    assert_eq!(client.wait(90_000), []);
    assert_eq!(
        client.session.next_deadline_ms(),
        Some(client.now_ms + 90_000)
    );
    client.now_ms += 89_999;
    client.input(Input::Subscribed {
        token,
        grants: vec![],
    });
    assert_eq!(client.wait(89_999), []);
    let out = client.wait(1);
    assert_closed(
        &out,
        Version::V5,
        CloseCause::KeepAliveTimeout,
        Reason::KeepAliveTimeout,
    );
}

/// No keep-alive, or one above the bound, is the bound; the bound may be the acceptance's, or none.
#[test]
fn keep_alive_bounds() {
    for (asked_s, limit_s, acceptance_s, used_s) in [
        (0, 1_200, None, 1_200),
        (60, 1_200, None, 60),
        (5_000, 1_200, None, 1_200),
        (0, 1_200, Some(30), 30),
        (60, 1_200, Some(30), 30),
        (0, 0, None, 0),
        (5_000, 0, None, 5_000),
        (u16::MAX, 0, None, u16::MAX),
    ] {
        let limits = SessionLimits {
            keep_alive_max_s: limit_s,
            ..SessionLimits::default()
        };
        let mut client = Client::new(limits);
        client.connect(Connect {
            keep_alive_s: asked_s,
            ..connect(Version::V5)
        });
        let ack = client.accept(Acceptance {
            keep_alive_max_s: acceptance_s,
            ..Acceptance::default()
        });
        assert_eq!(client.session.silence_max_ms(), u32::from(used_s) * 1_500);
        assert_eq!(
            ack.server_keep_alive_s,
            (used_s != asked_s).then_some(used_s)
        );
        assert_eq!(client.session.next_deadline_ms().is_some(), used_s != 0);
    }
}

/// A CONNACK that the client cannot take is not sent [MQTT-3.1.2-24]; what may be left out is left
/// out first.
#[test]
fn connect_ack_larger_than_the_client_takes() {
    let asks = |packet_size_max| Connect {
        packet_size_max: NonZeroU32::new(packet_size_max),
        request_response_information: true,
        ..connect(Version::V5)
    };
    let long = || Acceptance {
        response_information: Some("r".repeat(100).into()),
        ..Acceptance::default()
    };
    let mut client = Client::new(SessionLimits::default());
    client.connect(asks(50));
    assert_eq!(client.accept(long()).response_information, None);
    let mut client = Client::new(SessionLimits::default());
    client.connect(asks(4));
    let out = client.input(Input::Accept(Box::new(long())));
    assert_eq!(
        out,
        [Output::Close(CloseCause::Refused(Reason::PacketTooLarge))]
    );
}

/// A node that stops tells those whose CONNECT it has not decided.
#[test]
fn closed_while_deciding() {
    let mut client = Client::new(SessionLimits::default());
    client.connect(Connect {
        will: will(),
        ..connect(Version::V311)
    });
    let out = client.input(Input::Close(ServerCause::ShuttingDown));
    let cause = CloseCause::Server(ServerCause::ShuttingDown);
    assert_eq!(
        out,
        [refusal(Reason::ServerUnavailable), Output::Close(cause)]
    );
}
