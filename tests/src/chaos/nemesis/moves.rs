//! Replicas that move while everything is served, and the death of who has it done in every step of it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Harm;
use super::members::{ASK_LIMIT, LIMIT, PAUSE, READY_LIMIT, come, go, operate};
use crate::chaos::cluster::{Cluster, name};
use crate::chaos::topology;

/// The shard of the cluster's own data.
const META: u64 = 0;
/// Longer than it takes to ask for a move. When one was answered before, the next try waits half as long.
const ASKING_MS: u64 = 120;
const TRIES: u32 = 7;
/// Longer than it takes to change the members once the new one has everything.
const CHANGING_MS: u64 = 100;

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
                if now.is_some_and(|shard| stands(shard, &to, "voter")) {
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

/// The step of a move in which the leader of the meta shard dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is being asked for.
    Asking,
    /// It is noted, and the new replica does not have the data yet.
    Copying,
    /// The new replica has the data, and the members are being changed.
    Changing,
    /// It is over, but for the data of the former replica.
    Moved,
}

/// The leader of the meta shard dies in one step of a move.
pub(super) struct Crash {
    step: Step,
    flavour: u64,
    tries: u32,
    victim: Option<usize>,
    in_time: bool,
    settled: bool,
}

impl Crash {
    pub(super) fn new(step: Step, flavour: u64) -> Crash {
        Crash {
            step,
            flavour,
            tries: 0,
            victim: None,
            in_time: false,
            settled: false,
        }
    }

    /// Some of the time that a step takes.
    fn part_of(&self, most_ms: u64) -> Duration {
        Duration::from_millis(self.flavour % most_ms)
    }

    fn crash(&mut self, cluster: &mut Cluster, victim: usize) -> Result<bool> {
        self.victim = Some(victim);
        cluster.kill(victim)
    }

    /// Has a move asked for, and kills before, while or after it is noted, but before it is answered.
    fn crash_while_asking(&mut self, cluster: &mut Cluster, planned: &Asked) -> Result<bool> {
        let asking = planned.command();
        let asking: Vec<&str> = asking.iter().map(String::as_str).collect();
        let mut child = cluster.begin(planned.asked, &asking)?;
        thread::sleep(self.part_of((ASKING_MS >> self.tries).max(1)));
        self.tries += 1;
        let still = child.try_wait()?.is_none();
        if still {
            self.in_time = self.crash(cluster, planned.victim)?;
        }
        child.kill().ok();
        child.wait()?;
        Ok(still)
    }

    /// Holds the new replica up until the move is noted, so that the rest happens when it is wanted.
    fn crash_later(&mut self, cluster: &mut Cluster, planned: &Asked) -> Result<()> {
        cluster.process(planned.to)?.stop()?;
        let command = planned.command();
        let command: Vec<&str> = command[1..].iter().map(String::as_str).collect();
        let noted = operate(cluster, planned.asked, &command);
        let noted = noted.and_then(|()| planned.wait(cluster, "arriving"));
        if self.step == Step::Copying && noted.is_ok() {
            self.in_time = self.crash(cluster, planned.victim)?;
        }
        cluster.process(planned.to)?.resume()?;
        noted?;
        if self.step == Step::Changing {
            thread::sleep(self.part_of(CHANGING_MS));
            self.in_time = self.crash(cluster, planned.victim)?;
            // Too late when it was over by then.
            self.in_time &= planned.wait(cluster, "voter").is_ok() || !planned.is_over(cluster)?;
        }
        if self.step == Step::Moved {
            planned.wait(cluster, "voter")?;
            self.in_time = self.crash(cluster, planned.victim)?;
        }
        Ok(())
    }
}

impl Harm for Crash {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        come(cluster)?;
        while let Some(planned) = Asked::find(cluster)? {
            let is_done = match self.step {
                Step::Asking => self.crash_while_asking(cluster, &planned)?,
                Step::Copying | Step::Changing | Step::Moved => {
                    self.crash_later(cluster, &planned)?;
                    true
                }
            };
            if is_done || self.tries >= TRIES {
                break;
            }
        }
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        if let Some(victim) = self.victim {
            cluster.start(victim)?;
            cluster.wait_ready(&[victim], READY_LIMIT)?;
        }
        wait_settled(cluster)?;
        self.settled = true;
        go(cluster, 0)
    }

    fn hit(&self) -> bool {
        self.in_time && self.settled
    }
}

/// A move to be asked for.
struct Asked {
    shard: u64,
    from: String,
    to: usize,
    /// Who leads the meta shard, and will die.
    victim: usize,
    /// Whom to ask.
    asked: usize,
}

impl Asked {
    /// One that does not need the node that is about to die.
    fn find(cluster: &Cluster) -> Result<Option<Asked>> {
        let all = 0..cluster.nodes() + cluster.spares().len();
        let nodes: Vec<usize> = all.filter(|node| cluster.is_running(*node)).collect();
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let shards = topology::shards(cluster, 0)?;
            let meta = shards.iter().find(|shard| shard["shard"] == META);
            let leader = meta.and_then(|shard| shard["leader"].as_str());
            let mut named = nodes.iter().copied();
            let victim = named.find(|node| Some(name(*node).as_str()) == leader);
            let data = shards.iter().filter(|shard| shard["shard"] != META);
            let mut settled = data.filter(|shard| is_settled(shard));
            let found = victim
                .and_then(|victim| settled.find_map(|shard| Asked::of(shard, &nodes, victim)));
            if found.is_some() {
                return Ok(found);
            }
            thread::sleep(PAUSE);
        }
        Ok(None)
    }

    fn of(shard: &Value, nodes: &[usize], victim: usize) -> Option<Asked> {
        let others = nodes.iter().copied().filter(|node| *node != victim);
        let is_on = |node: &usize| has(shard, &name(*node));
        let from = others.clone().find(is_on)?;
        let to = others.clone().find(|node| !is_on(node))?;
        let asked = others.clone().find(|node| *node != to)?;
        Some(Asked {
            shard: shard["shard"].as_u64()?,
            from: name(from),
            to,
            victim,
            asked,
        })
    }

    fn command(&self) -> Vec<String> {
        let (shard, to) = (self.shard.to_string(), name(self.to));
        let words = ["cluster", "move", &shard, &self.from, &to, "--no-wait"];
        words.map(str::to_owned).to_vec()
    }

    /// The shard, as whoever is asked sees it.
    fn see(&self, cluster: &Cluster) -> Result<Value> {
        let shards = topology::shards(cluster, self.asked)?;
        let mut found = shards
            .into_iter()
            .filter(|shard| shard["shard"] == self.shard);
        found.next().context("the shard is gone")
    }

    /// Whether the former replica is not even on its way out any more.
    fn is_over(&self, cluster: &Cluster) -> Result<bool> {
        Ok(!has(&self.see(cluster)?, &self.from))
    }

    /// Waits until the new replica is seen as this.
    fn wait(&self, cluster: &Cluster, standing: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            let seen = self.see(cluster);
            if seen
                .as_ref()
                .is_ok_and(|shard| stands(shard, &name(self.to), standing))
            {
                return Ok(());
            }
            if begun.elapsed() > ASK_LIMIT {
                bail!(
                    "no {standing} on {} after {ASK_LIMIT:?}: {seen:?}",
                    name(self.to)
                );
            }
            thread::sleep(PAUSE / 10);
        }
    }
}

/// Waits until no replica is on its way.
fn wait_settled(cluster: &Cluster) -> Result<()> {
    let begun = Instant::now();
    loop {
        let seen = topology::shards(cluster, 0);
        if seen
            .as_ref()
            .is_ok_and(|shards| shards.iter().all(is_settled))
        {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            bail!("a move is not over after {LIMIT:?}: {seen:?}");
        }
        thread::sleep(PAUSE);
    }
}

fn is_settled(shard: &Value) -> bool {
    let replicas = shard["replicas"].as_array();
    replicas.is_some_and(|all| all.iter().all(|replica| replica["standing"] == "voter"))
}

fn has(shard: &Value, node: &str) -> bool {
    let replicas = shard["replicas"].as_array();
    replicas.is_some_and(|all| all.iter().any(|replica| replica["node"] == node))
}

fn stands(shard: &Value, node: &str, standing: &str) -> bool {
    let replicas = shard["replicas"].as_array();
    let does = |replica: &Value| replica["node"] == node && replica["standing"] == standing;
    replicas.is_some_and(|all| all.iter().any(does))
}
