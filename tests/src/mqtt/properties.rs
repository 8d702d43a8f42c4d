//! The properties of MQTT 5 (section 2.2.2), written and read.

use anyhow::{Result, bail};

use super::build;
use super::packet::Reader;

/// Identifiers of properties.
pub mod property {
    /// Payload Format Indicator.
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    /// Message Expiry Interval in seconds.
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    /// Content Type.
    pub const CONTENT_TYPE: u8 = 0x03;
    /// Response Topic.
    pub const RESPONSE_TOPIC: u8 = 0x08;
    /// Correlation Data.
    pub const CORRELATION_DATA: u8 = 0x09;
    /// Subscription Identifier.
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    /// Session Expiry Interval in seconds.
    pub const SESSION_EXPIRY: u8 = 0x11;
    /// Assigned Client Identifier.
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    /// Server Keep Alive in seconds.
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    /// Authentication Method.
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    /// Will Delay Interval in seconds.
    pub const WILL_DELAY: u8 = 0x18;
    /// Receive Maximum.
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    /// Topic Alias Maximum.
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    /// Topic Alias.
    pub const TOPIC_ALIAS: u8 = 0x23;
    /// Maximum QoS.
    pub const MAXIMUM_QOS: u8 = 0x24;
    /// Retain Available.
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    /// User Property.
    pub const USER: u8 = 0x26;
    /// Maximum Packet Size in bytes.
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    /// Shared Subscription Available.
    pub const SHARED_AVAILABLE: u8 = 0x2A;
}

/// The value of a property, in the form in which it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Byte.
    Byte(u8),
    /// Two Byte Integer.
    Two(u16),
    /// Four Byte Integer.
    Four(u32),
    /// Variable Byte Integer.
    Variable(u32),
    /// UTF-8 Encoded String.
    Text(String),
    /// Binary Data.
    Binary(Vec<u8>),
    /// UTF-8 String Pair.
    Pair(String, String),
}

impl Value {
    fn number(&self) -> Option<u32> {
        match self {
            Value::Byte(number) => Some(u32::from(*number)),
            Value::Two(number) => Some(u32::from(*number)),
            Value::Four(number) | Value::Variable(number) => Some(*number),
            Value::Text(_) | Value::Binary(_) | Value::Pair(..) => None,
        }
    }
}

/// Properties in their order, repeated and misplaced ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    items: Vec<(u8, Value)>,
}

impl Properties {
    /// None.
    pub fn new() -> Properties {
        Properties::default()
    }

    /// One more.
    pub fn with(mut self, identifier: u8, value: Value) -> Properties {
        self.items.push((identifier, value));
        self
    }

    /// One more, of a number of one byte.
    pub fn byte(self, identifier: u8, value: u8) -> Properties {
        self.with(identifier, Value::Byte(value))
    }

    /// One more, of a number of two bytes.
    pub fn two(self, identifier: u8, value: u16) -> Properties {
        self.with(identifier, Value::Two(value))
    }

    /// One more, of a number of four bytes.
    pub fn four(self, identifier: u8, value: u32) -> Properties {
        self.with(identifier, Value::Four(value))
    }

    /// One more, of a number of variable length.
    pub fn variable(self, identifier: u8, value: u32) -> Properties {
        self.with(identifier, Value::Variable(value))
    }

    /// One more, of a text.
    pub fn text(self, identifier: u8, value: &str) -> Properties {
        self.with(identifier, Value::Text(value.to_owned()))
    }

    /// One more, of bytes.
    pub fn binary(self, identifier: u8, value: &[u8]) -> Properties {
        self.with(identifier, Value::Binary(value.to_vec()))
    }

    /// One more user property.
    pub fn user(self, name: &str, value: &str) -> Properties {
        let pair = Value::Pair(name.to_owned(), value.to_owned());
        self.with(property::USER, pair)
    }

    /// Whether a property is there.
    pub fn has(&self, identifier: u8) -> bool {
        self.items.iter().any(|(found, _)| *found == identifier)
    }

    /// All numbers of a property, in their order.
    pub fn numbers(&self, identifier: u8) -> Vec<u32> {
        let found = self.items.iter().filter(|(found, _)| *found == identifier);
        found.filter_map(|(_, value)| value.number()).collect()
    }

    /// The number of a property.
    pub fn number(&self, identifier: u8) -> Option<u32> {
        self.numbers(identifier).first().copied()
    }

    /// The text of a property.
    pub fn string(&self, identifier: u8) -> Option<&str> {
        self.items.iter().find_map(|(found, value)| match value {
            Value::Text(text) if *found == identifier => Some(text.as_str()),
            _ => None,
        })
    }

    /// The bytes of a property.
    pub fn bytes(&self, identifier: u8) -> Option<&[u8]> {
        self.items.iter().find_map(|(found, value)| match value {
            Value::Binary(bytes) if *found == identifier => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// User properties in their order.
    pub fn users(&self) -> Vec<(&str, &str)> {
        let pairs = self.items.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
            _ => None,
        });
        pairs.collect()
    }

    /// With the length in front, as a packet carries them.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (identifier, value) in &self.items {
            body.push(*identifier);
            match value {
                Value::Byte(number) => body.push(*number),
                Value::Two(number) => body.extend_from_slice(&number.to_be_bytes()),
                Value::Four(number) => body.extend_from_slice(&number.to_be_bytes()),
                Value::Variable(number) => body.extend(build::variable(*number)),
                Value::Text(text) => body.extend(build::text(text)),
                Value::Binary(bytes) => body.extend(build::text(bytes)),
                Value::Pair(name, value) => {
                    body.extend(build::text(name));
                    body.extend(build::text(value));
                }
            }
        }
        let length = u32::try_from(body.len()).expect("properties of tests are short");
        let mut encoded = build::variable(length);
        encoded.append(&mut body);
        encoded
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Properties> {
        let length = reader.variable()? as usize;
        let mut inner = Reader::new(reader.take(length)?);
        let mut properties = Properties::new();
        while !inner.is_at_end() {
            let identifier = inner.byte()?;
            let value = match identifier {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Value::Byte(inner.byte()?),
                0x13 | 0x21..=0x23 => Value::Two(inner.two()?),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Four(inner.four()?),
                0x0B => Value::Variable(inner.variable()?),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(inner.text()?),
                0x09 | 0x16 => Value::Binary(inner.binary()?.to_vec()),
                0x26 => Value::Pair(inner.text()?, inner.text()?),
                _ => bail!("property {identifier:#04x} does not exist"),
            };
            // Only these two may be repeated (section 2.2.2.2).
            let repeats = matches!(identifier, 0x0B | 0x26);
            if !repeats && properties.has(identifier) {
                bail!("property {identifier:#04x} comes twice");
            }
            properties = properties.with(identifier, value);
        }
        Ok(properties)
    }
}
