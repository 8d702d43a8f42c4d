//! A whole run: a cluster, clients, faults, and the verdict.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::cluster::{self, Cluster};
use super::door::Doors;
use super::history::{Moment, Operation};
use super::plan::Faults;
use super::recorder::{Names, Recorder};
use super::rounds::Rounds;
use super::score::{self, Score};
use super::verdict::{self, Seen};
use super::violation::{Kind, Violation};
use super::watcher::{self, Watchers};
use super::workers::Clients;
use super::{durability, topology};
use crate::waiting;

/// After a heal everything must be served again within this.
pub const SERVE_LIMIT: Duration = Duration::from_secs(10);
const START_LIMIT: Duration = Duration::from_secs(120);
const FINISH_LIMIT: Duration = Duration::from_secs(60);
/// The same when it is already known that something is wrong.
pub(super) const WRONG_LIMIT: Duration = Duration::from_secs(5);
/// Commands still on their way when the clients have stopped take effect within this.
const SETTLE: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How long faults are injected.
    pub lasts: Duration,
    /// Which faults.
    pub faults: Faults,
    /// Number of nodes: 1, 3 or 5.
    pub nodes: usize,
    /// The binary under test.
    pub binary: PathBuf,
    /// No fault lasts longer.
    pub hold_max: Duration,
    /// How often each steadily written shadow is written: outages are not measured any finer.
    pub pulse_every: Duration,
    /// Whether logs and data are kept even when all is well.
    pub keep: bool,
    /// Whether the replicas are compared at the end.
    pub verify: bool,
    /// Added to the environment of every node.
    pub environment: Vec<(String, String)>,
}

/// Does a whole run. An error means that it could not be done; what the cluster did wrong is in the
/// score. `say` is told what happens.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Score> {
    let faults = options.faults.fitting(options.nodes)?;
    let mut cluster = Cluster::create(cluster::Options {
        nodes: options.nodes,
        spares: faults
            .0
            .iter()
            .map(|fault| fault.needs_spares())
            .max()
            .unwrap_or(0),
        binary: options.binary.clone(),
        disks: faults.0.iter().any(|fault| fault.needs_disks()),
        environment: options.environment.clone(),
    })?;
    let nodes: Vec<usize> = (0..options.nodes).collect();
    let started = Instant::now();
    for node in &nodes {
        cluster.start(*node)?;
    }
    cluster.wait_ready(&nodes, START_LIMIT)?;
    say(&format!(
        "{} nodes serve after {:?}",
        nodes.len(),
        started.elapsed()
    ));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let addresses = nodes.iter().map(|node| cluster.grpc(*node));
    let doors = runtime.block_on(async { Doors::new(addresses) });
    let recorder = Arc::new(Recorder::new(Names::new(options.seed)));
    let watching = Watchers::start(&recorder, &doors, options.seed, START_LIMIT);
    let watchers = runtime.block_on(watching)?;
    let run = Run {
        options,
        cluster,
        runtime,
        doors,
        recorder,
        score: Score {
            seed: options.seed,
            nodes: options.nodes,
            ..Score::default()
        },
        is_wrong: false,
    };
    run.go(&faults, watchers, say)
}

struct Run<'a> {
    options: &'a Options,
    cluster: Cluster,
    runtime: Runtime,
    doors: Doors,
    recorder: Arc<Recorder>,
    score: Score,
    /// What was seen so far cannot be right: nothing is worth a long wait.
    is_wrong: bool,
}

impl Run<'_> {
    fn go(
        mut self,
        faults: &Faults,
        watchers: Watchers,
        say: &mut dyn FnMut(&str),
    ) -> Result<Score> {
        let clients = Clients {
            recorder: Arc::clone(&self.recorder),
            doors: self.doors.clone(),
            lives: self.cluster.lives(),
            pulse_every: self.options.pulse_every,
        };
        let seed = self.options.seed;
        let tasks = self.runtime.block_on(async { clients.start(seed) });
        waiting::until("every shadow is written", START_LIMIT, || {
            self.recorder.served_since(0).then_some(())
        })?;
        let begun = self.recorder.now();
        let mut rounds = Rounds {
            cluster: &mut self.cluster,
            recorder: &self.recorder,
            score: &mut self.score,
            hot_shard: None,
            ending: None,
        };
        rounds.look_around();
        rounds.all(self.options, faults, say)?;
        let ended = self.recorder.now();
        self.score.seconds = Duration::from_nanos(ended - begun).as_secs();

        say("clients stop");
        self.recorder.stop();
        self.join(tasks)?;
        std::thread::sleep(SETTLE);
        let shown = self.show(say)?;
        let seen = self.finish(shown, watchers, say)?;
        self.judge(faults, seen, (begun, ended), say)
    }

    fn finish_limit(&self) -> Duration {
        match self.score.is_ok() && !self.is_wrong {
            true => FINISH_LIMIT,
            false => WRONG_LIMIT,
        }
    }

    fn join(&self, mut tasks: JoinSet<()>) -> Result<()> {
        let all = async { while tasks.join_next().await.is_some() {} };
        self.runtime
            .block_on(async { tokio::time::timeout(FINISH_LIMIT, all).await })
            .context("a client does not end")
    }

    /// Reads everything through every node, which has to work in time.
    fn show(&mut self, say: &mut dyn FnMut(&str)) -> Result<Vec<verdict::ShownAt>> {
        say("all is read through every node");
        let mut all = Vec::new();
        for node in 0..self.options.nodes {
            let limit = match self.score.is_ok() {
                true => SERVE_LIMIT,
                false => WRONG_LIMIT,
            };
            let reading = verdict::read_all(&self.recorder, &self.doors, node, limit);
            match self.runtime.block_on(reading) {
                Ok(shown) => all.extend(shown),
                Err(error) => self.violation(
                    Kind::NotServing,
                    format!("{} at the end: {error:#}", cluster::name(node)),
                ),
            }
        }
        Ok(all)
    }

    /// Waits for the watchers, reads the whole feed once more, and compares the replicas.
    fn finish(
        &mut self,
        shown: Vec<verdict::ShownAt>,
        watchers: Watchers,
        say: &mut dyn FnMut(&str),
    ) -> Result<Seen> {
        let mut operations = self.recorder.operations();
        let last = verdict::last_versions(&operations, &shown);
        let reached: Vec<_> = last
            .iter()
            .map(|(shadow, version)| (*shadow, *version))
            .collect();
        self.is_wrong = verdict::is_surely_wrong(&operations, &shown);
        let finish_limit = self.finish_limit();
        say("watchers catch up");
        let beginning = watchers.beginning();
        let stopping = watchers.stop(&reached, finish_limit);
        let mut watched = self.runtime.block_on(stopping)?;
        let node = self.options.seed as usize % self.options.nodes;
        let changes: u64 = last.values().sum();
        let limit = finish_limit + Duration::from_millis(changes / 10);
        say("the feed is read again from the beginning");
        let replaying = watcher::replay(
            &self.recorder,
            &self.doors,
            node,
            &beginning,
            &reached,
            limit,
        );
        watched.push(self.runtime.block_on(replaying)?);
        if self.options.verify && self.options.nodes > 1 {
            say("replicas are compared");
            self.verify()?;
        }
        operations.extend(shown.iter().map(|shown| shown.operation));
        Ok(Seen {
            operations,
            watched,
            shown: shown.into_iter().map(|shown| shown.shown).collect(),
            last,
        })
    }

    /// A replica may still be catching up: only what it says last counts.
    fn verify(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            let judged = topology::verify(&self.cluster, 0).map(|text| super::hashes::judge(&text));
            let differs = |violation: &Violation| violation.kind == Kind::ReplicasDiffer;
            let late = started.elapsed() > self.finish_limit();
            match judged {
                Err(error) if late => {
                    self.violation(Kind::NotVerified, format!("{error:#}"));
                    return Ok(());
                }
                Ok(report)
                    if late
                        || report.violations.is_empty()
                        || report.violations.iter().any(differs) =>
                {
                    self.score.shards_equal = report.equal;
                    self.score.violations.extend(report.violations);
                    return Ok(());
                }
                _ => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    fn judge(
        mut self,
        faults: &Faults,
        seen: Seen,
        (begun, ended): (Moment, Moment),
        say: &mut dyn FnMut(&str),
    ) -> Result<Score> {
        say(&format!("{} operations are judged", seen.operations.len()));
        self.score.counts = score::Counts::of(&seen.operations);
        self.score.rate_min = score::rate_min(&seen.operations, begun, ended);
        let names = &self.recorder.names;
        verdict::judge(&mut self.score, &seen, faults, names, SERVE_LIMIT);
        verdict::check_load(&self.score)?;
        for ended in self.cluster.ended()? {
            self.violation(Kind::ProcessEnded, ended.text);
        }
        if !self.score.is_ok() || self.options.keep {
            let text = describe(&self.score, &seen.operations);
            let directory = self.cluster.keep()?;
            fs::write(directory.join("history.txt"), text)?;
            say(&format!(
                "logs, data and history are kept in {}",
                directory.display()
            ));
        }
        Ok(self.score)
    }

    fn violation(&mut self, kind: Kind, text: String) {
        self.score.violations.push(Violation::general(kind, text));
    }
}

/// Violations with everything that happened to their shadows, and the faults.
fn describe(score: &Score, operations: &[Operation]) -> String {
    let mut text = String::new();
    for injection in &score.injections {
        writeln!(text, "{injection:?}").ok();
    }
    for violation in &score.violations {
        writeln!(text, "{violation}").ok();
    }
    let mut shadows: Vec<_> = score
        .violations
        .iter()
        .filter_map(|wrong| wrong.shadow)
        .collect();
    shadows.sort_unstable();
    shadows.dedup();
    for shadow in shadows {
        writeln!(text, "\nshadow {}:", shadow.0).ok();
        for operation in operations.iter().filter(|one| one.shadow == shadow) {
            writeln!(text, "{operation:?}").ok();
        }
    }
    let report = durability::acknowledged(operations).len();
    writeln!(text, "\n{report} shadows have an acknowledged change").ok();
    text
}
