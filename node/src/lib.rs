//! The node: composition root of Antumbra. The only crate that names everything: doors (gRPC,
//! HTTP), routing, storage wiring, configuration and the command line.

#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod boot;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod dialect;
pub mod error;
pub mod gateway;
pub mod health;
pub mod http;
pub mod identity;
mod inquiry;
pub mod kubernetes;
mod memory;
pub mod metrics;
pub mod peer;
mod rate;
mod reload;
pub mod shadows;
pub mod shutdown;
mod snapshot;
pub mod telemetry;
pub mod tls;
mod trace;
mod vitals;
