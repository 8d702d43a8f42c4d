//! Messages from the client: tokens, outcomes, PUBACKs in order, and how many may wait.

use std::collections::VecDeque;

use super::Session;
use super::input::PublishOutcome;
use super::output::{CloseCause, Output, PublishToken};
use crate::gateway::mqtt::topics;
use crate::gateway::mqtt::wire::{Delivery, PacketId, Publish, Qos, Reason, ServerPacket, Version};

/// Publishes that wait for their outcome.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// QoS 1, in the order in which they came.
    acknowledged: VecDeque<Waiting>,
    /// How many of QoS 0.
    at_most_once: u16,
}

#[derive(Debug)]
struct Waiting {
    sequence: u32,
    packet_id: PacketId,
    outcome: Option<Reason>,
}

impl Inbound {
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.acknowledged.capacity() * size_of::<Waiting>()
    }

    fn is_idle(&self) -> bool {
        self.acknowledged.is_empty() && self.at_most_once == 0
    }
}

impl Session {
    /// A PUBLISH arrived.
    pub(super) fn publish(&mut self, mut publish: Publish, now_ms: u64, out: &mut Vec<Output>) {
        if publish.retain && self.version == Version::V5 {
            // Section 3.2.2.3.5. Before MQTT 5 the flag counts as 0.
            return self.violation(Reason::RetainNotSupported, now_ms, out);
        }
        if let Err(reason) = self.resolve_alias(&mut publish) {
            return self.violation(reason, now_ms, out);
        }
        let limits = topics::check_limits(&publish.message.topic, &self.limits.topics);
        let refused = limits.is_err().then_some(Reason::TopicNameInvalid);
        match publish.delivery {
            Delivery::AtMostOnce => self.publish_at_most_once(publish, refused, now_ms, out),
            Delivery::AtLeastOnce {
                packet_id,
                duplicate,
            } => match self.admit(packet_id, duplicate) {
                Admission::Repeated => {}
                Admission::Refused(reason) => self.violation(reason, now_ms, out),
                Admission::New => {
                    self.publish_at_least_once(publish, packet_id, refused, now_ms, out)
                }
            },
        }
    }

    fn publish_at_most_once(
        &mut self,
        publish: Publish,
        refused: Option<Reason>,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        match refused {
            Some(reason) if self.version != Version::V5 => {
                return self.close(CloseCause::PublishRefused(reason), now_ms, out);
            }
            Some(_) => return,
            None => {}
        }
        let at_most_once_max = self.limits.at_most_once_max;
        let inbound = self.inbound.get_or_insert_default();
        if inbound.at_most_once >= at_most_once_max {
            return;
        }
        inbound.at_most_once += 1;
        let token = PublishToken {
            sequence: self.next_sequence(),
            packet_id: None,
        };
        out.push(Output::Publish {
            token,
            message: publish.message,
            qos: Qos::AtMostOnce,
        });
    }

    fn publish_at_least_once(
        &mut self,
        publish: Publish,
        packet_id: PacketId,
        refused: Option<Reason>,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let sequence = self.next_sequence();
        let inbound = self.inbound.get_or_insert_default();
        inbound.acknowledged.push_back(Waiting {
            sequence,
            packet_id,
            outcome: None,
        });
        let token = PublishToken {
            sequence,
            packet_id: Some(packet_id),
        };
        match refused {
            Some(reason) => self.published(token, PublishOutcome::Refused(reason), now_ms, out),
            None => out.push(Output::Publish {
                token,
                message: publish.message,
                qos: Qos::AtLeastOnce,
            }),
        }
    }

    /// Whether a QoS 1 message with this identifier may be taken.
    fn admit(&self, packet_id: PacketId, duplicate: bool) -> Admission {
        let Some(inbound) = &self.inbound else {
            return Admission::New;
        };
        if inbound
            .acknowledged
            .iter()
            .any(|waiting| waiting.packet_id == packet_id)
        {
            // A repetition is answered by the PUBACK that is to come. Small clients before MQTT 5
            // use one identifier for everything: that is a new message.
            if duplicate {
                return Admission::Repeated;
            }
            if self.version == Version::V5 {
                return Admission::Refused(Reason::ProtocolError); // [MQTT-2.2.1-3]
            }
        }
        if inbound.acknowledged.len() < usize::from(self.limits.receive_max.get()) {
            return Admission::New;
        }
        Admission::Refused(match self.version {
            Version::V5 => Reason::ReceiveMaximumExceeded, // [MQTT-3.3.4-7]
            _ => Reason::QuotaExceeded,
        })
    }

    /// The outcome of a publish is known.
    pub(super) fn published(
        &mut self,
        token: PublishToken,
        outcome: PublishOutcome,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        if !self.is_connected() || !self.settle(token, outcome) {
            return;
        }
        match outcome {
            PublishOutcome::Unknown => {
                return self.close(CloseCause::OutcomeUnknown, now_ms, out);
            }
            PublishOutcome::Refused(reason) if self.version != Version::V5 => {
                return self.close(CloseCause::PublishRefused(reason), now_ms, out);
            }
            PublishOutcome::Refused(_) | PublishOutcome::Committed => {}
        }
        self.acknowledge_in_order(out);
    }

    /// Notes an outcome; says whether one was waited for.
    fn settle(&mut self, token: PublishToken, outcome: PublishOutcome) -> bool {
        let Some(inbound) = &mut self.inbound else {
            return false;
        };
        let Some(packet_id) = token.packet_id else {
            let waited = inbound.at_most_once > 0;
            inbound.at_most_once -= u16::from(waited);
            return waited;
        };
        let found = inbound
            .acknowledged
            .iter_mut()
            .find(|waiting| waiting.sequence == token.sequence && waiting.packet_id == packet_id);
        let Some(waiting) = found.filter(|waiting| waiting.outcome.is_none()) else {
            return false;
        };
        waiting.outcome = Some(match outcome {
            PublishOutcome::Refused(reason) if reason.is_failure() => reason,
            PublishOutcome::Refused(_) | PublishOutcome::Unknown => Reason::UnspecifiedError,
            PublishOutcome::Committed => Reason::Success,
        });
        true
    }

    /// Sends the PUBACKs that no earlier one has to wait for [MQTT-4.6.0-2].
    fn acknowledge_in_order(&mut self, out: &mut Vec<Output>) {
        let Some(mut inbound) = self.inbound.take() else {
            return;
        };
        while let Some(first) = inbound.acknowledged.front()
            && let Some(reason) = first.outcome
        {
            let packet_id = first.packet_id;
            self.send(ServerPacket::PublishAck { packet_id, reason }, out);
            inbound.acknowledged.pop_front();
        }
        if !inbound.is_idle() {
            self.inbound = Some(inbound);
        }
    }

    /// Whether no more publishes should be read. MQTT 5 clients keep to the Receive Maximum
    /// themselves; older ones know none.
    pub(super) fn has_too_many_publishes(&self) -> bool {
        let Some(inbound) = &self.inbound else {
            return false;
        };
        let receive_max = usize::from(self.limits.receive_max.get());
        inbound.at_most_once >= self.limits.at_most_once_max
            || (self.version != Version::V5 && inbound.acknowledged.len() >= receive_max)
    }
}

enum Admission {
    New,
    Repeated,
    Refused(Reason),
}
