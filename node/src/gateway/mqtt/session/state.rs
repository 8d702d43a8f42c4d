//! The part of a session that outlives its connection.

use std::num::NonZeroU32;

use super::output::DeliveryToken;
use super::subscriptions::Subscriptions;
use crate::gateway::mqtt::wire::{Message, PacketId};

/// Session state (section 4.1): subscriptions and QoS 1 messages without PUBACK. A plain value, to
/// be stored or handed to another node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionState {
    /// Subscriptions.
    pub subscriptions: Subscriptions,
    /// Messages without PUBACK, in the order in which they are to be sent [MQTT-4.6.0-1].
    pub pending: Vec<PendingDelivery>,
}

/// A QoS 1 message that the client has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDelivery {
    /// The caller's name for it.
    pub token: DeliveryToken,
    /// Its identifier, if it was sent at least once: it is sent again under the same one, with DUP
    /// [MQTT-4.4.0-1].
    pub packet_id: Option<PacketId>,
    /// The message. Its expiry is what was left of it when the state was taken.
    pub message: Message,
    /// Identifiers of the subscriptions that it is for.
    pub subscription_identifiers: Vec<NonZeroU32>,
}
