//! What a node that is about to be stopped has before it: whether it is stopped for a while, or goes for good.
//!
//! Kubernetes begins to stop a pod at the moment at which the StatefulSet does not need it any more; the leader of
//! the meta shard takes longer to be sure. So the node asks for the StatefulSet itself.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::bootstrap::number_of;
use crate::cluster::control::Standing;
use crate::cluster::office::Office;
use crate::cluster::state::{ClusterState, Life, NodeInfo};

use super::reads::Found;

/// What becomes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    /// It belongs to the cluster, or to none yet: it can be stopped.
    Stays,
    /// It goes for good, and has to run until it has left.
    Leaves,
    /// It has left: it can be stopped.
    Left,
    /// Nobody knows; ask again.
    Unknown,
}

/// A node and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outlook {
    /// Its name.
    pub(crate) node: String,
    /// What becomes of it.
    pub(crate) fate: Fate,
    /// Replicas on it, those on their way included.
    pub(crate) replicas: usize,
}

/// Says what becomes of this node. Asks the API of Kubernetes where that decides; may be dropped midway.
pub(crate) async fn outlook(office: &Arc<Office>) -> Outlook {
    let me = office.info();
    let governor = office.charter().governor();
    let set = match governor {
        Some(governor) => Some((governor.ordinal(), governor.fresh().await)),
        None => None,
    };
    // After the StatefulSet: what was asked for a while ago may have happened.
    let state = office.state().borrow().clone();
    let is_member = matches!(office.standing(), Standing::Member { .. });
    let stage = is_member.then(|| Stage::of(state.as_deref(), me)).flatten();
    let factor = state.as_ref().map(|state| state.replication_factor);
    let replicas = state.as_ref().and_then(|state| {
        let id = number_of(state, me)?;
        let on = state.shards.values();
        Some(on.filter(|shard| shard.runs_on(id).is_some()).count())
    });
    Outlook {
        node: me.name.clone(),
        fate: fate(stage, set, factor),
        replicas: replicas.unwrap_or(0),
    }
}

/// How far a member of a cluster has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    In(Life),
    Left,
}

impl Stage {
    /// Nothing where another data directory has the name.
    fn of(state: Option<&ClusterState>, me: &NodeInfo) -> Option<Stage> {
        let Some(state) = state else {
            return Some(Stage::In(Life::Active));
        };
        if state.has_left(me.incarnation) {
            return Some(Stage::Left);
        }
        number_of(state, me).map(|id| Stage::In(state.life(id)))
    }
}

/// Pure. `set` is the ordinal of this node and what was read of its StatefulSet, where that decides.
fn fate(stage: Option<Stage>, set: Option<(u32, Found)>, factor: Option<u32>) -> Fate {
    let life = match stage {
        None => return Fate::Stays,
        Some(Stage::Left) => return Fate::Left,
        Some(Stage::In(life)) => life,
    };
    match set {
        // Whoever is being deleted as a whole keeps what he has.
        Some((_, Found::Missing)) => Fate::Stays,
        Some((_, Found::Set(set))) if set.is_being_deleted => Fate::Stays,
        // One that was leaving is taken back.
        Some((ordinal, Found::Set(set))) if ordinal < set.end() => Fate::Stays,
        Some((_, Found::Set(set))) => match factor {
            // Parked.
            Some(factor) if set.replicas < factor => Fate::Stays,
            Some(_) => Fate::Leaves,
            None => Fate::Unknown,
        },
        Some((_, Found::Unknown(_))) if life != Life::Leaving => Fate::Unknown,
        Some((_, Found::Unknown(_))) => Fate::Leaves,
        None if life == Life::Leaving => Fate::Leaves,
        None => Fate::Stays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::StatefulSet;

    const FACTOR: Option<u32> = Some(3);

    fn set(replicas: u32, is_being_deleted: bool) -> Found {
        Found::Set(StatefulSet {
            uid: "u".into(),
            replicas,
            start: 0,
            is_being_deleted,
        })
    }

    /// The moment between the StatefulSet that does not need a node any more and the leader that has noticed.
    #[test]
    fn node_that_is_not_needed_leaves_before_the_leader_says_so() {
        for life in [Life::Active, Life::Draining, Life::Leaving] {
            let stage = Some(Stage::In(life));
            assert_eq!(fate(stage, Some((4, set(4, false))), FACTOR), Fate::Leaves);
            assert_eq!(
                fate(stage, Some((3, set(4, false))), FACTOR),
                Fate::Stays,
                "a restart"
            );
        }
    }

    /// What would wait for a long time for nothing is told to go on.
    #[test]
    fn parked_and_deleted_nodes_do_not_wait() {
        for life in [Life::Active, Life::Leaving] {
            let stage = Some(Stage::In(life));
            assert_eq!(fate(stage, Some((4, set(0, false))), FACTOR), Fate::Stays);
            assert_eq!(fate(stage, Some((4, set(2, false))), FACTOR), Fate::Stays);
            assert_eq!(fate(stage, Some((4, set(3, true))), FACTOR), Fate::Stays);
            assert_eq!(fate(stage, Some((4, Found::Missing)), FACTOR), Fate::Stays);
        }
    }

    #[test]
    fn what_the_cluster_says_counts_where_the_set_is_not_known() {
        let unknown = || Some((4, Found::Unknown("no answer".into())));
        let of = |life| Some(Stage::In(life));
        assert_eq!(fate(of(Life::Leaving), unknown(), FACTOR), Fate::Leaves);
        assert_eq!(fate(of(Life::Active), unknown(), FACTOR), Fate::Unknown);
        assert_eq!(fate(of(Life::Leaving), None, FACTOR), Fate::Leaves);
        assert_eq!(fate(of(Life::Active), None, FACTOR), Fate::Stays);
        assert_eq!(fate(Some(Stage::Left), unknown(), FACTOR), Fate::Left);
        assert_eq!(
            fate(None, unknown(), FACTOR),
            Fate::Stays,
            "it belongs to no cluster"
        );
        // Whether it is parked is not known before the state is.
        assert_eq!(
            fate(of(Life::Active), Some((4, set(0, false))), None),
            Fate::Unknown
        );
        assert_eq!(
            fate(of(Life::Active), Some((4, set(5, false))), None),
            Fate::Stays
        );
    }
}
