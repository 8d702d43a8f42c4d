//! The client's side of the wire, for our own tools: [`encode`] writes [`ClientPacket`]s and
//! [`Decoder`] reads [`ServerPacket`]s, for MQTT 3.1, 3.1.1 and 5.
//!
//! Written by hand, without the codec crate of `wire`: the two sides check each other.
//!
//! Guarantees: no byte from a server panics; a packet that announces more than the limit is refused
//! by its header; a decoder owns no memory between packets.
//!
//! It is as strict as safety needs, not as strict as a test of servers would be: unknown values
//! that do no harm are read as the nearest known ones.
//!
//! [`ClientPacket`]: super::wire::ClientPacket
//! [`ServerPacket`]: super::wire::ServerPacket

mod decode;
mod encode;
mod packets;
mod properties;
mod reader;
#[cfg(test)]
mod tests;

pub use self::decode::Decoder;
pub use self::encode::encode;

/// Why bytes of a server cannot be read. The connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The packet breaks the protocol.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The packet is larger than the client takes.
    #[error("packet of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// Size of the whole packet.
        bytes: usize,
        /// Largest size that is taken.
        bytes_max: usize,
    },
}
