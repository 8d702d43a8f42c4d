//! What can be wrong with bytes from a client, and what the client is told.

use super::reason::Reason;

/// Why bytes were refused. The connection is over: the decoder repeats the error from then on.
///
/// On MQTT 5 the client gets [`Error::reason`] in a CONNACK (before it is connected) or DISCONNECT,
/// unless [`Error::is_silent`]. On 3.1 and 3.1.1 the connection is closed [MQTT-4.8.0-1], except
/// where CONNACK has a return code for it ([`Reason::connect_return_code`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first packet is not a CONNECT [MQTT-3.1.0-1]: perhaps not MQTT at all.
    #[error("first packet is not a CONNECT")]
    NotConnect,
    /// The protocol name is neither `MQTT` nor `MQIsdp` [MQTT-3.1.2-1].
    #[error("protocol name is unknown")]
    ProtocolNameUnknown,
    /// The protocol name is known, the level is not.
    #[error("protocol level {level} is not supported")]
    VersionUnsupported {
        /// The level that was asked for.
        level: u8,
    },
    /// The packet cannot be parsed.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The packet can be parsed, but is not allowed.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The packet is larger than the limit for its type; judged from the fixed header.
    #[error("packet of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// Size of the whole packet.
        bytes: u32,
        /// Largest size that is accepted.
        bytes_max: u32,
    },
    /// The packet repeats something more often than this server accepts.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A PUBLISH or a will with QoS 2 [MQTT-3.2.2-11, MQTT-3.2.2-12].
    #[error("QoS 2 is not supported")]
    QosNotSupported,
    /// A topic name that is empty or contains a wildcard.
    #[error("topic name is invalid")]
    TopicNameInvalid,
    /// A topic filter that is empty or has a misplaced wildcard.
    #[error("topic filter is invalid")]
    TopicFilterInvalid,
    /// Topic alias zero [MQTT-3.3.2-8].
    #[error("topic alias is invalid")]
    TopicAliasInvalid,
    /// An empty client identifier where the client must have one [MQTT-3.1.3-8].
    #[error("client identifier is empty")]
    ClientIdInvalid,
}

impl Error {
    /// The reason code for a CONNACK or DISCONNECT.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::NotConnect | Self::Protocol(_) => Reason::ProtocolError,
            Self::ProtocolNameUnknown | Self::VersionUnsupported { .. } => {
                Reason::UnsupportedProtocolVersion
            }
            Self::Malformed(_) => Reason::MalformedPacket,
            Self::TooLarge { .. } => Reason::PacketTooLarge,
            Self::TooMany(_) => Reason::QuotaExceeded,
            Self::QosNotSupported => Reason::QosNotSupported,
            Self::TopicNameInvalid => Reason::TopicNameInvalid,
            Self::TopicFilterInvalid => Reason::TopicFilterInvalid,
            Self::TopicAliasInvalid => Reason::TopicAliasInvalid,
            Self::ClientIdInvalid => Reason::ClientIdentifierNotValid,
        }
    }

    /// Whether the connection is closed without any answer, because the other side has not shown
    /// that it speaks MQTT [MQTT-3.1.4-1].
    #[must_use]
    pub fn is_silent(self) -> bool {
        matches!(self, Self::NotConnect | Self::ProtocolNameUnknown)
    }
}

/// Why a packet was not written. The output is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The version has no such packet: a DISCONNECT from the server needs MQTT 5, and 3.1.1 has no
    /// CONNACK for every reason.
    #[error("packet does not exist in this version")]
    NotInVersion,
    /// A text or the packet is longer than MQTT can express.
    #[error("packet is too long")]
    TooLong,
}
