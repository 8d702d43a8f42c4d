//! From packets of a client to bytes.

use bytes::{BufMut, BytesMut};

use crate::gateway::mqtt::wire::{
    ClientPacket, Connect, Delivery, Disconnect, EncodeError, Message, MessageProperties, Publish,
    Qos, Reason, Subscribe, Unsubscribe, Version, Will,
};

/// Largest number that a Variable Byte Integer holds.
const VARIABLE_MAX: usize = 268_435_455;

/// Appends `packet` to `out`. A CONNECT is written in the version it names, everything else in
/// `version`. What a version has no room for is left out, as properties are before MQTT 5.
///
/// # Errors
/// When a text or the packet is longer than MQTT can express; `out` is then as it was.
pub fn encode(
    packet: &ClientPacket,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let is_v5 = version == Version::V5;
    let mut body = BytesMut::new();
    let first = match packet {
        ClientPacket::Connect(packet) => connect(packet, &mut body).map(|()| 0x10)?,
        ClientPacket::Publish(packet) => publish(packet, is_v5, &mut body)?,
        ClientPacket::PublishAck { packet_id, reason } => {
            body.put_u16(packet_id.get());
            if is_v5 && *reason != Reason::Success {
                body.put_u8(reason.code());
            }
            0x40
        }
        ClientPacket::Subscribe(packet) => subscribe(packet, is_v5, &mut body).map(|()| 0x82)?,
        ClientPacket::Unsubscribe(packet) => {
            unsubscribe(packet, is_v5, &mut body).map(|()| 0xA2)?
        }
        ClientPacket::PingRequest => 0xC0,
        ClientPacket::Disconnect(packet) => disconnect(packet, is_v5, &mut body).map(|()| 0xE0)?,
    };
    if body.len() > VARIABLE_MAX {
        return Err(EncodeError::TooLong);
    }
    out.put_u8(first);
    put_variable(out, body.len())?;
    out.put_slice(&body);
    Ok(())
}

fn connect(packet: &Connect, out: &mut BytesMut) -> Result<(), EncodeError> {
    let (name, level) = match packet.version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    put_binary(out, name.as_bytes())?;
    out.put_u8(level);
    out.put_u8(connect_flags(packet));
    out.put_u16(packet.keep_alive_s);
    if packet.version == Version::V5 {
        put_properties(out, |out| connect_properties(packet, out))?;
    }
    put_binary(out, packet.client_id.as_bytes())?;
    if let Some(will) = &packet.will {
        if packet.version == Version::V5 {
            put_properties(out, |out| will_properties(will, out))?;
        }
        put_binary(out, will.message.topic.as_bytes())?;
        put_binary(out, &will.message.payload)?;
    }
    if let Some(username) = &packet.username {
        put_binary(out, username.as_bytes())?;
    }
    if let Some(password) = &packet.password {
        put_binary(out, password)?;
    }
    Ok(())
}

fn connect_flags(packet: &Connect) -> u8 {
    let mut flags = u8::from(packet.clean_start) << 1;
    if let Some(will) = &packet.will {
        flags |= 0b100 | qos_bits(will.qos) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(packet.password.is_some()) << 6;
    flags | u8::from(packet.username.is_some()) << 7
}

fn connect_properties(packet: &Connect, out: &mut BytesMut) -> Result<(), EncodeError> {
    if packet.session_expiry_s > 0 {
        out.put_u8(0x11);
        out.put_u32(packet.session_expiry_s);
    }
    if let Some(method) = &packet.authentication_method {
        out.put_u8(0x15);
        put_binary(out, method.as_bytes())?;
    }
    if !packet.request_problem_information {
        out.put_slice(&[0x17, 0]);
    }
    if packet.request_response_information {
        out.put_slice(&[0x19, 1]);
    }
    if let Some(count) = packet.receive_max {
        out.put_u8(0x21);
        out.put_u16(count.get());
    }
    if packet.topic_alias_max > 0 {
        out.put_u8(0x22);
        out.put_u16(packet.topic_alias_max);
    }
    if let Some(bytes) = packet.packet_size_max {
        out.put_u8(0x27);
        out.put_u32(bytes.get());
    }
    put_user_properties(out, &packet.user_properties)
}

fn will_properties(will: &Will, out: &mut BytesMut) -> Result<(), EncodeError> {
    if will.delay_s > 0 {
        out.put_u8(0x18);
        out.put_u32(will.delay_s);
    }
    message_properties(&will.message, out)
}

fn publish(packet: &Publish, is_v5: bool, out: &mut BytesMut) -> Result<u8, EncodeError> {
    put_binary(out, packet.message.topic.as_bytes())?;
    let mut first = 0x30 | u8::from(packet.retain);
    if let Delivery::AtLeastOnce {
        packet_id,
        duplicate,
    } = packet.delivery
    {
        first |= 0b0010 | u8::from(duplicate) << 3;
        out.put_u16(packet_id.get());
    }
    if is_v5 {
        put_properties(out, |out| {
            if let Some(alias) = packet.topic_alias {
                out.put_u8(0x23);
                out.put_u16(alias.get());
            }
            message_properties(&packet.message, out)
        })?;
    }
    out.put_slice(&packet.message.payload);
    Ok(first)
}

fn message_properties(message: &Message, out: &mut BytesMut) -> Result<(), EncodeError> {
    let Some(properties) = message.properties.as_deref() else {
        return Ok(());
    };
    let MessageProperties {
        payload_is_utf8,
        expiry_s,
        content_type,
        response_topic,
        correlation_data,
        user_properties,
    } = properties;
    if *payload_is_utf8 {
        out.put_slice(&[0x01, 1]);
    }
    if let Some(seconds) = expiry_s {
        out.put_u8(0x02);
        out.put_u32(*seconds);
    }
    for (identifier, text) in [(0x03, content_type), (0x08, response_topic)] {
        if let Some(text) = text {
            out.put_u8(identifier);
            put_binary(out, text.as_bytes())?;
        }
    }
    if let Some(data) = correlation_data {
        out.put_u8(0x09);
        put_binary(out, data)?;
    }
    put_user_properties(out, user_properties)
}

fn subscribe(packet: &Subscribe, is_v5: bool, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u16(packet.packet_id.get());
    if is_v5 {
        put_properties(out, |out| match packet.identifier {
            None => Ok(()),
            Some(identifier) => {
                out.put_u8(0x0B);
                put_variable(out, identifier.get() as usize)
            }
        })?;
    }
    for filter in &packet.filters {
        put_binary(out, filter.filter.as_bytes())?;
        let no_local = u8::from(filter.no_local && is_v5) << 2;
        out.put_u8(qos_bits(filter.qos) | no_local);
    }
    Ok(())
}

fn unsubscribe(packet: &Unsubscribe, is_v5: bool, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u16(packet.packet_id.get());
    if is_v5 {
        out.put_u8(0);
    }
    for filter in &packet.filters {
        put_binary(out, filter.as_bytes())?;
    }
    Ok(())
}

fn disconnect(packet: &Disconnect, is_v5: bool, out: &mut BytesMut) -> Result<(), EncodeError> {
    let Disconnect {
        reason,
        session_expiry_s,
        reason_string,
    } = packet;
    let has_properties = session_expiry_s.is_some() || reason_string.is_some();
    if !is_v5 || (*reason == Reason::Success && !has_properties) {
        return Ok(());
    }
    out.put_u8(reason.code());
    if !has_properties {
        return Ok(());
    }
    put_properties(out, |out| {
        if let Some(seconds) = session_expiry_s {
            out.put_u8(0x11);
            out.put_u32(*seconds);
        }
        if let Some(text) = reason_string {
            out.put_u8(0x1F);
            put_binary(out, text.as_bytes())?;
        }
        Ok(())
    })
}

/// Writes what `write` writes, with its length before it.
fn put_properties(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut properties = BytesMut::new();
    write(&mut properties)?;
    put_variable(out, properties.len())?;
    out.put_slice(&properties);
    Ok(())
}

fn put_user_properties<T: AsRef<[u8]>>(
    out: &mut BytesMut,
    properties: &[(T, T)],
) -> Result<(), EncodeError> {
    for (name, value) in properties {
        out.put_u8(0x26);
        put_binary(out, name.as_ref())?;
        put_binary(out, value.as_ref())?;
    }
    Ok(())
}

/// Text or binary data with its length.
fn put_binary(out: &mut BytesMut, bytes: &[u8]) -> Result<(), EncodeError> {
    let length = u16::try_from(bytes.len()).map_err(|_| EncodeError::TooLong)?;
    out.put_u16(length);
    out.put_slice(bytes);
    Ok(())
}

/// A Variable Byte Integer.
fn put_variable(out: &mut BytesMut, mut value: usize) -> Result<(), EncodeError> {
    if value > VARIABLE_MAX {
        return Err(EncodeError::TooLong);
    }
    loop {
        // Seven bits always fit.
        let low = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            out.put_u8(low);
            return Ok(());
        }
        out.put_u8(low | 0x80);
    }
}

fn qos_bits(qos: Qos) -> u8 {
    match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => 1,
    }
}
