//! The properties of MQTT 5 (section 2.2.2): which may stand where, how often, with what values.

use super::error::Error;
use super::reader::Reader;
use crate::gateway::mqtt::topics;

/// Most user properties of one packet: each costs much more memory than the five bytes it can be
/// sent in.
pub(super) const USER_PROPERTIES_MAX: usize = 100;

/// What the properties belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Connect,
    Will,
    Publish,
    PublishAck,
    Subscribe,
    Unsubscribe,
    Disconnect,
}

/// What the checks of the packet around the properties need to know of them.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Position of the last byte of a Message Expiry Interval that is zero.
    pub(super) expiry_zero_at: Option<usize>,
    /// A topic alias is there.
    pub(super) has_topic_alias: bool,
    /// An authentication method is there.
    pub(super) has_authentication_method: bool,
    /// Authentication data are there.
    pub(super) has_authentication_data: bool,
}

/// Reads and checks a property length and the properties.
pub(super) fn check(reader: &mut Reader<'_>, scope: Scope) -> Result<Facts, Error> {
    let length = reader.variable()? as usize;
    let start = reader.position();
    let mut inner = Reader::new(reader.take(length)?);
    let mut facts = Facts::default();
    let mut seen = 0_u64;
    let mut user_properties = 0;
    while !inner.is_at_end() {
        let identifier = inner.byte()?;
        if identifier == 0x0B && scope == Scope::Publish {
            // [MQTT-3.3.4-6]
            return Err(Error::Protocol("subscription identifier from a client"));
        }
        if !is_allowed(identifier, scope) {
            return Err(Error::Malformed("property that this packet does not have"));
        }
        if identifier == 0x26 {
            user_properties += 1;
            if user_properties > USER_PROPERTIES_MAX {
                return Err(Error::TooMany("user properties"));
            }
        } else if seen & (1 << identifier) != 0 {
            return Err(Error::Protocol("property is repeated"));
        }
        seen |= 1 << identifier;
        check_value(&mut inner, identifier, start, &mut facts)?;
    }
    Ok(facts)
}

/// Table 2-4, of what clients send. Every identifier that is allowed is below 64.
fn is_allowed(identifier: u8, scope: Scope) -> bool {
    match identifier {
        0x01 | 0x02 | 0x03 | 0x08 | 0x09 => matches!(scope, Scope::Publish | Scope::Will),
        0x0B => scope == Scope::Subscribe,
        0x11 => matches!(scope, Scope::Connect | Scope::Disconnect),
        0x15 | 0x16 | 0x17 | 0x19 | 0x21 | 0x22 | 0x27 => scope == Scope::Connect,
        0x18 => scope == Scope::Will,
        0x1F => matches!(scope, Scope::PublishAck | Scope::Disconnect),
        0x23 => scope == Scope::Publish,
        0x26 => true,
        _ => false,
    }
}

/// Reads the value of a property that is allowed here. `start` is where the properties begin in the
/// packet.
fn check_value(
    inner: &mut Reader<'_>,
    identifier: u8,
    start: usize,
    facts: &mut Facts,
) -> Result<(), Error> {
    match identifier {
        0x01 | 0x17 | 0x19 => {
            if inner.byte()? > 1 {
                return Err(Error::Protocol("flag property is neither 0 nor 1"));
            }
        }
        0x02 => {
            if inner.four_bytes()? == 0 {
                facts.expiry_zero_at = Some(start + inner.position() - 1);
            }
        }
        0x03 | 0x1F => drop(inner.text()?),
        0x08 => check_response_topic(inner.text()?)?,
        0x09 => drop(inner.binary()?),
        0x0B => {
            if inner.variable()? == 0 {
                return Err(Error::Protocol("subscription identifier is zero"));
            }
        }
        0x11 | 0x18 => drop(inner.four_bytes()?),
        0x15 => {
            inner.text()?;
            facts.has_authentication_method = true;
        }
        0x16 => {
            inner.binary()?;
            facts.has_authentication_data = true;
        }
        0x21 => {
            if inner.two_bytes()? == 0 {
                return Err(Error::Protocol("receive maximum is zero"));
            }
        }
        0x22 => drop(inner.two_bytes()?),
        0x23 => {
            if inner.two_bytes()? == 0 {
                return Err(Error::TopicAliasInvalid);
            }
            facts.has_topic_alias = true;
        }
        0x27 => {
            if inner.four_bytes()? == 0 {
                return Err(Error::Protocol("maximum packet size is zero"));
            }
        }
        _ => {
            inner.text()?;
            inner.text()?;
        }
    }
    Ok(())
}

/// A response topic is a topic name [MQTT-3.3.2-14].
fn check_response_topic(topic: &str) -> Result<(), Error> {
    topics::check_name(topic).map_err(|_| Error::Protocol("response topic is not a topic name"))
}
