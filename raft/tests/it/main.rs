//! Integration tests of the engine, one binary.

#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod host;
mod host_flush;
mod host_support;
mod state_damage;
mod state_snapshot;
