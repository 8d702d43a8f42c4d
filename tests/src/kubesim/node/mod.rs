//! What the kubelet and the container runtime do with one pod: start its container, probe it, start
//! it again, and end it.

pub mod check;
pub mod container;
pub mod volume;

mod restart;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::controller;
use super::pod::{Files, Identity, Launch, Source};
use super::probe::{Check, Health, Kind, Plan};
use container::{Container, Place};
use restart::{Pulls, Restarts};

/// What a container gets at least between SIGTERM and SIGKILL.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// A pod on a host.
pub struct Node {
    /// As its controller sees it.
    pub pod: controller::Pod,
    /// Who it is.
    pub identity: Identity,
    /// Its number in the network.
    pub number: usize,
    /// Those that run to their end, and the one that stays.
    containers: Vec<(Launch, Place)>,
    /// Which of them runs, or is next.
    step: usize,
    time_scale: f64,
    state: State,
    restarts: Restarts,
    pulls: Pulls,
    outcomes: (Sender<Outcome>, Receiver<Outcome>),
}

/// How a container ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The pod.
    pub pod: String,
    /// The status of its program.
    pub status: ExitStatus,
    /// Whether it was asked to end.
    pub was_asked: bool,
    /// Whether its grace was over, and it was killed.
    pub was_killed: bool,
    /// From the request to the end.
    pub took: Duration,
}

enum State {
    /// No container; the next one starts at this time.
    Waiting(Duration),
    /// A container.
    Running(Box<Run>),
    /// It was deleted, and nothing of it runs.
    Gone,
}

struct Run {
    container: Container,
    started: Duration,
    health: Health,
    stop: Option<Stop>,
}

/// The end of a container, from the request on.
struct Stop {
    requested: Duration,
    deadline: Duration,
    /// The command that runs before SIGTERM, until that is sent.
    hook: Option<Child>,
    was_terminated: bool,
    was_killed: bool,
}

/// What a probe found, in which container.
struct Outcome {
    started: Duration,
    kind: Kind,
    success: bool,
}

impl Node {
    /// A pod whose first container starts at the next turn.
    pub fn new(
        pod: controller::Pod,
        identity: Identity,
        number: usize,
        containers: Vec<(Launch, Place)>,
        time_scale: f64,
    ) -> Node {
        Node {
            state: State::Waiting(pod.created),
            pod,
            identity,
            number,
            containers,
            step: 0,
            time_scale,
            restarts: Restarts::default(),
            pulls: Pulls::default(),
            outcomes: mpsc::channel(),
        }
    }

    /// How often its container was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts.count()
    }

    /// How often its image could not be pulled.
    pub fn failed_pulls(&self) -> u32 {
        self.pulls.failed()
    }

    /// Whether it was deleted and has ended.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// The Secrets that it mounts, where their files are, and the group that these belong to.
    pub fn secrets(&self) -> impl Iterator<Item = (&Files, &Path, u32)> {
        self.containers.iter().flat_map(|(launch, place)| {
            launch.mounts.iter().filter_map(|mount| {
                let Source::Secret(files) = &mount.source else {
                    return None;
                };
                let mut binds = place.mounts.iter();
                let bind = binds.find(|bind| bind.target == mount.target)?;
                Some((files, bind.source.as_path(), launch.volume_group))
            })
        })
    }

    /// Asks it to end. Once is enough.
    pub fn delete(&mut self, now: Duration) -> Result<()> {
        self.pod.is_terminating = true;
        match &mut self.state {
            State::Waiting(_) => self.state = State::Gone,
            State::Running(run) => run.stop(&self.containers[self.step].0, now)?,
            State::Gone => {}
        }
        Ok(())
    }

    /// SIGKILL to its container, from outside: the pod stays.
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.state {
            State::Running(run) => run.container.kill(),
            _ => Ok(()),
        }
    }

    /// Whether one of its containers runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Does what is due, with the images that there are. Gives how its container ended if it did.
    /// Containers belong to the thread that calls this.
    pub fn turn(&mut self, now: Duration, images: &BTreeSet<String>) -> Result<Option<Ending>> {
        while let Ok(outcome) = self.outcomes.1.try_recv() {
            if let State::Running(run) = &mut self.state
                && run.started == outcome.started
            {
                run.health.note(outcome.kind, outcome.success);
            }
        }
        if let State::Waiting(until) = self.state
            && now >= until
        {
            self.state = match images.contains(&self.containers[self.step].0.image) {
                true => self.start(now)?,
                false => State::Waiting(now + self.pulls.fail(self.time_scale)),
            };
        }
        let ending = self.follow(now)?;
        self.probe(now)?;
        self.report(now);
        Ok(ending)
    }

    fn start(&self, now: Duration) -> Result<State> {
        let (launch, place) = &self.containers[self.step];
        let container = Container::start(place, launch);
        Ok(State::Running(Box::new(Run {
            container: container.with_context(|| self.pod.name.clone())?,
            started: now,
            health: Health::new(&launch.probes, now),
            stop: None,
        })))
    }

    /// Follows the container to its end.
    fn follow(&mut self, now: Duration) -> Result<Option<Ending>> {
        let State::Running(run) = &mut self.state else {
            return Ok(None);
        };
        let Some(status) = run.container.ended()? else {
            if run.health.wants_restart().is_some() {
                run.stop(&self.containers[self.step].0, now)?;
            }
            run.go_on_stopping(now)?;
            return Ok(None);
        };
        let stop = run.stop.as_ref();
        if status.success() && stop.is_none() && self.step + 1 < self.containers.len() {
            self.step += 1;
            self.state = State::Waiting(now);
            return Ok(None);
        }
        let ending = Ending {
            pod: self.pod.name.clone(),
            status,
            was_asked: stop.is_some(),
            was_killed: stop.is_some_and(|stop| stop.was_killed),
            took: stop.map_or(Duration::ZERO, |stop| now.saturating_sub(stop.requested)),
        };
        let ran = now.saturating_sub(run.started);
        self.state = match self.pod.is_terminating {
            true => State::Gone,
            false => State::Waiting(now + self.restarts.next(ran, self.time_scale)),
        };
        Ok(Some(ending))
    }

    /// Begins the probes that are due.
    fn probe(&mut self, now: Duration) -> Result<()> {
        let State::Running(run) = &mut self.state else {
            return Ok(());
        };
        for kind in run.health.due(now) {
            let plan = self.containers[self.step].0.probes.get(kind);
            let plan = plan.context("what is due is planned")?.clone();
            let command = match &plan.check {
                Check::Exec { command } => Some(run.container.exec(command)?),
                Check::Http { .. } | Check::Tcp { .. } => None,
            };
            let (address, outcomes) = (self.identity.address, self.outcomes.0.clone());
            let started = run.started;
            thread::spawn(move || {
                let outcome = Outcome {
                    started,
                    kind,
                    success: succeeds(&plan, address, command),
                };
                // Nobody wants to know when the pod is gone.
                outcomes.send(outcome).ok();
            });
        }
        Ok(())
    }

    /// What its controller sees from now on.
    fn report(&mut self, now: Duration) {
        let is_last = self.step + 1 == self.containers.len();
        let is_ready = match &self.state {
            State::Running(run) => is_last && run.health.is_ready(),
            State::Waiting(_) | State::Gone => false,
        };
        self.pod.is_running |= is_last && self.is_running();
        self.pod.ready_since = match (is_ready, self.pod.ready_since) {
            (false, _) => None,
            (true, None) => Some(now),
            (true, since) => since,
        };
    }
}

impl Run {
    fn stop(&mut self, launch: &Launch, now: Duration) -> Result<()> {
        if self.stop.is_some() {
            return Ok(());
        }
        self.health.stop();
        let hook = launch.pre_stop.as_ref();
        self.stop = Some(Stop {
            requested: now,
            deadline: now + launch.grace,
            // A container that cannot run the hook any more is ended all the same.
            hook: hook.and_then(|words| self.container.exec(words).ok()),
            was_terminated: false,
            was_killed: false,
        });
        Ok(())
    }

    /// Hook, SIGTERM, SIGKILL: each when its time has come.
    fn go_on_stopping(&mut self, now: Duration) -> Result<()> {
        let Some(stop) = &mut self.stop else {
            return Ok(());
        };
        let is_late = now >= stop.deadline;
        if let Some(hook) = &mut stop.hook {
            if hook.try_wait()?.is_none() && !is_late {
                return Ok(());
            }
            hook.kill().ok();
            hook.wait()?;
            stop.hook = None;
        }
        if !stop.was_terminated {
            stop.was_terminated = true;
            stop.deadline = stop.deadline.max(now + LAST_GRACE);
            return self.container.terminate();
        }
        if is_late && !stop.was_killed {
            stop.was_killed = true;
            return self.container.kill();
        }
        Ok(())
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(hook) = &mut self.hook {
            hook.kill().ok();
            hook.wait().ok();
        }
    }
}

fn succeeds(plan: &Plan, address: std::net::Ipv4Addr, command: Option<Child>) -> bool {
    let timeout = plan.timing.timeout;
    match (&plan.check, command) {
        (Check::Exec { .. }, Some(child)) => check::exec(child, timeout),
        (Check::Exec { .. }, None) => false,
        (Check::Tcp { port }, _) => check::tcp(address, *port, timeout),
        (
            Check::Http {
                port,
                path,
                is_https,
            },
            _,
        ) => check::http(address, *port, path, *is_https, timeout),
    }
}
