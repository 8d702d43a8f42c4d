//! The device gateway: what connects devices to their shadows.
//!
//! - [`mqtt`]: packets, topics, and the state machine of a connection. Pure.
//! - [`dialect`]: what a cloud's firmware means by its messages, and how it is answered. Pure.
//! - `listener`, `connection`: sockets, and the task that drives a session.
//! - `hub`: one stream of all changes per node, handed to the connections concerned (`registry`,
//!   `slot`).
//! - `records`, `presence`: who is connected where, as replicated documents.
//! - `plain`: messages between clients.
//! - `tenants`: what the clients of one tenant may take together.
//! - `evacuate`: how clients leave a node that stops.
//! - `shed`: which sessions go when memory is short.
//!
//! # Where state is
//!
//! A shadow is the state of a device, so nothing is queued for a device that is away: when it comes
//! back, it is told what is left to do. What outlives a connection is its record: subscriptions,
//! expiry, and an epoch (the version of the record) that fences the connection before.

mod clients;
mod clock;
mod connection;
pub mod dialect;
mod door;
mod endings;
mod evacuate;
mod gate;
mod hub;
mod keeper;
mod listener;
mod metrics;
pub mod mqtt;
mod plain;
mod presence;
mod records;
mod registry;
mod shed;
mod slot;
mod tenants;
mod unacknowledged;
mod wills;

pub(crate) use self::clients::{Client, Clients};
pub(crate) use self::door::{Door, Handler, Wiring};
pub(crate) use self::evacuate::Devices;
pub(crate) use self::gate::renew;
pub(crate) use self::keeper::Keeper;
pub(crate) use self::listener::{Settings, Stops, serve};
pub(crate) use self::metrics::describe as describe_metrics;
pub(crate) use self::records::records_tenant;
pub(crate) use self::shed::shed;
