//! Nodes that come and go while the others serve. What is asked for is asked through
//! the commands of an operator, and proven by what the cluster says of itself.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Harm;
use crate::chaos::cluster::{Cluster, name};
use crate::chaos::topology;

/// How long the cluster may take until something is as it was asked for.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(20);
pub(super) const PAUSE: Duration = Duration::from_millis(200);

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
            topology::are_even(nodes, all)
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
            topology::are_even(nodes, all)
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
    /// Directories that it has set aside before.
    aside: usize,
    came_back: bool,
}

impl Decommission {
    pub(super) fn new(victim: usize) -> Decommission {
        Decommission {
            victim,
            left: false,
            aside: 0,
            came_back: false,
        }
    }
}

impl Harm for Decommission {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        come(cluster)?;
        self.aside = set_aside(cluster, self.victim);
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
        self.came_back = set_aside(cluster, self.victim) > self.aside;
        go(cluster, asked)
    }

    fn hit(&self) -> bool {
        self.left && self.came_back
    }
}

/// A node dies; others take its replicas, and it gets replicas again when it comes back.
pub(super) struct Replace {
    victim: usize,
    replaced: bool,
    came_back: bool,
}

impl Replace {
    pub(super) fn new(victim: usize) -> Replace {
        Replace {
            victim,
            replaced: false,
            came_back: false,
        }
    }
}

impl Harm for Replace {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        come(cluster)?;
        let (node, asked) = (name(self.victim), other_than(cluster, self.victim));
        let had = count(&topology::nodes(cluster, asked)?, &node, "replicas");
        let killed = cluster.kill(self.victim)?;
        until("others have its replicas", cluster, asked, |nodes| {
            count(nodes, &node, "replicas") == 0
        })?;
        self.replaced = killed && had > 0;
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        let (node, asked) = (name(self.victim), other_than(cluster, self.victim));
        cluster.start(self.victim)?;
        cluster.wait_ready(&[self.victim], READY_LIMIT)?;
        until("it has replicas again", cluster, asked, |nodes| {
            count(nodes, &node, "replicas") > 0
        })?;
        self.came_back = true;
        go(cluster, asked)
    }

    fn hit(&self) -> bool {
        self.replaced && self.came_back
    }
}

/// The first of those who come later joins, and has replicas.
pub(super) fn come(cluster: &mut Cluster) -> Result<()> {
    let spare = cluster.spares()[0];
    cluster.start(spare)?;
    cluster.wait_ready(&[spare], READY_LIMIT)?;
    let node = name(spare);
    until("it has replicas", cluster, 0, |nodes| {
        count(nodes, &node, "replicas") > 0
    })
}

/// It goes again, and nothing is left of it.
pub(super) fn go(cluster: &mut Cluster, asked: usize) -> Result<()> {
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
pub(super) fn operate(cluster: &Cluster, asked: usize, arguments: &[&str]) -> Result<()> {
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

pub(super) fn other_than(cluster: &Cluster, node: usize) -> usize {
    (0..cluster.nodes())
        .find(|other| *other != node)
        .unwrap_or(0)
}

/// How often a node has set a directory aside since it was made: its log goes on over its processes.
fn set_aside(cluster: &Cluster, node: usize) -> usize {
    cluster.log(node).matches("it is set aside").count()
}

fn count(nodes: &[Value], name: &str, what: &str) -> u64 {
    let node = nodes.iter().find(|node| node["node"] == name);
    node.and_then(|node| node[what].as_u64()).unwrap_or(0)
}
