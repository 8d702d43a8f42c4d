//! The packets of a server, read from their bytes.

use super::Error;
use super::properties::Properties;
use super::reader::Reader;
use crate::gateway::mqtt::wire::{
    ConnectAck, Delivery, DisconnectNotice, Grant, Message, Publish, Qos, Reason, ServerPacket,
    Version,
};

const CONNECT_ACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBLISH_ACK: u8 = 4;
const SUBSCRIBE_ACK: u8 = 9;
const UNSUBSCRIBE_ACK: u8 = 11;
const PING_RESPONSE: u8 = 13;
const DISCONNECT: u8 = 14;

/// Type and flags of a packet, as its first byte has them.
pub(super) fn check_first(first: u8, version: Version) -> Result<(), Error> {
    let flags = first & 0x0F;
    match first >> 4 {
        PUBLISH => match (flags >> 1) & 0b11 {
            0 | 1 => Ok(()),
            _ => Err(Error::Malformed(
                "PUBLISH with a QoS that was not asked for",
            )),
        },
        CONNECT_ACK | PUBLISH_ACK | SUBSCRIBE_ACK | UNSUBSCRIBE_ACK | PING_RESPONSE
            if flags == 0 =>
        {
            Ok(())
        }
        DISCONNECT if flags == 0 && version == Version::V5 => Ok(()),
        _ => Err(Error::Malformed("packet that a server does not send")),
    }
}

/// Reads the packet whose first byte is `first` and has been checked.
pub(super) fn read(first: u8, body: Reader, version: Version) -> Result<ServerPacket, Error> {
    match first >> 4 {
        CONNECT_ACK => connect_ack(body, version),
        PUBLISH => publish(first, body, version),
        PUBLISH_ACK => publish_ack(body, version),
        SUBSCRIBE_ACK => subscribe_ack(body, version),
        UNSUBSCRIBE_ACK => unsubscribe_ack(body, version),
        DISCONNECT => disconnect(body),
        _ => body.expect_end().map(|()| ServerPacket::PingResponse),
    }
}

fn connect_ack(mut body: Reader, version: Version) -> Result<ServerPacket, Error> {
    let flags = body.byte()?;
    let code = body.byte()?;
    let mut ack = ConnectAck::refusal(if version == Version::V5 {
        reason(code)?
    } else {
        return_code(code)?
    });
    // In 3.1 this byte is reserved.
    ack.session_present = flags & 1 != 0 && version != Version::V31;
    if version == Version::V5 {
        let properties = Properties::read(&mut body)?;
        ack.session_expiry_s = properties.session_expiry_s;
        ack.receive_max = properties.receive_max;
        ack.packet_size_max = properties.packet_size_max;
        ack.assigned_client_id = properties.assigned_client_id;
        ack.topic_alias_max = properties.topic_alias_max;
        ack.server_keep_alive_s = properties.server_keep_alive_s;
        ack.response_information = properties.response_information;
        ack.reason_string = properties.reason_string;
    }
    body.expect_end()?;
    Ok(ServerPacket::ConnectAck(Box::new(ack)))
}

fn publish(first: u8, mut body: Reader, version: Version) -> Result<ServerPacket, Error> {
    let topic = body.text()?;
    let delivery = if first & 0b0010 == 0 {
        Delivery::AtMostOnce
    } else {
        Delivery::AtLeastOnce {
            packet_id: body.packet_id()?,
            duplicate: first & 0b1000 != 0,
        }
    };
    let properties = match version {
        Version::V5 => Properties::read(&mut body)?,
        _ => Properties::default(),
    };
    Ok(ServerPacket::Publish(Box::new(Publish {
        topic_alias: properties.topic_alias,
        subscription_identifiers: properties.subscription_identifiers,
        message: Message {
            topic,
            payload: body.take_rest(),
            properties: (properties.message != <_>::default())
                .then(|| Box::new(properties.message)),
        },
        delivery,
        retain: first & 1 != 0,
    })))
}

fn publish_ack(mut body: Reader, version: Version) -> Result<ServerPacket, Error> {
    let packet_id = body.packet_id()?;
    let mut result = Reason::Success;
    if version == Version::V5 && !body.is_at_end() {
        result = reason(body.byte()?)?;
        if !body.is_at_end() {
            Properties::read(&mut body)?;
        }
    }
    body.expect_end()?;
    Ok(ServerPacket::PublishAck {
        packet_id,
        reason: result,
    })
}

fn subscribe_ack(mut body: Reader, version: Version) -> Result<ServerPacket, Error> {
    let packet_id = body.packet_id()?;
    if version == Version::V5 {
        Properties::read(&mut body)?;
    }
    let codes = body.take_rest();
    let grants = codes.iter().map(|code| grant(*code, version));
    let grants = grants.collect::<Result<Vec<Grant>, Error>>()?;
    Ok(ServerPacket::SubscribeAck { packet_id, grants })
}

fn grant(code: u8, version: Version) -> Result<Grant, Error> {
    match code {
        0 => Ok(Ok(Qos::AtMostOnce)),
        1 | 2 => Ok(Ok(Qos::AtLeastOnce)),
        0x80.. if version == Version::V5 => Ok(Err(reason(code)?)),
        0x80 => Ok(Err(Reason::UnspecifiedError)),
        _ => Err(Error::Malformed("unknown code in SUBACK")),
    }
}

fn unsubscribe_ack(mut body: Reader, version: Version) -> Result<ServerPacket, Error> {
    let packet_id = body.packet_id()?;
    let mut reasons = Vec::new();
    if version == Version::V5 {
        Properties::read(&mut body)?;
        let codes = body.take_rest();
        reasons = codes
            .iter()
            .map(|code| reason(*code))
            .collect::<Result<_, _>>()?;
    }
    body.expect_end()?;
    Ok(ServerPacket::UnsubscribeAck { packet_id, reasons })
}

fn disconnect(mut body: Reader) -> Result<ServerPacket, Error> {
    let mut notice = DisconnectNotice {
        reason: Reason::Success,
        reason_string: None,
    };
    if !body.is_at_end() {
        notice.reason = reason(body.byte()?)?;
        if !body.is_at_end() {
            notice.reason_string = Properties::read(&mut body)?.reason_string;
        }
    }
    body.expect_end()?;
    Ok(ServerPacket::Disconnect(notice))
}

/// The reason with this code. A failure that is not in our list is a failure still.
fn reason(code: u8) -> Result<Reason, Error> {
    match Reason::from_code(code) {
        Some(reason) => Ok(reason),
        None if code >= 0x80 => Ok(Reason::UnspecifiedError),
        None => Err(Error::Malformed("unknown reason code")),
    }
}

/// The return code of a CONNACK before MQTT 5 (3.1.1, section 3.2.2.3).
fn return_code(code: u8) -> Result<Reason, Error> {
    match code {
        0 => Ok(Reason::Success),
        1 => Ok(Reason::UnsupportedProtocolVersion),
        2 => Ok(Reason::ClientIdentifierNotValid),
        3 => Ok(Reason::ServerUnavailable),
        4 => Ok(Reason::BadUserNameOrPassword),
        5 => Ok(Reason::NotAuthorized),
        _ => Err(Error::Malformed("unknown return code in CONNACK")),
    }
}
