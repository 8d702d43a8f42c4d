//! How the replicas of a shard are moved: a change is noted here before anything is done about it, and is
//! over when the group has reported that it is as the record says.
//!
//! Time line of a move: a new replica is added to the record and the former one retires → the node
//! starts it → the leader has it catch up, gives the lead away if its own replica retires, changes
//! the members → reports → the record forgets the former one → its node removes the data.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ClusterState, Life, NodeId, ShardPhase, ShardRecord};

/// One change of a shard, for which nothing else may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A replica goes from one node to another.
    Move {
        /// Where it was.
        from: NodeId,
        /// Where it will be.
        to: NodeId,
    },
    /// There is one more.
    Add {
        /// Where.
        node: NodeId,
    },
    /// There is one less. Refused when there are not more than there should be.
    Remove {
        /// Where it was.
        node: NodeId,
    },
    /// Another node should lead.
    Lead {
        /// Who should until now.
        from: NodeId,
        /// Who should from now on.
        to: NodeId,
    },
}

impl ClusterState {
    /// Notes a change, if the shard is what whoever asked has seen. While one is under way, only a replica
    /// that has not arrived may go elsewhere, back to where it came from above all: its node may have died.
    pub(super) fn place(
        &mut self,
        shard: u32,
        seen: &BTreeSet<u64>,
        change: Change,
    ) -> Result<(), String> {
        let copies = self.replication_factor.max(1) as usize;
        let record = self.shards.get(&shard);
        let record = record.ok_or_else(|| format!("there is no shard {shard}"))?;
        if !record.replicas.keys().eq(seen) {
            return Err(format!("shard {shard} has other replicas by now"));
        }
        match change {
            Change::Lead { from, to } => self.lead(shard, from, to),
            Change::Move { from, to } => {
                let retires = replica_of(shard, record, from)?;
                let is_back = record.is_arriving(from) && record.is_retiring(to);
                if !record.is_settled() && !record.is_arriving(from) {
                    return Err(busy(shard));
                }
                match is_back {
                    true => self.check_usable(to)?,
                    false => self.check_free(shard, record, to)?,
                }
                self.replace(shard, Some(retires), Some(to));
                Ok(())
            }
            Change::Add { .. } | Change::Remove { .. } if !record.is_settled() => Err(busy(shard)),
            Change::Add { node } => {
                self.check_free(shard, record, node)?;
                self.replace(shard, None, Some(node));
                Ok(())
            }
            Change::Remove { node } => {
                let retires = replica_of(shard, record, node)?;
                if record.replicas.len() <= copies {
                    return Err(format!("shard {shard} has no replica too many"));
                }
                self.replace(shard, Some(retires), None);
                Ok(())
            }
        }
    }

    /// One replica retires, and another one comes: a new one, or the one that was about to retire there.
    fn replace(&mut self, shard: u32, retires: Option<u64>, comes: Option<NodeId>) {
        let Some(record) = self.shards.get_mut(&shard) else {
            return;
        };
        let left = retires.and_then(|id| record.replicas.get(&id).copied());
        if let Some(id) = retires {
            record.retiring.insert(id);
            record.arriving.remove(&id);
        }
        if let Some(node) = comes {
            match record.runs_on(node) {
                Some(former) => {
                    record.retiring.remove(&former.0);
                }
                None => {
                    record.replicas.insert(self.next_replica, node);
                    record.arriving.insert(self.next_replica);
                    self.next_replica += 1;
                }
            }
        }
        // Who has no replica cannot lead; whoever takes its place may.
        if left == Some(record.preferred) {
            let heir = comes.or_else(|| record.voters().into_values().next());
            record.preferred = heir.unwrap_or(record.preferred);
        }
    }

    fn check_usable(&self, node: NodeId) -> Result<(), String> {
        let info = self.nodes.get(&node);
        let info = info.ok_or_else(|| format!("there is no node {node}"))?;
        match (info.storage, self.life(node)) {
            (false, _) => Err(format!("{} is a gateway", info.name)),
            (true, Life::Active) => Ok(()),
            (true, Life::Draining | Life::Leaving) => {
                Err(format!("{} is in maintenance", info.name))
            }
        }
    }

    fn check_free(&self, shard: u32, record: &ShardRecord, node: NodeId) -> Result<(), String> {
        self.check_usable(node)?;
        match record.runs_on(node) {
            Some(_) => Err(format!("node {node} has a replica of shard {shard}")),
            None => Ok(()),
        }
    }

    fn lead(&mut self, shard: u32, from: NodeId, to: NodeId) -> Result<(), String> {
        let usable = self.life(to) == Life::Active;
        let record = self.shards.get_mut(&shard);
        let record = record.ok_or_else(|| format!("there is no shard {shard}"))?;
        if record.phase != ShardPhase::Active || record.preferred != from {
            return Err(format!(
                "another node than {from} should lead shard {shard}"
            ));
        }
        if !usable || record.replica_on(to).is_none() {
            return Err(format!("node {to} cannot lead shard {shard}"));
        }
        record.preferred = to;
        Ok(())
    }

    /// New replicas for those that a node has lost. What was about to retire there is gone by now, and must
    /// not come back under its old id.
    pub(super) fn replace_replicas(&mut self, node: NodeId) {
        for record in self.shards.values_mut() {
            let ShardRecord {
                replicas, retiring, ..
            } = record;
            replicas.retain(|id, on| *on != node || !retiring.contains(id));
            let lost: Vec<u64> = record
                .replicas
                .iter()
                .filter(|(_, on)| **on == node)
                .map(|(id, _)| *id)
                .collect();
            for id in lost {
                record.retiring.insert(id);
                record.arriving.remove(&id);
                record.replicas.insert(self.next_replica, node);
                record.arriving.insert(self.next_replica);
                self.next_replica += 1;
            }
        }
    }

    /// The group says that these are its members.
    pub(super) fn settle(&mut self, shard: u32, replicas: &BTreeSet<u64>) {
        let Some(record) = self.shards.get_mut(&shard) else {
            return;
        };
        let wanted: BTreeSet<u64> = record.voters().keys().map(|id| id.0).collect();
        // A report from before the last change says nothing about it.
        if wanted != *replicas {
            return;
        }
        record.phase = ShardPhase::Active;
        record.arriving.clear();
        let retiring = std::mem::take(&mut record.retiring);
        record.replicas.retain(|id, _| !retiring.contains(id));
        self.bury();
    }
}

impl ShardRecord {
    /// Whether a node has a replica that is on its way in.
    pub fn is_arriving(&self, node: NodeId) -> bool {
        let replica = self.replica_on(node);
        replica.is_some_and(|replica| self.arriving.contains(&replica.0))
    }

    /// Whether a node has nothing but a replica that is on its way out.
    pub fn is_retiring(&self, node: NodeId) -> bool {
        let replica = self.runs_on(node);
        replica.is_some_and(|replica| self.retiring.contains(&replica.0))
    }
}

fn replica_of(shard: u32, record: &ShardRecord, node: NodeId) -> Result<u64, String> {
    let replica = record.replica_on(node);
    let none = || format!("node {node} has no replica of shard {shard}");
    replica.map(|replica| replica.0).ok_or_else(none)
}

fn busy(shard: u32) -> String {
    format!("shard {shard} is being changed")
}
