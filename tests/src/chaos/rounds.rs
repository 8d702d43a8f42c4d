//! Fault after fault, each proven, each followed by a wait until everything is served again.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::availability::Injection;
use super::cluster::Cluster;
use super::history::{Moment, ShadowId};
use super::nemesis::{self, Harm};
use super::plan::{Fault, Faults, Plan, Planned};
use super::recorder::Recorder;
use super::run::{Options, SERVE_LIMIT, WRONG_LIMIT};
use super::score::Score;
use super::topology;
use super::violation::{Kind, Violation};
use crate::waiting;

/// Load below which a fault does not count as a hit, in operations per second.
const LIVE_RATE: f64 = 50.0;
/// How often a fault that lasts is looked after.
const STEP: Duration = Duration::from_millis(200);
/// After so long without service the run ends.
const GIVE_UP: Duration = Duration::from_secs(15);
/// A node that must stop has stopped by then.
const STOP_LIMIT: Duration = Duration::from_secs(15);
const READY_LIMIT: Duration = Duration::from_secs(60);
const REPAIR_LIMIT: Duration = Duration::from_secs(60);

/// The faults of a run.
pub(super) struct Rounds<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) recorder: &'a Arc<Recorder>,
    pub(super) score: &'a mut Score,
    /// The shard that is written most, when it is known.
    pub(super) hot_shard: Option<u64>,
    /// Nodes that may still end by themselves, and until when: one that met a fault which stops it takes
    /// a moment for that, also when the fault is over by then.
    pub(super) ending: Option<(Instant, Vec<usize>)>,
}

impl Rounds<'_> {
    /// Asks on which shards the shadows are.
    pub(super) fn look_around(&mut self) {
        let names = &self.recorder.names;
        let hot = names.device(names.pick(true, 0)).to_owned();
        let shards: Result<Vec<u64>> = names
            .pulse()
            .map(|shadow: ShadowId| topology::shard_of(self.cluster, 0, names.device(shadow)))
            .collect();
        match (shards, topology::shard_of(self.cluster, 0, &hot)) {
            (Ok(mut shards), Ok(hot)) => {
                shards.sort_unstable();
                shards.dedup();
                self.score.shards_written = shards.len() as u64;
                self.hot_shard = Some(hot);
            }
            (Err(error), _) | (_, Err(error)) => {
                self.note(format!("shards are not known: {error:#}"));
            }
        }
    }

    fn note(&mut self, note: String) {
        if !self.score.notes.contains(&note) {
            self.score.notes.push(note);
        }
    }

    /// Injects faults until the time is over.
    pub(super) fn all(
        &mut self,
        options: &Options,
        faults: &Faults,
        say: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let begun = Instant::now();
        let plan = Plan::new(options.seed, faults, options.nodes, options.hold_max);
        for planned in plan {
            if begun.elapsed() + planned.pause >= options.lasts {
                break;
            }
            let live = self.pause(planned.pause)?;
            let going = match planned.fault {
                Fault::Wipe => self.wipe_two(&planned, live, say)?,
                _ => self.one(&planned, live, say)?,
            };
            if !going {
                say("nothing is served any more: no further faults");
                break;
            }
        }
        let rest = options.lasts.saturating_sub(begun.elapsed());
        self.pause(rest.min(Duration::from_secs(2)))?;
        self.close();
        // A node that is still about to end is started again before everything is compared.
        let until = self.ending.as_ref().map(|(until, _)| *until);
        while until.is_some_and(|until| Instant::now() < until) {
            thread::sleep(STEP);
            self.look_after(&[])?;
        }
        match self.score.is_ok() {
            true => self.wait_ready(&[]),
            false => Ok(()),
        }
    }

    /// Lets time pass, and says whether clients were at work.
    fn pause(&mut self, pause: Duration) -> Result<bool> {
        let (before, begun) = (self.recorder.invoked(), Instant::now());
        while begun.elapsed() < pause {
            thread::sleep(STEP.min(pause));
            self.look_after(&[])?;
        }
        let done = self.recorder.invoked() - before;
        Ok(done as f64 >= LIVE_RATE * begun.elapsed().as_secs_f64())
    }

    /// Notes processes that ended by themselves. Those that may not are started again, as whoever
    /// watches over a node would do.
    fn look_after(&mut self, may_end: &[usize]) -> Result<()> {
        let late = self.ending.as_ref();
        let late = late.filter(|(until, _)| Instant::now() < *until);
        let late = late.map_or(Vec::new(), |(_, nodes)| nodes.clone());
        for ended in self.cluster.ended()? {
            if may_end.contains(&ended.node) || late.contains(&ended.node) {
                self.score.ended += 1;
                if !may_end.contains(&ended.node) {
                    self.cluster.start(ended.node)?;
                }
                continue;
            }
            self.violation(Kind::ProcessEnded, ended.text);
            self.cluster.start(ended.node)?;
        }
        Ok(())
    }

    fn violation(&mut self, kind: Kind, text: String) {
        self.score.violations.push(Violation::general(kind, text));
    }

    /// One fault from its beginning until everything is served again; false when that never comes.
    fn one(&mut self, planned: &Planned, live: bool, say: &mut dyn FnMut(&str)) -> Result<bool> {
        let leader = self.leader(planned.fault);
        let mut harm = nemesis::harm(planned, leader);
        let injected = self.begin(harm.as_mut())?;
        let begun = Instant::now();
        while begun.elapsed() < planned.hold {
            thread::sleep(STEP.min(planned.hold));
            harm.hold(self.cluster)?;
            self.look_after(harm.may_end())?;
        }
        self.end(planned, harm.as_mut(), (injected, live), say)
    }

    fn begin(&mut self, harm: &mut dyn Harm) -> Result<Moment> {
        self.close();
        let injected = self.recorder.now();
        harm.inject(self.cluster)?;
        Ok(injected)
    }

    fn end(
        &mut self,
        planned: &Planned,
        harm: &mut dyn Harm,
        (injected, live): (Moment, bool),
        say: &mut dyn FnMut(&str),
    ) -> Result<bool> {
        self.look_after(harm.may_end())?;
        if !harm.may_end().is_empty() {
            self.ending = Some((Instant::now() + STOP_LIMIT, harm.may_end().to_vec()));
        }
        harm.heal(self.cluster)?;
        let healed = self.recorder.now();
        let hit = harm.hit() && live;
        self.score.injections.push(Injection {
            fault: planned.fault.name().to_owned(),
            injected,
            healed,
            until: u64::MAX,
            hit,
        });
        let served = self.wait_served(healed);
        let took = Duration::from_nanos(self.recorder.now() - healed);
        say(&format!(
            "{} of {:?} for {} ms: {}, {} {} ms after the heal",
            planned.fault.name(),
            planned.nodes,
            (healed - injected) / 1_000_000,
            if hit { "hit" } else { "not proven" },
            if served { "served" } else { "NOT served" },
            took.as_millis()
        ));
        if served {
            self.wait_ready(harm.may_end())?;
        }
        Ok(served)
    }

    fn wait_served(&mut self, since: Moment) -> bool {
        let served = waiting::until("served", GIVE_UP, || {
            self.recorder.served_since(since).then_some(())
        });
        served.is_ok()
    }

    /// Every process has to say that it serves: the next fault is to find the cluster whole.
    fn wait_ready(&mut self, may_end: &[usize]) -> Result<()> {
        let nodes: Vec<usize> = (0..self.cluster.nodes()).collect();
        let begun = Instant::now();
        loop {
            let limit = match self.score.is_ok() {
                true => READY_LIMIT,
                false => WRONG_LIMIT,
            };
            if begun.elapsed() >= limit {
                break;
            }
            self.look_after(may_end)?;
            for node in &nodes {
                if !self.cluster.is_running(*node) {
                    self.cluster.start(*node)?;
                }
            }
            if self.cluster.wait_ready(&nodes, STEP).is_ok() {
                return Ok(());
            }
        }
        let late = self.cluster.wait_ready(&nodes, STEP);
        let text = late.err().map(|error| format!("{error:#}"));
        self.violation(Kind::NotServing, text.unwrap_or_default());
        Ok(())
    }

    /// The last injection is looked at until now.
    fn close(&mut self) {
        let now = self.recorder.now();
        if let Some(last) = self.score.injections.last_mut() {
            last.until = last.until.min(now);
        }
    }

    /// The leader of the shard that is written most.
    fn leader(&mut self, fault: Fault) -> Option<usize> {
        let of_leaders = matches!(
            fault,
            Fault::KillLeader | Fault::Shutdown | Fault::Stop | Fault::Drain | Fault::Move
        );
        if !of_leaders || self.cluster.nodes() == 1 {
            return None;
        }
        let shard = self.hot_shard?;
        let nodes = 0..self.cluster.nodes();
        let answers = nodes.map(|node| topology::leader_of(self.cluster, node, shard));
        let mut reason = String::new();
        for answer in answers.collect::<Vec<_>>() {
            match answer {
                Ok(leader) => return Some(leader),
                Err(error) => reason = format!("{error:#}"),
            }
        }
        self.note(format!("a random node instead of the leader: {reason}"));
        None
    }

    /// One node loses its data and is repaired; then another one loses its own. Whatever was only on
    /// the first must by now be elsewhere.
    fn wipe_two(
        &mut self,
        planned: &Planned,
        live: bool,
        say: &mut dyn FnMut(&str),
    ) -> Result<bool> {
        if !self.one(planned, live, say)? || !self.wait_repaired(say)? {
            return Ok(false);
        }
        let live = self.pause(planned.pause)?;
        let mut second = planned.clone();
        second.nodes.rotate_left(1);
        let mut harm = nemesis::harm(&second, None);
        let injected = self.begin(harm.as_mut())?;
        // Those that are left must serve alone.
        let begun = Instant::now();
        while begun.elapsed() < SERVE_LIMIT && !self.recorder.served_since(injected) {
            thread::sleep(STEP);
            self.look_after(&[])?;
        }
        if !self.recorder.served_since(injected) {
            let text =
                format!("after the loss of a second node, the first being repaired: {second:?}");
            self.violation(Kind::NotServing, text);
        }
        if !self.end(&second, harm.as_mut(), (injected, live), say)? {
            return Ok(false);
        }
        self.wait_repaired(say)
    }

    /// Waits until all replicas are there and equal; false when that does not come.
    fn wait_repaired(&mut self, say: &mut dyn FnMut(&str)) -> Result<bool> {
        let begun = Instant::now();
        loop {
            self.look_after(&[])?;
            let Err(error) = topology::check_repaired(self.cluster, 0) else {
                say(&format!(
                    "repaired after {} ms",
                    begun.elapsed().as_millis()
                ));
                return Ok(true);
            };
            if begun.elapsed() > REPAIR_LIMIT {
                self.violation(Kind::NotRepaired, format!("{error:#}"));
                return Ok(false);
            }
            thread::sleep(STEP);
        }
    }
}
