//! The form of a snapshot of a cluster: rows, the files that they lie in, and how damage is found.
//!
//! A snapshot is a directory: `shard-00001.rows` and so on, one for each data shard, `manifest.json`
//! that says what they are, and `SHA256SUMS` over all of them. A byte that differs anywhere is
//! found by [`directory::verify`].
//!
//! Knows no network and no cluster.

pub(crate) mod directory;
pub(crate) mod frames;
pub(crate) mod manifest;
pub(crate) mod row;
#[cfg(test)]
mod tests;

pub(crate) use row::{Counts, Row, Tally};
