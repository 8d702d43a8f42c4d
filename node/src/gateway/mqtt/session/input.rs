//! What a session is told.

use std::num::NonZeroU32;

use bytestring::ByteString;

use super::output::{DeliveryToken, PublishToken, RequestToken};
use super::state::SessionState;
use crate::gateway::mqtt::wire::{self, ClientPacket, Grant, Message, Qos, Reason, Version};

/// One thing that happened to a session.
#[derive(Debug)]
pub enum Input {
    /// A packet arrived.
    Packet(ClientPacket),
    /// Bytes arrived that are no valid packet.
    Invalid {
        /// What is wrong with them.
        error: wire::Error,
        /// [`wire::Decoder::version`], for the form of the answer.
        version: Option<Version>,
    },
    /// The CONNECT is accepted.
    Accept(Box<Acceptance>),
    /// The CONNECT is refused.
    Refuse(Refusal),
    /// A publish from the client has this outcome.
    Published {
        /// Which one.
        token: PublishToken,
        /// What became of it.
        outcome: PublishOutcome,
    },
    /// A subscribe request has been decided and, where the session outlives the connection, stored.
    Subscribed {
        /// Which one.
        token: RequestToken,
        /// One for each filter of the request, in its order. A missing one counts as refused.
        grants: Vec<Grant>,
    },
    /// An unsubscribe request has been carried out.
    Unsubscribed {
        /// Which one.
        token: RequestToken,
    },
    /// A message for the client.
    Deliver(Box<DeliverMessage>),
    /// Time passed: [`super::Session::next_deadline_ms`] may have come.
    Tick,
    /// The other side closed the connection, or it broke.
    ConnectionLost,
    /// The server wants the connection closed.
    Close(ServerCause),
}

/// How a CONNECT is accepted.
#[derive(Debug, Default)]
pub struct Acceptance {
    /// The client identifier, if the client's was empty. An empty one that is not given an
    /// identifier here is refused with 0x85.
    pub assigned_client_id: Option<ByteString>,
    /// The stored session of this client. It is not used when the client wants a clean start.
    pub stored: Option<SessionState>,
    /// Bound on the keep-alive in seconds, instead of the limit's.
    pub keep_alive_max_s: Option<u16>,
    /// Bound on the session expiry in seconds, instead of the limit's.
    pub session_expiry_max_s: Option<u32>,
    /// Response information, sent when the client asked for it.
    pub response_information: Option<ByteString>,
}

/// How a CONNECT is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why. Before MQTT 5 the nearest return code is sent, or nothing where there is none.
    pub reason: Reason,
    /// For people; MQTT 5 only.
    pub reason_string: Option<ByteString>,
}

/// What became of a publish from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It is done and will not be lost: acknowledge it.
    Committed,
    /// It was not done. MQTT 5 clients get the reason in PUBACK; older ones can only be told by
    /// closing the connection.
    Refused(Reason),
    /// It may have been done. The connection is closed without PUBACK, so that the client sends the
    /// message again when it comes back.
    Unknown,
}

/// A message for the client.
#[derive(Debug, Clone)]
pub struct DeliverMessage {
    /// Named in [`super::Output::Acknowledged`] or [`super::Output::Dropped`].
    pub token: DeliveryToken,
    /// The message.
    pub message: Message,
    /// QoS 0 is sent at once and not acknowledged.
    pub qos: Qos,
    /// Identifiers of the subscriptions that it is for; MQTT 5 only.
    pub subscription_identifiers: Vec<NonZeroU32>,
}

/// Why the server wants a connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerCause {
    /// The client has connected anew, here or on another node (0x8E).
    TakenOver,
    /// This node stops (0x8B).
    ShuttingDown,
    /// This node is drained; the client finds another one under the same name (0x9C).
    UseAnotherServer,
    /// An operator closed it (0x98).
    Administrative,
    /// The credential was revoked or has expired (0x87).
    NotAuthorized,
    /// The client does not take what is sent to it, or uses more than its share (0x97).
    QuotaExceeded,
    /// Messages come too fast (0x96).
    MessageRateTooHigh,
    /// This node sheds load (0x89).
    Overloaded,
}

impl ServerCause {
    /// The reason code of the DISCONNECT.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::TakenOver => Reason::SessionTakenOver,
            Self::ShuttingDown => Reason::ServerShuttingDown,
            Self::UseAnotherServer => Reason::UseAnotherServer,
            Self::Administrative => Reason::AdministrativeAction,
            Self::NotAuthorized => Reason::NotAuthorized,
            Self::QuotaExceeded => Reason::QuotaExceeded,
            Self::MessageRateTooHigh => Reason::MessageRateTooHigh,
            Self::Overloaded => Reason::ServerBusy,
        }
    }
}
