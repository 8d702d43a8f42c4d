//! What a CONNECT packet says, whom it claims to be, and what proves the claim.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use antumbra_shadow::{DeviceId, Time};

/// A CONNECT packet and the link it came over. Printed without user name and password: on some clouds
/// the name is the credential.
#[derive(Clone, Copy)]
pub struct Connect<'a> {
    /// The protocol level.
    pub protocol: Protocol,
    /// May be empty.
    pub client_id: &'a str,
    /// As sent.
    pub username: Option<&'a str>,
    /// As sent.
    pub password: Option<Secret<'a>>,
    /// Clean session, or clean start.
    pub clean: bool,
    /// 0 when the client wants none.
    pub keep_alive_seconds: u16,
    /// The topic of the will, when there is one.
    pub will_topic: Option<&'a str>,
    /// What the link proves.
    pub link: Link,
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("protocol", &self.protocol)
            .field("client_id", &self.client_id)
            .field("clean", &self.clean)
            .field("keep_alive_seconds", &self.keep_alive_seconds)
            .field("will_topic", &self.will_topic)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// The protocol level of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// MQTT 3.1, `MQIsdp`.
    Mqtt31,
    /// MQTT 3.1.1.
    Mqtt311,
    /// MQTT 5.0.
    Mqtt5,
}

/// What the link proves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing.
    Anonymous,
    /// The client has a certificate, which was verified.
    Certificate,
}

/// Bytes that are never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a>(pub &'a [u8]);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whether a client speaks a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// Certainly not.
    No,
    /// Nothing speaks against it: the dialect of clients that no other wants.
    Maybe,
    /// By a mark that no other dialect has.
    Yes,
}

/// Whom a CONNECT packet claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The client id; empty when the server is to assign one.
    pub client_id: Box<str>,
    /// The device, where the packet names one. What is proven decides: only a door that is open to
    /// everybody takes this name as it is.
    pub device: Option<DeviceId>,
    /// What proves the claim.
    pub proof: Proof,
    /// When the proof ends, and the session with it.
    pub expires: Option<Time>,
}

/// What proves a claim. Looked up and compared by the session, which may wait.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: good enough for a door that is open to everybody.
    Nothing,
    /// The certificate of the link.
    Certificate,
    /// A token that is itself the name of its record.
    Token(Box<[u8]>),
    /// A name and a password or signed token.
    Password {
        /// The name.
        user: Box<str>,
        /// The password.
        password: Box<[u8]>,
    },
    /// A signature that can only be checked with the stored secret: load the record with this name and
    /// call [`Dialect::verify`](super::Dialect::verify).
    Secret {
        /// The name of the record.
        record: Box<str>,
    },
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::Nothing => f.write_str("Nothing"),
            Proof::Certificate => f.write_str("Certificate"),
            Proof::Token(_) => f.write_str("Token"),
            Proof::Password { user, .. } => write!(f, "Password({user:?})"),
            Proof::Secret { record } => write!(f, "Secret({record:?})"),
        }
    }
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConnectRefusal {
    /// The client id cannot be.
    #[error("the client id is not valid")]
    BadIdentifier,
    /// The proof is missing or wrong.
    #[error("the credentials are not valid")]
    BadCredentials,
    /// The proof is good and does not allow this connection.
    #[error("not authorized")]
    NotAuthorized,
    /// We cannot tell now.
    #[error("the server is unavailable")]
    Unavailable,
    /// There are too many connections.
    #[error("too many connections")]
    Overloaded,
    /// Connections come too fast.
    #[error("connections come too fast")]
    TooFast,
}

/// The codes of a refused connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connack {
    /// Return code of MQTT 3.1 and 3.1.1.
    pub return_code: u8,
    /// Reason code of MQTT 5.
    pub reason_code: u8,
}

impl ConnectRefusal {
    /// The codes that the standard has for it.
    pub fn connack(self) -> Connack {
        let (return_code, reason_code) = match self {
            ConnectRefusal::BadIdentifier => (0x02, 0x85),
            ConnectRefusal::BadCredentials => (0x04, 0x86),
            ConnectRefusal::NotAuthorized => (0x05, 0x87),
            ConnectRefusal::Unavailable => (0x03, 0x88),
            ConnectRefusal::Overloaded => (0x03, 0x97),
            ConnectRefusal::TooFast => (0x03, 0x9F),
        };
        Connack {
            return_code,
            reason_code,
        }
    }
}

/// How a session is run. `Default` is what MQTT itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRules {
    /// Bounds of the keep-alive: a client that asks for less or more gets the nearest, one that asks for
    /// none gets the upper.
    pub keep_alive_seconds: RangeInclusive<u16>,
    /// Whether subscriptions outlive the connection although the client did not ask for it.
    pub always_durable: bool,
    /// What becomes of the will.
    pub will: WillRule,
    /// When a device is brought up to date unasked.
    pub catch_up: CatchUp,
    /// After a push that was repeated in vain, nothing is pushed for this long, changes included.
    pub push_pause: Duration,
    /// The most requests about shadows that may be under way at one time.
    pub requests_max: u16,
}

/// What becomes of the will of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WillRule {
    /// It is published like a message of the client.
    Publish,
    /// It is dropped.
    Drop,
}

/// When a device is brought up to date unasked, by [`Event::Current`](super::Event::Current): once it
/// hears [`Channel::Desired`](super::Channel::Desired) of the shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Whenever something is left to do.
    Always,
    /// Only when `desired` changed after what it was sent last.
    Missed,
    /// Never.
    Never,
}

impl Default for SessionRules {
    fn default() -> SessionRules {
        SessionRules {
            keep_alive_seconds: 1..=u16::MAX,
            always_durable: false,
            will: WillRule::Publish,
            catch_up: CatchUp::Always,
            push_pause: Duration::ZERO,
            requests_max: 10,
        }
    }
}
