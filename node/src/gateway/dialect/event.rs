//! What happened, and the messages that tell it.

use std::net::IpAddr;
use std::time::Duration;

use antumbra_shadow::{Change, DeviceId, DeviceKey, Document, Patch, ShadowName, Time};
use bytes::Bytes;

use super::channel::{Channel, Verb};
use super::intent::{Qos, Refusal, Reply};
use crate::error::Error;

/// Something that a session may have to be told.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A request was answered: the session's own, or, where a cloud shows everybody's answers to every
    /// subscriber, somebody else's.
    Answer(Answer<'a>),
    /// A shadow changed. Emitted after the answer that belongs to it.
    Change(&'a Change),
    /// A shadow as it is now, for a device that may have missed changes.
    Current(Current<'a>),
    /// A client came or went.
    Presence(&'a Presence),
}

/// An answered request.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The request.
    pub request: Request<'a>,
    /// What came of it.
    pub result: Answered<'a>,
    /// The time of the change, or the present time.
    pub time: Time,
}

/// A request, as far as answers show it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The device.
    pub device: &'a DeviceKey,
    /// The shadow.
    pub shadow: &'a ShadowName,
    /// What was asked for.
    pub verb: Verb,
    /// The token of the request.
    pub client_token: Option<&'a str>,
    /// What was to be merged; `None` unless the verb is an update.
    pub patch: Option<&'a Patch>,
    /// The handle of the intent, at the session that asked; `None` at all others.
    pub reply: Option<&'a Reply>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub enum Answered<'a> {
    /// The document that was read.
    Document(&'a Document),
    /// The change was accepted and made this version; for a delete that of the tombstone.
    Accepted {
        /// The version.
        version: u64,
    },
    /// It failed. An outcome that is unknown is repeated by the session first.
    Refused(&'a Error),
}

impl<'a> Answer<'a> {
    /// The good answer to the request that made a change. `reply` is the handle at the session that
    /// asked. A request that was repeated has no change; its answer is made from the request.
    pub fn of_change(change: &'a Change, reply: Option<&'a Reply>) -> Answer<'a> {
        let (verb, patch) = match change.deleted {
            true => (Verb::Delete, None),
            false => (Verb::Update, Some(&change.patch)),
        };
        Answer {
            request: Request {
                device: &change.device,
                shadow: &change.shadow,
                verb,
                client_token: change.client_token.as_deref(),
                patch,
                reply,
            },
            result: Answered::Accepted {
                version: change.version,
            },
            time: change.time,
        }
    }
}

/// A shadow as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Current<'a> {
    /// The device.
    pub device: &'a DeviceKey,
    /// The shadow.
    pub shadow: &'a ShadowName,
    /// The document.
    pub document: &'a Document,
    /// The last version that was sent to this session; 0 when none was.
    pub sent_version: u64,
    /// The present time.
    pub time: Time,
}

/// A client that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The client.
    pub client_id: Box<str>,
    /// The device, when it is one.
    pub device: Option<DeviceId>,
    /// The connection: the same when it ends as when it began.
    pub session_identifier: Box<str>,
    /// Who it is: the fingerprint of a certificate or the name of a credential.
    pub principal: Box<str>,
    /// The epoch of the session: the same when it ends, never smaller later.
    pub version: u64,
    /// When.
    pub time: Time,
    /// What happened.
    pub state: PresenceState,
}

/// What happened to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceState {
    /// It came.
    Connected {
        /// From where, when known.
        address: Option<IpAddr>,
    },
    /// It went.
    Disconnected(DisconnectReason),
}

/// Why a client went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// It was not known, or no longer.
    Unauthenticated,
    /// It said goodbye.
    ByClient,
    /// It broke the protocol.
    ClientError,
    /// The link was lost, or the gateway.
    ConnectionLost,
    /// Another connection has its client id.
    TakenOver,
    /// It did what its role does not allow.
    Forbidden,
    /// Nothing came from it for one and a half keep-alives.
    KeepAliveTimeout,
    /// An error of ours.
    ServerError,
    /// We closed it, to stop or to drain a node.
    ByServer,
    /// An operator closed it.
    ByOperator,
    /// It asked for more than it may.
    Throttled,
}

/// The two kinds of news about clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PresenceKind {
    /// A client came.
    Connected,
    /// A client went.
    Disconnected,
}

impl Presence {
    /// Which kind of news this is.
    pub fn kind(&self) -> PresenceKind {
        match self.state {
            PresenceState::Connected { .. } => PresenceKind::Connected,
            PresenceState::Disconnected(_) => PresenceKind::Disconnected,
        }
    }
}

/// What a session does to tell an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Emit {
    /// Sends a message.
    Publish(Publish),
    /// Closes the link, where a cloud's firmware retries without a pause on anything milder.
    Close(Refusal),
}

/// A message to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// At most this; the grant may lower it.
    pub qos: Qos,
    /// Whether a subscription is needed.
    pub route: Route,
    /// Set when the message brings `desired` to a device and is repeated until it arrived.
    pub push: Option<Push>,
    /// Not before this time has passed, to slow firmware down that retries without a pause.
    pub delay: Duration,
}

/// Whether a message needs a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Sent without one.
    Direct,
    /// Sent when the session hears this channel of the shadow that the event is about, with that QoS.
    Shadow(Channel),
    /// Sent when the session hears presence of that client, with that QoS.
    Presence,
}

/// The delivery of `desired` to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// The version of the document that the message brings.
    pub version: u64,
    /// Which part of the push this is, where one event makes several messages. The push has arrived
    /// when every part has.
    pub part: u16,
    /// What says that it arrived. A session that hears the channel with QoS 0 is sent it once.
    pub confirm: Confirm,
}

/// What says that a push arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// Its PUBACK.
    Puback,
    /// A message of the device: [`Intent::Delivered`](super::Intent::Delivered).
    Message,
}

impl Publish {
    /// A message of QoS 1 that is sent at once and is no push.
    pub fn new(topic: String, payload: impl Into<Bytes>, route: Route) -> Publish {
        Publish {
            topic,
            payload: payload.into(),
            qos: Qos::AtLeastOnce,
            route,
            push: None,
            delay: Duration::ZERO,
        }
    }

    /// The message as a push of one part.
    #[must_use]
    pub fn pushing(mut self, version: u64, confirm: Confirm) -> Publish {
        self.push = Some(Push {
            version,
            part: 0,
            confirm,
        });
        self
    }
}
