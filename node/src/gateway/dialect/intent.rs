//! What a message of a device asks for.

use antumbra_shadow::{DeviceId, Kind, ShadowName};

use super::channel::Verb;
use super::event::Publish;
use crate::error::Error;

/// How surely a message arrives. QoS 2 does not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// A message that a client published.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The topic name.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// As sent.
    pub qos: Qos,
    /// How it came to be published.
    pub origin: Origin,
}

/// How a message came to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By a PUBLISH packet.
    Publish,
    /// By the end of the connection, as its will.
    Will,
}

/// What a message asks for, in all.
#[derive(Debug, Clone, PartialEq)]
pub struct Reaction {
    /// What to do, in this order. When one is [`Intent::Refuse`], it is the only one.
    pub intents: Vec<Intent>,
    /// When the message is acknowledged, if it has QoS 1.
    pub acknowledge: Acknowledge,
}

/// When a message of QoS 1 gets its PUBACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// At once.
    Now,
    /// When every outcome is certain, good or bad, because an answer tells which. Never while one is
    /// unknown.
    Outcome,
    /// When everything was done. The PUBACK is the only answer, so a failure closes the link.
    Success,
}

/// One thing that a message asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// Read a shadow, behind a barrier, and emit [`Answered::Document`](super::Answered::Document).
    Read {
        /// The shadow.
        target: Target,
        /// Echoed.
        client_token: Option<String>,
        /// Comes back with the answer.
        reply: Reply,
    },
    /// Carry out a command and emit [`Answered::Accepted`](super::Answered::Accepted).
    Change {
        /// The device.
        device: DeviceId,
        /// Update, delete or batch, with its conditions.
        kind: Kind,
        /// Echoed to all observers.
        client_token: Option<String>,
        /// Comes back with the answer.
        reply: Reply,
    },
    /// Nothing to carry out: the request is wrong by itself. Emit the error as its answer.
    Answer {
        /// The shadow.
        target: Target,
        /// What was asked for.
        verb: Verb,
        /// Why it is wrong.
        error: Error,
        /// Echoed.
        client_token: Option<String>,
        /// Comes back with the answer.
        reply: Reply,
    },
    /// The device says what became of a push that waits for [`Confirm::Message`](super::Confirm::Message).
    Delivered {
        /// The shadow.
        target: Target,
        /// The version that was pushed.
        version: u64,
        /// The part of the push.
        part: u16,
        /// Whether the device took it. A push that was not taken is not repeated until the next change.
        taken: bool,
    },
    /// Messages to this session alone, at once.
    Send(Vec<Publish>),
    /// Pass the message on to other clients as it is.
    Forward,
    /// Nothing: a topic that belongs to the cloud and is not served here. Acknowledged and dropped,
    /// because firmware answers a refusal with a storm of reconnects.
    Ignore {
        /// What the topic belongs to; one of a few, for counting.
        family: &'static str,
    },
    /// The message is not allowed. MQTT 5 says so in the PUBACK, MQTT 3.1.1 closes the link.
    Refuse(Refusal),
}

/// A shadow within the tenant of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The device.
    pub device: DeviceId,
    /// The shadow.
    pub shadow: ShadowName,
}

/// What a dialect needs to answer one request. Opaque to the session, which hands it back with the
/// answer and never compares it: firmware uses one correlation value twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The shape of the answer; numbers of the dialect.
    pub shape: u8,
    /// The correlation value as it came, be it a text, a number or part of a topic.
    pub correlation: Option<Box<str>>,
    /// Whether answers may pass each other.
    pub order: Order,
}

/// Whether the answers of a session may pass each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// A correlation value tells them apart.
    #[default]
    Free,
    /// They are matched by their order: an answer waits for all earlier requests of the session.
    Strict,
}

/// Why a filter or message is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The role does not allow it: reason code 0x87.
    #[error("not authorized")]
    NotAuthorized,
    /// A topic name or filter that cannot be: reason code 0x90 for a name, 0x8F for a filter.
    #[error("not a valid topic")]
    InvalidTopic,
    /// Shared subscriptions are not served: reason code 0x9E.
    #[error("shared subscriptions are not supported")]
    SharedSubscription,
    /// The payload is not what the topic demands, in a dialect that has no answer for that: reason code
    /// 0x99.
    #[error("the payload is invalid")]
    InvalidPayload,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a DISCONNECT packet that wants no will.
    Clean,
    /// In any other way.
    Abrupt,
}

impl Reaction {
    /// One intent, acknowledged at once.
    pub fn now(intent: Intent) -> Reaction {
        Reaction {
            intents: vec![intent],
            acknowledge: Acknowledge::Now,
        }
    }

    /// One intent, acknowledged when its outcome is certain.
    pub fn outcome(intent: Intent) -> Reaction {
        Reaction {
            intents: vec![intent],
            acknowledge: Acknowledge::Outcome,
        }
    }

    /// The message is not allowed.
    pub fn refuse(refusal: Refusal) -> Reaction {
        Reaction::now(Intent::Refuse(refusal))
    }

    /// The message is dropped.
    pub fn ignore(family: &'static str) -> Reaction {
        Reaction::now(Intent::Ignore { family })
    }
}
