//! Who may join and leave: what `cluster.membership` means on this node.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cluster::state::{ClusterState, Life, NodeInfo};
use crate::config::{Config, Membership};
use crate::kubernetes::{Error, PodName};

use super::governor::Governor;

/// Who decides which nodes belong to the cluster. Gateways come and go in any case.
#[derive(Debug, Clone)]
pub(crate) enum Charter {
    /// The list of seeds.
    Static(BTreeSet<String>),
    /// Whoever starts a node, and operators.
    Api,
    /// The StatefulSet whose pod this node is; a gateway is none.
    Kubernetes(Option<Arc<Governor>>),
}

impl Charter {
    /// As the configuration says. An error when this should be a pod and is none.
    pub(crate) fn of(config: &Config) -> Result<Charter, Error> {
        Ok(match config.cluster.membership {
            Membership::Api => Charter::Api,
            Membership::Static => {
                let seeds = config.cluster.seeds.0.keys().cloned();
                // Without seeds a node is a cluster of its own.
                let own = config.node.storage.then(|| config.node.name.clone());
                Charter::Static(seeds.chain(own).collect())
            }
            Membership::Kubernetes if config.node.storage => {
                Charter::Kubernetes(Governor::new(config)?.map(Arc::new))
            }
            Membership::Kubernetes => Charter::Kubernetes(None),
        })
    }

    /// The StatefulSet of this node, if that decides.
    pub(crate) fn governor(&self) -> Option<&Arc<Governor>> {
        match self {
            Charter::Kubernetes(governor) => governor.as_ref(),
            Charter::Static(_) | Charter::Api => None,
        }
    }

    /// Whether a StatefulSet decides.
    pub(crate) fn is_of_pods(&self) -> bool {
        matches!(self, Charter::Kubernetes(_))
    }

    /// Whether a node may be let in; else why not. One that belongs to the cluster may always come back.
    pub(crate) fn lets_in(
        &self,
        node: &NodeInfo,
        state: Option<&ClusterState>,
    ) -> Result<(), String> {
        let is_known = state.is_some_and(|state| state.node_named(&node.name).is_some());
        match self {
            Charter::Static(seeds) if node.storage && !is_known && !seeds.contains(&node.name) => {
                Err(format!(
                    "`cluster.membership` is `static`, and {} is not among `cluster.seeds`",
                    node.name
                ))
            }
            _ => Ok(()),
        }
    }

    /// Whether a command may send a node away; else why not.
    pub(crate) fn sends_away(&self, node: &str) -> Result<(), String> {
        match self {
            Charter::Api => Ok(()),
            Charter::Static(_) => Err(format!(
                "`cluster.membership` is `static`: the nodes are those of `cluster.seeds`, and {node} stays"
            )),
            Charter::Kubernetes(_) if self.governs(node) => Err(governed(node)),
            Charter::Kubernetes(_) => Ok(()),
        }
    }

    /// Whether a command may let a node stay that is where it is in its life; else why not.
    pub(crate) fn takes_back(&self, node: &str, life: Life) -> Result<(), String> {
        match self {
            Charter::Kubernetes(_) if life == Life::Leaving && self.governs(node) => {
                Err(governed(node))
            }
            _ => Ok(()),
        }
    }

    /// What scale-in waits for, where this node leads the meta shard.
    pub(crate) fn note(&self) -> Option<String> {
        self.governor().and_then(|governor| governor.note())
    }

    fn governs(&self, node: &str) -> bool {
        match self {
            Charter::Kubernetes(Some(governor)) => governor.governs(node),
            // A gateway does not know which StatefulSet it is.
            Charter::Kubernetes(None) => PodName::parse(node).is_some(),
            Charter::Static(_) | Charter::Api => false,
        }
    }
}

fn governed(node: &str) -> String {
    let set = PodName::parse(node).map_or_else(String::new, |pod| pod.set);
    format!(
        "`cluster.membership` is `kubernetes`: whether {node} stays is decided by the replicas of the \
         StatefulSet {set}; scale that"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU16;

    use uuid::Uuid;

    use super::*;
    use crate::cluster::Founding;
    use crate::config::Pod;

    fn node(name: &str, storage: bool) -> NodeInfo {
        NodeInfo {
            name: name.into(),
            incarnation: Uuid::from_u128(1),
            peer: String::new(),
            grpc: String::new(),
            http: String::new(),
            storage,
            zone: String::new(),
            capacity: NonZeroU16::MIN,
            rules: 1,
        }
    }

    fn config(membership: Membership, storage: bool) -> Config {
        let mut config = Config::default();
        config.cluster.membership = membership;
        config.node.name = "antumbra-0".into();
        config.node.storage = storage;
        let seeds = ["antumbra-0", "antumbra-1"];
        config.cluster.seeds.0 = seeds.map(|name| (name.into(), "h:1".into())).into();
        config.pod = Pod {
            api_host: Some("10.0.0.1".into()),
            api_port: Some("443".into()),
            ..Pod::default()
        };
        config
    }

    /// With a static membership nobody joins or leaves, but for gateways and those who belong to it.
    #[test]
    fn static_membership_is_the_seeds() {
        let charter = Charter::of(&config(Membership::Static, true)).unwrap();
        assert!(charter.lets_in(&node("antumbra-1", true), None).is_ok());
        assert!(charter.lets_in(&node("gateway-x", false), None).is_ok());
        let why = charter
            .lets_in(&node("antumbra-2", true), None)
            .unwrap_err();
        assert!(why.contains("antumbra-2"), "{why}");
        let founding = Founding {
            cluster_id: Uuid::from_u128(7),
            replication_factor: 1,
            shards: 1,
            members: vec![node("antumbra-2", true)],
        };
        let state = founding.state();
        let known = charter.lets_in(&node("antumbra-2", true), Some(&state));
        assert_eq!(
            known,
            Ok(()),
            "it belonged to the cluster before the option was set"
        );
        assert!(charter.sends_away("antumbra-1").is_err());
        assert!(charter.takes_back("antumbra-1", Life::Draining).is_ok());
    }

    /// Pods come and go with their StatefulSet, other nodes by command; maintenance is for everybody.
    #[test]
    fn pods_are_not_sent_away_by_command() {
        let charter = Charter::of(&config(Membership::Kubernetes, true)).unwrap();
        assert!(charter.governor().is_some());
        let why = charter.sends_away("antumbra-4").unwrap_err();
        assert!(why.contains("StatefulSet antumbra"), "{why}");
        assert!(charter.takes_back("antumbra-4", Life::Leaving).is_err());
        assert!(charter.takes_back("antumbra-4", Life::Draining).is_ok());
        assert!(charter.sends_away("other-4").is_ok());
        assert!(charter.sends_away("machine").is_ok());
        assert!(charter.lets_in(&node("machine", true), None).is_ok());

        let gateway = Charter::of(&config(Membership::Kubernetes, false)).unwrap();
        assert!(gateway.governor().is_none());
        assert!(gateway.sends_away("antumbra-4").is_err());
        assert!(gateway.sends_away("machine").is_ok());
    }

    #[test]
    fn everybody_comes_and_goes_by_default() {
        let charter = Charter::of(&config(Membership::Api, true)).unwrap();
        assert!(charter.lets_in(&node("x-9", true), None).is_ok());
        assert!(charter.sends_away("x-9").is_ok());
        assert!(charter.takes_back("x-9", Life::Leaving).is_ok());
        assert_eq!(charter.note(), None);
    }

    /// Outside a pod nothing can be read: it is said at the start.
    #[test]
    fn a_process_that_is_no_pod_is_refused() {
        let mut config = config(Membership::Kubernetes, true);
        config.pod = Pod::default();
        assert!(matches!(Charter::of(&config), Err(Error::NotInPod { .. })));
        config.node.storage = false;
        assert!(Charter::of(&config).is_ok(), "a gateway reads nothing");
    }
}
