//! What a session wants done.

use std::num::NonZeroU32;

use bytestring::ByteString;

use super::input::ServerCause;
use super::state::SessionState;
use crate::gateway::mqtt::wire::{
    self, Connect, Message, PacketId, Qos, Reason, ServerPacket, SubscribeFilter, Will,
};

/// Names a publish from the client until its outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublishToken {
    pub(super) sequence: u32,
    pub(super) packet_id: Option<PacketId>,
}

/// Names a subscribe or unsubscribe request until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestToken(pub(super) u32);

/// Names a message for the client. The caller chooses it; the session does not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeliveryToken(pub u64);

/// One thing that a session wants done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this to the client.
    Send(ServerPacket),
    /// Decide about this CONNECT; the answer is [`super::Input::Accept`] or
    /// [`super::Input::Refuse`]. No packet is to be decoded until then.
    Authenticate(Box<Connect>),
    /// The client publishes; the answer is [`super::Input::Published`], for QoS 0, too.
    Publish {
        /// For the answer.
        token: PublishToken,
        /// What is published. Its parts are slices of the packet.
        message: Message,
        /// How it was published.
        qos: Qos,
    },
    /// The client wants subscriptions; the answer is [`super::Input::Subscribed`].
    Subscribe {
        /// For the answer.
        token: RequestToken,
        /// What is wanted, without the filters that the session refused itself.
        filters: Vec<SubscribeFilter>,
        /// Subscription identifier.
        identifier: Option<NonZeroU32>,
    },
    /// The client gives up subscriptions; the answer is [`super::Input::Unsubscribed`].
    Unsubscribe {
        /// For the answer.
        token: RequestToken,
        /// Filters, of which some may not be subscribed.
        filters: Vec<ByteString>,
    },
    /// The client has the message.
    Acknowledged {
        /// Which one.
        token: DeliveryToken,
        /// Success, or what an MQTT 5 client holds against it. It is not sent again either way.
        reason: Reason,
    },
    /// The message was not sent, and will not be.
    Dropped {
        /// Which one.
        token: DeliveryToken,
        /// Why.
        cause: DropCause,
    },
    /// The connection is over, and this is what becomes of its will.
    Will(WillOutcome),
    /// The connection was open, and this is what is left of the session.
    Ended(Box<SessionEnd>),
    /// Close the socket, after what is to be sent. Nothing comes after this.
    Close(CloseCause),
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropCause {
    /// The client is not connected.
    NotConnected,
    /// Larger than the client's Maximum Packet Size [MQTT-3.1.2-24].
    TooLarge,
    /// Too many or too much is waiting.
    QueueFull,
    /// Its Message Expiry Interval passed while it waited [MQTT-3.3.2-5].
    Expired,
    /// It cannot be written as an MQTT packet.
    NotEncodable,
}

/// What becomes of a will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WillOutcome {
    /// Publish it after `delay_s` seconds or when the session ends, whatever is first; not at all
    /// if a new connection continues the session before [MQTT-3.1.3-9].
    Publish {
        /// The will.
        will: Box<Will>,
        /// Seconds to wait, at most the session expiry; 0 for at once.
        delay_s: u32,
    },
    /// The client took leave: forget it [MQTT-3.14.4-3].
    Discard,
}

/// What is left of a session when its connection is over.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// How long the session lives on.
    pub expiry: Expiry,
    /// Subscriptions and messages without PUBACK. Also given when the session ends now, so that the
    /// caller learns which deliveries are open.
    pub state: SessionState,
}

/// How long a session lives on without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It ends now.
    Now,
    /// It ends after so many seconds.
    After(u32),
    /// It does not end by itself.
    Never,
}

impl Expiry {
    /// From a Session Expiry Interval (section 3.1.2.11.2).
    #[must_use]
    pub fn from_seconds(seconds: u32) -> Self {
        match seconds {
            0 => Self::Now,
            u32::MAX => Self::Never,
            seconds => Self::After(seconds),
        }
    }
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The client sent DISCONNECT.
    ClientDisconnected(Reason),
    /// The other side closed the connection, or it broke.
    ConnectionLost,
    /// No CONNECT came in time.
    ConnectTimeout,
    /// Nothing came for 1.5 times the keep-alive.
    KeepAliveTimeout,
    /// The CONNECT was refused.
    Refused(Reason),
    /// The client sent what is no valid packet.
    Invalid(wire::Error),
    /// The client sent a valid packet that was not allowed.
    Violation(Reason),
    /// A publish was refused, and the version cannot say so.
    PublishRefused(Reason),
    /// A publish has an unknown outcome.
    OutcomeUnknown,
    /// The server wanted it.
    Server(ServerCause),
}

impl CloseCause {
    /// The reason code of the DISCONNECT to a connected MQTT 5 client, if one is sent.
    #[must_use]
    pub fn disconnect_reason(self) -> Option<Reason> {
        match self {
            Self::ClientDisconnected(_) | Self::ConnectionLost | Self::ConnectTimeout => None,
            Self::KeepAliveTimeout => Some(Reason::KeepAliveTimeout),
            Self::Invalid(error) => Some(error.reason()),
            Self::Refused(reason) | Self::Violation(reason) | Self::PublishRefused(reason) => {
                Some(reason)
            }
            Self::OutcomeUnknown => Some(Reason::UnspecifiedError),
            Self::Server(cause) => Some(cause.reason()),
        }
    }
}
