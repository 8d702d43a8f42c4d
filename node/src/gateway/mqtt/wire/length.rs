//! How long a PUBLISH is, without writing it, and whether it can be written.

use std::num::NonZeroU32;

use super::error::EncodeError;
use super::packet::{Delivery, MessageProperties, Publish, Version};

/// Largest number that a Variable Byte Integer holds.
const VARIABLE_MAX: usize = 268_435_455;

/// Bytes of a PUBLISH with its fixed header, found by adding up.
///
/// # Errors
/// When a text, a subscription identifier or the packet is longer than MQTT can express.
pub fn publish_len(publish: &Publish, version: Version) -> Result<usize, EncodeError> {
    let identifier = match publish.delivery {
        Delivery::AtMostOnce => 0,
        Delivery::AtLeastOnce { .. } => 2,
    };
    let message = &publish.message;
    let mut remaining = text_len(message.topic.len())? + identifier + message.payload.len();
    if version == Version::V5 {
        let properties = properties_len(publish)?;
        remaining += variable_len(properties)? + properties;
    }
    Ok(1 + variable_len(remaining)? + remaining)
}

/// The expiry that is sent: a message that leaves in its last second has one second left, since the
/// codec cannot write 0.
pub(super) fn sent_expiry(expiry_s: u32) -> NonZeroU32 {
    NonZeroU32::new(expiry_s).unwrap_or(NonZeroU32::MIN)
}

fn properties_len(publish: &Publish) -> Result<usize, EncodeError> {
    let mut bytes = publish.topic_alias.map_or(0, |_| 3);
    for identifier in &publish.subscription_identifiers {
        bytes += 1 + variable_len(identifier.get() as usize)?;
    }
    if let Some(properties) = &publish.message.properties {
        bytes += message_properties_len(properties)?;
    }
    Ok(bytes)
}

fn message_properties_len(properties: &MessageProperties) -> Result<usize, EncodeError> {
    let mut bytes = 0;
    if properties.payload_is_utf8 {
        bytes += 2;
    }
    if properties.expiry_s.is_some() {
        bytes += 5;
    }
    for text in [&properties.content_type, &properties.response_topic] {
        bytes += text
            .as_ref()
            .map_or(Ok(0), |text| Ok(1 + text_len(text.len())?))?;
    }
    if let Some(data) = &properties.correlation_data {
        bytes += 1 + text_len(data.len())?;
    }
    for (name, value) in &properties.user_properties {
        bytes += 1 + text_len(name.len())? + text_len(value.len())?;
    }
    Ok(bytes)
}

/// Text or binary data with its length.
fn text_len(bytes: usize) -> Result<usize, EncodeError> {
    if bytes > usize::from(u16::MAX) {
        return Err(EncodeError::TooLong);
    }
    Ok(2 + bytes)
}

/// Bytes of a Variable Byte Integer.
fn variable_len(value: usize) -> Result<usize, EncodeError> {
    match value {
        0..=127 => Ok(1),
        128..=16_383 => Ok(2),
        16_384..=2_097_151 => Ok(3),
        2_097_152..=VARIABLE_MAX => Ok(4),
        _ => Err(EncodeError::TooLong),
    }
}
