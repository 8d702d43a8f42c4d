//! Random steps against what must always hold.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Publish {
        packet_id: u16,
        duplicate: bool,
    },
    Outcome {
        which: prop::sample::Index,
        refused: bool,
    },
    Deliver {
        qos_1: bool,
        bytes: usize,
    },
    Acknowledge {
        which: prop::sample::Index,
    },
    Subscribe,
    Answer,
    Wait {
        ms: u64,
    },
    Reconnect {
        receive_max: u16,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..6_u16, any::<bool>())
            .prop_map(|(packet_id, duplicate)| Step::Publish { packet_id, duplicate }),
        4 => (index(), any::<bool>()).prop_map(|(which, refused)| Step::Outcome { which, refused }),
        5 => (any::<bool>(), 0..100_usize)
            .prop_map(|(qos_1, bytes)| Step::Deliver { qos_1, bytes }),
        5 => index().prop_map(|which| Step::Acknowledge { which }),
        1 => Just(Step::Subscribe),
        1 => Just(Step::Answer),
        1 => (0..20_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => (1..5_u16).prop_map(|receive_max| Step::Reconnect { receive_max }),
    ]
}

/// A client and a caller that do no wrong, and what they expect.
struct Model {
    client: Client,
    version: Version,
    receive_max: u16,
    /// Publishes to answer, with their identifiers.
    open: Vec<(PublishToken, u16)>,
    /// PUBACKs that are due, in this order.
    due: VecDeque<u16>,
    /// QoS 1 messages on their way to the client: token and identifier.
    under_way: Vec<(u64, u16)>,
    /// Tokens of QoS 1 deliveries that have no end yet.
    undecided: Vec<u64>,
    requests: Vec<RequestToken>,
    next_token: u64,
}

impl Model {
    fn new(version: Version) -> Self {
        let receive_max = 3;
        let client =
            Client::connected_with(limits(), asks(version, receive_max), Acceptance::default());
        Self {
            client,
            version,
            receive_max,
            open: Vec::new(),
            due: VecDeque::new(),
            under_way: Vec::new(),
            undecided: Vec::new(),
            requests: Vec::new(),
            next_token: 0,
        }
    }

    fn step(&mut self, step: Step) {
        let out = match step {
            Step::Publish {
                packet_id,
                duplicate,
            } => self.publish(packet_id, duplicate),
            Step::Outcome { which, refused } => self.outcome(which, refused),
            Step::Deliver { qos_1, bytes } => self.deliver(qos_1, bytes),
            Step::Acknowledge { which } => self.acknowledge(which),
            Step::Subscribe => self.subscribe(),
            Step::Answer => self.answer(),
            Step::Wait { ms } => {
                self.client.now_ms += ms;
                self.client.packet(ClientPacket::PingRequest)
            }
            Step::Reconnect { receive_max } => return self.reconnect(receive_max),
        };
        self.check(out);
    }

    fn publish(&mut self, packet_id: u16, duplicate: bool) -> Vec<Output> {
        let in_use = self.due.contains(&packet_id);
        if self.client.session.intake(self.client.now_ms) != Intake::Open
            || (in_use && !duplicate && self.version == Version::V5)
            || self.due.len() >= 4
        {
            return Vec::new();
        }
        let mut packet = publish("a", packet_id);
        if let Delivery::AtLeastOnce {
            duplicate: flag, ..
        } = &mut packet.delivery
        {
            *flag = duplicate;
        }
        let out = self.client.packet(ClientPacket::Publish(Box::new(packet)));
        match out[..] {
            [Output::Publish { token, .. }] => {
                self.open.push((token, packet_id));
                if packet_id != 0 {
                    self.due.push_back(packet_id);
                }
            }
            _ => assert!(in_use && duplicate, "{out:?}"),
        }
        out
    }

    fn outcome(&mut self, which: prop::sample::Index, refused: bool) -> Vec<Output> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let (token, _) = self.open.remove(which.index(self.open.len()));
        let outcome = if refused && self.version == Version::V5 {
            PublishOutcome::Refused(Reason::NotAuthorized)
        } else {
            PublishOutcome::Committed
        };
        self.client.published(token, outcome)
    }

    fn deliver(&mut self, qos_1: bool, bytes: usize) -> Vec<Output> {
        self.next_token += 1;
        let qos = if qos_1 {
            Qos::AtLeastOnce
        } else {
            Qos::AtMostOnce
        };
        if qos_1 {
            self.undecided.push(self.next_token);
        }
        let message = Message::new(format!("t/{}", self.next_token), vec![0; bytes]);
        self.client.deliver(self.next_token, message, qos)
    }

    fn acknowledge(&mut self, which: prop::sample::Index) -> Vec<Output> {
        if self.under_way.is_empty() {
            return Vec::new();
        }
        let (token, packet_id) = self.under_way.remove(which.index(self.under_way.len()));
        let out = self.client.acknowledge(packet_id);
        let expected = Output::Acknowledged {
            token: DeliveryToken(token),
            reason: Reason::Success,
        };
        assert_eq!(out[0], expected);
        out
    }

    fn subscribe(&mut self) -> Vec<Output> {
        if self.client.session.intake(self.client.now_ms) != Intake::Open {
            return Vec::new();
        }
        let out = self.client.packet(ClientPacket::Subscribe(Subscribe {
            packet_id: id(1),
            identifier: None,
            filters: vec![wanted("a/#", Qos::AtLeastOnce)],
        }));
        if let [Output::Subscribe { token, .. }] = out[..] {
            self.requests.push(token);
        }
        out
    }

    fn answer(&mut self) -> Vec<Output> {
        match self.requests.pop() {
            Some(token) => self.client.input(Input::Subscribed {
                token,
                grants: vec![Ok(Qos::AtLeastOnce)],
            }),
            None => Vec::new(),
        }
    }

    fn reconnect(&mut self, receive_max: u16) {
        let out = self.client.input(Input::ConnectionLost);
        let state = out.into_iter().find_map(|output| match output {
            Output::Ended(end) => Some(end.state),
            _ => None,
        });
        let state = state.unwrap();
        let handed_on: Vec<u64> = state.pending.iter().map(|held| held.token.0).collect();
        assert_eq!(
            handed_on, self.undecided,
            "nothing is lost, nothing comes twice"
        );
        self.open.clear();
        self.due.clear();
        self.under_way.clear();
        self.requests.clear();
        self.receive_max = receive_max;
        let now_ms = self.client.now_ms;
        self.client = Client::new(limits());
        self.client.now_ms = now_ms;
        self.client.connect(asks(self.version, receive_max));
        let acceptance = Acceptance {
            stored: Some(state),
            ..Acceptance::default()
        };
        let out = self.client.input(Input::Accept(Box::new(acceptance)));
        self.check(out);
    }

    fn check(&mut self, out: Vec<Output>) {
        for output in &out {
            match output {
                Output::Send(ServerPacket::PublishAck { packet_id, .. }) => {
                    assert_eq!(
                        self.due.pop_front(),
                        Some(packet_id.get()),
                        "PUBACKs in order"
                    );
                }
                Output::Send(ServerPacket::Publish(publish)) => self.note_sent(publish),
                Output::Acknowledged { token, .. } | Output::Dropped { token, .. } => {
                    self.undecided.retain(|open| *open != token.0);
                }
                Output::Close(cause) => panic!("a client that does no wrong is closed: {cause:?}"),
                _ => {}
            }
        }
        let window = match self.version {
            Version::V5 => self.receive_max.min(4),
            _ => 4,
        };
        assert!(
            self.under_way.len() <= usize::from(window),
            "never more than the window"
        );
        assert_eq!(
            self.client.session.pending_deliveries(),
            self.undecided.len()
        );
    }

    fn note_sent(&mut self, publish: &Publish) {
        let Delivery::AtLeastOnce { packet_id, .. } = publish.delivery else {
            return;
        };
        let token = publish.message.topic[2..].parse().unwrap();
        let packet_id = packet_id.get();
        assert!(
            self.under_way.iter().all(|(_, used)| *used != packet_id),
            "no identifier twice"
        );
        assert!(
            self.under_way.iter().all(|(before, _)| *before < token),
            "messages in order"
        );
        self.under_way.push((token, packet_id));
    }
}

fn limits() -> SessionLimits {
    SessionLimits {
        unacknowledged_max: NonZeroU16::new(4).unwrap(),
        waiting_messages_max: 4,
        receive_max: NonZeroU16::new(4).unwrap(),
        requests_max: 2,
        ..SessionLimits::default()
    }
}

fn asks(version: Version, receive_max: u16) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_s: 60,
        receive_max: NonZeroU16::new(receive_max).filter(|_| version == Version::V5),
        ..connect(version)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// For a client and a caller that do no wrong: PUBACKs in order, every QoS 1 message ends
    /// exactly once, the window holds, identifiers are unique, and nothing is closed.
    #[test]
    fn nothing_is_lost_or_doubled(
        version in prop::sample::select(&VERSIONS[..]),
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let mut model = Model::new(version);
        for step in steps {
            model.step(step);
        }
    }
}
