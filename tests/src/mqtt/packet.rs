//! What a server sends, read strictly: any deviation from the specification is an error.

use anyhow::{Context, Result, bail, ensure};

use super::Version;
use super::properties::{Properties, property};

/// A packet from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    ConnectAck(ConnectAck),
    /// PUBLISH.
    Publish(Message),
    /// PUBACK.
    PublishAck {
        /// Which PUBLISH.
        packet_id: u16,
        /// Reason; 0 in 3.1.1.
        reason: u8,
    },
    /// SUBACK.
    SubscribeAck {
        /// Which SUBSCRIBE.
        packet_id: u16,
        /// One for each filter.
        reasons: Vec<u8>,
    },
    /// UNSUBACK.
    UnsubscribeAck {
        /// Which UNSUBSCRIBE.
        packet_id: u16,
        /// One for each filter; none in 3.1.1.
        reasons: Vec<u8>,
    },
    /// PINGRESP.
    PingResponse,
    /// DISCONNECT, of MQTT 5.
    Disconnect {
        /// Why.
        reason: u8,
    },
}

/// A CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectAck {
    /// Session Present.
    pub session_present: bool,
    /// Return code of 3.1.1, reason code of 5.
    pub reason: u8,
    /// None in 3.1.1.
    pub properties: Properties,
}

/// A PUBLISH from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// 0 or 1.
    pub qos: u8,
    /// DUP.
    pub duplicate: bool,
    /// RETAIN.
    pub retain: bool,
    /// With QoS 1.
    pub packet_id: Option<u16>,
    /// None in 3.1.1.
    pub properties: Properties,
}

impl Message {
    /// The payload as text; wrong UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The payload as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.payload)
            .with_context(|| format!("{} carries {:?}", self.topic, self.text()))
    }
}

impl Packet {
    /// Takes one packet from the front of `bytes`; `None` while its end is missing.
    pub(super) fn take(bytes: &mut Vec<u8>, version: Version) -> Result<Option<Packet>> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let mut reader = Reader::new(rest);
        let Some(length) = reader.length()? else {
            return Ok(None);
        };
        let head = 1 + reader.position;
        let end = head + length;
        if bytes.len() < end {
            return Ok(None);
        }
        let mut body = Reader::new(&bytes[head..end]);
        let packet = Packet::read(*first, &mut body, version)
            .with_context(|| format!("server sent {:02x?}", &bytes[..end]))?;
        bytes.drain(..end);
        Ok(Some(packet))
    }

    fn read(first: u8, body: &mut Reader<'_>, version: Version) -> Result<Packet> {
        if first >> 4 == 3 {
            return Message::read(first & 0x0F, body, version).map(Packet::Publish);
        }
        ensure!(first & 0x0F == 0, "flags of a packet that has none");
        let packet = match first >> 4 {
            2 => Packet::ConnectAck(ConnectAck::read(body, version)?),
            4 => Packet::PublishAck {
                packet_id: body.packet_id()?,
                reason: read_reason(body, version)?,
            },
            9 => {
                let packet_id = body.packet_id()?;
                read_properties(body, version)?;
                let reasons = body.rest().to_vec();
                ensure!(!reasons.is_empty(), "SUBACK without reason");
                let codes_311 = [0, 1, 2, 0x80];
                let known = version == Version::V5
                    || reasons.iter().all(|reason| codes_311.contains(reason));
                ensure!(known, "SUBACK {reasons:02x?} in 3.1.1");
                Packet::SubscribeAck { packet_id, reasons }
            }
            11 => {
                let packet_id = body.packet_id()?;
                read_properties(body, version)?;
                let reasons = body.rest().to_vec();
                let expected = version == Version::V5;
                ensure!(reasons.is_empty() != expected, "UNSUBACK {reasons:02x?}");
                Packet::UnsubscribeAck { packet_id, reasons }
            }
            13 => Packet::PingResponse,
            14 if version == Version::V5 => Packet::Disconnect {
                reason: read_reason(body, version)?,
            },
            kind => bail!("packet type {kind} from a server"),
        };
        ensure!(body.is_at_end(), "bytes behind the end");
        Ok(packet)
    }
}

impl ConnectAck {
    /// The client identifier that the server assigned.
    pub fn assigned_id(&self) -> Option<&str> {
        self.properties.string(property::ASSIGNED_CLIENT_ID)
    }

    fn read(body: &mut Reader<'_>, version: Version) -> Result<ConnectAck> {
        let flags = body.byte()?;
        ensure!(flags & 0xFE == 0, "reserved flags {flags:#04x} of CONNACK");
        let reason = body.byte()?;
        let session_present = flags == 1;
        // [MQTT-3.2.2-6]
        ensure!(reason == 0 || !session_present, "refused with a session");
        Ok(ConnectAck {
            session_present,
            reason,
            properties: read_properties(body, version)?,
        })
    }
}

impl Message {
    fn read(flags: u8, body: &mut Reader<'_>, version: Version) -> Result<Message> {
        let qos = (flags >> 1) & 0b11;
        ensure!(qos < 2, "PUBLISH with QoS {qos}");
        let duplicate = flags & 0b1000 != 0;
        ensure!(!duplicate || qos == 1, "DUP with QoS 0");
        let topic = body.text()?;
        let packet_id = if qos == 1 {
            Some(body.packet_id()?)
        } else {
            None
        };
        let properties = read_properties(body, version)?;
        let is_name = !topic.is_empty() && !topic.contains(['+', '#']);
        ensure!(is_name, "{topic:?} is no topic name");
        // Nobody here allows aliases, so none may come [MQTT-3.3.2-10].
        ensure!(!properties.has(property::TOPIC_ALIAS), "topic alias");
        Ok(Message {
            topic,
            payload: body.rest().to_vec(),
            qos,
            duplicate,
            retain: flags & 1 != 0,
            packet_id,
            properties,
        })
    }
}

fn read_properties(body: &mut Reader<'_>, version: Version) -> Result<Properties> {
    match version {
        Version::V311 => Ok(Properties::new()),
        Version::V5 => Properties::read(body),
    }
}

/// Reason and properties, which MQTT 5 allows to leave out from the end.
fn read_reason(body: &mut Reader<'_>, version: Version) -> Result<u8> {
    if version == Version::V311 || body.is_at_end() {
        return Ok(0);
    }
    let reason = body.byte()?;
    if !body.is_at_end() {
        Properties::read(body)?;
    }
    Ok(reason)
}

/// A slice and how much of it has been read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..count).context("a field is cut off")?;
        self.position += count;
        Ok(taken)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        self.position = self.bytes.len();
        rest
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn two(&mut self) -> Result<u16> {
        let taken = self.take(2)?;
        Ok(u16::from_be_bytes([taken[0], taken[1]]))
    }

    pub(super) fn four(&mut self) -> Result<u32> {
        let taken = self.take(4)?;
        Ok(u32::from_be_bytes([taken[0], taken[1], taken[2], taken[3]]))
    }

    fn packet_id(&mut self) -> Result<u16> {
        let packet_id = self.two()?;
        ensure!(packet_id != 0, "packet identifier is zero");
        Ok(packet_id)
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8]> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        let text = std::str::from_utf8(self.binary()?)?;
        ensure!(!text.contains('\0'), "a text contains U+0000");
        Ok(text.to_owned())
    }

    pub(super) fn variable(&mut self) -> Result<u32> {
        let length = self.length()?.context("a number is cut off")?;
        Ok(u32::try_from(length)?)
    }

    /// A Variable Byte Integer; `None` while its end is missing.
    fn length(&mut self) -> Result<Option<usize>> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let Some(byte) = self.bytes.get(self.position) else {
                return Ok(None);
            };
            self.position += 1;
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                ensure!(
                    shift == 0 || *byte != 0,
                    "a number is not in its shortest form"
                );
                return Ok(Some(value));
            }
        }
        bail!("a number is longer than four bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], version: Version) -> Result<Option<Packet>> {
        Packet::take(&mut bytes.to_vec(), version)
    }

    /// A reader that takes wrong packets would hide faults of the server.
    #[test]
    fn reads_what_is_right_and_nothing_else() {
        let connack = read(&[0x20, 2, 1, 0], Version::V311).unwrap().unwrap();
        let wanted = ConnectAck {
            session_present: true,
            reason: 0,
            properties: Properties::new(),
        };
        assert_eq!(connack, Packet::ConnectAck(wanted));
        let bytes = [0x32, 10, 0, 1, b'a', 0, 7, 2, 0x0B, 5, b'h', b'i'];
        let Some(Packet::Publish(message)) = read(&bytes, Version::V5).unwrap() else {
            panic!("no PUBLISH");
        };
        assert_eq!(
            (message.packet_id, message.text().as_str()),
            (Some(7), "hi")
        );
        let identifiers = message
            .properties
            .numbers(property::SUBSCRIPTION_IDENTIFIER);
        assert_eq!(identifiers, [5]);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end], Version::V5).unwrap(), None);
        }
        let wrong: [(&[u8], Version); 9] = [
            (&[0x20, 2, 1, 5], Version::V311),
            (&[0x20, 3, 0, 0, 0], Version::V311),
            (&[0x30, 4, 0, 2, b'a', b'#'], Version::V311),
            (&[0x38, 3, 0, 1, b'a'], Version::V311),
            (&[0x34, 5, 0, 1, b'a', 0, 1], Version::V311),
            (&[0x40, 2, 0, 0], Version::V311),
            (&[0x90, 3, 0, 1, 0x87], Version::V311),
            (&[0xE0, 0], Version::V311),
            (&[0xD0, 0x80, 0x80, 0x80, 0x80, 1], Version::V5),
        ];
        for (bytes, version) in wrong {
            assert!(read(bytes, version).is_err(), "{bytes:02x?}");
        }
    }
}
