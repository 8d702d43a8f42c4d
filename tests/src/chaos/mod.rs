//! Real processes, real faults, and checkers that say whether clients were told the truth.
//!
//! A [`run`] makes a [`cluster`] of processes in network namespaces, lets clients and watchers work
//! and note everything, injects the faults of a [`plan`] that follows from the seed, and lets the
//! checkers judge what was noted:
//!
//! - [`linearizability`], with a [`search`] where versions are not known;
//! - [`durability`]: what was acknowledged is there after the heal, at every node;
//! - [`watch`]: every change once and in order, across everything;
//! - [`hashes`]: replicas hold the same;
//! - [`availability`]: everything is served again in time.
//!
//! The checkers are pure and know nothing of processes: histories in, [`violation`]s out. They are
//! tested on wrong histories of every kind. Each fault proves that it hit, and counts only then.

pub mod availability;
pub mod cluster;
pub mod command;
pub mod door;
pub mod durability;
pub mod hashes;
pub mod history;
pub mod linearizability;
pub mod nemesis;
pub mod network;
pub mod plan;
pub mod process;
pub mod recorder;
mod rounds;
pub mod run;
pub mod score;
pub mod search;
pub mod topology;
pub mod verdict;
pub mod violation;
pub mod watch;
pub mod watcher;
pub mod workers;
