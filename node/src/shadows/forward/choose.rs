//! Who is asked next: a pure decision from what this node knows, and what it remembers of who led.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_raft::{Node, ShardId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A replica here that did not catch up in time is not asked again for so long.
const DOUBT: Duration = Duration::from_secs(5);

/// The node that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    /// This one.
    Here,
    There(Node),
    /// Nobody has a replica.
    Nobody,
}

/// Whether this node has a replica that could serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    No,
    /// It could, but lately lagged: better than nobody.
    Lags,
    /// It could, unless it has just failed.
    Could,
    /// Nobody else may answer: it leads, or what it has is what is asked for.
    Only,
}

/// What is known when somebody has to be picked.
#[derive(Debug)]
pub(super) struct Prospect<'a> {
    /// The name of this node.
    pub(super) me: &'a str,
    pub(super) here: Here,
    /// Who leads, as the replica here knows, then as somebody else said.
    pub(super) leaders: [Option<Node>; 2],
    /// The nodes that have a replica.
    pub(super) nodes: Vec<&'a Node>,
    /// Who failed at the last attempt.
    pub(super) failed: Option<&'a str>,
    /// Attempts so far.
    pub(super) attempt: usize,
}

/// Picks the leader if it is known and has not just failed, else the other nodes in turn; somebody
/// who has just failed only when there is nobody else.
pub(super) fn pick(prospect: &Prospect<'_>) -> Pick {
    let other = |node: &Node| node.name != prospect.me;
    let fresh = |node: &Node| other(node) && prospect.failed != Some(node.name.as_str());
    let leaders = || prospect.leaders.iter().flatten();
    let fresh_here = prospect.here == Here::Could && prospect.failed != Some(prospect.me);
    if prospect.here == Here::Only || fresh_here {
        return Pick::Here;
    }
    if let Some(leader) = leaders().find(|node| fresh(node)) {
        return Pick::There(leader.clone());
    }
    let in_turn: Vec<&&Node> = prospect.nodes.iter().filter(|node| fresh(node)).collect();
    if !in_turn.is_empty() {
        return Pick::There((**in_turn[prospect.attempt % in_turn.len()]).clone());
    }
    if prospect.here != Here::No {
        return Pick::Here;
    }
    let mut last = leaders().chain(prospect.nodes.iter().copied());
    last.find(|node| other(node))
        .map_or(Pick::Nobody, |node| Pick::There(node.clone()))
}

/// What earlier requests have taught about the shards. Soft: wrong hints cost a hop, never more.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    leaders: Mutex<BTreeMap<ShardId, Node>>,
    doubted: Mutex<BTreeMap<ShardId, Instant>>,
}

impl Hints {
    pub(super) fn leader(&self, shard: ShardId) -> Option<Node> {
        self.leaders.lock().get(&shard).cloned()
    }

    /// Somebody said, or has shown, who leads.
    pub(super) fn learn(&self, shard: ShardId, leader: &Node) {
        let mut leaders = self.leaders.lock();
        if leaders.get(&shard) != Some(leader) {
            leaders.insert(shard, leader.clone());
        }
    }

    /// This node did not answer, or does not lead.
    pub(super) fn unlearn(&self, shard: ShardId, name: &str) {
        let mut leaders = self.leaders.lock();
        if leaders.get(&shard).is_some_and(|node| node.name == name) {
            leaders.remove(&shard);
        }
    }

    /// The replica here lags: others are asked for a while.
    pub(in crate::shadows) fn doubt(&self, shard: ShardId) {
        let until = Instant::now() + DOUBT;
        self.doubted.lock().insert(shard, until);
    }

    pub(super) fn is_doubted(&self, shard: ShardId) -> bool {
        let doubted = self.doubted.lock();
        doubted
            .get(&shard)
            .is_some_and(|until| Instant::now() < *until)
    }

    /// Keeps nothing about shards that are not there any more.
    pub(crate) fn keep(&self, is_known: impl Fn(ShardId) -> bool) {
        self.leaders.lock().retain(|shard, _| is_known(*shard));
        self.doubted.lock().retain(|shard, _| is_known(*shard));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node {
            name: name.to_owned(),
            address: String::new(),
        }
    }

    fn prospect<'a>(nodes: &'a [Node], failed: Option<&'a str>) -> Prospect<'a> {
        Prospect {
            me: "a",
            here: Here::No,
            leaders: [None, None],
            nodes: nodes.iter().collect(),
            failed,
            attempt: 0,
        }
    }

    fn there(name: &str) -> Pick {
        Pick::There(node(name))
    }

    #[test]
    fn leader_is_picked_first() {
        let nodes = ["a", "b", "c"].map(node);
        let mut known = prospect(&nodes, None);
        known.leaders = [Some(node("c")), Some(node("b"))];
        assert_eq!(pick(&known), there("c"));
        known.failed = Some("c");
        assert_eq!(
            pick(&known),
            there("b"),
            "what somebody else said comes next"
        );
        known.leaders = [Some(node("a")), None];
        known.failed = None;
        assert_eq!(pick(&known), there("b"), "this node never asks itself");
        known.here = Here::Only;
        known.failed = Some("a");
        assert_eq!(pick(&known), Pick::Here);
    }

    /// A dead leader must not be asked over and over while somebody else could tell the new one.
    #[test]
    fn others_are_asked_in_turn() {
        let nodes = ["a", "b", "c"].map(node);
        let mut lost = prospect(&nodes, Some("b"));
        lost.leaders = [Some(node("b")), Some(node("b"))];
        assert_eq!(pick(&lost), there("c"));
        let mut blind = prospect(&nodes, None);
        assert_eq!(pick(&blind), there("b"));
        blind.attempt = 1;
        assert_eq!(pick(&blind), there("c"));
    }

    #[test]
    fn who_failed_is_asked_again_when_nobody_else_is_there() {
        let nodes = ["a", "b"].map(node);
        assert_eq!(pick(&prospect(&nodes, Some("b"))), there("b"));
        let mut here = prospect(&nodes[..1], Some("a"));
        assert_eq!(pick(&here), Pick::Nobody);
        here.here = Here::Lags;
        assert_eq!(pick(&here), Pick::Here);
        here.here = Here::Could;
        assert_eq!(pick(&here), Pick::Here);
        assert_eq!(pick(&prospect(&[], None)), Pick::Nobody);
    }

    #[test]
    fn read_goes_elsewhere_after_it_failed_here() {
        let nodes = ["a", "b"].map(node);
        let mut read = prospect(&nodes, None);
        read.here = Here::Could;
        assert_eq!(pick(&read), Pick::Here);
        read.failed = Some("a");
        assert_eq!(pick(&read), there("b"));
        read.failed = Some("b");
        assert_eq!(pick(&read), Pick::Here);
    }

    #[test]
    fn hints_are_forgotten_when_they_prove_wrong() {
        let (hints, shard) = (Hints::default(), ShardId(1));
        hints.learn(shard, &node("b"));
        hints.unlearn(shard, "c");
        assert_eq!(hints.leader(shard), Some(node("b")));
        hints.unlearn(shard, "b");
        assert_eq!(hints.leader(shard), None);
        hints.learn(shard, &node("b"));
        hints.keep(|known| known != shard);
        assert_eq!(hints.leader(shard), None);
    }
}
