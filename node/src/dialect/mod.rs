//! Dialects: pure mappings between one cloud's device messages and our commands and outcomes.
//! Bytes in, intents out; outcomes in, bytes out. A dialect never waits, reads no clock and knows
//! no door: HTTP uses it, and whatever carries the same messages can.

pub mod aws;
mod object;

pub(crate) use self::object::Object;
