//! The packets that clients send and that the server sends, as values.
//!
//! Text and payloads of a received packet are slices of one buffer, the packet: keeping one of them
//! keeps all of it. What outlives the handling of a packet is copied.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;

use super::reason::Reason;

/// Names a PUBLISH, SUBSCRIBE or UNSUBSCRIBE until it is acknowledged; never zero [MQTT-2.2.1-3].
pub type PacketId = NonZeroU16;

/// Name and value of a user property.
pub type UserProperty = (ByteString, ByteString);

/// What a subscription was granted, or why not.
pub type Grant = Result<Qos, Reason>;

/// Protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5: protocol name `MQTT`, level 5.
    V5,
}

/// Quality of service, as far as this server goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// QoS 0: no acknowledgement.
    AtMostOnce,
    /// QoS 1: acknowledged, may be repeated.
    AtLeastOnce,
}

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientPacket {
    /// Wants to connect.
    Connect(Box<Connect>),
    /// Publishes a message.
    Publish(Box<Publish>),
    /// Has received the message with this identifier.
    PublishAck {
        /// Identifier of the PUBLISH.
        packet_id: PacketId,
        /// What became of it; always [`Reason::Success`] before MQTT 5.
        reason: Reason,
    },
    /// Wants subscriptions.
    Subscribe(Subscribe),
    /// Wants subscriptions gone.
    Unsubscribe(Unsubscribe),
    /// Is alive.
    PingRequest,
    /// Leaves.
    Disconnect(Disconnect),
}

/// A packet to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerPacket {
    /// Answer to CONNECT.
    ConnectAck(Box<ConnectAck>),
    /// A message.
    Publish(Box<Publish>),
    /// The message with this identifier was taken or refused.
    PublishAck {
        /// Identifier of the PUBLISH.
        packet_id: PacketId,
        /// What became of it; not sent before MQTT 5.
        reason: Reason,
    },
    /// Answer to SUBSCRIBE.
    SubscribeAck {
        /// Identifier of the SUBSCRIBE.
        packet_id: PacketId,
        /// One for each filter, in the order of the SUBSCRIBE.
        grants: Vec<Grant>,
    },
    /// Answer to UNSUBSCRIBE.
    UnsubscribeAck {
        /// Identifier of the UNSUBSCRIBE.
        packet_id: PacketId,
        /// One for each filter, in the order of the UNSUBSCRIBE; not sent before MQTT 5.
        reasons: Vec<Reason>,
    },
    /// Answer to PINGREQ.
    PingResponse,
    /// The server closes the connection. MQTT 5 only.
    Disconnect(DisconnectNotice),
}

/// CONNECT. What only MQTT 5 has is at its default before MQTT 5.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Version that the client speaks.
    pub version: Version,
    /// Client identifier; empty when the server is to assign one.
    pub client_id: ByteString,
    /// Clean Start of MQTT 5, Clean Session before: forget what was there.
    pub clean_start: bool,
    /// Keep-alive in seconds, 0 for none.
    pub keep_alive_s: u16,
    /// User name, which may be a credential.
    pub username: Option<ByteString>,
    /// Password, which may be any bytes.
    pub password: Option<Bytes>,
    /// What to publish when the connection breaks.
    pub will: Option<Box<Will>>,
    /// Seconds that the session outlives the connection; `u32::MAX` for ever. 0 before MQTT 5,
    /// where `clean_start` decides.
    pub session_expiry_s: u32,
    /// Unacknowledged messages that the client takes at a time; 65,535 when absent.
    pub receive_max: Option<NonZeroU16>,
    /// Largest packet that the client takes, in bytes.
    pub packet_size_max: Option<NonZeroU32>,
    /// Topic aliases that the client takes.
    pub topic_alias_max: u16,
    /// The client wants response information in CONNACK.
    pub request_response_information: bool,
    /// The client takes reason strings and user properties in every packet.
    pub request_problem_information: bool,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Name of an extended authentication. This server has none.
    pub authentication_method: Option<ByteString>,
}

impl fmt::Debug for Connect {
    /// Leaves out the user name, the password and user properties: any may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("has_username", &self.username.is_some())
            .field("has_password", &self.password.is_some())
            .field("will", &self.will)
            .field("session_expiry_s", &self.session_expiry_s)
            .field("receive_max", &self.receive_max)
            .field("packet_size_max", &self.packet_size_max)
            .finish_non_exhaustive()
    }
}

/// What is published when a connection ends without a proper DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// The message.
    pub message: Message,
    /// How it is published.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Seconds to wait, in which the client may come back. 0 before MQTT 5.
    pub delay_s: u32,
}

/// An application message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: ByteString,
    /// Payload.
    pub payload: Bytes,
    /// Properties; `None` when there are none, and always before MQTT 5.
    pub properties: Option<Box<MessageProperties>>,
}

impl Message {
    /// A message without properties.
    #[must_use]
    pub fn new(topic: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            properties: None,
        }
    }

    /// Seconds until the message is worthless, if it says so.
    #[must_use]
    pub fn expiry_s(&self) -> Option<u32> {
        self.properties
            .as_ref()
            .and_then(|properties| properties.expiry_s)
    }
}

impl fmt::Debug for Message {
    /// Gives the length of the payload, not its content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("properties", &self.properties)
            .finish()
    }
}

/// Properties that travel with a message from publisher to subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageProperties {
    /// The publisher says that the payload is UTF-8 text.
    pub payload_is_utf8: bool,
    /// Seconds until the message is worthless.
    pub expiry_s: Option<u32>,
    /// Content type.
    pub content_type: Option<ByteString>,
    /// Topic name for a response.
    pub response_topic: Option<ByteString>,
    /// What the requester knows the response by.
    pub correlation_data: Option<Bytes>,
    /// User properties, in order [MQTT-3.3.2-18].
    pub user_properties: Vec<UserProperty>,
}

/// How a PUBLISH is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Identifier that PUBACK will name.
        packet_id: PacketId,
        /// DUP flag: perhaps sent before.
        duplicate: bool,
    },
}

impl Delivery {
    /// The QoS.
    #[must_use]
    pub fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce { .. } => Qos::AtLeastOnce,
        }
    }
}

/// PUBLISH, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The message. The topic is empty when only the alias names it.
    pub message: Message,
    /// QoS and identifier.
    pub delivery: Delivery,
    /// RETAIN flag.
    pub retain: bool,
    /// Number that stands for the topic on this connection; from clients only.
    pub topic_alias: Option<NonZeroU16>,
    /// Which subscriptions this is for; from the server only [MQTT-3.3.4-6].
    pub subscription_identifiers: Vec<NonZeroU32>,
}

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Identifier that SUBACK will name.
    pub packet_id: PacketId,
    /// Number that messages for these subscriptions shall carry.
    pub identifier: Option<NonZeroU32>,
    /// What is wanted; at least one.
    pub filters: Vec<SubscribeFilter>,
}

/// One filter of a SUBSCRIBE. Options about retained messages are left out: there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// Topic filter.
    pub filter: ByteString,
    /// Highest QoS that is wanted; a request for QoS 2 is read as QoS 1.
    pub qos: Qos,
    /// The client does not want its own messages back.
    pub no_local: bool,
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Identifier that UNSUBACK will name.
    pub packet_id: PacketId,
    /// Filters, at least one.
    pub filters: Vec<ByteString>,
}

/// DISCONNECT from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; [`Reason::Success`] before MQTT 5.
    pub reason: Reason,
    /// New session expiry in seconds.
    pub session_expiry_s: Option<u32>,
    /// For people.
    pub reason_string: Option<ByteString>,
}

/// DISCONNECT from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisconnectNotice {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub reason_string: Option<ByteString>,
}

/// CONNACK. A success always announces Maximum QoS 1, Retain Available 0 and Shared Subscription
/// Available 0; wildcards and subscription identifiers are available. Before MQTT 5 only `reason`
/// and `session_present` are sent, before 3.1.1 only `reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectAck {
    /// Success, or why not.
    pub reason: Reason,
    /// A stored session is continued.
    pub session_present: bool,
    /// Session expiry that is used instead of the one asked for, in seconds.
    pub session_expiry_s: Option<u32>,
    /// Unacknowledged messages that the server takes at a time.
    pub receive_max: Option<NonZeroU16>,
    /// Largest packet that the server takes, in bytes.
    pub packet_size_max: Option<u32>,
    /// The identifier that the server gave to the client.
    pub assigned_client_id: Option<ByteString>,
    /// Topic aliases that the server takes.
    pub topic_alias_max: u16,
    /// Keep-alive that the client must use instead of its own, in seconds.
    pub server_keep_alive_s: Option<u16>,
    /// What the client may build response topics from.
    pub response_information: Option<ByteString>,
    /// For people.
    pub reason_string: Option<ByteString>,
}

impl ConnectAck {
    /// A refusal without words.
    #[must_use]
    pub fn refusal(reason: Reason) -> Self {
        Self {
            reason,
            session_present: false,
            session_expiry_s: None,
            receive_max: None,
            packet_size_max: None,
            assigned_client_id: None,
            topic_alias_max: 0,
            server_keep_alive_s: None,
            response_information: None,
            reason_string: None,
        }
    }
}
