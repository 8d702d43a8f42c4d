//! The shadows of devices: documents, the commands that change them, and the twin that stands for
//! a device on the leader of its shard.
//!
//! # Map
//!
//! - [`id`], [`limits`]: names, times, places, and what a tenant may store.
//! - [`json`]: the tree a request is parsed into, once, by the node that received it.
//! - [`patch`], [`document`]: the sorted binary form of a change and of a shadow. `merge` joins the two in
//!   one linear pass, `delta` compares the sections, `render` makes JSON text again.
//! - [`conditions`], [`command`], [`outcome`]: what is asked, and what came of it.
//! - [`apply`]: the only code that changes a document.
//! - [`change`], [`feed`]: what observers see, and what the feed keeps.
//! - `stored`: frozen stored shapes; the only module that knows the codec.
//! - [`port`], [`twins`]: the actor of a device and what it needs of its shard.
//!
//! # Invariants
//!
//! - A document changes only in [`apply`](apply::apply), a pure and total function of the rows and
//!   the entry.
//! - A version grows by exactly one per accepted change; a rejection changes nothing; a client token
//!   is echoed and never used to drop anything.
//! - Every stored byte string starts with a format tag that is never used again.
//! - A change reaches its twin before the position that contains it becomes visible.
//!
//! # What it must not know
//!
//! Networks, storage engines, consensus, cloud dialects, error codes of any door.

#![forbid(unsafe_code)]

pub mod apply;
pub mod change;
pub mod command;
pub mod conditions;
mod delta;
pub mod document;
pub mod feed;
pub mod id;
pub mod json;
mod leaves;
pub mod limits;
mod merge;
pub mod outcome;
pub mod patch;
pub mod pointer;
pub mod port;
mod render;
mod stored;
mod twin;
pub mod twins;

pub use self::apply::{Applied, RowKey, Rows};
pub use self::change::Change;
pub use self::command::{
    BatchItem, Command, Delete, DeviceEntry, Draft, Entry, Kind, RULES, RULES_OF_SHARED_ROWS,
    TrimFeed, Update,
};
pub use self::conditions::{Conditions, PathCondition, PathTest};
pub use self::document::Document;
pub use self::feed::{FeedRecord, FeedRow};
pub use self::id::{DeviceId, DeviceKey, IdError, Position, RequestId, ShadowName, Tenant, Time};
pub use self::limits::Limits;
pub use self::outcome::{
    AcceptedItem, FailedCondition, Outcome, Rejection, decode_outcomes, encode_outcomes,
};
pub use self::patch::{Patch, Section, SectionInput};
pub use self::pointer::{Pointer, PointerError};
pub use self::port::{Failure, ShardPort};
pub use self::render::TimeUnit;
pub use self::stored::{DECODE_BYTES_MAX, DecodeError, DeviceRow, detach};
pub use self::twin::metrics;
pub use self::twins::{Twins, TwinsConfig};
