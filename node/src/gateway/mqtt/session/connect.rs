//! CONNECT and its answer.

use bytes::Bytes;
use bytestring::ByteString;

use super::input::{Acceptance, Refusal};
use super::output::{CloseCause, Output};
use super::{Phase, Session};
use crate::gateway::mqtt::topics;
use crate::gateway::mqtt::wire::{
    self, Connect, ConnectAck, Message, MessageProperties, Reason, ServerPacket, Version, Will,
};

/// What a CONNECT asked for, until it is answered.
#[derive(Debug)]
pub(super) struct Handshake {
    client_id_is_empty: bool,
    clean_start: bool,
    keep_alive_s: u16,
    session_expiry_s: u32,
    wants_response_information: bool,
}

impl Session {
    /// Remembers what the CONNECT asks for, refuses what this server never does, and has the rest
    /// decided.
    pub(super) fn connect(&mut self, connect: Box<Connect>, now_ms: u64, out: &mut Vec<Output>) {
        self.last_received_ms = now_ms;
        self.version = connect.version;
        self.packet_size_max = connect.packet_size_max.map_or(u32::MAX, Into::into);
        let receive_max = connect.receive_max.map_or(u16::MAX, Into::into);
        self.window = receive_max.min(self.limits.unacknowledged_max.get());
        self.phase = Phase::Authenticating(Box::new(Handshake {
            client_id_is_empty: connect.client_id.is_empty(),
            clean_start: connect.clean_start,
            keep_alive_s: connect.keep_alive_s,
            session_expiry_s: connect.session_expiry_s,
            wants_response_information: connect.request_response_information,
        }));
        if let Some(reason) = self.never_done(&connect) {
            return self.refuse_with(reason, now_ms, out);
        }
        self.will = connect.will.as_deref().map(|will| Box::new(own_will(will)));
        out.push(Output::Authenticate(connect));
    }

    /// What no identity can be allowed.
    fn never_done(&self, connect: &Connect) -> Option<Reason> {
        if connect.authentication_method.is_some() {
            return Some(Reason::BadAuthenticationMethod); // [MQTT-4.12.0-1]
        }
        let will = connect.will.as_ref()?;
        if will.retain && connect.version == Version::V5 {
            return Some(Reason::RetainNotSupported); // [MQTT-3.2.2-13]
        }
        let topic = topics::check_limits(&will.message.topic, &self.limits.topics);
        topic.is_err().then_some(Reason::TopicNameInvalid)
    }

    /// Opens the session: CONNACK, then what was pending.
    pub(super) fn accept(&mut self, acceptance: Acceptance, now_ms: u64, out: &mut Vec<Output>) {
        let waiting = std::mem::replace(&mut self.phase, Phase::Closed);
        let Phase::Authenticating(handshake) = waiting else {
            // A decision that comes too late, or that nobody asked for, is none.
            self.phase = waiting;
            return;
        };
        match self.opening(&handshake, &acceptance) {
            Ok(ack) => {
                self.phase = Phase::Connected;
                self.last_received_ms = now_ms;
                let stored = acceptance.stored.filter(|_| ack.session_present);
                out.push(Output::Send(ServerPacket::ConnectAck(Box::new(ack))));
                if let Some(stored) = stored {
                    self.resume(stored, now_ms, out);
                }
            }
            Err(reason) => {
                self.phase = Phase::Authenticating(handshake);
                self.refuse_with(reason, now_ms, out);
            }
        }
    }

    /// Sets what the acceptance decides, and gives the CONNACK that says so, or why there is none.
    fn opening(
        &mut self,
        handshake: &Handshake,
        acceptance: &Acceptance,
    ) -> Result<ConnectAck, Reason> {
        let assigned_client_id = acceptance
            .assigned_client_id
            .clone()
            .filter(|id| handshake.client_id_is_empty && !id.is_empty());
        if handshake.client_id_is_empty && assigned_client_id.is_none() {
            return Err(Reason::ClientIdentifierNotValid);
        }
        let keep_alive_s = self.set_keep_alive(handshake, acceptance);
        self.set_expiry(handshake, acceptance);
        let mut ack = ConnectAck {
            // [MQTT-3.1.2-4, MQTT-3.2.2-3]
            session_present: acceptance.stored.is_some() && !handshake.clean_start,
            ..ConnectAck::refusal(Reason::Success)
        };
        if self.version == Version::V5 {
            ack.session_expiry_s = (self.session_expiry_s != handshake.session_expiry_s)
                .then_some(self.session_expiry_s);
            ack.receive_max = Some(self.limits.receive_max);
            ack.packet_size_max = Some(self.limits.sizes.publish_bytes_max);
            ack.topic_alias_max = self.limits.topic_alias_max;
            ack.assigned_client_id = assigned_client_id; // [MQTT-3.2.2-16]
            ack.server_keep_alive_s =
                (keep_alive_s != handshake.keep_alive_s).then_some(keep_alive_s);
            ack.response_information = acceptance
                .response_information
                .clone()
                .filter(|_| handshake.wants_response_information);
        }
        self.fitting(ack).ok_or(Reason::PacketTooLarge)
    }

    /// The client's keep-alive, or the bound where it asks for more or for none [MQTT-3.2.2-21].
    fn set_keep_alive(&mut self, handshake: &Handshake, acceptance: &Acceptance) -> u16 {
        let keep_alive_max_s = acceptance
            .keep_alive_max_s
            .unwrap_or(self.limits.keep_alive_max_s);
        let asked_s = handshake.keep_alive_s;
        let keep_alive_s = match keep_alive_max_s {
            0 => asked_s,
            bound_s if asked_s == 0 => bound_s,
            bound_s => asked_s.min(bound_s),
        };
        self.silence_max_ms = u32::from(keep_alive_s) * 1_500;
        keep_alive_s
    }

    /// Before MQTT 5 a session that is not clean lives as long as is allowed (section 3.1.2.11.2).
    fn set_expiry(&mut self, handshake: &Handshake, acceptance: &Acceptance) {
        let asked_s = match (self.version, handshake.clean_start) {
            (Version::V5, _) => handshake.session_expiry_s,
            (_, true) => 0,
            (_, false) => u32::MAX,
        };
        self.session_expiry_max_s = acceptance
            .session_expiry_max_s
            .unwrap_or(self.limits.session_expiry_max_s);
        self.session_expiry_s = asked_s.min(self.session_expiry_max_s);
        self.expiry_was_asked = asked_s != 0;
    }

    /// The CONNACK in a size that the client takes [MQTT-3.1.2-24], without what may be left out if
    /// need be [MQTT-3.2.2-19].
    fn fitting(&self, mut ack: ConnectAck) -> Option<ConnectAck> {
        if !self.fits(&ServerPacket::ConnectAck(Box::new(ack.clone()))) {
            ack.response_information = None;
            ack.reason_string = None;
        }
        self.fits(&ServerPacket::ConnectAck(Box::new(ack.clone())))
            .then_some(ack)
    }

    /// The caller's refusal.
    pub(super) fn refuse(&mut self, refusal: Refusal, now_ms: u64, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Authenticating(_)) {
            return;
        }
        // A refusal must never be read as a success.
        let reason = Some(refusal.reason).filter(|reason| reason.is_failure());
        let reason = reason.unwrap_or(Reason::UnspecifiedError);
        self.answer_refusal(reason, refusal.reason_string, out);
        self.close(CloseCause::Refused(reason), now_ms, out);
    }

    /// A refusal without words.
    pub(super) fn refuse_with(&mut self, reason: Reason, now_ms: u64, out: &mut Vec<Output>) {
        self.answer_refusal(reason, None, out);
        self.close(CloseCause::Refused(reason), now_ms, out);
    }

    /// CONNACK with a failure, where the version has one [MQTT-3.1.4-1].
    pub(super) fn answer_refusal(
        &self,
        reason: Reason,
        reason_string: Option<ByteString>,
        out: &mut Vec<Output>,
    ) {
        if self.version == Version::V5 || reason.connect_return_code().is_some() {
            let mut ack = ConnectAck::refusal(reason);
            ack.reason_string = reason_string.filter(|_| self.version == Version::V5);
            let fitting = self.fitting(ack);
            out.extend(fitting.map(|ack| Output::Send(ServerPacket::ConnectAck(Box::new(ack)))));
        }
    }

    /// Bytes that are no packet: answered as far as the client can be told, then closed.
    pub(super) fn invalid(
        &mut self,
        error: wire::Error,
        version: Option<Version>,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        if matches!(self.phase, Phase::AwaitConnect) {
            // A level that nobody knows is answered in the form of 3.1.1 [MQTT-3.1.2-2].
            self.version = version.unwrap_or(Version::V311);
            let answered =
                version.is_some() || matches!(error, wire::Error::VersionUnsupported { .. });
            if answered && !error.is_silent() {
                self.answer_refusal(error.reason(), None, out);
            }
        }
        self.close(CloseCause::Invalid(error), now_ms, out);
    }
}

/// A copy of a will that does not keep the CONNECT packet in memory. RETAIN is 0: before MQTT 5 the
/// flag counts as 0, in MQTT 5 it was refused.
fn own_will(will: &Will) -> Will {
    let message = &will.message;
    Will {
        message: Message {
            topic: own_text(&message.topic),
            payload: Bytes::copy_from_slice(&message.payload),
            properties: message
                .properties
                .as_deref()
                .map(|properties| Box::new(own_properties(properties))),
        },
        qos: will.qos,
        retain: false,
        delay_s: will.delay_s,
    }
}

fn own_properties(properties: &MessageProperties) -> MessageProperties {
    MessageProperties {
        payload_is_utf8: properties.payload_is_utf8,
        expiry_s: properties.expiry_s,
        content_type: properties.content_type.as_ref().map(own_text),
        response_topic: properties.response_topic.as_ref().map(own_text),
        correlation_data: properties
            .correlation_data
            .as_deref()
            .map(Bytes::copy_from_slice),
        user_properties: properties
            .user_properties
            .iter()
            .map(|(name, value)| (own_text(name), own_text(value)))
            .collect(),
    }
}

/// A copy of a text that does not keep the packet it came in.
pub(super) fn own_text(text: &ByteString) -> ByteString {
    ByteString::from(String::from(&**text))
}

/// Bytes of a will's texts and payload.
pub(super) fn text_bytes(will: &Will) -> usize {
    let message = &will.message;
    let text = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
    let properties = message.properties.as_ref().map_or(0, |properties| {
        let users = properties.user_properties.iter();
        size_of::<MessageProperties>()
            + text(&properties.content_type)
            + text(&properties.response_topic)
            + properties
                .correlation_data
                .as_ref()
                .map_or(0, |data| data.len())
            + users
                .map(|(name, value)| size_of::<wire::UserProperty>() + name.len() + value.len())
                .sum::<usize>()
    });
    message.topic.len() + message.payload.len() + properties
}
