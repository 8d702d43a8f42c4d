//! Everything that reads bytes from a network and decides by itself, as targets of a fuzzer.
//!
//! The sources of the node are included by path, in a tree that looks to them like their own crate:
//! what is tested is the file that ships, without the storage engine that its crate would build. Only
//! pure modules can be here: what they import has to be in this tree.
//!
//! - [`targets`]: one function per target, from bytes to nothing; it panics when something is wrong.
//! - [`guard`]: what memory a target may take for an input, and that it gives it back.
//! - [`seeds`]: the inputs from which the fuzzer starts.

#![forbid(unsafe_code)]

extern crate self as antumbra_raft;

pub mod guard;
pub mod seeds;
pub mod targets;

#[allow(dead_code, unused_imports, reason = "doors use the rest")]
#[path = "../../../node/src/dialect/mod.rs"]
#[rustfmt::skip]
mod dialect;
#[allow(dead_code, unused_imports, reason = "doors use the rest")]
#[path = "../../../node/src/error.rs"]
#[rustfmt::skip]
mod error;
#[allow(dead_code, reason = "the raft crate uses the rest")]
#[path = "../../../raft/src/ids.rs"]
#[rustfmt::skip]
mod ids;

/// Of the gateway, what is pure.
#[allow(dead_code, unused_imports, reason = "listeners use the rest")]
#[path = "../../../node/src/gateway"]
mod gateway {
    #[rustfmt::skip]
    pub(crate) mod dialect;
    #[rustfmt::skip]
    pub(crate) mod mqtt;
}

/// Of the shadows of the node, what clients hold in their hands.
#[allow(dead_code, reason = "watches use the rest")]
#[path = "../../../node/src/shadows"]
mod shadows {
    #[rustfmt::skip]
    pub(crate) mod cursor;
    #[rustfmt::skip]
    pub(crate) mod opaque;
}

pub use self::ids::ShardId;
