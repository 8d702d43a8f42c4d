//! Bytes to packets and packets to bytes: MQTT 3.1, 3.1.1 and 5, server side.
//!
//! [`Decoder`] takes bytes as they come and gives [`ClientPacket`]s; [`encode`] writes
//! [`ServerPacket`]s. What a decoder hands out is well formed: every rule of the specification that
//! can be judged from one packet and the version has been checked, and an [`Error`] says which
//! reason code the breach has. Rules that need the state of the connection are the session's.
//!
//! Guarantees: no input panics; nothing is buffered before the fixed header has been judged (packet
//! type, flags, size); memory grows with bytes that arrived, never with a length that was
//! announced.
//!
//! QoS 2 does not exist here: a PUBLISH or will with QoS 2 is refused with 0x9B and a subscription
//! for QoS 2 is read as one for QoS 1, as the specification wants of a server whose Maximum QoS is
//! 1 [MQTT-3.2.2-10].
//!
//! The codec crate that reads and writes the fields is named in `receive` and `send` only.

mod check;
mod decoder;
mod error;
mod header;
mod length;
mod packet;
mod properties;
mod reader;
mod reason;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use self::decoder::{Decoder, SizeLimits};
pub use self::error::{EncodeError, Error};
pub use self::length::publish_len;
pub use self::packet::{
    ClientPacket, Connect, ConnectAck, Delivery, Disconnect, DisconnectNotice, Grant, Message,
    MessageProperties, PacketId, Publish, Qos, ServerPacket, Subscribe, SubscribeFilter,
    Unsubscribe, UserProperty, Version, Will,
};
pub use self::reason::Reason;
pub use self::send::{encode, encoded_len};
