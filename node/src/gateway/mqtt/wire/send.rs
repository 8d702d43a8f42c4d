//! From our packets to bytes.

use std::num::NonZeroU16;

use bytes::BytesMut;
use bytestring::ByteString;
use rmqtt_codec::{types, v3, v5};
use tokio_util::codec::Encoder as _;

use super::error::EncodeError;
use super::length::{publish_len, sent_expiry};
use super::packet::{ConnectAck, Delivery, Grant, Publish, Qos, ServerPacket, Version};
use super::reason::Reason;

/// Appends `packet` to `out`.
///
/// # Errors
/// When the packet cannot be expressed in `version`; `out` is then as it was.
pub fn encode(
    packet: &ServerPacket,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if let ServerPacket::Publish(publish) = packet {
        // Beyond what it can express, the codec panics.
        publish_len(publish, version)?;
    }
    let before = out.len();
    let written = if version == Version::V5 {
        // The codec's own size limit is not used: it underflows for small ones.
        v5::Codec::new(0, 0).encode(to_v5(packet)?, out)
    } else {
        v3::Codec::new(0).encode(to_v3(packet, version)?, out)
    };
    written.map_err(|_| {
        out.truncate(before);
        EncodeError::TooLong
    })
}

/// Bytes that [`encode`] would write, found by writing.
///
/// # Errors
/// As [`encode`].
pub fn encoded_len(packet: &ServerPacket, version: Version) -> Result<usize, EncodeError> {
    if let ServerPacket::Publish(publish) = packet {
        return publish_len(publish, version);
    }
    let mut scratch = BytesMut::new();
    encode(packet, version, &mut scratch)?;
    Ok(scratch.len())
}

fn to_v3(packet: &ServerPacket, version: Version) -> Result<v3::Packet, EncodeError> {
    Ok(match packet {
        ServerPacket::ConnectAck(ack) => {
            let code = ack
                .reason
                .connect_return_code()
                .ok_or(EncodeError::NotInVersion)?;
            v3::Packet::ConnectAck(v3::ConnectAck {
                return_code: code.try_into().map_err(|_| EncodeError::NotInVersion)?,
                // In 3.1 this byte is reserved.
                session_present: ack.session_present && version == Version::V311,
            })
        }
        ServerPacket::Publish(publish) => {
            v3::Packet::Publish(Box::new(publish_to(publish, version)))
        }
        ServerPacket::PublishAck { packet_id, .. } => v3::Packet::PublishAck {
            packet_id: *packet_id,
        },
        ServerPacket::SubscribeAck { packet_id, grants } => v3::Packet::SubscribeAck {
            packet_id: *packet_id,
            status: grants
                .iter()
                .map(|grant| match grant {
                    Ok(qos) => v3::SubscribeReturnCode::Success(codec_qos(*qos)),
                    Err(_) => v3::SubscribeReturnCode::Failure,
                })
                .collect(),
        },
        ServerPacket::UnsubscribeAck { packet_id, .. } => v3::Packet::UnsubscribeAck {
            packet_id: *packet_id,
        },
        ServerPacket::PingResponse => v3::Packet::PingResponse,
        ServerPacket::Disconnect(_) => return Err(EncodeError::NotInVersion),
    })
}

fn to_v5(packet: &ServerPacket) -> Result<v5::Packet, EncodeError> {
    Ok(match packet {
        ServerPacket::ConnectAck(ack) => v5::Packet::ConnectAck(Box::new(connect_ack_to_v5(ack)?)),
        ServerPacket::Publish(publish) => {
            v5::Packet::Publish(Box::new(publish_to(publish, Version::V5)))
        }
        ServerPacket::PublishAck { packet_id, reason } => v5::Packet::PublishAck(v5::PublishAck {
            packet_id: *packet_id,
            reason_code: code_or(*reason, v5::PublishAckReason::UnspecifiedError),
            properties: Vec::new(),
            reason_string: None,
        }),
        ServerPacket::SubscribeAck { packet_id, grants } => {
            v5::Packet::SubscribeAck(v5::SubscribeAck {
                packet_id: *packet_id,
                properties: Vec::new(),
                reason_string: None,
                status: grants.iter().map(subscribe_code).collect(),
            })
        }
        ServerPacket::UnsubscribeAck { packet_id, reasons } => {
            let code =
                |reason: &Reason| code_or(*reason, v5::UnsubscribeAckReason::UnspecifiedError);
            v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
                packet_id: *packet_id,
                properties: Vec::new(),
                reason_string: None,
                status: reasons.iter().map(code).collect(),
            })
        }
        ServerPacket::PingResponse => v5::Packet::PingResponse,
        ServerPacket::Disconnect(notice) => v5::Packet::Disconnect(v5::Disconnect {
            reason_code: code_or(notice.reason, v5::DisconnectReasonCode::UnspecifiedError),
            session_expiry_interval_secs: None,
            server_reference: None,
            reason_string: short(notice.reason_string.as_ref())?,
            user_properties: Vec::new(),
        }),
    })
}

fn connect_ack_to_v5(ack: &ConnectAck) -> Result<v5::ConnectAck, EncodeError> {
    let mut packet = v5::ConnectAck {
        session_present: ack.session_present,
        reason_code: code_or(ack.reason, v5::ConnectAckReason::UnspecifiedError),
        reason_string: short(ack.reason_string.as_ref())?,
        ..v5::ConnectAck::default()
    };
    if ack.reason == Reason::Success {
        packet.session_expiry_interval_secs = ack.session_expiry_s;
        packet.receive_max = ack.receive_max.unwrap_or(NonZeroU16::MAX);
        packet.max_qos = types::QoS::AtLeastOnce;
        packet.max_packet_size = ack.packet_size_max;
        packet.assigned_client_id = short(ack.assigned_client_id.as_ref())?;
        packet.topic_alias_max = ack.topic_alias_max;
        packet.retain_available = false;
        packet.shared_subscription_available = false;
        packet.server_keepalive_sec = ack.server_keep_alive_s;
        packet.response_info = short(ack.response_information.as_ref())?;
    }
    Ok(packet)
}

fn publish_to(publish: &Publish, version: Version) -> types::Publish {
    let (qos, packet_id, dup) = match publish.delivery {
        Delivery::AtMostOnce => (types::QoS::AtMostOnce, None, false),
        Delivery::AtLeastOnce {
            packet_id,
            duplicate,
        } => (types::QoS::AtLeastOnce, Some(packet_id), duplicate),
    };
    types::Publish {
        dup,
        retain: publish.retain,
        qos,
        topic: publish.message.topic.clone(),
        packet_id,
        payload: publish.message.payload.clone(),
        properties: (version == Version::V5).then(|| publish_properties(publish)),
    }
}

fn publish_properties(publish: &Publish) -> v5::PublishProperties {
    let mut sent = v5::PublishProperties {
        topic_alias: publish.topic_alias,
        subscription_ids: publish.subscription_identifiers.clone(),
        ..v5::PublishProperties::default()
    };
    if let Some(properties) = &publish.message.properties {
        sent.is_utf8_payload = properties.payload_is_utf8;
        sent.message_expiry_interval = properties.expiry_s.map(sent_expiry);
        sent.content_type.clone_from(&properties.content_type);
        sent.response_topic.clone_from(&properties.response_topic);
        sent.correlation_data
            .clone_from(&properties.correlation_data);
        sent.user_properties.clone_from(&properties.user_properties);
    }
    sent
}

fn subscribe_code(grant: &Grant) -> v5::SubscribeAckReason {
    match grant {
        Ok(Qos::AtMostOnce) => v5::SubscribeAckReason::GrantedQos0,
        Ok(Qos::AtLeastOnce) => v5::SubscribeAckReason::GrantedQos1,
        Err(reason) if reason.is_failure() => {
            code_or(*reason, v5::SubscribeAckReason::UnspecifiedError)
        }
        Err(_) => v5::SubscribeAckReason::UnspecifiedError,
    }
}

fn codec_qos(qos: Qos) -> types::QoS {
    match qos {
        Qos::AtMostOnce => types::QoS::AtMostOnce,
        Qos::AtLeastOnce => types::QoS::AtLeastOnce,
    }
}

/// The code in the form of one packet, or `otherwise` when that packet does not have it.
fn code_or<T: TryFrom<u8>>(reason: Reason, otherwise: T) -> T {
    T::try_from(reason.code()).unwrap_or(otherwise)
}

/// A text that fits its length field.
fn short(text: Option<&ByteString>) -> Result<Option<ByteString>, EncodeError> {
    match text {
        Some(text) if text.len() > usize::from(u16::MAX) => Err(EncodeError::TooLong),
        text => Ok(text.cloned()),
    }
}
