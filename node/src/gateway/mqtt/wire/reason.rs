//! Reason codes: one list for CONNACK, PUBACK, SUBACK, UNSUBACK and DISCONNECT.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        /// Why something ended as it did (MQTT 5, section 2.4). On 3.1.1 only CONNACK and SUBACK
        /// can carry a code at all: see [`Reason::connect_return_code`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name = $code,)+
        }

        impl Reason {
            /// All reasons, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason with this code, if there is one.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// Success; in DISCONNECT: normal, the will is deleted.
    Success = 0x00,
    /// The client leaves and wants its will published.
    DisconnectWithWill = 0x04,
    /// Accepted, but nobody subscribes to it.
    NoMatchingSubscribers = 0x10,
    /// UNSUBSCRIBE named a filter that was not subscribed.
    NoSubscriptionExisted = 0x11,
    /// Failed, and nothing better fits.
    UnspecifiedError = 0x80,
    /// The packet cannot be parsed.
    MalformedPacket = 0x81,
    /// The packet is not allowed here.
    ProtocolError = 0x82,
    /// Valid, but not accepted by this server.
    ImplementationSpecificError = 0x83,
    /// The protocol level is not supported.
    UnsupportedProtocolVersion = 0x84,
    /// The client identifier is not allowed.
    ClientIdentifierNotValid = 0x85,
    /// Wrong credentials.
    BadUserNameOrPassword = 0x86,
    /// The identity may not do this.
    NotAuthorized = 0x87,
    /// The server cannot serve now.
    ServerUnavailable = 0x88,
    /// The server is overloaded.
    ServerBusy = 0x89,
    /// This client is banned.
    Banned = 0x8A,
    /// The server goes down.
    ServerShuttingDown = 0x8B,
    /// The authentication method is not supported.
    BadAuthenticationMethod = 0x8C,
    /// Nothing came for 1.5 times the keep-alive.
    KeepAliveTimeout = 0x8D,
    /// Another connection uses the client identifier.
    SessionTakenOver = 0x8E,
    /// The topic filter is not accepted.
    TopicFilterInvalid = 0x8F,
    /// The topic name is not accepted.
    TopicNameInvalid = 0x90,
    /// The packet identifier is in use.
    PacketIdentifierInUse = 0x91,
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92,
    /// More unacknowledged publishes than the receive maximum.
    ReceiveMaximumExceeded = 0x93,
    /// The topic alias is zero or above the maximum.
    TopicAliasInvalid = 0x94,
    /// The packet is larger than this server accepts.
    PacketTooLarge = 0x95,
    /// Messages come too fast.
    MessageRateTooHigh = 0x96,
    /// A limit of this server is exceeded.
    QuotaExceeded = 0x97,
    /// Closed by an operator.
    AdministrativeAction = 0x98,
    /// The payload is not what its format indicator says.
    PayloadFormatInvalid = 0x99,
    /// Retained messages are not supported.
    RetainNotSupported = 0x9A,
    /// The QoS is above the Maximum QoS.
    QosNotSupported = 0x9B,
    /// Use another server for now.
    UseAnotherServer = 0x9C,
    /// Use another server for good.
    ServerMoved = 0x9D,
    /// Shared subscriptions are not supported.
    SharedSubscriptionsNotSupported = 0x9E,
    /// Connections come too fast.
    ConnectionRateExceeded = 0x9F,
    /// The connection was open for as long as is allowed.
    MaximumConnectTime = 0xA0,
    /// Subscription identifiers are not supported.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// Wildcard subscriptions are not supported.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl Reason {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether this says that something failed (codes from 0x80).
    #[must_use]
    pub fn is_failure(self) -> bool {
        self.code() >= 0x80
    }

    /// The CONNACK return code of 3.1 and 3.1.1 (section 3.2.2.3 there), or nothing when the
    /// connection is to be closed without a CONNACK, as for a packet that breaks the protocol
    /// [MQTT-3.1.4-1].
    #[must_use]
    pub fn connect_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::QuotaExceeded
            | Self::MessageRateTooHigh
            | Self::ConnectionRateExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::UnspecifiedError => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized
            | Self::Banned
            | Self::BadAuthenticationMethod
            | Self::AdministrativeAction
            | Self::TopicNameInvalid
            | Self::QosNotSupported
            | Self::ImplementationSpecificError => Some(5),
            _ => None,
        }
    }
}
