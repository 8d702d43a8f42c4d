//! Who belongs to the cluster: nodes come, are stopped for a while, go and leave a tombstone.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ClusterState;

/// Number of a node in its cluster: given at join, never reused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a node says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Drawn for every data directory: a wiped node is another incarnation.
    pub incarnation: Uuid,
    /// Where its peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach its gRPC door.
    pub grpc: String,
    /// Where clients reach its HTTP door.
    pub http: String,
    /// Whether it keeps replicas; a gateway does not.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub storage: bool,
    /// What it would be lost with; empty when nobody says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// How many replicas it should have in proportion to other nodes.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub capacity: NonZeroU16,
    /// The newest rules of `apply` that it knows ([`antumbra_shadow::RULES`]).
    #[serde(default = "first_rules", skip_serializing_if = "are_first_rules")]
    pub rules: u16,
}

fn first_rules() -> u16 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn are_first_rules(value: &u16) -> bool {
    *value == first_rules()
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn one() -> NonZeroU16 {
    NonZeroU16::MIN
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(value: &NonZeroU16) -> bool {
    *value == NonZeroU16::MIN
}

/// Where a node is in its life. One that has left is a [`Tombstone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Life {
    /// It has its share of the replicas and of the leads.
    #[default]
    Active,
    /// It will be stopped for a while: it keeps its replicas, gets no others, and should lead nothing.
    Draining,
    /// It goes for good: its replicas move to others. Once it has none it has left.
    Leaving,
}

/// A node that has left. Neither its number nor its data directory is ever accepted again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Its name, which another node may have by now.
    pub name: String,
    /// Its data directory.
    pub incarnation: Uuid,
}

/// Which node a request is about: a name alone could mean the one that came after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its name.
    pub name: String,
    /// Which one under that name.
    pub incarnation: Uuid,
}

impl NodeInfo {
    /// Who it is.
    pub fn who(&self) -> Who {
        Who {
            name: self.name.clone(),
            incarnation: self.incarnation,
        }
    }
}

impl ClusterState {
    /// Where a node is in its life.
    pub fn life(&self, node: NodeId) -> Life {
        self.lives.get(&node).copied().unwrap_or_default()
    }

    /// Whether this data directory is of a node that has left.
    pub fn has_left(&self, incarnation: Uuid) -> bool {
        let mut left = self.left.values();
        left.any(|tombstone| tombstone.incarnation == incarnation)
    }

    /// The node for which the cluster is being kept whole, if there still is one: who holds the one slot
    /// for maintenance.
    pub fn in_maintenance(&self) -> Option<NodeId> {
        let holder = self.maintenance?;
        let mut nodes = self.nodes.iter();
        let found = nodes.find(|(_, node)| node.incarnation == holder);
        found.map(|(id, _)| *id)
    }

    /// The rules that a leader stamps into entries: those that every node with replicas has announced
    /// (invariant 12). They never go back, because who knows less is not let in any more.
    pub fn agreed_rules(&self) -> u16 {
        let keepers = self.nodes.values().filter(|node| node.storage);
        keepers.map(|node| node.rules).min().unwrap_or(1)
    }

    /// Refuses a node that could not apply what is in the logs, or will be.
    fn check_rules(&self, node: &NodeInfo) -> Result<(), String> {
        let agreed = self.agreed_rules();
        if node.storage && node.rules < agreed {
            return Err(format!(
                "{} knows rules {}, and the cluster uses rules {agreed}: start a newer version",
                node.name, node.rules
            ));
        }
        Ok(())
    }

    /// Whether any replica is on this node, those on their way included.
    pub fn has_replicas(&self, node: NodeId) -> bool {
        let mut shards = self.shards.values();
        shards.any(|record| record.replicas.values().any(|on| *on == node))
    }

    /// A known name with its incarnation keeps everything; with another one its data are gone, and
    /// it gets all its replicas anew. What has replicas cannot become a gateway, and who has left does not
    /// come back.
    pub(super) fn join(&mut self, node: NodeInfo) -> Result<NodeId, String> {
        if self.has_left(node.incarnation) {
            return Err(format!(
                "the data directory of {} is of a node that has left",
                node.name
            ));
        }
        self.check_rules(&node)?;
        let Some(id) = self.node_named(&node.name) else {
            let id = NodeId(self.next_node);
            self.next_node += 1;
            self.nodes.insert(id, node);
            return Ok(id);
        };
        if !node.storage && self.has_replicas(id) {
            return Err(format!("{} is a node that has replicas", node.name));
        }
        let known = self.nodes.insert(id, node.clone());
        if known.is_some_and(|known| known.incarnation != node.incarnation) {
            self.lives.remove(&id);
            self.replace_replicas(id);
        }
        Ok(id)
    }

    /// Forgets a node that keeps nothing. One that is not known is gone already.
    pub(super) fn leave(&mut self, name: &str, incarnation: Uuid) -> Result<(), String> {
        let Some(id) = self.node_named(name) else {
            return Ok(());
        };
        if self.nodes.get(&id).map(|node| node.incarnation) != Some(incarnation) {
            return Err("another one has taken its name".into());
        }
        if self.has_replicas(id) {
            return Err(format!("{name} has replicas"));
        }
        self.nodes.remove(&id);
        self.lives.remove(&id);
        Ok(())
    }

    /// The node is reached elsewhere, or says something else of itself.
    pub(super) fn moved(&mut self, node: NodeInfo) -> Result<(), String> {
        let id = self.present(&node.who())?;
        self.check_rules(&node)?;
        self.nodes.insert(id, node);
        Ok(())
    }

    /// The node will be stopped for a while.
    pub(super) fn drain(&mut self, who: &Who) -> Result<(), String> {
        let id = self.keeper_of_data(who)?;
        if self.life(id) == Life::Leaving {
            return Err(format!("{} is leaving the cluster", who.name));
        }
        self.take_slot(who)?;
        self.lives.insert(id, Life::Draining);
        Ok(())
    }

    /// The node stays after all, whatever it was about to do.
    pub(super) fn resume(&mut self, who: &Who) -> Result<(), String> {
        let id = self.present(who)?;
        self.lives.remove(&id);
        if self.maintenance == Some(who.incarnation) {
            self.maintenance = None;
        }
        Ok(())
    }

    /// The node goes for good.
    pub(super) fn decommission(&mut self, who: &Who) -> Result<(), String> {
        let id = self.keeper_of_data(who)?;
        let stays = |(other, node): &(&NodeId, &NodeInfo)| {
            **other != id && node.storage && self.life(**other) != Life::Leaving
        };
        let left = self.nodes.iter().filter(stays).count();
        if left < self.replication_factor as usize {
            return Err(format!(
                "{left} nodes would be left for {} replicas of every shard: add a node first",
                self.replication_factor
            ));
        }
        self.take_slot(who)?;
        self.lives.insert(id, Life::Leaving);
        self.bury();
        Ok(())
    }

    /// Whoever is leaving and has nothing left has left.
    pub(super) fn bury(&mut self) {
        let leaving = self.lives.iter();
        let leaving = leaving.filter(|(_, life)| **life == Life::Leaving);
        let gone: Vec<NodeId> = leaving
            .map(|(id, _)| *id)
            .filter(|id| !self.has_replicas(*id))
            .collect();
        for id in gone {
            self.lives.remove(&id);
            let Some(node) = self.nodes.remove(&id) else {
                continue;
            };
            if self.maintenance == Some(node.incarnation) {
                self.maintenance = None;
            }
            let tombstone = Tombstone {
                name: node.name,
                incarnation: node.incarnation,
            };
            self.left.insert(id, tombstone);
        }
    }

    /// The slot is for one node at a time; who is not there any more does not hold it.
    fn take_slot(&mut self, who: &Who) -> Result<(), String> {
        let holder = self.in_maintenance();
        let holder = holder.and_then(|id| self.nodes.get(&id));
        if let Some(holder) = holder.filter(|holder| holder.incarnation != who.incarnation) {
            return Err(format!(
                "{} is in maintenance: one node at a time",
                holder.name
            ));
        }
        self.maintenance = Some(who.incarnation);
        Ok(())
    }

    /// The number of a node that is still the one that is meant.
    fn present(&self, who: &Who) -> Result<NodeId, String> {
        let id = self.node_named(&who.name);
        let id = id.ok_or_else(|| format!("there is no node {}", who.name))?;
        let known = self.nodes.get(&id).map(|node| node.incarnation);
        match known == Some(who.incarnation) {
            true => Ok(id),
            false => Err("another one has taken its name".into()),
        }
    }

    fn keeper_of_data(&self, who: &Who) -> Result<NodeId, String> {
        let id = self.present(who)?;
        match self.nodes.get(&id).is_some_and(|node| node.storage) {
            true => Ok(id),
            false => Err(format!("{} is a gateway: stop it", who.name)),
        }
    }
}
