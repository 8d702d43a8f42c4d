//! Nodes that do not hear each other. Clients reach all of them all the time, which is the worst
//! that can be done to reads.

use anyhow::Result;

use super::Harm;
use crate::chaos::cluster::Cluster;
use crate::chaos::network::Cut;
use crate::chaos::plan::{Fault, Planned};

/// Cuts between nodes.
pub(super) struct Partition {
    cuts: Vec<Cut>,
    dropped: u64,
}

impl Partition {
    pub(super) fn new(cuts: Vec<Cut>) -> Partition {
        Partition { cuts, dropped: 0 }
    }
}

impl Harm for Partition {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        cluster.network().cut(&self.cuts)
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        let network = cluster.network();
        for node in 0..cluster.nodes() {
            self.dropped += network.dropped(node)?.iter().sum::<u64>();
        }
        network.heal()
    }

    fn hit(&self) -> bool {
        self.dropped > 0
    }
}

/// What a planned partition cuts. Pure.
pub fn cuts(planned: &Planned) -> Vec<Cut> {
    let nodes = &planned.nodes;
    let victims = planned.victims.clamp(1, nodes.len() - 1);
    let (some, others) = nodes.split_at(victims);
    let between = |some: &[usize], others: &[usize]| -> Vec<Cut> {
        let pairs = some.iter().flat_map(|at| {
            others.iter().map(|from| Cut {
                at: *at,
                from: *from,
            })
        });
        pairs.collect()
    };
    match planned.fault {
        // Either the few do not hear the others, or the others do not hear the few.
        Fault::PartitionOneWay if planned.flavour.is_multiple_of(2) => between(some, others),
        Fault::PartitionOneWay => between(others, some),
        Fault::PartitionBridge => {
            let (left, right) = nodes[1..].split_at(nodes.len() / 2);
            [between(left, right), between(right, left)].concat()
        }
        _ => [between(some, others), between(others, some)].concat(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::chaos::plan::{Faults, Plan};

    fn planned(fault: Fault, nodes: &[usize], victims: usize, flavour: u64) -> Planned {
        Planned {
            fault,
            nodes: nodes.to_vec(),
            victims,
            hold: Duration::ZERO,
            pause: Duration::ZERO,
            flavour,
        }
    }

    fn pairs(planned: &Planned) -> Vec<(usize, usize)> {
        cuts(planned).iter().map(|cut| (cut.at, cut.from)).collect()
    }

    /// Each shape of a partition cuts what its name says.
    #[test]
    fn cuts_as_named() {
        let one_way = |flavour| planned(Fault::PartitionOneWay, &[2, 0, 1], 1, flavour);
        assert_eq!(pairs(&one_way(0)), [(2, 0), (2, 1)]);
        assert_eq!(pairs(&one_way(1)), [(0, 2), (1, 2)]);
        let two_way = planned(Fault::PartitionTwoWay, &[2, 0, 1], 1, 0);
        assert_eq!(pairs(&two_way), [(2, 0), (2, 1), (0, 2), (1, 2)]);
        let bridge = planned(Fault::PartitionBridge, &[2, 0, 1], 1, 0);
        assert_eq!(pairs(&bridge), [(0, 1), (1, 0)]);
        let bridge = planned(Fault::PartitionBridge, &[4, 0, 1, 2, 3], 1, 0);
        let cut: BTreeSet<_> = pairs(&bridge).into_iter().collect();
        assert_eq!(cut.len(), 8);
        assert!(cut.iter().all(|(at, from)| *at != 4 && *from != 4));
    }

    /// The same seed gives the same faults, every kind comes, and nothing else.
    #[test]
    fn plans_follow_from_the_seed() {
        let faults: Faults = "kill,partition,stop".parse().expect("names of faults");
        let plan = |seed| {
            let hold_max = Duration::from_secs(30);
            Plan::new(seed, &faults, 3, hold_max)
                .take(50)
                .collect::<Vec<_>>()
        };
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let kinds: BTreeSet<_> = plan(7).iter().map(|planned| planned.fault).collect();
        assert_eq!(kinds, faults.0);
        for planned in plan(7) {
            assert!(planned.hold >= Duration::from_millis(100), "{planned:?}");
            assert!(planned.hold <= Duration::from_secs(30), "{planned:?}");
            let mut nodes = planned.nodes.clone();
            nodes.sort_unstable();
            assert_eq!(nodes, [0, 1, 2]);
        }
    }

    /// Names are read as they are written, and what does not fit the cluster is refused.
    #[test]
    fn reads_lists_of_faults() {
        let parse = |text: &str| text.parse::<Faults>();
        let all = parse("all").expect("a list");
        assert_eq!(all.0.len(), Fault::ALL.len());
        assert_eq!(parse(&all.text()).expect("a list"), all);
        assert!(
            !all.fitting(3)
                .expect("some fit")
                .0
                .contains(&Fault::KillTwo)
        );
        assert!(parse("kill-two").expect("a list").fitting(3).is_err());
        assert!(parse("kill, power").expect("a list").fitting(1).is_ok());
        let error = parse("kill,flood").expect_err("no such fault").to_string();
        assert!(
            error.contains("flood") && error.contains("kill-leader"),
            "{error}"
        );
        assert_eq!(parse("partition").expect("a list").0.len(), 3);
    }
}
