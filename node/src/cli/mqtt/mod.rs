//! A small MQTT client for the tools of the command line: devices that are played, and loads.
//!
//! - [`connect`] opens a [`Connection`]; one task owns it, and `next` drives it.
//! - [`Endpoint`] and [`LinkArgs`] are how a user says where and how.
//! - [`device`] knows the topics and payloads of a device shadow.
//! - [`lines`] reads lines beside everything else.
//!
//! An idle connection owns no buffers, so that one process can hold many thousands.

mod arguments;
mod connection;
pub(crate) mod device;
mod endpoint;
mod error;
mod keep_alive;
mod lines;
mod open;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use self::arguments::LinkArgs;
pub(crate) use self::connection::{Connection, Event};
pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::error::Error;
pub(crate) use self::lines::lines;
pub(crate) use self::open::{Settings, connect};
pub(crate) use self::tls::TlsFiles;
