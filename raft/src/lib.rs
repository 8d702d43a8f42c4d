//! The generic replicated shard engine: openraft on RocksDB.
//!
//! # Map
//! - [`types`], [`ids`]: what openraft is instantiated with, and names.
//! - `log`: the log store of a node: one writer for all shards, the tail in memory, damage checks.
//! - [`state`]: the state store of a node: rows of all shards, snapshots, the flusher.
//! - [`host`], [`shard`], [`role`], [`barrier`], [`membership`], [`replica`]: replicas of one node, and what
//!   is done with them.
//! - `hold`: for whom a log is not purged yet.
//! - [`metrics`], `vitals`: what is counted, and what is looked at.
//! - [`machine`]: the port of whoever owns the meaning of commands.
//! - [`net`]: replicas and nodes talk to each other over the connections of a [`Transport`].
//! - [`env`]: ports of time and randomness.
//! - [`codec`]: stored and sent bytes.
//!
//! # Invariants
//! - Nothing is acknowledged before it is synced; a shard's votes and appends are never reordered.
//! - Rows, feed and applied position of an entry are one write batch.
//! - A log is purged only up to a position that is flushed in the state store, and, within limits, that the
//!   followers have.
//! - Damage stops the replica or the node. Nothing is repaired by guessing, nothing is deleted.
//!
//! The crate knows neither shadows nor gRPC: commands and replies are bytes.

#![forbid(unsafe_code)]

pub mod barrier;
pub mod codec;
pub mod command;
pub mod config;
pub mod env;
pub mod error;
mod failure;
mod hold;
pub mod host;
pub mod ids;
mod log;
pub mod machine;
pub mod membership;
pub mod metrics;
pub mod net;
mod proposals;
pub mod replica;
pub mod role;
pub mod shard;
mod shards;
pub mod state;
mod stores;
pub mod types;
mod vitals;

pub use barrier::BarrierError;
pub use command::Commands;
pub use config::{Defects, HostConfig, SyncMode};
pub use env::{Clock, Env, Random};
pub use error::Error;
pub use host::Host;
pub use ids::{HashRange, ReplicaId, ShardId};
pub use log::ShardLog;
pub use machine::{EntryPosition, Machine, Replies};
pub use membership::{Member, MembershipError, ShardStatus};
pub use net::{
    ConnectError, Duplex, FRAME_BYTES_MAX, ForwardError, ForwardHandler, Lane, NoTransport,
    Transport,
};
pub use replica::{ShardRaft, ShardSpec};
pub use role::Role;
pub use shard::{COMMAND_BYTES_MAX, ProposeError, Proposed, Shard};
pub use state::{Key, PinnedView, ShardState, SnapshotData, StateChecksum, View, WriteTx};
pub use types::Node;
pub use vitals::Vitals;
