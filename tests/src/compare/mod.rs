//! The comparison with etcd: closed-loop clients for both systems, written alike, and the table that
//! is made of their runs. `tests/bench/README.md` says what is compared and what is not.
//!
//! - [`workload`] makes the same keys, documents and patches for both; [`load`] keeps each client at
//!   one call in flight and counts; [`antumbra`] and [`etcd`] make the calls; [`leaders`] says which node
//!   of Antumbra to ask.
//! - [`cases`] runs one system through all shapes and writes a [`record`] for each.
//! - [`summary`] takes medians, worst values and ratios; [`goals`] says what they should be;
//!   [`table`] prints both.
//!
//! Nothing here starts or stops a server; `tests/bench/compare.sh` does.

mod antumbra;
mod cases;
mod cli;
mod etcd;
#[cfg(test)]
mod fake;
mod goals;
mod leaders;
mod load;
mod process;
mod record;
mod stream;
mod summary;
mod table;
mod tally;
mod workload;

pub use cli::{Arguments, run};
