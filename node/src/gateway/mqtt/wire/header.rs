//! The fixed header: what can be judged before a packet has arrived.

use super::error::Error;
use super::packet::Version;
use super::reader::variable_integer;

/// Type of a packet that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Publish,
    PublishAck,
    Subscribe,
    Unsubscribe,
    PingRequest,
    Disconnect,
}

/// A fixed header whose type, flags and length are allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Type of the packet.
    pub(super) kind: Kind,
    /// Bytes of the header itself, two to five.
    pub(super) bytes: usize,
    /// Bytes that follow the header.
    pub(super) remaining: usize,
    /// Whether the length could not have been written shorter.
    pub(super) is_shortest: bool,
}

impl Header {
    /// Bytes of the whole packet.
    pub(super) fn packet_bytes(&self) -> usize {
        self.bytes + self.remaining
    }
}

/// Reads a fixed header from the front of `bytes`; `None` when more bytes are needed. `version` is
/// `None` before the CONNECT.
pub(super) fn parse(bytes: &[u8], version: Option<Version>) -> Result<Option<Header>, Error> {
    let Some((first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let kind = match version {
        None => first_kind(*first)?,
        Some(version) => later_kind(*first, version)?,
    };
    let Some(length) = variable_integer(rest)? else {
        return Ok(None);
    };
    // Before MQTT 5 nothing demands the shortest form, and small clients always write the same
    // number of bytes.
    if version == Some(Version::V5) && !length.is_shortest {
        return Err(Error::Malformed("length is not in its shortest form"));
    }
    let header = Header {
        kind,
        bytes: 1 + length.bytes,
        // Four groups of seven bits fit everywhere.
        remaining: length.value as usize,
        is_shortest: length.is_shortest,
    };
    check_remaining(&header, version)?;
    Ok(Some(header))
}

/// Before a CONNECT nothing else is allowed [MQTT-3.1.0-1]. Header flags that CONNECT does not have
/// are no CONNECT: TLS begins with 0x16.
fn first_kind(first: u8) -> Result<Kind, Error> {
    if first == 0x10 {
        Ok(Kind::Connect)
    } else {
        Err(Error::NotConnect)
    }
}

/// After the CONNECT: type and flags (sections 2.1.2 and 2.1.3).
fn later_kind(first: u8, version: Version) -> Result<Kind, Error> {
    let flags = first & 0x0F;
    let (kind, wanted) = match first >> 4 {
        3 => return publish_kind(flags),
        4 => (Kind::PublishAck, 0),
        8 => (Kind::Subscribe, 0b0010),
        10 => (Kind::Unsubscribe, 0b0010),
        12 => (Kind::PingRequest, 0),
        14 => (Kind::Disconnect, 0),
        1 => return Err(Error::Protocol("second CONNECT")), // [MQTT-3.1.0-2]
        5..=7 => return Err(Error::Protocol("packet of QoS 2 without such a PUBLISH")),
        2 | 9 | 11 | 13 => return Err(Error::Protocol("packet that only a server sends")),
        15 if version == Version::V5 && flags == 0 => {
            return Err(Error::Protocol("AUTH without an authentication method")); // [MQTT-4.12.0-7]
        }
        _ => return Err(Error::Malformed("reserved packet type")),
    };
    // In MQTT 3.1 a SUBSCRIBE or UNSUBSCRIBE that is sent again has DUP set (section 3.8 there).
    let repeated = version == Version::V31 && wanted != 0 && flags == wanted | 0b1000;
    if flags == wanted || repeated {
        Ok(kind)
    } else {
        Err(Error::Malformed("reserved header flags")) // [MQTT-2.1.3-1]
    }
}

/// Flags of a PUBLISH (section 3.3.1).
fn publish_kind(flags: u8) -> Result<Kind, Error> {
    let duplicate = flags & 0b1000 != 0;
    match (flags >> 1) & 0b11 {
        0 if duplicate => Err(Error::Malformed("DUP with QoS 0")), // [MQTT-3.3.1-2]
        0 | 1 => Ok(Kind::Publish),
        2 => Err(Error::QosNotSupported),    // [MQTT-3.2.2-11]
        _ => Err(Error::Malformed("QoS 3")), // [MQTT-3.3.1-4]
    }
}

/// Whether a packet of this type can have this length.
fn check_remaining(header: &Header, version: Option<Version>) -> Result<(), Error> {
    let is_v5 = version == Some(Version::V5);
    let remaining = header.remaining;
    let possible = match header.kind {
        // Name, level, flags, keep-alive and the length of a client identifier.
        Kind::Connect => remaining >= 12,
        Kind::Publish => remaining >= 3,
        Kind::PublishAck if is_v5 => remaining >= 2,
        Kind::PublishAck => remaining == 2,
        Kind::Subscribe | Kind::Unsubscribe => remaining >= 2,
        Kind::PingRequest => remaining == 0,
        Kind::Disconnect => is_v5 || remaining == 0,
    };
    if possible {
        Ok(())
    } else {
        Err(Error::Malformed("length that this packet cannot have"))
    }
}
