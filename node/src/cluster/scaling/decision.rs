//! Which node is sent away or taken back next. Pure.
//!
//! 1. A StatefulSet that does not exist or is being deleted decides nothing, and neither does one that nobody has
//!    read a moment ago: whoever deletes it keeps the data.
//! 2. With fewer replicas than a shard has, the cluster is *parked*: its pods stop and keep what they have, and
//!    nobody is sent away. Scaling to none for the night is a thing that people do.
//! 3. A node is sent away when its ordinal was too high in three consecutive reads of the same StatefulSet over
//!    15 seconds: one at a time, the highest first, and only while every other node answers, and every shard has a
//!    leader and all its replicas on other nodes.
//! 4. A node that is leaving and is needed again, or parked, is taken back at once: each of its replicas that has
//!    not moved need not.
//! 5. Ordinals below the first one are not ours: another cluster may have them while pods move between two.
//!
//! The one that goes need not answer: where its pod was killed before it was sent away, the others still have what
//! it had. One that is not needed, does not answer and keeps nothing holds up nobody.

use std::fmt;
use std::time::Duration;

use crate::cluster::state::{Life, NodeId};
use crate::kubernetes::StatefulSet;

use super::reads::{Found, Reads};
use super::view::{Node, View};

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// All is as it should be, or on its way there.
    Nothing,
    /// Something would have to be done, and cannot be.
    Wait(Why),
    /// This node leaves.
    SendAway(NodeId),
    /// This node stays after all.
    TakeBack(NodeId),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nobody has read the StatefulSet a moment ago.
    NotRead,
    /// It cannot be read.
    Unknown(String),
    /// There is none.
    Missing,
    /// It is being deleted.
    BeingDeleted,
    /// It has fewer replicas than a shard.
    Parked { replicas: u32, factor: u32 },
    /// A node is not needed, and that is not sure yet.
    Unconfirmed { node: String },
    /// Another node is in maintenance.
    Maintenance { node: String, other: String },
    /// Another node is down.
    Down { node: String, other: String },
    /// A shard is being changed.
    Changing { node: String, shard: u32 },
    /// A shard has no leader.
    NoLeader { node: String, shard: u32 },
    /// A replica is down.
    Thin {
        node: String,
        shard: u32,
        other: String,
    },
    /// The cluster refuses.
    Refused { node: String, why: String },
}

/// What comes next, after these reads by the present leader.
pub(super) fn decide(now: Duration, reads: &Reads, view: &View) -> Decision {
    let set = match reads.latest(now) {
        None => return Decision::Wait(Why::NotRead),
        Some(Found::Unknown(why)) => return Decision::Wait(Why::Unknown(why.clone())),
        Some(Found::Missing) => return Decision::Wait(Why::Missing),
        Some(Found::Set(set)) if set.is_being_deleted => {
            return Decision::Wait(Why::BeingDeleted);
        }
        Some(Found::Set(set)) => set,
    };
    let is_parked = set.replicas < view.replication_factor;
    if let Some(node) = needed_again(set, is_parked, view) {
        return Decision::TakeBack(node);
    }
    let Some((ordinal, node)) = highest(set, view) else {
        return Decision::Nothing;
    };
    if is_parked {
        return Decision::Wait(Why::Parked {
            replicas: set.replicas,
            factor: view.replication_factor,
        });
    }
    if view.nodes.values().any(|node| node.life == Life::Leaving) {
        return Decision::Nothing;
    }
    if !reads.confirm(ordinal) {
        let node = view.name(node);
        return Decision::Wait(Why::Unconfirmed { node });
    }
    match held_up(set, node, view) {
        Some(why) => Decision::Wait(why),
        None => Decision::SendAway(node),
    }
}

/// A node that is leaving although it should not.
fn needed_again(set: &StatefulSet, is_parked: bool, view: &View) -> Option<NodeId> {
    let mut leaving = view
        .nodes
        .iter()
        .filter(|(_, node)| node.life == Life::Leaving);
    let found = leaving.find(|(_, node)| {
        let ordinal = node.ordinal.filter(|ordinal| *ordinal >= set.start);
        ordinal.is_some_and(|ordinal| is_parked || ordinal < set.end())
    });
    found.map(|(id, _)| *id)
}

/// The node with the highest ordinal of those that the StatefulSet does not need.
fn highest(set: &StatefulSet, view: &View) -> Option<(u32, NodeId)> {
    let ordinals = view.nodes.iter().filter_map(|(id, node)| {
        let ordinal = node.ordinal.filter(|ordinal| *ordinal >= set.end());
        Some((ordinal?, *id))
    });
    ordinals.max()
}

/// Why a node cannot go now.
fn held_up(set: &StatefulSet, goes: NodeId, view: &View) -> Option<Why> {
    let node = view.name(goes);
    if let Some(other) = view.in_maintenance.filter(|other| *other != goes) {
        let other = view.name(other);
        return Some(Why::Maintenance { node, other });
    }
    let mut others = view.nodes.iter().filter(|(id, _)| **id != goes);
    let down = others.find(|(_, other)| !other.answers && is_missed(set, other));
    if let Some((_, other)) = down {
        let other = other.name.clone();
        return Some(Why::Down { node, other });
    }
    for (shard, seen) in &view.shards {
        let shard = *shard;
        if !seen.is_settled {
            return Some(Why::Changing { node, shard });
        }
        if !seen.has_leader {
            return Some(Why::NoLeader { node, shard });
        }
        if let Some(other) = seen.down.iter().find(|other| **other != goes) {
            let other = view.name(*other);
            return Some(Why::Thin { node, shard, other });
        }
    }
    None
}

/// Whether it matters that a node does not answer: two that are not needed must not wait for each other.
fn is_missed(set: &StatefulSet, node: &Node) -> bool {
    let is_needed = node.ordinal.is_none_or(|ordinal| ordinal < set.end());
    node.has_replicas || is_needed
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NotRead => f.write_str("the StatefulSet has not been read yet"),
            Why::Unknown(why) => write!(f, "the StatefulSet is not known: {why}"),
            Why::Missing => {
                f.write_str("the StatefulSet does not exist; nodes keep what they have")
            }
            Why::BeingDeleted => {
                f.write_str("the StatefulSet is being deleted; nodes keep what they have")
            }
            Why::Parked { replicas, factor } => write!(
                f,
                "parked: the StatefulSet has {replicas} replicas, a shard {factor}; nodes stop and keep what \
                 they have"
            ),
            Why::Unconfirmed { node } => {
                write!(
                    f,
                    "{node} is not needed any more; it goes once that is certain"
                )
            }
            Why::Maintenance { node, other } => {
                write!(f, "{node} goes after {other} has come back")
            }
            Why::Down { node, other } => write!(f, "{node} goes when {other} answers"),
            Why::Changing { node, shard } => {
                write!(f, "{node} goes when shard {shard} is not being changed")
            }
            Why::NoLeader { node, shard } => {
                write!(f, "{node} goes when shard {shard} has a leader")
            }
            Why::Thin { node, shard, other } => {
                write!(
                    f,
                    "{node} goes when the replica of shard {shard} on {other} is up"
                )
            }
            Why::Refused { node, why } => write!(f, "{node} cannot go: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
