//! What each node should have: its part by weight, as far as the ways allow.

use super::flow::Network;
use super::spread::{Share, Spread};

/// Vertices whose nodes may all be on one level.
struct Part {
    vertices: Vec<usize>,
    /// What starts at each of them; negative for what has to leave it for another part.
    supply: Vec<i64>,
}

impl Spread {
    /// The share of every node: the fairest spread there is, by weight, rounded down and up.
    ///
    /// Fairest: nothing can be taken from a node and brought to one that has less for its weight. It is
    /// found by cutting (Fujishige's decomposition): when the nodes of a part cannot all be on one
    /// level, the narrowest cut tells those that must be above from those that must be below, and
    /// everything that may cross it does. Everything can arrive within the shares: it does so in parts
    /// of units in the fairest spread, and the numbers around that are whole.
    pub(super) fn shares(&self) -> Vec<Share> {
        let mut shares = vec![Share::default(); self.weights.len()];
        let mut parts = vec![Part {
            vertices: (0..self.supply.len()).collect(),
            supply: self.supply.clone(),
        }];
        while let Some(part) = parts.pop() {
            let is_node = |vertex: &&usize| **vertex < self.weights.len();
            let nodes: Vec<usize> = part.vertices.iter().filter(is_node).copied().collect();
            let weight: i64 = nodes.iter().map(|node| self.weights[*node]).sum();
            let total: i64 = part.supply.iter().sum();
            if weight == 0 {
                continue;
            }
            if let Some(parted) = self.cut(&part, total, weight) {
                parts.extend(parted);
                continue;
            }
            for node in nodes {
                let units = total * self.weights[node];
                let least = units.div_euclid(weight);
                let most = least + i64::from(units % weight != 0);
                shares[node] = Share { least, most };
            }
        }
        shares
    }

    /// Parts those whose nodes cannot all have `total / weight` for each unit of their weight.
    fn cut(&self, part: &Part, total: i64, weight: i64) -> Option<[Part; 2]> {
        let mut places = vec![None; self.supply.len()];
        for (place, vertex) in part.vertices.iter().enumerate() {
            places[*vertex] = Some(place);
        }
        let ways = self.ways.iter();
        let inside: Vec<(usize, usize, i64)> = ways
            .filter_map(|way| Some((places[way.from]?, places[way.to]?, way.room)))
            .collect();

        // In units of 1 / weight, so that all numbers are whole.
        let mut network = Network::new(part.vertices.len());
        let (source, sink) = (network.vertex(), network.vertex());
        let mut wanted = 0;
        for (place, vertex) in part.vertices.iter().enumerate() {
            let units = part.supply[place] * weight;
            if units > 0 {
                wanted += units;
                network.connect(source, place, units, 0);
            }
            let level = self.weights.get(*vertex).map_or(0, |own| total * own);
            network.connect(place, sink, level + (-units).max(0), 0);
        }
        for (from, to, room) in &inside {
            network.connect(*from, *to, room * weight, 0);
        }
        if network.fill(source, sink) == wanted {
            return None;
        }

        let is_above = network.reached(source);
        let mut supply = part.supply.clone();
        for (from, to, room) in inside {
            if is_above[from] && !is_above[to] {
                supply[from] -= room;
                supply[to] += room;
            }
        }
        let side = |above: bool| {
            let places = (0..supply.len()).filter(|place| is_above[*place] == above);
            let (vertices, supply) = places
                .map(|place| (part.vertices[place], supply[place]))
                .unzip();
            Part { vertices, supply }
        };
        Some([side(true), side(false)])
    }
}
