//! Messages to the client: packet identifiers, the window, what waits, and repetition on resume.

use std::collections::VecDeque;

use super::Session;
use super::input::DeliverMessage;
use super::output::{DeliveryToken, DropCause, Output};
use super::state::{PendingDelivery, SessionState};
use crate::gateway::mqtt::topics;
use crate::gateway::mqtt::wire::{
    self, Delivery, Message, PacketId, Publish, Qos, Reason, ServerPacket,
};

/// QoS 1 messages that the client has not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Sent on this connection; every one has its identifier. Never more than the window.
    sent: VecDeque<Held>,
    /// Not sent on this connection.
    waiting: VecDeque<Held>,
    /// Bytes of topics and payloads of what was sent.
    sent_bytes: usize,
    /// The same of what waits.
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Held {
    delivery: PendingDelivery,
    since_ms: u64,
}

impl Outbound {
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.sent_bytes + self.waiting_bytes
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + (self.sent.capacity() + self.waiting.capacity()) * size_of::<Held>()
    }

    fn has_packet_id(&self, packet_id: PacketId) -> bool {
        let mut all = self.sent.iter().chain(&self.waiting);
        all.any(|held| held.delivery.packet_id == Some(packet_id))
    }

    fn push_waiting(&mut self, held: Held) {
        self.waiting_bytes += message_bytes(&held.delivery.message);
        self.waiting.push_back(held);
    }

    fn pop_waiting(&mut self) -> Option<Held> {
        let held = self.waiting.pop_front()?;
        self.waiting_bytes -= message_bytes(&held.delivery.message);
        Some(held)
    }
}

impl Session {
    /// Sends a message, or keeps it until the client has acknowledged others.
    pub(super) fn deliver(&mut self, message: DeliverMessage, now_ms: u64, out: &mut Vec<Output>) {
        let token = message.token;
        if !self.is_connected() {
            return drop_message(token, DropCause::NotConnected, out);
        }
        if message.qos == Qos::AtMostOnce {
            let publish = Publish {
                message: message.message,
                delivery: Delivery::AtMostOnce,
                retain: false,
                topic_alias: None,
                subscription_identifiers: message.subscription_identifiers,
            };
            match self.misfit(&publish) {
                Some(cause) => drop_message(token, cause, out),
                None => out.push(Output::Send(ServerPacket::Publish(Box::new(publish)))),
            }
            return;
        }
        let held = Held {
            delivery: PendingDelivery {
                token,
                packet_id: None,
                message: message.message,
                subscription_identifiers: message.subscription_identifiers,
            },
            since_ms: now_ms,
        };
        let waiting_max = usize::from(self.limits.waiting_messages_max);
        let waiting_bytes_max = self.limits.waiting_bytes_max as usize;
        let window = usize::from(self.window);
        let outbound = self.outbound.get_or_insert_default();
        if outbound.waiting.is_empty() && outbound.sent.len() < window {
            self.send_held(held, now_ms, out);
            return self.release_outbound();
        }
        let bytes = outbound.waiting_bytes + message_bytes(&held.delivery.message);
        if outbound.waiting.len() >= waiting_max || bytes > waiting_bytes_max {
            return drop_message(token, DropCause::QueueFull, out);
        }
        outbound.push_waiting(held);
    }

    /// A PUBACK arrived. One for an identifier that is not in use is ignored: it may answer a
    /// message of the connection before.
    pub(super) fn publish_acknowledged(
        &mut self,
        packet_id: PacketId,
        reason: Reason,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let Some(outbound) = &mut self.outbound else {
            return;
        };
        let index = outbound
            .sent
            .iter()
            .position(|held| held.delivery.packet_id == Some(packet_id));
        let Some(held) = index.and_then(|index| outbound.sent.remove(index)) else {
            return;
        };
        outbound.sent_bytes -= message_bytes(&held.delivery.message);
        out.push(Output::Acknowledged {
            token: held.delivery.token,
            reason,
        });
        self.send_waiting(now_ms, out);
    }

    /// Takes over a stored session: what was sent before is sent again first [MQTT-4.4.0-1].
    pub(super) fn resume(&mut self, stored: SessionState, now_ms: u64, out: &mut Vec<Output>) {
        self.subscriptions = stored.subscriptions;
        if stored.pending.is_empty() {
            return;
        }
        let outbound = self.outbound.get_or_insert_default();
        for delivery in stored.pending {
            outbound.push_waiting(Held {
                delivery,
                since_ms: now_ms,
            });
        }
        self.send_waiting(now_ms, out);
    }

    /// What is not acknowledged, as it is to be sent on the next connection.
    pub(super) fn take_pending(&mut self, now_ms: u64) -> Vec<PendingDelivery> {
        let Some(outbound) = self.outbound.take() else {
            return Vec::new();
        };
        let all = outbound.sent.into_iter().chain(outbound.waiting);
        all.map(|mut held| {
            age(
                &mut held.delivery.message,
                now_ms.saturating_sub(held.since_ms),
            );
            held.delivery
        })
        .collect()
    }

    /// Sends what waits, as far as the window allows.
    fn send_waiting(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let window = usize::from(self.window);
        while let Some(outbound) = &mut self.outbound
            && outbound.sent.len() < window
            && let Some(held) = outbound.pop_waiting()
        {
            self.send_held(held, now_ms, out);
        }
        self.release_outbound();
    }

    fn send_held(&mut self, mut held: Held, now_ms: u64, out: &mut Vec<Output>) {
        let duplicate = held.delivery.packet_id.is_some();
        let expired = age(
            &mut held.delivery.message,
            now_ms.saturating_sub(held.since_ms),
        );
        held.since_ms = now_ms;
        if expired && !duplicate {
            return drop_message(held.delivery.token, DropCause::Expired, out);
        }
        let packet_id = held
            .delivery
            .packet_id
            .unwrap_or_else(|| self.free_packet_id());
        let delivery = &mut held.delivery;
        delivery.packet_id = Some(packet_id);
        let publish = Publish {
            message: delivery.message.clone(),
            delivery: Delivery::AtLeastOnce {
                packet_id,
                duplicate,
            },
            retain: false,
            topic_alias: None,
            subscription_identifiers: delivery.subscription_identifiers.clone(),
        };
        if let Some(cause) = self.misfit(&publish) {
            // [MQTT-3.1.2-25]: as if it had been sent and acknowledged.
            return drop_message(delivery.token, cause, out);
        }
        out.push(Output::Send(ServerPacket::Publish(Box::new(publish))));
        let outbound = self.outbound.get_or_insert_default();
        outbound.sent_bytes += message_bytes(&held.delivery.message);
        outbound.sent.push_back(held);
    }

    /// Why a message cannot be sent to this client. The topic is a name by agreement with the
    /// caller, but one that is none must not reach the client.
    fn misfit(&self, publish: &Publish) -> Option<DropCause> {
        if topics::check_name(&publish.message.topic).is_err() {
            return Some(DropCause::NotEncodable);
        }
        match wire::publish_len(publish, self.version) {
            Ok(bytes) if bytes > self.packet_size_max as usize => Some(DropCause::TooLarge),
            Ok(_) => None,
            Err(_) => Some(DropCause::NotEncodable),
        }
    }

    /// An identifier that no message uses [MQTT-2.2.1-4]. There is one: far fewer messages are held
    /// than there are identifiers.
    fn free_packet_id(&mut self) -> PacketId {
        loop {
            let candidate = PacketId::new(self.next_packet_id).unwrap_or(PacketId::MIN);
            self.next_packet_id = candidate.get().wrapping_add(1);
            let in_use = self
                .outbound
                .as_ref()
                .is_some_and(|outbound| outbound.has_packet_id(candidate));
            if !in_use {
                return candidate;
            }
        }
    }

    /// Gives the memory back when nothing is held.
    fn release_outbound(&mut self) {
        self.outbound.take_if(|outbound| outbound.len() == 0);
    }
}

fn drop_message(token: DeliveryToken, cause: DropCause, out: &mut Vec<Output>) {
    out.push(Output::Dropped { token, cause });
}

/// Takes the time that a message waited off its expiry [MQTT-3.3.2-6]; says whether none is left.
fn age(message: &mut Message, waited_ms: u64) -> bool {
    let Some(properties) = message.properties.as_mut() else {
        return false;
    };
    let Some(expiry_s) = properties.expiry_s else {
        return false;
    };
    let left_ms = (u64::from(expiry_s) * 1_000).saturating_sub(waited_ms);
    // A begun second counts as whole; it is never more than there was.
    let left_s = u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(expiry_s);
    properties.expiry_s = Some(left_s);
    left_ms == 0
}

/// Bytes that a message counts for while it waits.
fn message_bytes(message: &Message) -> usize {
    message.topic.len() + message.payload.len()
}
