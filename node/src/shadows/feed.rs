//! The changes of one shard, in order, from a replica on this node, whichever role it has: every
//! replica applies every change.
//!
//! A feed is either *behind* (reading the records on disk) or *live* (taking from the relay). It
//! subscribes to the relay before anything is read, and live changes count from behind what was
//! read, so nothing falls between them and nothing comes twice (invariant 8). When the relay has
//! moved on, or a snapshot replaced the rows, it falls behind and catches up from the records.

use std::sync::Arc;
use std::time::Duration;

use antumbra_shadow::Position;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::error::Error;

use super::context::ShardContext;
use super::events::{ResetReason, Source};
use super::metrics;
use super::relay::{Interest, Subscription, Taken};
use super::scan::{self, CaughtUp};

/// Changes taken at one time, before another shard has its turn.
const CHANGES_PER_STEP: usize = 64;

/// Pause before a shard without a leader is asked again.
const BARRIER_PAUSE: Duration = Duration::from_millis(50);

/// One shard as a watch follows it here.
pub(crate) struct Feed {
    context: ShardContext,
    interest: Interest,
    subscription: Subscription,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reads the records on disk since the feed began.
    Behind,
    /// Reads the records on disk because the reader was slower than the relay.
    Overtaken,
    /// Takes from the relay.
    Live,
}

/// What comes next in a feed.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next changes; with them everything of interest up to `upto` is known.
    Changes {
        changes: Vec<(Position, Source)>,
        upto: Position,
        /// Ask again at once.
        more: bool,
    },
    /// The changes behind the position are gone.
    Trimmed(ResetReason),
    /// The replica has not come as far as the position; whether the shard has, a barrier tells.
    Ahead,
}

impl Feed {
    /// Listens from now on. What came before is read on disk. `wake` is notified of changes.
    pub(crate) fn behind(context: ShardContext, interest: Interest, wake: &Arc<Notify>) -> Feed {
        Feed::new(context, interest, wake, Phase::Behind)
    }

    /// Listens from now on, for somebody who reads the documents now.
    pub(crate) fn live(context: ShardContext, interest: Interest, wake: &Arc<Notify>) -> Feed {
        Feed::new(context, interest, wake, Phase::Live)
    }

    fn new(context: ShardContext, interest: Interest, wake: &Arc<Notify>, phase: Phase) -> Feed {
        let subscription = context.relay.subscribe(interest.clone(), Arc::clone(wake));
        Feed {
            context,
            interest,
            subscription,
            phase,
        }
    }

    /// The replica that is followed.
    pub(crate) fn context(&self) -> &ShardContext {
        &self.context
    }

    /// The changes behind `after`. May be dropped midway and asked again.
    pub(crate) async fn step(&mut self, after: Position) -> Result<Step, Error> {
        match self.phase {
            Phase::Live => Ok(self.take(after)),
            Phase::Behind | Phase::Overtaken => self.catch_up(after).await,
        }
    }

    fn take(&mut self, after: Position) -> Step {
        let taken = self.subscription.take(after, CHANGES_PER_STEP);
        let Taken::Changes {
            changes,
            upto,
            more,
        } = taken
        else {
            self.phase = Phase::Overtaken;
            metrics::watch_overtaken();
            return Step::Changes {
                changes: Vec::new(),
                upto: after,
                more: true,
            };
        };
        let changes = changes.into_iter();
        Step::Changes {
            changes: changes.map(|c| (c.position, Source::Live(c))).collect(),
            upto,
            more,
        }
    }

    async fn catch_up(&mut self, after: Position) -> Result<Step, Error> {
        let (context, interest) = (self.context.clone(), self.interest.clone());
        let caught = scan::catch_up(context, interest, after).await?;
        Ok(match caught {
            CaughtUp::Trimmed if self.phase == Phase::Overtaken => {
                Step::Trimmed(ResetReason::ReaderTooSlow)
            }
            CaughtUp::Trimmed => Step::Trimmed(ResetReason::CursorTrimmed),
            CaughtUp::Unknown => Step::Ahead,
            CaughtUp::Records {
                records,
                upto,
                more,
            } => {
                if !more {
                    self.phase = Phase::Live;
                }
                let records = records.into_iter();
                Step::Changes {
                    changes: records.map(|(at, r)| (at, Source::Stored(r))).collect(),
                    upto,
                    // What was published meanwhile waits in the relay.
                    more: true,
                }
            }
        })
    }
}

/// Waits until a replica has everything that was acknowledged before the call, and asks again while
/// the shard has no leader, until `patience` is over. May be dropped midway.
pub(crate) async fn prove(context: &ShardContext, patience: Instant) -> Result<u64, Error> {
    let mut why = Error::Unavailable("the shard has no leader");
    loop {
        match timeout_at(patience, context.barrier()).await {
            Ok(Ok(index)) => return Ok(index),
            Ok(Err(error)) => why = error,
            Err(_) => return Err(why),
        }
        debug!(shard = %context.id(), error = %why, "barrier of a watch");
        if Instant::now() + BARRIER_PAUSE >= patience || context.is_stopped() {
            return Err(why);
        }
        sleep(BARRIER_PAUSE).await;
    }
}
