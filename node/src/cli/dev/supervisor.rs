//! Keeps the nodes of a development cluster running until a signal ends them all.
//!
//! Time line: all nodes start → all are ready → the banner → a node ends by itself → it is said and the
//! node is started again after a pause → a signal → all are asked to stop → all have stopped. A second
//! signal kills them. A node that ends before the first time all were ready ends the others too:
//! its problem is one of the machine or the configuration.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::cli::output;
use crate::cli::problem::{Exit, Problem};
use crate::cli::start::READY;
use crate::identity::DataDirectory;

use super::backoff::Backoff;
use super::child::{Launcher, Next, describe};
use super::plan::{Member, Plan};

/// A node may take so much longer than its own limit to stop: it closes its stores after it.
const STOP_EXTRA: Duration = Duration::from_secs(20);
/// How often the user is told what a start waits for.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);
/// Pause before the directories of a former run are looked at again.
const FORMER_PAUSE: Duration = Duration::from_millis(200);
/// Events that may wait; nodes are few.
const EVENTS_MAX: usize = 64;
/// 128 + SIGINT, as shells report it.
const SECOND_SIGNAL_EXIT: i32 = 130;

/// Runs all nodes. `banner` is printed when they are ready; it gets their process ids.
pub(super) async fn run(
    plan: &Plan,
    launcher: Launcher,
    stop_timeout: Duration,
    banner: impl Fn(&[u32]) -> String,
) -> Result<(), Problem> {
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        () = signals.next() => return Ok(()),
        () = former_run_ended(plan, stop_timeout + STOP_EXTRA) => {}
    }
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let mut keepers = JoinSet::new();
    for (nth, member) in plan.members.iter().enumerate() {
        let keeper = Keeper {
            nth,
            member: member.clone(),
            launcher: launcher.clone(),
            events: sender.clone(),
            stop: stop.clone(),
            hurry: hurry.clone(),
            patience: stop_timeout + STOP_EXTRA,
        };
        keepers.spawn(keeper.run());
    }
    drop(sender);
    let ended = tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        problem = watch(plan, &mut events, banner) => Err(problem),
    };
    drop(events);
    stop.cancel();
    let stopped = stop_all(&mut keepers, &mut signals, &hurry).await;
    ended.and(stopped)
}

/// Says what happens to the nodes. Ends only with a problem.
async fn watch(
    plan: &Plan,
    events: &mut mpsc::Receiver<Event>,
    banner: impl Fn(&[u32]) -> String,
) -> Problem {
    let mut pids = vec![0; plan.members.len()];
    let mut awaited: BTreeSet<usize> = (0..plan.members.len()).collect();
    let mut notes = interval_at(Instant::now() + NOTE_INTERVAL, NOTE_INTERVAL);
    notes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut started = false;
    loop {
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            _ = notes.tick(), if !started => {
                tell(&waiting_for(plan, &awaited));
                continue;
            }
        };
        match event {
            Some(Event::Ready { nth, pid }) => {
                pids[nth] = pid;
                awaited.remove(&nth);
                if started {
                    tell(&format!(
                        "{} is ready again, pid {pid}",
                        plan.members[nth].name
                    ));
                } else if awaited.is_empty() {
                    started = true;
                    output::print(&banner(&pids));
                    output::print(&format!("{READY}\n"));
                }
            }
            Some(Event::Ended { nth, how, wait }) => {
                awaited.insert(nth);
                let member = &plan.members[nth];
                let (name, log, wait) = (&member.name, member.log_file.display(), wait.as_secs());
                tell(&format!(
                    "{name} {how}; it starts again in {wait} s. Its log is {log}"
                ));
            }
            Some(Event::Failed { nth, problem }) => {
                tell(&format!(
                    "{} does not start; stop the others",
                    plan.members[nth].name
                ));
                return problem;
            }
            None => return Problem::new(Exit::Failure, "nobody watches the nodes any more"),
        }
    }
}

fn waiting_for(plan: &Plan, awaited: &BTreeSet<usize>) -> String {
    let names = awaited.iter().map(|nth| plan.members[*nth].name.as_str());
    let names: Vec<&str> = names.collect();
    let directory = plan.directory.display();
    format!(
        "still waiting for {}; the logs are in {directory}",
        names.join(", ")
    )
}

/// Waits until all nodes have stopped. They keep their own time limits.
async fn stop_all(
    keepers: &mut JoinSet<Result<(), String>>,
    signals: &mut Signals,
    hurry: &CancellationToken,
) -> Result<(), Problem> {
    let mut complaints = Vec::new();
    loop {
        let stopped = tokio::select! {
            biased;
            () = signals.next(), if !hurry.is_cancelled() => {
                tell("second signal: kill all nodes");
                hurry.cancel();
                continue;
            }
            stopped = keepers.join_next() => stopped,
        };
        match stopped {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(complaint))) => complaints.push(complaint),
            Some(Err(error)) => complaints.push(error.to_string()),
            None => break,
        }
    }
    if hurry.is_cancelled() {
        std::process::exit(SECOND_SIGNAL_EXIT);
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(
            Problem::new(Exit::Failure, "not all nodes stopped as they should")
                .why(complaints.join("\n")),
        ),
    }
}

/// Nodes of a run that was killed are still closing their stores for a moment.
async fn former_run_ended(plan: &Plan, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut told = false;
    for member in &plan.members {
        while member.data_dir.exists() && DataDirectory::lock(&member.data_dir).is_err() {
            if Instant::now() >= deadline {
                // Its own start will say what is wrong.
                return;
            }
            if !told {
                tell(&format!(
                    "wait until {} of another run has ended",
                    member.name
                ));
                told = true;
            }
            sleep(FORMER_PAUSE).await;
        }
    }
}

/// A line for the person at the terminal.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// What a keeper says.
#[derive(Debug)]
enum Event {
    /// The node serves.
    Ready { nth: usize, pid: u32 },
    /// It ended and will be started again.
    Ended {
        nth: usize,
        how: String,
        wait: Duration,
    },
    /// Its first start failed.
    Failed { nth: usize, problem: Problem },
}

/// Keeps one node running.
struct Keeper {
    nth: usize,
    member: Member,
    launcher: Launcher,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    hurry: CancellationToken,
    patience: Duration,
}

/// How one life of a node ended.
enum End {
    /// It was told to; `None` when it had to be killed.
    Stopped(Option<ExitStatus>),
    /// By itself.
    Ended {
        how: String,
        exit: Exit,
        words: String,
        was_ready: bool,
    },
}

impl Keeper {
    /// The error says how the node did not stop as it should.
    async fn run(self) -> Result<(), String> {
        let (nth, mut backoff, mut first) = (self.nth, Backoff::new(), true);
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let (how, exit, words, was_ready) = match self.live().await {
                End::Stopped(status) => return self.judge(status),
                End::Ended {
                    how,
                    exit,
                    words,
                    was_ready,
                } => (how, exit, words, was_ready),
            };
            first &= !was_ready;
            if first {
                let problem = self.failed_start(exit, &how, &words);
                self.say(Event::Failed { nth, problem }).await;
                return Ok(());
            }
            let wait = backoff.after(started.elapsed());
            self.say(Event::Ended { nth, how, wait }).await;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                () = sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// From the start of the node to its end.
    async fn live(&self) -> End {
        let mut was_ready = false;
        let mut running = match self.launcher.start(&self.member) {
            Ok(running) => running,
            Err(error) => {
                return End::Ended {
                    how: format!("cannot be started: {error}"),
                    exit: Exit::Failure,
                    words: String::new(),
                    was_ready,
                };
            }
        };
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return End::Stopped(running.stop(self.patience, &self.hurry).await);
                }
                next = running.next() => next,
            };
            match next {
                Next::Ready => {
                    was_ready = true;
                    let (nth, pid) = (self.nth, running.pid);
                    self.say(Event::Ready { nth, pid }).await;
                }
                Next::Ended(status) => {
                    return End::Ended {
                        how: describe(&status),
                        exit: exit_of(&status),
                        words: running.last_words(&self.member),
                        was_ready,
                    };
                }
            }
        }
    }

    async fn say(&self, event: Event) {
        // Nobody listens any more while the nodes stop.
        let _ = self.events.send(event).await;
    }

    fn failed_start(&self, exit: Exit, how: &str, words: &str) -> Problem {
        let (name, log) = (&self.member.name, self.member.log_file.display());
        Problem::new(exit, format!("{name} does not start"))
            .why(format!("{name} {how}\n{words}"))
            .try_this(format!("the whole log is {log}"))
    }

    fn judge(&self, status: Option<ExitStatus>) -> Result<(), String> {
        let name = &self.member.name;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{name} {}", describe(&Ok(status)))),
            None => Err(format!("{name} did not stop in time and was killed")),
        }
    }
}

/// The exit code of a node is the one of the whole start, where it says more than "failed".
fn exit_of(status: &io::Result<ExitStatus>) -> Exit {
    match status.as_ref().ok().and_then(ExitStatus::code) {
        Some(code) if code == Exit::Damaged as i32 => Exit::Damaged,
        Some(code) if code == Exit::Usage as i32 => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Problem> {
        let failed = |error| Problem::new(Exit::Failure, "cannot watch for signals").why(error);
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// The next of either. May be dropped midway.
    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
