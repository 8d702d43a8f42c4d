//! MQTT for the device gateway, without sockets, clocks or tasks.
//!
//! - [`wire`]: bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.
//! - [`client`]: the other side of the wire, for our own tools.
//! - [`topics`]: rules for topic names and filters, and matching.
//! - [`session`]: the state machine of one connection.
//! - [`fuzz()`]: all three driven by arbitrary bytes.

pub mod client;
mod fuzz;
pub mod session;
pub mod topics;
pub mod wire;

pub use self::fuzz::fuzz;
