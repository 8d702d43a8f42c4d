//! The processes of the bench, as the parent sees them.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cli::bench::tally::Tally;
use crate::cli::problem::{Exit, Problem};

use super::job::{Ask, Job, Say};
use super::report::Opened;

/// What processes say and nobody has taken yet.
const SAYINGS_MAX: usize = 256;

/// All processes. They end when this is dropped.
pub(super) struct Crew {
    workers: Vec<Worker>,
    /// What they say, with their numbers; `None` is the end of one.
    said: mpsc::Receiver<(usize, Option<Say>)>,
}

struct Worker {
    job: Job,
    child: Child,
    stdin: ChildStdin,
}

impl Crew {
    /// Starts a process for each job; nothing is opened yet.
    pub(super) fn start(jobs: Vec<Job>) -> Result<Crew, Problem> {
        let cannot = |error: std::io::Error| {
            Problem::new(Exit::Failure, "cannot start the processes of the bench").why(error)
        };
        let program = std::env::current_exe().map_err(cannot)?;
        let (sender, said) = mpsc::channel(SAYINGS_MAX);
        let mut workers = Vec::new();
        for (nth, job) in jobs.into_iter().enumerate() {
            let mut child = Command::new(&program)
                .args(["bench", "mqtt", "--worker"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                // Ctrl-C is for the parent, which asks for the results first.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(cannot)?;
            let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(cannot(std::io::ErrorKind::BrokenPipe.into()));
            };
            tokio::spawn(listen(nth, stdout, sender.clone()));
            workers.push(Worker { job, child, stdin });
        }
        Ok(Crew { workers, said })
    }

    /// The process ids.
    pub(super) fn pids(&self) -> Vec<u32> {
        let pids = self.workers.iter().map(|worker| worker.child.id());
        pids.flatten().collect()
    }

    /// Lets all of them open their sessions and waits for the last. `progress` gets how many are
    /// open and how many have failed.
    pub(super) async fn connect(&mut self, progress: impl Fn(u64, u64)) -> Result<Opened, Problem> {
        let begun = Instant::now();
        for worker in &mut self.workers {
            let job = serde_json::to_string(&worker.job).map_err(|error| broken(&error))?;
            worker.send(&job).await?;
        }
        let (mut connect, mut subscribe) = (Tally::new(), Tally::new());
        let mut reached = vec![(0, 0); self.workers.len()];
        let mut left = self.workers.len();
        while left > 0 {
            let (nth, say) = self.next().await?;
            match say {
                Say::Progress { connected, failed } => reached[nth] = (connected, failed),
                Say::Opened {
                    connect: connected,
                    subscribe: subscribed,
                } => {
                    connected.add_to(&mut connect);
                    subscribed.add_to(&mut subscribe);
                    left -= 1;
                }
                Say::Counted { .. } => {}
            }
            let sum = |(a, b), (c, d): &(u64, u64)| (a + c, b + d);
            let (connected, failed) = reached.iter().fold((0, 0), sum);
            progress(connected, failed);
        }
        progress(
            subscribe.accepted_count(),
            connect.failed_count() + subscribe.failed_count(),
        );
        Ok(Opened {
            connect,
            subscribe,
            elapsed: begun.elapsed(),
        })
    }

    /// Lets all of them measure latencies anew.
    pub(super) async fn measure(&mut self) -> Result<(), Problem> {
        self.ask(Ask::Measure).await
    }

    /// What all of them counted since.
    pub(super) async fn report(&mut self) -> Result<Tally, Problem> {
        self.ask(Ask::Report).await?;
        let mut all = Tally::new();
        let mut left = self.workers.len();
        while left > 0 {
            if let (_, Say::Counted { latency }) = self.next().await? {
                latency.add_to(&mut all);
                left -= 1;
            }
        }
        Ok(all)
    }

    /// Resolves when one of them has ended by itself.
    pub(super) async fn ended(&mut self) -> Problem {
        loop {
            if let Err(problem) = self.next().await {
                return problem;
            }
        }
    }

    async fn ask(&mut self, ask: Ask) -> Result<(), Problem> {
        let line = serde_json::to_string(&ask).map_err(|error| broken(&error))?;
        for worker in &mut self.workers {
            worker.send(&line).await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(usize, Say), Problem> {
        match self.said.recv().await {
            Some((nth, Some(say))) => Ok((nth, say)),
            _ => Err(broken("it ended by itself")),
        }
    }
}

impl Worker {
    async fn send(&mut self, line: &str) -> Result<(), Problem> {
        let line = format!("{line}\n");
        let sent = self.stdin.write_all(line.as_bytes()).await;
        sent.map_err(|error| broken(&error))
    }
}

/// Passes on what a process says, until it ends.
async fn listen(nth: usize, stdout: ChildStdout, said: mpsc::Sender<(usize, Option<Say>)>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let say = serde_json::from_str(&line).ok();
        if said.send((nth, say)).await.is_err() {
            return;
        }
    }
    let _ = said.send((nth, None)).await;
}

fn broken<T: ToString + ?Sized>(why: &T) -> Problem {
    Problem::new(Exit::Failure, "a process of the bench is gone").why(why.to_string())
}
