//! From the codec's packets to ours. Everything here has passed `check`; what the codec refuses all
//! the same is malformed.

use bytes::BytesMut;
use rmqtt_codec::{types, v3, v5};
use tokio_util::codec::Decoder as _;

use super::error::Error;
use super::header::Kind;
use super::packet::{
    ClientPacket, Connect, Delivery, Disconnect, Message, MessageProperties, Publish, Qos,
    Subscribe, SubscribeFilter, Unsubscribe, Version, Will,
};
use super::reason::Reason;

const REFUSED: Error = Error::Malformed("unreadable");

/// Reads a packet in full, fixed header included.
pub(super) fn packet(
    kind: Kind,
    mut bytes: BytesMut,
    version: Version,
) -> Result<ClientPacket, Error> {
    if matches!(kind, Kind::Subscribe | Kind::Unsubscribe) {
        // DUP of MQTT 3.1, which the codec does not know.
        bytes[0] &= 0b1111_0111;
    }
    if version == Version::V5 {
        let decoded = v5::Codec::new(0, 0).decode(&mut bytes);
        let (packet, _) = decoded.map_err(|_| REFUSED)?.ok_or(REFUSED)?;
        from_v5(packet)
    } else {
        let decoded = v3::Codec::new(0).decode(&mut bytes);
        let (packet, _) = decoded.map_err(|_| REFUSED)?.ok_or(REFUSED)?;
        from_v3(packet, version)
    }
}

fn from_v3(packet: v3::Packet, version: Version) -> Result<ClientPacket, Error> {
    Ok(match packet {
        v3::Packet::Connect(connect) => {
            ClientPacket::Connect(Box::new(connect_from_v3(*connect, version)))
        }
        v3::Packet::Publish(publish) => ClientPacket::Publish(Box::new(publish_from(*publish)?)),
        v3::Packet::PublishAck { packet_id } => ClientPacket::PublishAck {
            packet_id,
            reason: Reason::Success,
        },
        v3::Packet::Subscribe {
            packet_id,
            topic_filters,
        } => ClientPacket::Subscribe(Subscribe {
            packet_id,
            identifier: None,
            filters: topic_filters
                .into_iter()
                .map(|(filter, qos)| SubscribeFilter {
                    filter,
                    qos: capped(qos),
                    no_local: false,
                })
                .collect(),
        }),
        v3::Packet::Unsubscribe {
            packet_id,
            topic_filters,
        } => ClientPacket::Unsubscribe(Unsubscribe {
            packet_id,
            filters: topic_filters,
        }),
        v3::Packet::PingRequest => ClientPacket::PingRequest,
        v3::Packet::Disconnect => ClientPacket::Disconnect(Disconnect {
            reason: Reason::Success,
            session_expiry_s: None,
            reason_string: None,
        }),
        _ => return Err(REFUSED),
    })
}

fn connect_from_v3(connect: v3::Connect, version: Version) -> Connect {
    Connect {
        version,
        client_id: connect.client_id,
        clean_start: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        username: connect.username,
        password: connect.password,
        will: connect.last_will.map(|will| {
            Box::new(Will {
                message: Message {
                    topic: will.topic,
                    payload: will.message,
                    properties: None,
                },
                qos: capped(will.qos),
                retain: will.retain,
                delay_s: 0,
            })
        }),
        session_expiry_s: 0,
        receive_max: None,
        packet_size_max: None,
        topic_alias_max: 0,
        request_response_information: false,
        request_problem_information: true,
        user_properties: Vec::new(),
        authentication_method: None,
    }
}

fn from_v5(packet: v5::Packet) -> Result<ClientPacket, Error> {
    Ok(match packet {
        v5::Packet::Connect(connect) => ClientPacket::Connect(Box::new(connect_from_v5(*connect))),
        v5::Packet::Publish(publish) => ClientPacket::Publish(Box::new(publish_from(*publish)?)),
        v5::Packet::PublishAck(ack) => ClientPacket::PublishAck {
            packet_id: ack.packet_id,
            reason: reason(ack.reason_code.into()),
        },
        v5::Packet::Subscribe(subscribe) => ClientPacket::Subscribe(Subscribe {
            packet_id: subscribe.packet_id,
            identifier: subscribe.id,
            filters: subscribe
                .topic_filters
                .into_iter()
                .map(|(filter, options)| SubscribeFilter {
                    filter,
                    qos: capped(options.qos),
                    no_local: options.no_local,
                })
                .collect(),
        }),
        v5::Packet::Unsubscribe(unsubscribe) => ClientPacket::Unsubscribe(Unsubscribe {
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.topic_filters,
        }),
        v5::Packet::PingRequest => ClientPacket::PingRequest,
        v5::Packet::Disconnect(disconnect) => ClientPacket::Disconnect(Disconnect {
            reason: reason(disconnect.reason_code.into()),
            session_expiry_s: disconnect.session_expiry_interval_secs,
            reason_string: disconnect.reason_string,
        }),
        _ => return Err(REFUSED),
    })
}

fn connect_from_v5(connect: v5::Connect) -> Connect {
    Connect {
        version: Version::V5,
        client_id: connect.client_id,
        clean_start: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        username: connect.username,
        password: connect.password,
        will: connect.last_will.map(|will| Box::new(will_from_v5(will))),
        session_expiry_s: connect.session_expiry_interval_secs,
        receive_max: connect.receive_max,
        packet_size_max: connect.max_packet_size,
        topic_alias_max: connect.topic_alias_max,
        request_response_information: connect.request_response_info,
        request_problem_information: connect.request_problem_info,
        user_properties: connect.user_properties,
        authentication_method: connect.auth_method,
    }
}

fn will_from_v5(will: v5::LastWill) -> Will {
    let properties = MessageProperties {
        payload_is_utf8: will.is_utf8_payload.unwrap_or(false),
        expiry_s: will.message_expiry_interval.map(Into::into),
        content_type: will.content_type,
        response_topic: will.response_topic,
        correlation_data: will.correlation_data,
        user_properties: will.user_properties,
    };
    Will {
        message: Message {
            topic: will.topic,
            payload: will.message,
            properties: boxed(properties),
        },
        qos: capped(will.qos),
        retain: will.retain,
        delay_s: will.will_delay_interval_sec.unwrap_or(0),
    }
}

fn publish_from(publish: types::Publish) -> Result<Publish, Error> {
    let delivery = match (publish.qos, publish.packet_id) {
        (types::QoS::AtMostOnce, _) => Delivery::AtMostOnce,
        (types::QoS::AtLeastOnce, Some(packet_id)) => Delivery::AtLeastOnce {
            packet_id,
            duplicate: publish.dup,
        },
        _ => return Err(REFUSED),
    };
    let mut topic_alias = None;
    let mut properties = None;
    if let Some(given) = publish.properties {
        topic_alias = given.topic_alias;
        properties = boxed(MessageProperties {
            payload_is_utf8: given.is_utf8_payload,
            expiry_s: given.message_expiry_interval.map(Into::into),
            content_type: given.content_type,
            response_topic: given.response_topic,
            correlation_data: given.correlation_data,
            user_properties: given.user_properties,
        });
    }
    Ok(Publish {
        message: Message {
            topic: publish.topic,
            payload: publish.payload,
            properties,
        },
        delivery,
        retain: publish.retain,
        topic_alias,
        subscription_identifiers: Vec::new(),
    })
}

/// Properties that say nothing take no memory.
fn boxed(properties: MessageProperties) -> Option<Box<MessageProperties>> {
    (properties != MessageProperties::default()).then(|| Box::new(properties))
}

/// The QoS, at most 1.
fn capped(qos: types::QoS) -> Qos {
    match qos {
        types::QoS::AtMostOnce => Qos::AtMostOnce,
        _ => Qos::AtLeastOnce,
    }
}

/// The codec knows no code that is not in our list.
fn reason(code: u8) -> Reason {
    Reason::from_code(code).unwrap_or(Reason::UnspecifiedError)
}
