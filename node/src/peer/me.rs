//! Who this node is on the link, and where the others are.

use std::collections::BTreeMap;
use std::sync::Arc;

use antumbra_raft::Node;
use arc_swap::ArcSwap;
use parking_lot::RwLock;
use uuid::Uuid;

/// Who this node is on the link. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Me(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    cluster: RwLock<Option<Uuid>>,
}

impl Me {
    /// A node that belongs to no cluster yet: it answers control requests, but has no links.
    pub fn new(name: String) -> Me {
        Me(Arc::new(Inner {
            name,
            cluster: RwLock::new(None),
        }))
    }

    /// From now on this node belongs to a cluster.
    pub fn set_cluster(&self, cluster: Uuid) {
        *self.0.cluster.write() = Some(cluster);
    }

    /// The cluster this node belongs to.
    pub fn cluster(&self) -> Option<Uuid> {
        *self.0.cluster.read()
    }

    /// The name of this node.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// Where the nodes are: peer addresses (`host:port`) by name. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<ArcSwap<BTreeMap<String, String>>>);

impl Directory {
    /// A directory without nodes.
    pub fn new() -> Directory {
        Directory::default()
    }

    /// Replaces all addresses. Connections that are open stay where they are.
    pub fn set(&self, addresses: BTreeMap<String, String>) {
        self.0.store(Arc::new(addresses));
    }

    /// Where a node is.
    pub fn address(&self, name: &str) -> Option<String> {
        self.0.load().get(name).cloned()
    }

    /// Where a node is; what is known of it elsewhere counts when it is not in the directory.
    pub(super) fn locate(&self, node: &Node) -> Option<String> {
        let known = self.address(&node.name);
        known.or_else(|| Some(node.address.clone()).filter(|address| !address.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that moved must be found at its new place, one that nobody announced at its old one.
    #[test]
    fn directory_wins_over_the_address_of_the_membership() {
        let directory = Directory::new();
        let node = |address: &str| Node {
            name: "node-2".to_owned(),
            address: address.to_owned(),
        };
        assert_eq!(directory.locate(&node("")), None);
        assert_eq!(directory.locate(&node("a:1")).as_deref(), Some("a:1"));
        directory.set(BTreeMap::from([("node-2".to_owned(), "b:2".to_owned())]));
        assert_eq!(directory.locate(&node("a:1")).as_deref(), Some("b:2"));
        assert_eq!(directory.address("node-3"), None);
    }
}
