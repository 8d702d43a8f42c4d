//! Integration tests of the engine, one binary.

#![allow(clippy::unwrap_used, missing_docs)]

mod cluster_catch_up;
mod cluster_change;
mod cluster_faults;
mod cluster_link;
mod cluster_log;
mod cluster_support;
mod conformance;
mod host;
mod host_flush;
mod host_support;
mod network;
mod state_damage;
mod state_snapshot;
