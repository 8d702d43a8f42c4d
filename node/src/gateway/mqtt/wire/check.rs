//! The rules for one packet that has arrived in full, read from its bytes. What passes can be read
//! by the codec without loss, and breaks no rule that one packet can break.
//!
//! The codec refuses two things that are legal in MQTT 5: an empty client identifier without Clean
//! Start, and a Message Expiry Interval of zero. Here they are written over in the packet, and
//! [`Restore`] says what to put back into the value.

use super::error::Error;
use super::header::Kind;
use super::packet::Version;
use super::properties::{self, Scope};
use super::reader::Reader;
use crate::gateway::mqtt::topics;

/// Most filters of one SUBSCRIBE or UNSUBSCRIBE: each costs much more memory than it takes to send.
pub(super) const FILTERS_MAX: usize = 256;

const WILL_FLAG: u8 = 0b0000_0100;
const WILL_FLAGS_REST: u8 = 0b0011_1000;
const CLEAN_START_FLAG: u8 = 0b0000_0010;
const USERNAME_FLAG: u8 = 0b1000_0000;
const PASSWORD_FLAG: u8 = 0b0100_0000;

/// What was written over and has to be put back into the value.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Restore {
    /// Clean Start was 0.
    pub(super) clean_start_off: bool,
    /// The Message Expiry Interval of the message or will was 0.
    pub(super) expiry_zero: bool,
}

/// Checks `body`, the part of a packet behind the fixed header.
pub(super) fn packet(
    kind: Kind,
    qos_bits: u8,
    body: &mut [u8],
    version: Version,
) -> Result<Restore, Error> {
    match kind {
        Kind::Connect => connect(body, version),
        Kind::Publish => publish(qos_bits, body, version),
        Kind::PublishAck => publish_ack(body, version).map(|()| Restore::default()),
        Kind::Subscribe => subscribe(body, version).map(|()| Restore::default()),
        Kind::Unsubscribe => unsubscribe(body, version).map(|()| Restore::default()),
        Kind::Disconnect => disconnect(body, version).map(|()| Restore::default()),
        Kind::PingRequest => Ok(Restore::default()),
    }
}

/// Protocol name and level of a CONNECT (sections 3.1.2.1 and 3.1.2.2).
pub(super) fn sniff_version(body: &[u8]) -> Result<Version, Error> {
    let mut reader = Reader::new(body);
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(Error::ProtocolNameUnknown);
    }
    match (name, reader.byte()?) {
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (_, level) => Err(Error::VersionUnsupported { level }),
    }
}

fn connect(body: &mut [u8], version: Version) -> Result<Restore, Error> {
    let mut restore = Restore::default();
    let mut reader = Reader::new(body);
    reader.binary()?;
    reader.byte()?;
    let flags_at = reader.position();
    let flags = reader.byte()?;
    check_connect_flags(flags, version)?;
    reader.two_bytes()?;
    if version == Version::V5 {
        let facts = properties::check(&mut reader, Scope::Connect)?;
        if facts.has_authentication_data && !facts.has_authentication_method {
            return Err(Error::Protocol("authentication data without a method"));
        }
    }
    let client_id = reader.text()?;
    let clean_start = flags & CLEAN_START_FLAG != 0;
    // 3.1 wants at least one character; 3.1.1 allows none for a clean session [MQTT-3.1.3-8].
    let needs_client_id = match version {
        Version::V31 => true,
        Version::V311 => !clean_start,
        Version::V5 => false,
    };
    restore.clean_start_off = version == Version::V5 && client_id.is_empty() && !clean_start;
    let has_no_client_id = needs_client_id && client_id.is_empty();
    let mut expiry_zero_at = None;
    let mut will_topic = None;
    if flags & WILL_FLAG != 0 {
        if version == Version::V5 {
            expiry_zero_at = properties::check(&mut reader, Scope::Will)?.expiry_zero_at;
        }
        will_topic = Some(reader.text()?);
        reader.binary()?;
    }
    if flags & USERNAME_FLAG != 0 {
        reader.text()?;
    }
    if flags & PASSWORD_FLAG != 0 {
        reader.binary()?;
    }
    reader.expect_end()?;
    check_connect_meaning(has_no_client_id, flags, will_topic)?;
    if restore.clean_start_off {
        body[flags_at] |= CLEAN_START_FLAG;
    }
    restore.expiry_zero = write_over_expiry(body, expiry_zero_at);
    Ok(restore)
}

/// Section 3.1.2.3 and following.
fn check_connect_flags(flags: u8, version: Version) -> Result<(), Error> {
    if flags & 1 != 0 {
        return Err(Error::Malformed("reserved CONNECT flag")); // [MQTT-3.1.2-3]
    }
    if flags & WILL_FLAG == 0 && flags & WILL_FLAGS_REST != 0 {
        return Err(Error::Malformed("will flags without a will")); // [MQTT-3.1.2-11]
    }
    if will_qos(flags) == 3 {
        return Err(Error::Malformed("will QoS 3")); // [MQTT-3.1.2-12]
    }
    let password_alone = flags & (USERNAME_FLAG | PASSWORD_FLAG) == PASSWORD_FLAG;
    if password_alone && version != Version::V5 {
        return Err(Error::Malformed("password without user name")); // 3.1.1 [MQTT-3.1.2-22]
    }
    Ok(())
}

/// What is wrong with a CONNECT that can be parsed.
fn check_connect_meaning(
    has_no_client_id: bool,
    flags: u8,
    will_topic: Option<&str>,
) -> Result<(), Error> {
    if has_no_client_id {
        return Err(Error::ClientIdInvalid);
    }
    if will_topic.is_some_and(|topic| topics::check_name(topic).is_err()) {
        return Err(Error::TopicNameInvalid);
    }
    if will_qos(flags) == 2 {
        return Err(Error::QosNotSupported); // [MQTT-3.2.2-12]
    }
    Ok(())
}

fn will_qos(flags: u8) -> u8 {
    (flags >> 3) & 0b11
}

fn publish(qos_bits: u8, body: &mut [u8], version: Version) -> Result<Restore, Error> {
    let mut reader = Reader::new(body);
    let topic = reader.text()?;
    if qos_bits != 0 {
        reader.packet_id()?;
    }
    let mut expiry_zero_at = None;
    let mut has_topic_alias = false;
    if version == Version::V5 {
        let facts = properties::check(&mut reader, Scope::Publish)?;
        expiry_zero_at = facts.expiry_zero_at;
        has_topic_alias = facts.has_topic_alias;
    }
    match topics::check_name(topic) {
        Ok(()) => {}
        Err(topics::Error::Empty) if has_topic_alias => {}
        Err(topics::Error::Empty) if version == Version::V5 => {
            return Err(Error::Protocol("neither topic nor topic alias")); // section 3.3.2.1
        }
        Err(_) => return Err(Error::TopicNameInvalid),
    }
    let expiry_zero = write_over_expiry(body, expiry_zero_at);
    Ok(Restore {
        expiry_zero,
        ..Restore::default()
    })
}

fn publish_ack(body: &[u8], version: Version) -> Result<(), Error> {
    let mut reader = Reader::new(body);
    reader.packet_id()?;
    if version == Version::V5 && !reader.is_at_end() {
        reader.byte()?;
        if !reader.is_at_end() {
            properties::check(&mut reader, Scope::PublishAck)?;
        }
    }
    reader.expect_end()
}

fn subscribe(body: &[u8], version: Version) -> Result<(), Error> {
    let mut reader = Reader::new(body);
    reader.packet_id()?;
    if version == Version::V5 {
        properties::check(&mut reader, Scope::Subscribe)?;
    }
    let mut filters = 0;
    while !reader.is_at_end() {
        let filter = read_filter(&mut reader, &mut filters)?;
        check_options(reader.byte()?, filter, version)?;
    }
    expect_filters(filters)
}

fn unsubscribe(body: &[u8], version: Version) -> Result<(), Error> {
    let mut reader = Reader::new(body);
    reader.packet_id()?;
    if version == Version::V5 {
        properties::check(&mut reader, Scope::Unsubscribe)?;
    }
    let mut filters = 0;
    while !reader.is_at_end() {
        read_filter(&mut reader, &mut filters)?;
    }
    expect_filters(filters)
}

fn read_filter<'a>(reader: &mut Reader<'a>, filters: &mut usize) -> Result<&'a str, Error> {
    *filters += 1;
    if *filters > FILTERS_MAX {
        return Err(Error::TooMany("topic filters"));
    }
    let filter = reader.text()?;
    topics::check_filter(filter).map_err(|_| Error::TopicFilterInvalid)?;
    Ok(filter)
}

/// At least one filter [MQTT-3.8.3-2, MQTT-3.10.3-2].
fn expect_filters(filters: usize) -> Result<(), Error> {
    if filters == 0 {
        return Err(Error::Protocol("no topic filter"));
    }
    Ok(())
}

/// Subscription options (section 3.8.3.1); before MQTT 5 only the QoS.
fn check_options(options: u8, filter: &str, version: Version) -> Result<(), Error> {
    let reserved = match version {
        // MQTT 3.1 leaves the other bits unused without demanding that they are zero.
        Version::V31 => 0,
        Version::V311 => 0b1111_1100,
        Version::V5 => 0b1100_0000,
    };
    if options & reserved != 0 {
        return Err(Error::Malformed("reserved subscription options")); // [MQTT-3.8.3-5]
    }
    if options & 0b11 == 3 {
        return Err(Error::Malformed("subscription QoS 3"));
    }
    if version == Version::V5 {
        if options & 0b0011_0000 == 0b0011_0000 {
            return Err(Error::Protocol("retain handling 3"));
        }
        if options & 0b0100 != 0 && topics::is_shared(filter) {
            return Err(Error::Protocol("No Local on a shared subscription")); // [MQTT-3.8.3-4]
        }
    }
    Ok(())
}

fn disconnect(body: &[u8], version: Version) -> Result<(), Error> {
    let mut reader = Reader::new(body);
    if version == Version::V5 && !reader.is_at_end() {
        reader.byte()?;
        if !reader.is_at_end() {
            properties::check(&mut reader, Scope::Disconnect)?;
        }
    }
    reader.expect_end()
}

/// Makes an expiry of zero one. Says whether there was one.
fn write_over_expiry(body: &mut [u8], expiry_zero_at: Option<usize>) -> bool {
    if let Some(last_byte) = expiry_zero_at {
        body[last_byte] = 1;
    }
    expiry_zero_at.is_some()
}
