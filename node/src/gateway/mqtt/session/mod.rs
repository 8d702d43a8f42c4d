//! The server's side of one MQTT connection, as a state machine: no socket, no clock, no task.
//!
//! The caller feeds [`Input`]s with the time, and carries out the [`Output`]s in their order. Times
//! are milliseconds of any clock that never goes back, the same for all calls. Packets of
//! [`Output::Send`] are encoded for [`Session::version`].
//!
//! Guarantees:
//! - A PUBACK leaves only after the caller has called the publish committed or refused, and PUBACKs
//!   leave in the order of their PUBLISHes [MQTT-4.6.0-2].
//! - Every [`Output::Publish`], [`Output::Subscribe`] and [`Output::Unsubscribe`] has its own
//!   token, answers to it may come in any order, and late or unknown answers are ignored.
//! - Every QoS 1 [`Input::Deliver`] ends in exactly one of [`Output::Acknowledged`],
//!   [`Output::Dropped`] and the pending messages of [`Output::Ended`].
//! - Whatever a client does is bounded by [`SessionLimits`]. A quiet session owns its subscriptions,
//!   its will and its topic aliases on the heap, and nothing else.
//!
//! What it does not do: no authorisation, no routing, no storage, no limits across sessions.
//!
//! Timeline: CONNECT → [`Output::Authenticate`] → [`Input::Accept`] → CONNACK and what was pending
//! → packets → [`Output::Will`], [`Output::Ended`], [`Output::Close`]. A connection that was never
//! accepted only has [`Output::Close`].

mod aliases;
mod connect;
mod ending;
mod inbound;
mod input;
mod limits;
mod outbound;
mod output;
mod rate;
mod requests;
mod state;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::input::{Acceptance, DeliverMessage, Input, PublishOutcome, Refusal, ServerCause};
pub use self::limits::SessionLimits;
pub use self::output::{
    CloseCause, DeliveryToken, DropCause, Expiry, Output, PublishToken, RequestToken, SessionEnd,
    WillOutcome,
};
pub use self::state::{PendingDelivery, SessionState};
pub use self::subscriptions::{Damaged, Origin, Route, Subscription, Subscriptions};

use self::aliases::Aliases;
use self::connect::Handshake;
use self::inbound::Inbound;
use self::outbound::Outbound;
use self::requests::Requests;
use crate::gateway::mqtt::wire::{self, ClientPacket, Reason, ServerPacket, Version, Will};

/// State of one connection and of the session it carries.
#[derive(Debug)]
pub struct Session {
    limits: Arc<SessionLimits>,
    phase: Phase,
    version: Version,
    /// The client asked for a session that outlives the connection, so DISCONNECT may change it.
    expiry_was_asked: bool,
    /// Most unacknowledged messages to the client.
    window: u16,
    next_packet_id: u16,
    /// Largest packet that the client takes; `u32::MAX` for any.
    packet_size_max: u32,
    /// 1.5 times the keep-alive; 0 for none.
    silence_max_ms: u32,
    session_expiry_s: u32,
    session_expiry_max_s: u32,
    next_sequence: u32,
    last_received_ms: u64,
    /// When the packets so far would have come at the highest steady rate, in microseconds.
    packets_due_us: u64,
    /// The same for the bytes so far.
    bytes_due_us: u64,
    subscriptions: Subscriptions,
    will: Option<Box<Will>>,
    inbound: Option<Box<Inbound>>,
    outbound: Option<Box<Outbound>>,
    requests: Option<Box<Requests>>,
    aliases: Option<Box<Aliases>>,
}

#[derive(Debug)]
enum Phase {
    AwaitConnect,
    Authenticating(Box<Handshake>),
    Connected,
    Closed,
}

/// Whether the caller should decode the next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// Yes.
    Open,
    /// Not before this time, in milliseconds: packets or their bytes come too fast.
    Until(u64),
    /// Not before an answer has been given: too much waits for one.
    Blocked,
}

impl Session {
    /// A session for a connection that was opened at `now_ms`.
    #[must_use]
    pub fn new(limits: Arc<SessionLimits>, now_ms: u64) -> Self {
        Self {
            limits,
            phase: Phase::AwaitConnect,
            version: Version::V311,
            expiry_was_asked: false,
            window: 0,
            next_packet_id: 1,
            packet_size_max: u32::MAX,
            silence_max_ms: 0,
            session_expiry_s: 0,
            session_expiry_max_s: 0,
            next_sequence: 0,
            last_received_ms: now_ms,
            packets_due_us: 0,
            bytes_due_us: 0,
            subscriptions: Subscriptions::default(),
            will: None,
            inbound: None,
            outbound: None,
            requests: None,
            aliases: None,
        }
    }

    /// Takes one input at `now_ms` and appends what is to be done to `out`.
    pub fn handle(&mut self, input: Input, now_ms: u64, out: &mut Vec<Output>) {
        match input {
            Input::Packet(packet) => self.packet(packet, now_ms, out),
            Input::Invalid { error, version } => self.invalid(error, version, now_ms, out),
            Input::Accept(acceptance) => self.accept(*acceptance, now_ms, out),
            Input::Refuse(refusal) => self.refuse(refusal, now_ms, out),
            Input::Published { token, outcome } => {
                self.restart_silence_if_blocked(now_ms);
                self.published(token, outcome, now_ms, out);
            }
            Input::Subscribed { token, grants } => {
                self.restart_silence_if_blocked(now_ms);
                self.subscribed(token, &grants, out);
            }
            Input::Unsubscribed { token } => {
                self.restart_silence_if_blocked(now_ms);
                self.unsubscribed(token, out);
            }
            Input::Deliver(message) => self.deliver(*message, now_ms, out),
            Input::Tick => self.tick(now_ms, out),
            Input::ConnectionLost => self.close(CloseCause::ConnectionLost, now_ms, out),
            Input::Close(cause) => self.close(CloseCause::Server(cause), now_ms, out),
        }
    }

    /// When [`Input::Tick`] is due at the latest, in milliseconds, if nothing else comes.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let allowed_ms = match self.phase {
            Phase::AwaitConnect => self.limits.connect_timeout_ms,
            Phase::Authenticating(_) => self.limits.authentication_timeout_ms,
            Phase::Connected if self.silence_max_ms != 0 => self.silence_max_ms,
            Phase::Connected | Phase::Closed => return None,
        };
        Some(self.last_received_ms.saturating_add(u64::from(allowed_ms)))
    }

    /// Whether the next packet should be decoded. Ask before each one: a client that sends more
    /// than it may while reading should have paused is disconnected.
    #[must_use]
    pub fn intake(&self, now_ms: u64) -> Intake {
        match self.phase {
            Phase::AwaitConnect => return Intake::Open,
            Phase::Authenticating(_) | Phase::Closed => return Intake::Blocked,
            Phase::Connected => {}
        }
        if self.is_blocked() {
            return Intake::Blocked;
        }
        match self.pause_ms(now_ms) {
            Some(until_ms) => Intake::Until(until_ms),
            None => Intake::Open,
        }
    }

    /// Version of the connection; 3.1.1 until a CONNECT says otherwise.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the client is connected, that is accepted and not closed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// How long the session outlives the connection, as things are.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        Expiry::from_seconds(self.session_expiry_s)
    }

    /// Silence after which the client is disconnected, in milliseconds; 0 for none.
    #[must_use]
    pub fn silence_max_ms(&self) -> u32 {
        self.silence_max_ms
    }

    /// Subscriptions of the session.
    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Messages to the client that it has not acknowledged, sent or waiting.
    #[must_use]
    pub fn pending_deliveries(&self) -> usize {
        self.outbound.as_ref().map_or(0, |outbound| outbound.len())
    }

    /// Bytes of topics and payloads of the messages that the client has not acknowledged.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.outbound
            .as_ref()
            .map_or(0, |outbound| outbound.bytes())
    }

    /// Bytes that the session owns on the heap, without those of payloads that it shares.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let handshake = match &self.phase {
            Phase::Authenticating(handshake) => size_of_val(&**handshake),
            _ => 0,
        };
        let will = self
            .will
            .as_ref()
            .map_or(0, |will| size_of_val(&**will) + connect::text_bytes(will));
        handshake
            + will
            + self.subscriptions.as_bytes().len()
            + self
                .outbound
                .as_ref()
                .map_or(0, |outbound| outbound.heap_bytes())
            + self
                .inbound
                .as_ref()
                .map_or(0, |inbound| inbound.heap_bytes())
            + self
                .requests
                .as_ref()
                .map_or(0, |requests| requests.heap_bytes())
            + self
                .aliases
                .as_ref()
                .map_or(0, |aliases| aliases.heap_bytes())
    }

    fn packet(&mut self, packet: ClientPacket, now_ms: u64, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Closed => return,
            Phase::Connected => {}
            Phase::AwaitConnect | Phase::Authenticating(_) => {
                return self.first_packet(packet, now_ms, out);
            }
        }
        self.last_received_ms = now_ms;
        if !matches!(packet, ClientPacket::PublishAck { .. }) {
            // A PUBACK was asked for by what it acknowledges.
            self.count_packet(now_ms);
        }
        match packet {
            // [MQTT-3.1.0-2]
            ClientPacket::Connect(_) => self.violation(Reason::ProtocolError, now_ms, out),
            ClientPacket::Publish(publish) => self.publish(*publish, now_ms, out),
            ClientPacket::PublishAck { packet_id, reason } => {
                self.publish_acknowledged(packet_id, reason, now_ms, out);
            }
            ClientPacket::Subscribe(subscribe) => self.subscribe(subscribe, now_ms, out),
            ClientPacket::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, now_ms, out),
            // [MQTT-3.12.4-1]
            ClientPacket::PingRequest => self.send(ServerPacket::PingResponse, out),
            ClientPacket::Disconnect(disconnect) => self.disconnect(&disconnect, now_ms, out),
        }
    }

    /// CONNECT, and nothing but CONNECT, and nothing behind it before it is answered: [`Intake`].
    fn first_packet(&mut self, packet: ClientPacket, now_ms: u64, out: &mut Vec<Output>) {
        match (&self.phase, packet) {
            (Phase::AwaitConnect, ClientPacket::Connect(connect)) => {
                self.connect(connect, now_ms, out);
            }
            _ => self.violation(Reason::ProtocolError, now_ms, out), // [MQTT-3.1.0-1]
        }
    }

    fn tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self
            .next_deadline_ms()
            .is_none_or(|deadline_ms| now_ms < deadline_ms)
        {
            return;
        }
        match self.phase {
            Phase::AwaitConnect => self.close(CloseCause::ConnectTimeout, now_ms, out),
            Phase::Authenticating(_) => self.refuse_with(Reason::ServerUnavailable, now_ms, out),
            // Who is not listened to is not silent.
            Phase::Connected if self.intake(now_ms) != Intake::Open => {
                self.last_received_ms = now_ms;
            }
            // [MQTT-3.1.2-22]; [MQTT-3.1.2-24] of 3.1.1.
            Phase::Connected => self.close(CloseCause::KeepAliveTimeout, now_ms, out),
            Phase::Closed => {}
        }
    }

    /// Counts silence anew when reading was blocked: an answer may open it again.
    fn restart_silence_if_blocked(&mut self, now_ms: u64) {
        if self.is_connected() && self.is_blocked() {
            self.last_received_ms = now_ms;
        }
    }

    /// Whether too much waits for an answer.
    fn is_blocked(&self) -> bool {
        self.has_too_many_publishes() || self.has_too_many_requests()
    }

    fn violation(&mut self, reason: Reason, now_ms: u64, out: &mut Vec<Output>) {
        self.close(CloseCause::Violation(reason), now_ms, out);
    }

    /// Sends a packet unless it is larger than the client takes [MQTT-3.1.2-24].
    fn send(&self, packet: ServerPacket, out: &mut Vec<Output>) {
        if self.fits(&packet) {
            out.push(Output::Send(packet));
        }
    }

    /// Whether the client takes a packet of this size.
    fn fits(&self, packet: &ServerPacket) -> bool {
        self.packet_size_max == u32::MAX
            || wire::encoded_len(packet, self.version)
                .is_ok_and(|bytes| bytes <= self.packet_size_max as usize)
    }

    fn next_sequence(&mut self) -> u32 {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        sequence
    }
}
