//! The cluster as one node takes part in it: how it is founded, who belongs to it, where the replicas
//! are, who should lead.
//!
//! - [`state`]: what the meta shard holds, and the pure commands that change it; `machine` stores it.
//! - [`control`]: what nodes ask each other.
//! - [`bootstrap`]: from a blank directory to a member.
//! - `agent`: starts and stops this node's replicas as the state says, and publishes the shard map.
//! - `follow`: brings the state to this node.
//! - `keeper`: what the leader of a shard does for its group: settle it, give the lead back.
//! - `reconciler`: what the leader of the meta shard does for the cluster: has replicas and leads be where they
//!   should be.
//! - `scaling`: what it does where the nodes are pods: sends away those that the StatefulSet does not need.
//! - `office`: answers the requests of other nodes.
//! - [`placement`]: where replicas and leaders should be, and the next steps to get there; pure.
//!
//! A node has a replica only because the state says so, never because a message arrived.

pub(crate) mod agent;
pub mod bootstrap;
pub mod control;
mod follow;
mod keeper;
pub(crate) mod machine;
pub(crate) mod office;
pub(crate) mod pin;
pub mod placement;
pub(crate) mod reconciler;
mod report;
pub(crate) mod scaling;
pub mod state;
pub(crate) mod vitals;

pub use control::{Answer, Request, Standing};
pub use office::Office;
pub use state::{ClusterState, Founding, META_SHARD, MetaCommand, NodeId, NodeInfo};
