//! What an operator may set, declared once and read once.
//!
//! [`options`] declares every option with its type, default and doc; the struct tree, the loader,
//! `docs/configuration.md` and `docs/antumbra.toml` all come from that one declaration. [`load`]
//! lays defaults, file, environment and command line over each other and remembers where each
//! value came from; it reports every problem at once. [`environment`] is the only file of the
//! program that reads environment variables.
//!
//! Components get the section they need by value. There is no global configuration.

pub mod document;
pub mod environment;
pub mod load;
mod options;
mod setting;
mod suggest;
mod validate;

#[cfg(test)]
mod tests;

pub use environment::{Pod, TestSwitches};
pub use load::{Loaded, Origin, Problem, Problems, Sources, load};
pub use options::{
    Access, Api, Cluster, Config, Http, Limits, Node, OptionInfo, Peer, Raft, SECTIONS,
    SectionInfo, Storage, Telemetry,
};
pub use setting::{
    ByteSize, CacheSize, Literal, LogFormat, Membership, Seeds, Setting, Shards, parse_duration,
};
pub(crate) use validate::{algorithms, certificate_rules};
