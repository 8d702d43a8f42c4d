//! The device gateway: what connects devices to their shadows.
//!
//! - [`mqtt`]: packets, topics, and the state machine of a connection.
//! - [`dialect`]: what a cloud's firmware means by its messages, and how it is answered.
//!
//! Both are pure: bytes and values in, values out. No listener uses them yet.

pub mod dialect;
pub mod mqtt;
