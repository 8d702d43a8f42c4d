//! What every test of this module uses: one client and its session.

mod connecting;
mod delivering;
mod ending;
mod memory;
mod publishing;
mod random;
mod subscribing;
mod subscriptions;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use super::*;
use crate::gateway::mqtt::wire::{
    Connect, ConnectAck, Delivery, Disconnect, DisconnectNotice, Message, MessageProperties,
    PacketId, Publish, Qos, Subscribe, SubscribeFilter, Unsubscribe,
};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A session and its clock.
struct Client {
    session: Session,
    now_ms: u64,
}

impl Client {
    fn new(limits: SessionLimits) -> Self {
        let now_ms = 1_000_000;
        Self {
            session: Session::new(Arc::new(limits), now_ms),
            now_ms,
        }
    }

    /// A connected client with the default limits.
    fn connected(version: Version) -> Self {
        Self::connected_with(
            SessionLimits::default(),
            connect(version),
            Acceptance::default(),
        )
    }

    fn connected_with(limits: SessionLimits, connect: Connect, acceptance: Acceptance) -> Self {
        let mut client = Self::new(limits);
        client.connect(connect);
        let out = client.input(Input::Accept(Box::new(acceptance)));
        assert!(
            matches!(out[0], Output::Send(ServerPacket::ConnectAck(_))),
            "{out:?}"
        );
        client
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.session.handle(input, self.now_ms, &mut out);
        out
    }

    fn packet(&mut self, packet: ClientPacket) -> Vec<Output> {
        self.input(Input::Packet(packet))
    }

    fn connect(&mut self, connect: Connect) -> Vec<Output> {
        self.packet(ClientPacket::Connect(Box::new(connect)))
    }

    /// Accepts and gives the CONNACK.
    fn accept(&mut self, acceptance: Acceptance) -> ConnectAck {
        match self.input(Input::Accept(Box::new(acceptance))).remove(0) {
            Output::Send(ServerPacket::ConnectAck(ack)) => *ack,
            other => panic!("no CONNACK: {other:?}"),
        }
    }

    /// Publishes, and gives the token that the session asks with.
    fn publish(&mut self, publish: Publish) -> PublishToken {
        match &self.packet(ClientPacket::Publish(Box::new(publish)))[..] {
            [Output::Publish { token, .. }] => *token,
            other => panic!("no publish request: {other:?}"),
        }
    }

    fn published(&mut self, token: PublishToken, outcome: PublishOutcome) -> Vec<Output> {
        self.input(Input::Published { token, outcome })
    }

    /// Subscribes to one filter and has it granted as asked.
    fn subscribe(&mut self, filter: &str, qos: Qos) {
        let out = self.packet(ClientPacket::Subscribe(Subscribe {
            packet_id: id(77),
            identifier: None,
            filters: vec![wanted(filter, qos)],
        }));
        let [Output::Subscribe { token, .. }] = out[..] else {
            panic!("no subscribe request: {out:?}");
        };
        self.input(Input::Subscribed {
            token,
            grants: vec![Ok(qos)],
        });
    }

    fn deliver(&mut self, token: u64, message: Message, qos: Qos) -> Vec<Output> {
        self.input(Input::Deliver(Box::new(DeliverMessage {
            token: DeliveryToken(token),
            message,
            qos,
            subscription_identifiers: Vec::new(),
        })))
    }

    fn acknowledge(&mut self, packet_id: u16) -> Vec<Output> {
        let reason = Reason::Success;
        self.packet(ClientPacket::PublishAck {
            packet_id: id(packet_id),
            reason,
        })
    }

    fn wait(&mut self, ms: u64) -> Vec<Output> {
        self.now_ms += ms;
        self.input(Input::Tick)
    }
}

fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).unwrap()
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        client_id: "client".into(),
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

fn will() -> Option<Box<Will>> {
    Some(Box::new(Will {
        message: Message::new("will", "gone"),
        qos: Qos::AtLeastOnce,
        retain: false,
        delay_s: 0,
    }))
}

fn wanted(filter: &str, qos: Qos) -> SubscribeFilter {
    SubscribeFilter {
        filter: filter.into(),
        qos,
        no_local: false,
    }
}

/// A message from the client; `packet_id` 0 is QoS 0.
fn publish(topic: &str, packet_id: u16) -> Publish {
    Publish {
        message: Message::new(topic, "x"),
        delivery: match PacketId::new(packet_id) {
            Some(packet_id) => Delivery::AtLeastOnce {
                packet_id,
                duplicate: false,
            },
            None => Delivery::AtMostOnce,
        },
        retain: false,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
    }
}

fn puback(packet_id: u16, reason: Reason) -> Output {
    Output::Send(ServerPacket::PublishAck {
        packet_id: id(packet_id),
        reason,
    })
}

fn disconnect_packet(reason: Reason, session_expiry_s: Option<u32>) -> ClientPacket {
    ClientPacket::Disconnect(Disconnect {
        reason,
        session_expiry_s,
        reason_string: None,
    })
}

fn notice(reason: Reason) -> Output {
    Output::Send(ServerPacket::Disconnect(DisconnectNotice {
        reason,
        reason_string: None,
    }))
}

fn ended(expiry: Expiry) -> Output {
    Output::Ended(Box::new(SessionEnd {
        expiry,
        state: SessionState::default(),
    }))
}

/// The only PUBLISH among `out`.
fn sent_publish(out: &[Output]) -> &Publish {
    match &sent_publishes(out)[..] {
        [publish] => publish,
        other => panic!("not one PUBLISH: {other:?}"),
    }
}

fn sent_publishes(out: &[Output]) -> Vec<&Publish> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send(ServerPacket::Publish(publish)) => Some(&**publish),
            _ => None,
        })
        .collect()
}

/// Packet identifier and DUP of a QoS 1 PUBLISH.
fn identity(publish: &Publish) -> (u16, bool) {
    match publish.delivery {
        Delivery::AtLeastOnce {
            packet_id,
            duplicate,
        } => (packet_id.get(), duplicate),
        Delivery::AtMostOnce => panic!("QoS 0"),
    }
}

/// Asserts that `out` closes a connected client for this reason: MQTT 5 is told, others are not.
fn assert_closed(out: &[Output], version: Version, cause: CloseCause, reason: Reason) {
    assert_eq!(out.last(), Some(&Output::Close(cause)), "{out:?}");
    let told = out.contains(&notice(reason));
    let any_notice = out
        .iter()
        .any(|output| matches!(output, Output::Send(ServerPacket::Disconnect(_))));
    assert_eq!(
        (told, any_notice),
        (version == Version::V5, version == Version::V5),
        "{out:?}"
    );
}
