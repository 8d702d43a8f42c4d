//! One shard of a watch: where its changes come from, and what each turn of it gives.

use antumbra_raft::ShardId;
use antumbra_shadow::Position;
use tokio::time::Instant;
use tracing::debug;

use crate::error::Error;
use crate::shadows::context::ShardContext;
use crate::shadows::errand::Errand;
use crate::shadows::events::ResetReason;
use crate::shadows::feed::{Feed, Step, prove};

use super::remote::{Pulled, Remote};
use super::wire::{FollowRequest, Item, Start};
use super::{End, Watch};

/// One shard of a watch.
pub(super) struct Follow {
    pub(super) shard: ShardId,
    pub(super) origin: Origin,
    /// Everything of interest up to here has been sent.
    pub(super) position: Position,
    /// The node that is followed has proven so much since the last bookmark.
    pub(super) proven: Option<Position>,
    /// Asks whether the shard has come as far as the position, when the replica here has not.
    pub(super) judge: Option<Errand<u64>>,
}

/// A replica here takes over from another node when it is at most so many entries behind: it catches
/// up while the watch waits.
const BEHIND_MAX: u64 = 1024;

/// Where the changes of a shard come from.
pub(super) enum Origin {
    Here(Feed),
    Elsewhere(Remote),
}

/// What one turn of a shard gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Idle,
    More,
    Reset(ResetReason),
}

impl Follow {
    pub(super) fn new(shard: ShardId, origin: Origin, position: Position) -> Follow {
        Follow {
            shard,
            origin,
            position,
            proven: None,
            judge: None,
        }
    }

    /// Goes on at the same position.
    fn follow_from(&mut self, origin: Origin) {
        self.origin = origin;
        self.proven = None;
        self.judge = None;
    }
}

impl Watch {
    /// Follows every shard from where it should be followed now, each from its position on: from
    /// here when the replica here has come about as far, else from another node.
    pub(super) fn settle(&mut self) {
        for nth in 0..self.follows.len() {
            let follow = &self.follows[nth];
            let (shard, position) = (follow.shard, follow.position);
            let table = self.shadows.table();
            let is_elsewhere = table.is_elsewhere(shard, &self.shadows.inner.node);
            let local = table.local(shard);
            let has_come = |here: &&ShardContext| {
                let reach = here.shard.applied_index().saturating_add(BEHIND_MAX);
                reach >= position.index || !is_elsewhere
            };
            let origin = match (&follow.origin, local) {
                (Origin::Here(feed), Some(here)) if here.is_same(feed.context()) => continue,
                (_, here) if here.as_ref().is_some_and(has_come) => {
                    here.map(|here| self.here(here.clone()))
                }
                (Origin::Here(_), _) if is_elsewhere => {
                    Some(self.elsewhere(shard, Start::After(position)))
                }
                // Nobody else has it, or another node is followed already.
                _ => None,
            };
            if let Some(origin) = origin {
                debug!(%shard, %position, "a shard of a watch is followed from elsewhere now");
                self.follows[nth].follow_from(origin);
            }
        }
    }

    pub(super) fn here(&self, context: ShardContext) -> Origin {
        let feed = Feed::behind(context, self.interest.clone(), &self.wake);
        Origin::Here(feed)
    }

    pub(super) fn elsewhere(&self, shard: ShardId, start: Start) -> Origin {
        let request = self.request(shard, start);
        Origin::Elsewhere(Remote::start(&self.shadows, request, &self.wake))
    }

    pub(super) fn request(&self, shard: ShardId, start: Start) -> FollowRequest {
        FollowRequest {
            shard,
            // Each stream gets a name of its own when it is opened.
            stream: 0,
            only: self.only.clone(),
            interest: self.interest.clone(),
            start,
        }
    }

    /// One turn of a shard that is followed here.
    pub(super) async fn step(&mut self, nth: usize) -> Result<Turn, End> {
        let follow = &mut self.follows[nth];
        let Origin::Here(feed) = &mut follow.origin else {
            return Ok(Turn::Idle);
        };
        let step = match feed.step(follow.position).await {
            Ok(step) => step,
            Err(error) => return self.leave(nth, error),
        };
        match step {
            Step::Changes {
                changes,
                upto,
                more,
            } => {
                follow.judge = None;
                self.send_changes(nth, changes, upto).await?;
                Ok(if more { Turn::More } else { Turn::Idle })
            }
            Step::Trimmed(reason) => Ok(Turn::Reset(reason)),
            Step::Ahead => self.judge(nth),
        }
    }

    /// The replica here has not come as far as the position: it lags, or nobody ever came there.
    fn judge(&mut self, nth: usize) -> Result<Turn, End> {
        let patience = Instant::now() + self.shadows.inner.config.patience;
        let follow = &mut self.follows[nth];
        let Origin::Here(feed) = &follow.origin else {
            return Ok(Turn::Idle);
        };
        let Some(judge) = &mut follow.judge else {
            let context = feed.context().clone();
            let work = async move { prove(&context, patience).await };
            follow.judge = Some(Errand::start(&self.wake, work));
            return Ok(Turn::Idle);
        };
        match judge.result() {
            None => Ok(Turn::Idle),
            Some(Ok(index)) if index < follow.position.index => {
                Ok(Turn::Reset(ResetReason::CursorUnknown))
            }
            Some(Ok(_)) => {
                follow.judge = None;
                Ok(Turn::More)
            }
            Some(Err(error)) => self.leave(nth, error),
        }
    }

    /// The replica here cannot be followed: another node is asked, if one has the shard.
    fn leave(&mut self, nth: usize, error: Error) -> Result<Turn, End> {
        let (shard, position) = (self.follows[nth].shard, self.follows[nth].position);
        let me = &self.shadows.inner.node;
        if !self.shadows.table().is_elsewhere(shard, me) {
            return Err(End::Failed(error));
        }
        debug!(%shard, %error, "a watch leaves the replica here");
        let origin = self.elsewhere(shard, Start::After(position));
        self.follows[nth].follow_from(origin);
        Ok(Turn::Idle)
    }

    /// One turn of a shard that is followed on another node.
    pub(super) async fn take(&mut self, nth: usize, pulled: Pulled) -> Result<Turn, End> {
        let follow = &mut self.follows[nth];
        match pulled {
            Pulled::Nothing => return Ok(Turn::Idle),
            Pulled::Failed(error) => return Err(End::Failed(error)),
            Pulled::Ended => {
                let (shard, position) = (follow.shard, follow.position);
                let origin = self.elsewhere(shard, Start::After(position));
                self.follows[nth].follow_from(origin);
                return Ok(Turn::Idle);
            }
            Pulled::Item(Item::Changes { changes, upto }) => {
                self.send_changes(nth, changes, upto).await?;
            }
            Pulled::Item(Item::Proven(position)) => {
                follow.proven = Some(position);
                self.complete(nth, position);
            }
            Pulled::Item(Item::Reset(reason)) => return Ok(Turn::Reset(reason)),
            // The documents were sent before.
            Pulled::Item(Item::Documents(_) | Item::Opened { .. }) => {}
        }
        Ok(Turn::More)
    }
}
