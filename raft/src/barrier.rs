//! Read barriers: concurrent readers share one read-index round and one wait on apply.
//!
//! On the leader a round asks the quorum; on a follower it asks the leader, which answers from a round
//! of its own that it shares with its own readers. A reader joins the round that starts after it asked,
//! never one under way: that round's read index may be older than a write that was acknowledged before
//! the reader asked.
//!
//! Time line on a follower: a write is acknowledged → a reader asks here → the next round sends the
//! question → the leader begins a round after it received it, so that its index covers the write → the
//! reader is told once that index is applied here.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{ReadPolicy, ServerState};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::ids::ReplicaId;
use crate::net::{Body, CallError, Lane, Links, Refusal, Route};
use crate::replica::ShardRaft;
use crate::state::Progress;
use crate::types::{Node, TypeConfig};

/// Readers that wait for a round; more are told to come back later.
pub(crate) const WAITERS_MAX: usize = 16 * 1024;

/// How long a reader waits for its index to be applied here. A follower may be far behind.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);

/// Pause before the leader is looked for again, unless something changes before.
const LEADER_RETRY: Duration = Duration::from_millis(20);

/// Why a read may not be served here now. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// The leadership is moving: whoever was asked no longer leads, and nobody else was found in time.
    #[error("the leadership is moving")]
    NotLeader,
    /// Too many readers wait.
    #[error("too many readers wait")]
    Overloaded,
    /// No leader is known or reachable, a quorum did not answer, or this replica is too far behind.
    #[error("no leader with a quorum answered in time")]
    Unavailable,
    /// The group does without this replica, or does not know it yet: others have to be asked.
    #[error("the replica does not belong to its group")]
    NotMember,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

impl From<BarrierError> for Refusal {
    fn from(error: BarrierError) -> Refusal {
        match error {
            BarrierError::NotLeader => Refusal::NotLeader,
            BarrierError::Overloaded => Refusal::Overloaded,
            BarrierError::Unavailable => Refusal::Unavailable,
            BarrierError::NotMember => Refusal::NotMember,
            BarrierError::Stopped => Refusal::Stopped,
        }
    }
}

type Answer = oneshot::Sender<Result<u64, BarrierError>>;

enum Waiter {
    /// Reads here: waits for the index to be applied, and is told the applied index.
    Reader(Answer),
    /// Another replica asks for the read index. Only the leader answers, with its own round.
    Follower(Answer),
}

/// Asks for barriers; cloning shares the task.
#[derive(Clone)]
pub(crate) struct Barrier {
    waiters: mpsc::Sender<Waiter>,
    rounds: Arc<AtomicU64>,
}

/// The task that runs the rounds of one shard. It ends with the last handle, or with the replica.
pub(crate) struct BarrierService {
    asker: Asker,
    waiters: mpsc::Receiver<Waiter>,
    rounds: Arc<AtomicU64>,
    /// Rounds whose index is known and not applied yet, in order.
    applying: VecDeque<Applying>,
}

/// Finds out the read index.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) raft: ShardRaft,
    pub(crate) progress: Arc<Progress>,
    pub(crate) links: Arc<Links>,
    /// How long to look for a leader, and how long it may take to answer.
    pub(crate) patience: Duration,
}

struct Applying {
    index: u64,
    until: Instant,
    readers: Vec<Answer>,
}

impl Barrier {
    pub(crate) fn new(asker: Asker, waiters_max: usize) -> (Barrier, BarrierService) {
        let (sender, waiters) = mpsc::channel(waiters_max);
        let rounds = Arc::new(AtomicU64::new(0));
        let service = BarrierService {
            asker,
            waiters,
            rounds: Arc::clone(&rounds),
            applying: VecDeque::new(),
        };
        let barrier = Barrier {
            waiters: sender,
            rounds,
        };
        (barrier, service)
    }

    /// Waits until everything that was acknowledged before the call is applied here; gives the
    /// applied index. May be dropped midway.
    pub(crate) async fn wait(&self) -> Result<u64, BarrierError> {
        self.join(Waiter::Reader).await
    }

    /// The read index for another replica, if this one leads. May be dropped midway.
    pub(crate) async fn read_index(&self) -> Result<u64, BarrierError> {
        self.join(Waiter::Follower).await
    }

    /// Rounds so far.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    async fn join(&self, waiter: impl FnOnce(Answer) -> Waiter) -> Result<u64, BarrierError> {
        let (sender, receiver) = oneshot::channel();
        let waiter = waiter(sender);
        self.waiters.try_send(waiter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BarrierError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => BarrierError::Stopped,
        })?;
        receiver.await.unwrap_or(Err(BarrierError::Stopped))
    }
}

impl BarrierService {
    pub(crate) async fn run(mut self) {
        let progress = Arc::clone(&self.asker.progress);
        let mut waiting: Vec<Waiter> = Vec::new();
        let mut round: Option<BoxFuture<'static, Found>> = None;
        loop {
            let begins = round.is_none() && self.readers_applying() < WAITERS_MAX;
            let found = async {
                match &mut round {
                    Some(round) => round.await,
                    None => pending().await,
                }
            };
            let (first, until) = match self.applying.front() {
                Some(first) => (Some(first.index), first.until),
                None => (None, Instant::now()),
            };
            let applied = async {
                match first {
                    Some(index) => progress.wait_applied(index).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = progress.stopped().cancelled() => return,
                _ = applied => self.tell_applied(),
                found = found => {
                    round = None;
                    self.tell_found(found, std::mem::take(&mut waiting));
                }
                received = self.waiters.recv_many(&mut waiting, WAITERS_MAX), if begins => {
                    if received == 0 {
                        return;
                    }
                    self.turn_followers_away(&mut waiting);
                    if !waiting.is_empty() {
                        self.rounds.fetch_add(1, Ordering::Relaxed);
                        round = Some(self.asker.clone().find().boxed());
                    }
                }
                () = sleep_until(until), if first.is_some() => self.give_up(),
            }
        }
    }

    /// Followers that ask where nobody leads look elsewhere, rather than wait for a round.
    fn turn_followers_away(&self, waiting: &mut Vec<Waiter>) {
        if self.asker.leads() {
            return;
        }
        for waiter in std::mem::take(waiting) {
            match waiter {
                Waiter::Follower(answer) => {
                    let _ = answer.send(Err(BarrierError::NotLeader));
                }
                reader @ Waiter::Reader(_) => waiting.push(reader),
            }
        }
    }

    fn readers_applying(&self) -> usize {
        self.applying.iter().map(|round| round.readers.len()).sum()
    }

    /// A round has ended: `waiting` are those who had asked before it began.
    fn tell_found(&mut self, found: Found, waiting: Vec<Waiter>) {
        let mut readers = Vec::with_capacity(waiting.len());
        for waiter in waiting {
            // Whoever has gone needs no answer.
            match (waiter, found) {
                (Waiter::Reader(answer), Found::Led(Ok(_)) | Found::Followed(Ok(_))) => {
                    readers.push(answer);
                }
                (Waiter::Follower(answer), Found::Led(found)) => {
                    let _ = answer.send(found);
                }
                (Waiter::Follower(answer), Found::Followed(_)) => {
                    let _ = answer.send(Err(BarrierError::NotLeader));
                }
                (Waiter::Reader(answer), Found::Led(found) | Found::Followed(found)) => {
                    let _ = answer.send(found);
                }
            }
        }
        let (Found::Led(Ok(index)) | Found::Followed(Ok(index))) = found else {
            return;
        };
        if !readers.is_empty() {
            let until = Instant::now() + APPLY_PATIENCE;
            self.applying.push_back(Applying {
                index,
                until,
                readers,
            });
            self.tell_applied();
        }
    }

    /// Lets the readers go whose index is applied.
    fn tell_applied(&mut self) {
        let applied = self.asker.progress.applied_index();
        while let Some(first) = self.applying.pop_front_if(|first| first.index <= applied) {
            for reader in first.readers {
                let _ = reader.send(Ok(applied));
            }
        }
    }

    /// Turns those away who have waited too long for this replica to catch up.
    fn give_up(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.applying.pop_front_if(|first| first.until <= now) {
            for reader in first.readers {
                let _ = reader.send(Err(BarrierError::Unavailable));
            }
        }
    }
}

/// What a round gave.
#[derive(Clone, Copy)]
enum Found {
    /// This replica led, and asked its quorum.
    Led(Result<u64, BarrierError>),
    /// Another replica was asked, or looked for.
    Followed(Result<u64, BarrierError>),
}

/// Resolves when somebody else leads.
async fn replaced(
    mut server: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    leader: ReplicaId,
) {
    loop {
        let now = server.borrow_watched().current_leader;
        if now.is_some_and(|now| now != leader.0) {
            return;
        }
        if server.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Asker {
    fn leads(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state == ServerState::Leader
    }

    /// Asks the quorum or the leader; looks for a leader for a while where none is known.
    async fn find(self) -> Found {
        let until = Instant::now() + self.patience;
        let mut server = self.raft.server_metrics();
        loop {
            let (state, leader) = {
                let now = server.borrow_watched();
                let leader = now.current_leader.and_then(|id| {
                    let node = now.membership_config.membership().get_node(&id)?;
                    Some((ReplicaId(id), node.clone()))
                });
                (now.state, leader)
            };
            let failed = match leader {
                _ if state == ServerState::Leader => match self.ask_quorum().await {
                    Err(BarrierError::NotLeader) => BarrierError::NotLeader,
                    found => return Found::Led(found),
                },
                Some((leader, node)) if leader != self.progress.replica => {
                    let asking = self.ask_leader(leader, &node);
                    // One that has gone silent is not waited for once another one leads.
                    let replaced = replaced(self.raft.server_metrics(), leader);
                    let answer = tokio::select! {
                        biased;
                        answer = asking => answer,
                        () = replaced => continue,
                    };
                    match answer {
                        Ok(index) => return Found::Followed(Ok(index)),
                        Err(error @ (BarrierError::Overloaded | BarrierError::NotMember)) => {
                            return Found::Followed(Err(error));
                        }
                        Err(error) => error,
                    }
                }
                _ => BarrierError::Unavailable,
            };
            if Instant::now() >= until {
                return Found::Followed(Err(failed));
            }
            let retry = Instant::now() + LEADER_RETRY;
            tokio::select! {
                biased;
                changed = server.changed() => if changed.is_err() {
                    return Found::Followed(Err(BarrierError::Stopped));
                },
                () = sleep_until(retry.min(until)) => {}
            }
        }
    }

    async fn ask_quorum(&self) -> Result<u64, BarrierError> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(read.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                Err(BarrierError::NotLeader)
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(BarrierError::Unavailable)
            }
            Err(RaftError::Fatal(_)) => Err(BarrierError::Stopped),
        }
    }

    async fn ask_leader(&self, leader: ReplicaId, node: &Node) -> Result<u64, BarrierError> {
        let route = Route {
            shard: self.progress.shard,
            from: self.progress.replica,
            to: leader,
        };
        let link = self.links.link(node, Lane::Control);
        // Its own round may wait for a quorum as long as a lease; it then answers by itself.
        let timeout = self.patience * 2;
        match link.call(route, Body::ReadIndex, timeout).await {
            Ok(Body::ReadAt(index)) => Ok(index),
            Ok(Body::Refused(Refusal::NotLeader)) => Err(BarrierError::NotLeader),
            Ok(Body::Refused(Refusal::Overloaded)) => Err(BarrierError::Overloaded),
            Ok(Body::Refused(Refusal::NotMember)) => Err(BarrierError::NotMember),
            Ok(_) | Err(CallError::NotSent | CallError::Lost | CallError::TimedOut) => {
                Err(BarrierError::Unavailable)
            }
        }
    }
}
