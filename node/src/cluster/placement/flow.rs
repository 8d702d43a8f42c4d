//! Flows of least cost through a network of arcs with whole-numbered room. Both the shares of the nodes
//! and the places of the replicas are found with it.
//!
//! Primal and dual in turn (Ford and Fulkerson): the shortest distance from source to sink is found,
//! then as much as possible is sent over shortest ways at once (Dinic), until the sink is cut off. There
//! are few costs here, so there are few distances and few rounds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// No way leads there.
const UNREACHED: i64 = i64::MAX;

/// Vertices, numbered from zero, and arcs between them.
pub(super) struct Network {
    /// Arc `i` and the way back over it, `i ^ 1`.
    arcs: Vec<Arc>,
    /// The arcs that leave each vertex, in the order in which they were made: the order of choice
    /// between ways of equal cost.
    leaving: Vec<Vec<usize>>,
}

struct Arc {
    to: usize,
    room: i64,
    cost: i64,
}

impl Network {
    /// Vertices without arcs.
    pub(super) fn new(vertices: usize) -> Self {
        Self {
            arcs: Vec::new(),
            leaving: vec![Vec::new(); vertices],
        }
    }

    /// One more vertex.
    pub(super) fn vertex(&mut self) -> usize {
        self.leaving.push(Vec::new());
        self.leaving.len() - 1
    }

    /// An arc, for [`Self::carried`]. Room and cost are not negative.
    pub(super) fn connect(&mut self, from: usize, to: usize, room: i64, cost: i64) -> usize {
        let arc = self.arcs.len();
        self.arcs.push(Arc { to, room, cost });
        self.arcs.push(Arc {
            to: from,
            room: 0,
            cost: -cost,
        });
        self.leaving[from].push(arc);
        self.leaving[to].push(arc + 1);
        arc
    }

    /// What an arc carries.
    pub(super) fn carried(&self, arc: usize) -> i64 {
        self.arcs[arc ^ 1].room
    }

    /// Sends as much as possible from source to sink, at the least cost; says how much.
    pub(super) fn fill(&mut self, source: usize, sink: usize) -> i64 {
        let mut heights = vec![0; self.leaving.len()];
        let mut sent = 0;
        loop {
            let distances = self.distances(source, &heights);
            let nearest = distances[sink];
            if nearest == UNREACHED {
                return sent;
            }
            for (height, distance) in heights.iter_mut().zip(distances) {
                *height += distance.min(nearest);
            }
            while let Some(levels) = self.levels(source, sink, &heights) {
                sent += self.send(source, sink, &levels, &heights);
            }
        }
    }

    /// The vertices that more could be sent to. After [`Self::fill`] they are the source's side of the
    /// narrowest cut.
    pub(super) fn reached(&self, source: usize) -> Vec<bool> {
        let mut reached = vec![false; self.leaving.len()];
        reached[source] = true;
        let mut open = vec![source];
        while let Some(at) = open.pop() {
            for arc in self.leaving[at].iter().map(|arc| &self.arcs[*arc]) {
                if arc.room > 0 && !reached[arc.to] {
                    reached[arc.to] = true;
                    open.push(arc.to);
                }
            }
        }
        reached
    }

    /// Cost of an arc as seen from the heights of its ends: never negative while it has room.
    fn slope(&self, from: usize, arc: &Arc, heights: &[i64]) -> i64 {
        arc.cost + heights[from] - heights[arc.to]
    }

    /// The least cost to get to each vertex (Dijkstra), measured in slopes.
    fn distances(&self, source: usize, heights: &[i64]) -> Vec<i64> {
        let mut distances = vec![UNREACHED; self.leaving.len()];
        distances[source] = 0;
        let mut open = BinaryHeap::from([Reverse((0, source))]);
        while let Some(Reverse((distance, at))) = open.pop() {
            if distance > distances[at] {
                continue;
            }
            for arc in self.leaving[at].iter().map(|arc| &self.arcs[*arc]) {
                if arc.room == 0 {
                    continue;
                }
                let there = distance + self.slope(at, arc, heights);
                if there < distances[arc.to] {
                    distances[arc.to] = there;
                    open.push(Reverse((there, arc.to)));
                }
            }
        }
        distances
    }

    /// How many arcs away each vertex is over arcs that are on shortest ways; none when the sink is
    /// cut off from them.
    fn levels(&self, source: usize, sink: usize, heights: &[i64]) -> Option<Vec<usize>> {
        let mut levels = vec![usize::MAX; self.leaving.len()];
        levels[source] = 0;
        let mut open = VecDeque::from([source]);
        while let Some(at) = open.pop_front() {
            if at == sink {
                return Some(levels);
            }
            for arc in self.leaving[at].iter().map(|arc| &self.arcs[*arc]) {
                let is_on_way = arc.room > 0 && self.slope(at, arc, heights) == 0;
                if is_on_way && levels[arc.to] == usize::MAX {
                    levels[arc.to] = levels[at] + 1;
                    open.push_back(arc.to);
                }
            }
        }
        None
    }

    /// Sends over ways that go up one level at every arc, until each of them is blocked.
    fn send(&mut self, source: usize, sink: usize, levels: &[usize], heights: &[i64]) -> i64 {
        let mut next = vec![0; self.leaving.len()];
        let mut way: Vec<usize> = Vec::new();
        let (mut at, mut sent) = (source, 0);
        loop {
            if at == sink {
                let room = way.iter().map(|arc| self.arcs[*arc].room).min();
                let room = room.unwrap_or(0);
                for arc in &way {
                    self.arcs[*arc].room -= room;
                    self.arcs[arc ^ 1].room += room;
                }
                sent += room;
                // On from where the first arc is full.
                let full = way.iter().position(|arc| self.arcs[*arc].room == 0);
                let full = full.unwrap_or(0);
                at = self.arcs[way[full] ^ 1].to;
                way.truncate(full);
            } else if let Some(number) = self.leaving[at].get(next[at]).copied() {
                let arc = &self.arcs[number];
                let is_on_way = arc.room > 0
                    && levels[arc.to] == levels[at] + 1
                    && self.slope(at, arc, heights) == 0;
                match is_on_way {
                    true => {
                        way.push(number);
                        at = arc.to;
                    }
                    false => next[at] += 1,
                }
            } else {
                let Some(back) = way.pop() else {
                    return sent;
                };
                at = self.arcs[back ^ 1].to;
                next[at] += 1;
            }
        }
    }
}
