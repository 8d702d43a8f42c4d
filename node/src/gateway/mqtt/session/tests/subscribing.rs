use super::*;

fn subscribe(filters: Vec<SubscribeFilter>) -> ClientPacket {
    ClientPacket::Subscribe(Subscribe {
        packet_id: id(7),
        identifier: None,
        filters,
    })
}

fn suback(grants: Vec<wire::Grant>) -> Output {
    Output::Send(ServerPacket::SubscribeAck {
        packet_id: id(7),
        grants,
    })
}

fn token_of(out: &[Output]) -> RequestToken {
    match out {
        [Output::Subscribe { token, .. } | Output::Unsubscribe { token, .. }] => *token,
        other => panic!("no request: {other:?}"),
    }
}

/// Subscribed and acknowledged after the grant, with at most the QoS that was asked for.
#[test]
fn grants_are_capped_and_stored() {
    let mut client = Client::connected(Version::V5);
    let filters = vec![
        wanted("a", Qos::AtMostOnce),
        wanted("b", Qos::AtLeastOnce),
        wanted("c", Qos::AtLeastOnce),
        wanted("d", Qos::AtLeastOnce),
    ];
    let out = client.packet(subscribe(filters.clone()));
    let token = token_of(&out);
    assert_eq!(
        out,
        [Output::Subscribe {
            token,
            filters,
            identifier: None
        }]
    );
    assert!(client.session.subscriptions().is_empty());
    let grants = vec![
        Ok(Qos::AtLeastOnce),
        Ok(Qos::AtLeastOnce),
        Ok(Qos::AtMostOnce),
        Err(Reason::NotAuthorized),
    ];
    let out = client.input(Input::Subscribed { token, grants });
    let answers = vec![
        Ok(Qos::AtMostOnce),
        Ok(Qos::AtLeastOnce),
        Ok(Qos::AtMostOnce),
        Err(Reason::NotAuthorized),
    ];
    assert_eq!(out, [suback(answers)]);
    let stored: Vec<_> = client
        .session
        .subscriptions()
        .iter()
        .map(|entry| (entry.filter, entry.qos))
        .collect();
    assert_eq!(
        stored,
        [
            ("a", Qos::AtMostOnce),
            ("b", Qos::AtLeastOnce),
            ("c", Qos::AtMostOnce)
        ]
    );
}

/// Shared subscriptions and filters over the limits are refused in their place; the rest is asked.
#[test]
fn refuses_what_it_does_not_have() {
    let mut client = Client::connected(Version::V5);
    let out = client.packet(subscribe(vec![
        wanted("$share/g/a", Qos::AtLeastOnce),
        wanted("a", Qos::AtLeastOnce),
        wanted("a/b/c/d/e/f/g/h/i", Qos::AtLeastOnce),
    ]));
    let [Output::Subscribe { token, filters, .. }] = &out[..] else {
        panic!("no request: {out:?}");
    };
    assert_eq!(filters[..], [wanted("a", Qos::AtLeastOnce)]);
    let out = client.input(Input::Subscribed {
        token: *token,
        grants: vec![Ok(Qos::AtLeastOnce)],
    });
    assert_eq!(
        out,
        [suback(vec![
            Err(Reason::SharedSubscriptionsNotSupported),
            Ok(Qos::AtLeastOnce),
            Err(Reason::TopicFilterInvalid),
        ])]
    );
}

/// When nothing is left to ask, the answer comes at once.
#[test]
fn answers_at_once_when_all_is_refused() {
    let mut client = Client::connected(Version::V311);
    let out = client.packet(subscribe(vec![wanted("$share/g/a", Qos::AtLeastOnce)]));
    assert_eq!(
        out,
        [suback(vec![Err(Reason::SharedSubscriptionsNotSupported)])]
    );
}

/// Number of filters in a packet and of subscriptions are bounded.
#[test]
fn subscription_limits() {
    let limits = SessionLimits {
        filters_per_subscribe_max: 3,
        subscriptions_max: 4,
        ..SessionLimits::default()
    };
    let mut client = Client::connected_with(limits, connect(Version::V5), Acceptance::default());
    let many = |names: &[&str]| {
        subscribe(
            names
                .iter()
                .map(|name| wanted(name, Qos::AtLeastOnce))
                .collect(),
        )
    };
    let grant = vec![Ok(Qos::AtLeastOnce); 4];
    let over = Err(Reason::QuotaExceeded);
    let good = Ok(Qos::AtLeastOnce);

    let token = token_of(&client.packet(many(&["a", "b", "c", "d"])));
    let out = client.input(Input::Subscribed {
        token,
        grants: grant.clone(),
    });
    assert_eq!(
        out,
        [suback(vec![good, good, good, over])],
        "filters in a packet"
    );

    // One that exists takes no room.
    let token = token_of(&client.packet(many(&["a", "d", "e"])));
    let out = client.input(Input::Subscribed {
        token,
        grants: grant.clone(),
    });
    assert_eq!(out, [suback(vec![good, good, over])], "subscriptions");

    // Two requests that each saw room do not get it twice.
    client.session.subscriptions.remove("d");
    let first = token_of(&client.packet(many(&["x"])));
    let second = token_of(&client.packet(many(&["y"])));
    assert_eq!(
        client.input(Input::Subscribed {
            token: first,
            grants: grant.clone()
        }),
        [suback(vec![good])]
    );
    assert_eq!(
        client.input(Input::Subscribed {
            token: second,
            grants: grant
        }),
        [suback(vec![over])]
    );
}

/// Grants that are missing are refusals: nothing is granted by accident.
#[test]
fn missing_grants_are_refusals() {
    let mut client = Client::connected(Version::V5);
    let filters = vec![wanted("a", Qos::AtMostOnce), wanted("b", Qos::AtMostOnce)];
    let token = token_of(&client.packet(subscribe(filters)));
    let out = client.input(Input::Subscribed {
        token,
        grants: vec![Ok(Qos::AtMostOnce)],
    });
    assert_eq!(
        out,
        [suback(vec![
            Ok(Qos::AtMostOnce),
            Err(Reason::UnspecifiedError)
        ])]
    );
}

/// Unsubscribed and acknowledged when it is done, each filter with its reason.
#[test]
fn unsubscribe() {
    let mut client = Client::connected(Version::V5);
    client.subscribe("a", Qos::AtLeastOnce);
    client.subscribe("b", Qos::AtLeastOnce);
    let filters = vec!["a".into(), "none".into()];
    let out = client.packet(ClientPacket::Unsubscribe(Unsubscribe {
        packet_id: id(8),
        filters: filters.clone(),
    }));
    let token = token_of(&out);
    assert_eq!(out, [Output::Unsubscribe { token, filters }]);
    assert_eq!(client.session.subscriptions().len(), 2);
    let out = client.input(Input::Unsubscribed { token });
    let reasons = vec![Reason::Success, Reason::NoSubscriptionExisted];
    let wanted = ServerPacket::UnsubscribeAck {
        packet_id: id(8),
        reasons,
    };
    assert_eq!(out, [Output::Send(wanted)]);
    let left: Vec<_> = client
        .session
        .subscriptions()
        .iter()
        .map(|entry| entry.filter)
        .collect();
    assert_eq!(left, ["b"]);
}

/// An answer of the wrong kind, or a second one, changes nothing.
#[test]
fn answers_fit_their_requests() {
    let mut client = Client::connected(Version::V5);
    let token = token_of(&client.packet(subscribe(vec![wanted("a", Qos::AtMostOnce)])));
    assert_eq!(client.input(Input::Unsubscribed { token }), []);
    let grants = vec![Ok(Qos::AtMostOnce)];
    assert_eq!(
        client
            .input(Input::Subscribed {
                token,
                grants: grants.clone()
            })
            .len(),
        1
    );
    assert_eq!(client.input(Input::Subscribed { token, grants }), []);
}

/// Requests that wait are bounded: reading pauses, and a caller that does not pause loses the
/// client.
#[test]
fn waiting_requests_are_bounded() {
    let limits = SessionLimits {
        requests_max: 2,
        ..SessionLimits::default()
    };
    let mut client = Client::connected_with(limits, connect(Version::V5), Acceptance::default());
    let ask = || subscribe(vec![wanted("a", Qos::AtMostOnce)]);
    client.packet(ask());
    assert_eq!(client.session.intake(client.now_ms), Intake::Open);
    client.packet(ask());
    assert_eq!(client.session.intake(client.now_ms), Intake::Blocked);
    let out = client.packet(ask());
    let reason = Reason::QuotaExceeded;
    assert_closed(&out, Version::V5, CloseCause::Violation(reason), reason);
}

/// The options of a subscription decide how a message is routed.
#[test]
fn options_are_stored() {
    let mut client = Client::connected(Version::V5);
    let filter = SubscribeFilter {
        no_local: true,
        ..wanted("a/+", Qos::AtLeastOnce)
    };
    let out = client.packet(ClientPacket::Subscribe(Subscribe {
        packet_id: id(7),
        identifier: NonZeroU32::new(3),
        filters: vec![filter],
    }));
    let token = match out[..] {
        [
            Output::Subscribe {
                token, identifier, ..
            },
        ] => {
            assert_eq!(identifier, NonZeroU32::new(3));
            token
        }
        _ => panic!("no request: {out:?}"),
    };
    client.input(Input::Subscribed {
        token,
        grants: vec![Ok(Qos::AtLeastOnce)],
    });
    let subscriptions = client.session.subscriptions();
    assert_eq!(subscriptions.route("a/b", Origin::Same), None);
    let route = subscriptions.route("a/b", Origin::Other).unwrap();
    assert_eq!(route.identifiers, [NonZeroU32::new(3).unwrap()]);
}
