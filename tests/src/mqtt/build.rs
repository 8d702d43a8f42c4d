//! The packets of a client, byte for byte.

use super::Version;
use super::properties::Properties;

/// A Variable Byte Integer in its shortest form.
pub fn variable(mut value: u32) -> Vec<u8> {
    let mut encoded = Vec::new();
    loop {
        let group = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            encoded.push(group);
            return encoded;
        }
        encoded.push(group | 0x80);
    }
}

/// A text or bytes with their length in front.
pub fn text(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u16::try_from(content.len()).expect("texts of tests fit");
    [&length.to_be_bytes()[..], content].concat()
}

/// A packet of this first byte and these parts, whatever they are.
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).expect("packets of tests fit");
    [&[first][..], &variable(length), &body].concat()
}

/// A CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Protocol version.
    pub version: Version,
    /// Client identifier.
    pub client_id: String,
    /// Clean Session, or Clean Start.
    pub clean: bool,
    /// Keep Alive in seconds.
    pub keep_alive_s: u16,
    /// MQTT 5 only.
    pub properties: Properties,
    /// Will message.
    pub will: Option<Will>,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
}

/// A will message.
#[derive(Clone, Debug, Default)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS, 3 included.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// MQTT 5 only.
    pub properties: Properties,
}

impl Will {
    /// A will of QoS 1.
    pub fn new(topic: &str, payload: &str) -> Will {
        Will {
            topic: topic.to_owned(),
            payload: payload.into(),
            qos: 1,
            ..Will::default()
        }
    }
}

impl Connect {
    /// A clean session with a keep-alive of a minute.
    pub fn new(version: Version, client_id: &str) -> Connect {
        Connect {
            version,
            client_id: client_id.to_owned(),
            clean: true,
            keep_alive_s: 60,
            properties: Properties::new(),
            will: None,
            user: None,
            password: None,
        }
    }

    /// A session that is continued and outlives the connection by an hour or more.
    pub fn durable(version: Version, client_id: &str) -> Connect {
        let properties = Properties::new().four(super::property::SESSION_EXPIRY, 3600);
        Connect {
            clean: false,
            properties,
            ..Connect::new(version, client_id)
        }
    }

    /// The same with these properties.
    pub fn with_properties(self, properties: Properties) -> Connect {
        Connect { properties, ..self }
    }

    /// The same with a will.
    pub fn with_will(self, will: Will) -> Connect {
        Connect {
            will: Some(will),
            ..self
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        flags |= u8::from(self.user.is_some()) << 7;
        flags |= u8::from(self.password.is_some()) << 6;
        let is_v5 = self.version == Version::V5;
        let mut rest = text(&self.client_id);
        if let Some(will) = &self.will {
            flags |= 0b100;
            flags |= (will.qos & 0b11) << 3;
            flags |= u8::from(will.retain) << 5;
            if is_v5 {
                rest.extend(will.properties.encode());
            }
            rest.extend(text(&will.topic));
            rest.extend(text(&will.payload));
        }
        rest.extend(self.user.iter().flat_map(text));
        rest.extend(self.password.iter().flat_map(text));
        let properties = is_v5.then(|| self.properties.encode());
        let head = [&text("MQTT")[..], &[self.version.level(), flags]].concat();
        let keep_alive = self.keep_alive_s.to_be_bytes();
        let properties = properties.unwrap_or_default();
        packet(0x10, &[&head, &keep_alive, &properties, &rest])
    }
}

/// A PUBLISH.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS, 3 included.
    pub qos: u8,
    /// Written with any QoS but 0.
    pub packet_id: u16,
    /// DUP.
    pub duplicate: bool,
    /// RETAIN.
    pub retain: bool,
    /// MQTT 5 only.
    pub properties: Properties,
}

impl Publish {
    /// A message of this QoS; [`super::Client::publish`] gives it its packet identifier.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> Publish {
        Publish {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos,
            ..Publish::default()
        }
    }

    /// The same with these properties.
    pub fn with_properties(self, properties: Properties) -> Publish {
        Publish { properties, ..self }
    }

    /// The bytes.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut flags = u8::from(self.duplicate) << 3;
        flags |= (self.qos & 0b11) << 1;
        flags |= u8::from(self.retain);
        let mut head = text(&self.topic);
        if self.qos != 0 {
            head.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        if version == Version::V5 {
            head.extend(self.properties.encode());
        }
        packet(0x30 | flags, &[&head, &self.payload])
    }
}

/// A SUBSCRIBE of filters with their options.
pub fn subscribe(
    version: Version,
    packet_id: u16,
    filters: &[(&str, u8)],
    properties: &Properties,
) -> Vec<u8> {
    let mut rest = Vec::new();
    for (filter, options) in filters {
        rest.extend(text(filter));
        rest.push(*options);
    }
    request(version, 0x82, packet_id, properties, &rest)
}

/// An UNSUBSCRIBE.
pub fn unsubscribe(version: Version, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let rest: Vec<u8> = filters.iter().flat_map(text).collect();
    request(version, 0xA2, packet_id, &Properties::new(), &rest)
}

fn request(
    version: Version,
    first: u8,
    packet_id: u16,
    properties: &Properties,
    rest: &[u8],
) -> Vec<u8> {
    let properties = version.pick(Vec::new(), properties.encode());
    packet(first, &[&packet_id.to_be_bytes(), &properties, rest])
}

/// A PUBACK of success.
pub fn puback(packet_id: u16) -> Vec<u8> {
    packet(0x40, &[&packet_id.to_be_bytes()])
}

/// A PINGREQ.
pub fn pingreq() -> Vec<u8> {
    packet(0xC0, &[])
}

/// A DISCONNECT that says that all is well.
pub fn disconnect() -> Vec<u8> {
    packet(0xE0, &[])
}

/// A DISCONNECT of MQTT 5.
pub fn disconnect_because(reason: u8, properties: &Properties) -> Vec<u8> {
    packet(0xE0, &[&[reason], &properties.encode()])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the examples in the specification; a wrong builder would test the wrong thing.
    #[test]
    fn writes_the_bytes_of_the_specification() {
        assert_eq!(variable(0), [0]);
        assert_eq!(variable(127), [0x7F]);
        assert_eq!(variable(128), [0x80, 1]);
        assert_eq!(variable(268_435_455), [0xFF, 0xFF, 0xFF, 0x7F]);
        let connect = Connect::new(Version::V311, "a").encode();
        let wanted = [
            0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'a',
        ];
        assert_eq!(connect, wanted);
        let mut connect = Connect::durable(Version::V5, "a").with_will(Will::new("w", "x"));
        connect.user = Some("u".to_owned());
        let bytes = connect.encode();
        assert_eq!(bytes[9], 0b1000_1100);
        assert_eq!(bytes[12..18], [5, 0x11, 0, 0, 0x0E, 0x10]);
        assert_eq!(
            bytes[18..],
            [0, 1, b'a', 0, 0, 1, b'w', 0, 1, b'x', 0, 1, b'u']
        );
        let mut publish = Publish::new("a/b", "x", 1);
        publish.packet_id = 10;
        publish.duplicate = true;
        let wanted = [0x3A, 8, 0, 3, b'a', b'/', b'b', 0, 10, b'x'];
        assert_eq!(publish.encode(Version::V311), wanted);
        let wanted = [0x82, 6, 0, 7, 0, 1, b'a', 1];
        let none = Properties::new();
        assert_eq!(subscribe(Version::V311, 7, &[("a", 1)], &none), wanted);
        assert_eq!(
            unsubscribe(Version::V5, 7, &["a"]),
            [0xA2, 6, 0, 7, 0, 0, 1, b'a']
        );
    }
}
