//! A deliberately plain MQTT client: it writes exactly the packets that a test asks for, also wrong
//! ones, and reads strictly what the server sends.
//!
//! - [`Connect`], [`Publish`] and the functions of [`build`] make the packets of a client, in MQTT
//!   3.1.1 and 5; [`build::packet`] makes any bytes look like a packet.
//! - [`Packet`] is what a server may send. A packet that breaks the specification is an error here,
//!   so every test checks the server's encoder on the side.
//! - [`Client`] is a connection. Every wait has a deadline.
//!
//! It knows nothing of the node but the rules of MQTT.

pub mod build;
mod client;
mod packet;
mod properties;
mod served;

pub use build::{Connect, Publish, Will};
pub use client::{Client, Ended, LIMIT};
pub use packet::{ConnectAck, Message, Packet};
pub use properties::{Properties, Value, property};
pub use served::{assert_serves, with_node, with_options};

/// Protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// Both.
    pub const ALL: [Version; 2] = [Version::V311, Version::V5];

    /// The protocol level in a CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }

    /// One of two values, by version.
    pub fn pick<T>(self, v311: T, v5: T) -> T {
        match self {
            Version::V311 => v311,
            Version::V5 => v5,
        }
    }
}
