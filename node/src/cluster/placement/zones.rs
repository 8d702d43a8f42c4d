//! How the replicas of one shard may be spread over the zones.
//!
//! No zone has two replicas more of a shard than another one that could take one more. This is the most
//! even spread, so it also has the most zones; and with three zones or more it is what lets a shard
//! outlive the loss of any one of them (2, 2, 1 does; 3, 1, 1 does not).

/// How many replicas of a shard each zone is still to get.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// So many for certain, per zone.
    pub(super) base: Vec<i64>,
    /// So many more, at most one a zone, ...
    pub(super) extra: i64,
    /// ... in these zones.
    pub(super) open: Vec<bool>,
}

impl Demand {
    /// For `wanted` more replicas, given those that each zone has for good and the nodes in it that
    /// can take one. There are enough nodes.
    pub(super) fn of(wanted: i64, fixed: &[i64], nodes: &[i64]) -> Demand {
        let zones = || fixed.iter().copied().zip(nodes.iter().copied());
        // Like water over the floor of the fixed ones, under the ceiling of the nodes.
        let at = |level: i64, (fixed, nodes): (i64, i64)| level.clamp(fixed, fixed + nodes) - fixed;
        let poured = |level: i64| -> i64 { zones().map(|zone| at(level, zone)).sum() };
        let top = zones().map(|(fixed, nodes)| fixed + nodes).max();
        let mut level = 0;
        while level < top.unwrap_or(0) && poured(level + 1) <= wanted {
            level += 1;
        }
        let is_open = |(fixed, nodes): (i64, i64)| fixed <= level && level < fixed + nodes;
        Demand {
            base: zones().map(|zone| at(level, zone)).collect(),
            extra: wanted - poured(level),
            open: zones().map(is_open).collect(),
        }
    }
}
