//! Names, times and places: the small values that address a shadow and order its changes.
//!
//! Every name is checked when it is made, so code that holds one never checks again. Clones share
//! one allocation.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The longest tenant name, in bytes.
pub const TENANT_BYTES_MAX: usize = 64;
/// The longest device id, in bytes (the AWS limit for a thing name).
pub const DEVICE_ID_BYTES_MAX: usize = 128;
/// The longest shadow name, in bytes (the AWS limit).
pub const SHADOW_NAME_BYTES_MAX: usize = 64;
/// The longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// Why a text is not a valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The name has no characters, and this kind of name needs at least one.
    #[error("must not be empty")]
    Empty,
    /// The name is longer than its kind allows.
    #[error("is {bytes} bytes long; at most {max} are allowed")]
    TooLong {
        /// Length of the refused text.
        bytes: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// A character outside the alphabet of this kind of name.
    #[error("has a character that is not allowed at byte {offset}")]
    BadCharacter {
        /// Byte offset of the first bad character.
        offset: usize,
    },
}

fn check(
    text: &str,
    bytes_min: usize,
    bytes_max: usize,
    allowed: impl Fn(u8) -> bool,
) -> Result<(), IdError> {
    if text.len() < bytes_min {
        return Err(IdError::Empty);
    }
    if text.len() > bytes_max {
        return Err(IdError::TooLong {
            bytes: text.len(),
            max: bytes_max,
        });
    }
    match text.bytes().position(|byte| !allowed(byte)) {
        Some(offset) => Err(IdError::BadCharacter { offset }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $min:expr, $max:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and makes the name.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text, $min, $max, $allowed)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }
    };
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-')
}

name! {
    /// The isolation unit of a device: 1–64 characters of `[a-zA-Z0-9:_-]`.
    Tenant, 1, TENANT_BYTES_MAX, is_name_byte
}

name! {
    /// The name of a device within its tenant: 1–128 characters of `[a-zA-Z0-9:_-]`.
    DeviceId, 1, DEVICE_ID_BYTES_MAX, is_name_byte
}

name! {
    /// The name of a shadow of a device: up to 64 characters of `[$a-zA-Z0-9:_-]`; empty is the
    /// classic shadow.
    ShadowName, 0, SHADOW_NAME_BYTES_MAX, |byte| is_name_byte(byte) || byte == b'$'
}

name! {
    /// What a caller calls one command, so that a retry is recognised: 1–64 bytes of any text.
    RequestId, 1, REQUEST_ID_BYTES_MAX, |_| true
}

impl Tenant {
    /// The tenant when nobody says otherwise.
    pub fn default_tenant() -> Self {
        Self(Arc::from("default"))
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self::default_tenant()
    }
}

impl ShadowName {
    /// The unnamed shadow of a device.
    pub fn classic() -> Self {
        Self(Arc::from(""))
    }

    /// Whether this is the unnamed shadow.
    pub fn is_classic(&self) -> bool {
        self.0.is_empty()
    }
}

/// The full name of a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceKey {
    /// The tenant that owns the device.
    pub tenant: Tenant,
    /// The device within the tenant.
    pub device: DeviceId,
}

impl DeviceKey {
    /// Puts the two names together.
    pub fn new(tenant: Tenant, device: DeviceId) -> Self {
        Self { tenant, device }
    }

    /// The place of the device in the hash ring that shards divide: the low 32 bits of
    /// `xxh3_64(tenant 0x00 device)`. Fixed for ever, because rows are stored under it.
    pub fn hash(&self) -> u32 {
        DeviceKey::wide_hash(&self.tenant, &self.device) as u32
    }

    /// All 64 bits of the hash whose low half is the place in the ring: tells devices apart well enough to
    /// narrow down, not to decide.
    pub fn wide_hash(tenant: &Tenant, device: &DeviceId) -> u64 {
        let mut bytes = [0_u8; TENANT_BYTES_MAX + 1 + DEVICE_ID_BYTES_MAX];
        let (tenant, device) = (tenant.as_str().as_bytes(), device.as_str().as_bytes());
        let end = tenant.len() + 1 + device.len();
        bytes[..tenant.len()].copy_from_slice(tenant);
        bytes[tenant.len() + 1..end].copy_from_slice(device);
        xxh3_64(&bytes[..end])
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.device)
    }
}

/// A moment: milliseconds since the Unix epoch, as the leader's clock gave it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// Whole seconds since the Unix epoch, rounded down, as AWS prints times.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000
    }

    /// Milliseconds since the Unix epoch.
    pub fn milliseconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of a change in the feed of its shard.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// Log index of the entry that made the change.
    pub index: u64,
    /// Running number of the change within the entry, from 0.
    pub sequence: u32,
}

impl Position {
    /// That of the first change of an entry.
    pub fn first(index: u64) -> Position {
        Position { index, sequence: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the alphabets and lengths of names, which other clouds and stored keys rely on.
    #[test]
    fn names_have_their_alphabet_and_length() {
        assert!(DeviceId::parse("pump:7_a-B").is_ok());
        assert_eq!(DeviceId::parse(""), Err(IdError::Empty));
        assert_eq!(
            DeviceId::parse(&"x".repeat(129)),
            Err(IdError::TooLong {
                bytes: 129,
                max: 128
            })
        );
        assert_eq!(
            DeviceId::parse("a/b"),
            Err(IdError::BadCharacter { offset: 1 })
        );
        assert_eq!(
            DeviceId::parse("a$b"),
            Err(IdError::BadCharacter { offset: 1 })
        );
        assert!(ShadowName::parse("$package").is_ok());
        assert!(ShadowName::parse("").is_ok_and(|name| name.is_classic()));
        assert!(ShadowName::parse(&"n".repeat(65)).is_err());
        assert!(RequestId::parse("any text, even ü").is_ok());
        assert!(RequestId::parse(&"r".repeat(65)).is_err());
        assert!(Tenant::parse("a\0b").is_err());
    }

    /// Protects the place of every stored row: the hash may never change.
    #[test]
    fn device_hash_is_frozen() {
        let key = DeviceKey::new(
            Tenant::default_tenant(),
            DeviceId::parse("device-1").unwrap(),
        );
        assert_eq!(key.hash(), xxh3_64(b"default\0device-1") as u32);
        assert_eq!(key.hash(), 856_481_406);
    }
}
