//! Nodes that come and go while the others serve, and replicas that move. What is asked for is asked through
//! the commands of an operator, and proven by what the cluster says of itself.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Harm;
use crate::chaos::cluster::{Cluster, name};
use crate::chaos::topology;

/// How long the cluster may take until something is as it was asked for.
const LIMIT: Duration = Duration::from_secs(120);
const READY_LIMIT: Duration = Duration::from_secs(60);
const ASK_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// Two nodes come; when replicas and leads are even they go again.
#[derive(Default)]
pub(super) struct Add {
    was_even: bool,
    left: bool,
}

impl Harm for Add {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        let spares = cluster.spares();
        for spare in &spares {
            cluster.start(*spare)?;
        }
        cluster.wait_ready(&spares, READY_LIMIT)?;
        let all = cluster.nodes() + spares.len();
        until("replicas and leads are even", cluster, 0, |nodes| {
            nodes.len() == all && is_even(nodes, "replicas") && is_even(nodes, "leaderships")
        })?;
        self.was_even = true;
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        for spare in cluster.spares() {
            self.left = send_away(cluster, 0, spare)?;
            cluster.wipe(spare)?;
        }
        let all = cluster.nodes();
        until("replicas and leads are even", cluster, 0, |nodes| {
            nodes.len() == all && is_even(nodes, "replicas") && is_even(nodes, "leaderships")
        })
    }

    fn hit(&self) -> bool {
        self.was_even && self.left
    }
}

/// A node gives its leads away, and may have them again.
pub(super) struct Drain {
    victim: usize,
    led: u64,
    leads: u64,
}

impl Drain {
    pub(super) fn new(victim: usize) -> Drain {
        Drain {
            victim,
            led: 0,
            leads: u64::MAX,
        }
    }
}

impl Harm for Drain {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        let node = name(self.victim);
        let asked = other_than(cluster, self.victim);
        self.led = count(&topology::nodes(cluster, asked)?, &node, "leaderships");
        operate(cluster, asked, &["drain", &node, "--no-wait"])?;
        until("it leads nothing", cluster, asked, |nodes| {
            count(nodes, &node, "leaderships") == 0
        })?;
        self.leads = 0;
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        let asked = other_than(cluster, self.victim);
        operate(cluster, asked, &["resume", &name(self.victim)])
    }

    fn hit(&self) -> bool {
        self.led > 0 && self.leads == 0
    }
}

/// A node leaves for good; its directory comes back, is set aside, and the node joins anew.
pub(super) struct Decommission {
    victim: usize,
    left: bool,
    came_back: bool,
}

impl Decommission {
    pub(super) fn new(victim: usize) -> Decommission {
        Decommission {
            victim,
            left: false,
            came_back: false,
        }
    }
}

impl Harm for Decommission {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        come(cluster)?;
        let asked = other_than(cluster, self.victim);
        self.left = send_away(cluster, asked, self.victim)?;
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        let (node, asked) = (name(self.victim), other_than(cluster, self.victim));
        cluster.start(self.victim)?;
        cluster.wait_ready(&[self.victim], READY_LIMIT)?;
        until("it has replicas again", cluster, asked, |nodes| {
            count(nodes, &node, "replicas") > 0
        })?;
        self.came_back = cluster.log(self.victim).contains("it is set aside");
        go(cluster, asked)
    }

    fn hit(&self) -> bool {
        self.left && self.came_back
    }
}

/// A replica moves to a node that has just come, from the leader if the cluster lets it.
pub(super) struct Move {
    from: usize,
    moved: bool,
}

impl Move {
    pub(super) fn new(from: usize) -> Move {
        Move { from, moved: false }
    }
}

impl Harm for Move {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        come(cluster)?;
        let spare = cluster.spares()[0];
        let (from, to) = (name(self.from), name(spare));
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let shards = topology::shards(cluster, 0)?;
            let movable = shards.iter().filter(|shard| {
                let led = shard["leader"].as_str() == Some(&from);
                led && has(shard, &from) && !has(shard, &to) && shard["shard"] != 0
            });
            let Some(shard) = movable.clone().next().or_else(|| {
                let mut rest = shards.iter();
                rest.find(|shard| has(shard, &from) && !has(shard, &to))
            }) else {
                break;
            };
            let shard = shard["shard"].clone();
            let number = shard.to_string();
            let asked = operate(cluster, 0, &["move", &number, &from, &to, "--no-wait"]);
            if asked.is_err() {
                continue;
            }
            // The cluster may undo it at once: what counts is that it was there.
            let noted = Instant::now();
            while noted.elapsed() < LIMIT / 10 {
                let shards = topology::shards(cluster, 0)?;
                let now = shards.iter().find(|one| one["shard"] == shard);
                if now.is_some_and(|shard| voter(shard, &to)) {
                    self.moved = true;
                    return Ok(());
                }
                thread::sleep(PAUSE / 4);
            }
        }
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        go(cluster, 0)
    }

    fn hit(&self) -> bool {
        self.moved
    }
}

/// The first of those who come later joins, and has replicas.
fn come(cluster: &mut Cluster) -> Result<()> {
    let spare = cluster.spares()[0];
    cluster.start(spare)?;
    cluster.wait_ready(&[spare], READY_LIMIT)?;
    let node = name(spare);
    until("it has replicas", cluster, 0, |nodes| {
        count(nodes, &node, "replicas") > 0
    })
}

/// It goes again, and nothing is left of it.
fn go(cluster: &mut Cluster, asked: usize) -> Result<()> {
    let spare = cluster.spares()[0];
    ensure!(send_away(cluster, asked, spare)?, "it ended with an error");
    cluster.wipe(spare)?;
    Ok(())
}

/// Decommissions a node and waits until it has left, and its process has ended. True when it ended with success.
fn send_away(cluster: &mut Cluster, asked: usize, node: usize) -> Result<bool> {
    let gone = name(node);
    operate(cluster, asked, &["decommission", &gone, "--no-wait"])?;
    until("it has left", cluster, asked, |nodes| {
        nodes.iter().all(|node| node["node"] != *gone)
    })?;
    cluster.wait_ended(node, READY_LIMIT)
}

/// Carries a command of an operator out. It may be refused for a moment.
fn operate(cluster: &Cluster, asked: usize, arguments: &[&str]) -> Result<()> {
    let begun = Instant::now();
    let all = [&["cluster"], arguments].concat();
    loop {
        let printed = cluster.ask(asked, &all, ASK_LIMIT)?;
        if printed.status.success() {
            return Ok(());
        }
        if begun.elapsed() > LIMIT / 4 {
            bail!("{all:?}: {}", printed.error.trim());
        }
        thread::sleep(PAUSE);
    }
}

fn until(what: &str, cluster: &Cluster, asked: usize, is: impl Fn(&[Value]) -> bool) -> Result<()> {
    let begun = Instant::now();
    let mut last = Ok(Vec::new());
    while begun.elapsed() < LIMIT {
        last = topology::nodes(cluster, asked);
        if last.as_ref().is_ok_and(|nodes| is(nodes)) {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    let nodes = last.context(what.to_owned())?;
    bail!("not after {LIMIT:?}: {what}: {nodes:?}")
}

fn other_than(cluster: &Cluster, node: usize) -> usize {
    (0..cluster.nodes())
        .find(|other| *other != node)
        .unwrap_or(0)
}

fn count(nodes: &[Value], name: &str, what: &str) -> u64 {
    let node = nodes.iter().find(|node| node["node"] == name);
    node.and_then(|node| node[what].as_u64()).unwrap_or(0)
}

/// Whether all nodes have as many of something as they can have alike.
pub(crate) fn is_even(nodes: &[Value], what: &str) -> bool {
    let counts = || nodes.iter().filter_map(|node| node[what].as_u64());
    let (least, most) = (counts().min(), counts().max());
    least
        .zip(most)
        .is_some_and(|(least, most)| most - least <= 1)
}

fn has(shard: &Value, node: &str) -> bool {
    let replicas = shard["replicas"].as_array();
    replicas.is_some_and(|all| all.iter().any(|replica| replica["node"] == node))
}

fn voter(shard: &Value, node: &str) -> bool {
    let replicas = shard["replicas"].as_array();
    let votes = |replica: &Value| replica["node"] == node && replica["standing"] == "voter";
    replicas.is_some_and(|all| all.iter().any(votes))
}
