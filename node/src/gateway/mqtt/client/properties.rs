//! The properties of MQTT 5 (section 2.2.2) that a server sends, whatever packet they belong to.

use std::num::{NonZeroU16, NonZeroU32};

use bytestring::ByteString;

use super::Error;
use super::reader::Reader;
use crate::gateway::mqtt::wire::MessageProperties;

/// What the properties of one packet say. Those that a client has no use for are left out.
#[derive(Debug, Default)]
pub(super) struct Properties {
    pub(super) message: MessageProperties,
    pub(super) topic_alias: Option<NonZeroU16>,
    pub(super) subscription_identifiers: Vec<NonZeroU32>,
    pub(super) session_expiry_s: Option<u32>,
    pub(super) receive_max: Option<NonZeroU16>,
    pub(super) packet_size_max: Option<u32>,
    pub(super) assigned_client_id: Option<ByteString>,
    pub(super) topic_alias_max: u16,
    pub(super) server_keep_alive_s: Option<u16>,
    pub(super) response_information: Option<ByteString>,
    pub(super) reason_string: Option<ByteString>,
}

impl Properties {
    /// Reads a property length and the properties.
    pub(super) fn read(body: &mut Reader) -> Result<Self, Error> {
        let length = body.variable()? as usize;
        let mut inner = Reader::new(body.take(length)?);
        let mut properties = Self::default();
        while !inner.is_at_end() {
            let identifier = inner.byte()?;
            properties.read_value(identifier, &mut inner)?;
        }
        Ok(properties)
    }

    fn read_value(&mut self, identifier: u8, inner: &mut Reader) -> Result<(), Error> {
        match identifier {
            0x01 => self.message.payload_is_utf8 = inner.byte()? == 1,
            0x02 => self.message.expiry_s = Some(inner.four_bytes()?),
            0x03 => self.message.content_type = Some(inner.text()?),
            0x08 => self.message.response_topic = Some(inner.text()?),
            0x09 => self.message.correlation_data = Some(inner.binary()?),
            0x0B => {
                let number = NonZeroU32::new(inner.variable()?);
                let number = number.ok_or(Error::Malformed("subscription identifier is zero"))?;
                self.subscription_identifiers.push(number);
            }
            0x11 => self.session_expiry_s = Some(inner.four_bytes()?),
            0x12 => self.assigned_client_id = Some(inner.text()?),
            0x13 => self.server_keep_alive_s = Some(inner.two_bytes()?),
            0x1A => self.response_information = Some(inner.text()?),
            0x1F => self.reason_string = Some(inner.text()?),
            0x21 => {
                let number = NonZeroU16::new(inner.two_bytes()?);
                self.receive_max = Some(number.ok_or(Error::Malformed("receive maximum is zero"))?);
            }
            0x22 => self.topic_alias_max = inner.two_bytes()?,
            0x23 => {
                let number = NonZeroU16::new(inner.two_bytes()?);
                self.topic_alias = Some(number.ok_or(Error::Malformed("topic alias is zero"))?);
            }
            0x26 => {
                let pair = (inner.text()?, inner.text()?);
                self.message.user_properties.push(pair);
            }
            0x27 => self.packet_size_max = Some(inner.four_bytes()?),
            // Maximum QoS, Retain Available, and which kinds of subscriptions there are.
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(inner.byte()?),
            // Extended authentication and another server to use.
            0x15 | 0x16 | 0x1C => drop(inner.binary()?),
            _ => return Err(Error::Malformed("unknown property")),
        }
        Ok(())
    }
}
