//! Things that are to be spread over nodes, evenly by weight, over ways with limited room: replicas
//! and preferred leaders alike.

use super::flow::Network;

/// What there is to spread, and the ways it may take. Vertices `0..nodes` are the nodes.
#[derive(Default)]
pub(super) struct Spread {
    /// How much each node should take, in proportion. At least 1.
    pub(super) weights: Vec<i64>,
    /// What starts at each vertex.
    pub(super) supply: Vec<i64>,
    pub(super) ways: Vec<Way>,
}

/// A way from one vertex to another.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) room: i64,
    /// What a unit of it costs: little for what is so already.
    pub(super) cost: i64,
}

/// The least and the most that a node may have: its share, rounded down and up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) least: i64,
    pub(super) most: i64,
}

impl Spread {
    /// Nothing to spread yet.
    pub(super) fn over(weights: Vec<i64>) -> Self {
        Self {
            supply: vec![0; weights.len()],
            weights,
            ways: Vec::new(),
        }
    }

    /// A vertex where so much starts.
    pub(super) fn vertex(&mut self, supply: i64) -> usize {
        self.supply.push(supply);
        self.supply.len() - 1
    }

    /// A way for so much, at this cost a unit.
    pub(super) fn way(&mut self, from: usize, to: usize, room: i64, cost: i64) {
        self.ways.push(Way {
            from,
            to,
            room,
            cost,
        });
    }

    /// Sends everything to the nodes at the least cost, so that each has what its share allows. True
    /// for the ways that are taken.
    pub(super) fn cheapest(&self, shares: &[Share]) -> Vec<bool> {
        let mut network = Network::new(self.supply.len());
        let (source, sink) = (network.vertex(), network.vertex());
        // What nodes take beyond the least comes out of one pool, which is just large enough: when
        // everything has arrived, every node has its least.
        let pool = network.vertex();
        let total: i64 = self.supply.iter().sum();
        let least: i64 = shares.iter().map(|share| share.least).sum();
        for (vertex, supply) in self.supply.iter().enumerate() {
            if *supply > 0 {
                network.connect(source, vertex, *supply, 0);
            }
        }
        let ways: Vec<usize> = self
            .ways
            .iter()
            .map(|way| network.connect(way.from, way.to, way.room, way.cost))
            .collect();
        for (node, share) in shares.iter().enumerate() {
            network.connect(node, sink, share.least, 0);
            network.connect(node, pool, share.most - share.least, 0);
        }
        network.connect(pool, sink, total - least, 0);
        let sent = network.fill(source, sink);
        debug_assert_eq!(sent, total, "shares can be met");
        ways.into_iter()
            .map(|way| network.carried(way) > 0)
            .collect()
    }
}
