//! Trimming the feed: the leader of a shard decides from the marks up to where the feed is too old
//! or too large, and proposes that through the log, so that every replica drops the same records.

use std::time::Duration;

use antumbra_raft::Role;
use antumbra_shadow::{Entry, Time, TrimFeed};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::error::Error;

use super::account::{Account, Mark};
use super::context::{ShardContext, blocking, read_failed, readable};
use super::{keys, metrics};

/// Marks that one step reads.
const MARKS_PER_STEP: usize = 1024;

/// What a shard's feed may keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrimLimits {
    /// Records older than this go.
    pub(crate) age_max: Duration,
    /// The oldest records go while there are more bytes than this.
    pub(crate) bytes_max: u64,
    /// How often to look.
    pub(crate) interval: Duration,
}

/// The trimmer of one shard.
pub(crate) struct Trimmer {
    context: ShardContext,
    limits: TrimLimits,
    now: Box<dyn Fn() -> Time + Send + Sync>,
}

impl Trimmer {
    pub(crate) fn new(
        context: ShardContext,
        limits: TrimLimits,
        now: Box<dyn Fn() -> Time + Send + Sync>,
    ) -> Trimmer {
        Trimmer {
            context,
            limits,
            now,
        }
    }

    /// Looks at the feed again and again until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(self.limits.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // A proposal may hang while there is no quorum.
            let Some(done) = stop.run_until_cancelled(self.step()).await else {
                return;
            };
            if let Err(error) = done {
                debug!(shard = %self.context.id(), %error, "trim feed");
            }
        }
    }

    async fn step(&self) -> Result<(), Error> {
        let term = match *self.context.shard.role().borrow() {
            Role::Leader { term } => term,
            _ => return Ok(()),
        };
        let (context, limits, now) = (self.context.clone(), self.limits, (self.now)());
        let due = blocking(move || decide(&context, limits, now)).await?;
        let Some(upto_index) = due else {
            return Ok(());
        };
        let entry = Entry::TrimFeed(TrimFeed { upto_index }).encode();
        let shard = self.context.id();
        match self.context.shard.propose(term, entry).await {
            Ok(_) => info!(%shard, upto_index, "feed trimmed"),
            // The next step decides anew from what is there then.
            Err(error) => debug!(%shard, %error, "trim feed"),
        }
        Ok(())
    }
}

/// The last entry whose records must go.
fn decide(context: &ShardContext, limits: TrimLimits, now: Time) -> Result<Option<u64>, Error> {
    let shard = context.id();
    let view = context.shard.view();
    let Some(account) = view.get(&keys::account(shard)).map_err(read_failed)? else {
        return Ok(None);
    };
    let account = readable(Account::decode(&account))?;
    metrics::feed(shard, account.kept_bytes(), account.trimmed_index);
    let mut from = keys::mark(shard, 0);
    let end = keys::marks_end(shard);
    let mut upto = None;
    loop {
        let rows = view
            .scan(&from, &end, MARKS_PER_STEP)
            .map_err(read_failed)?;
        let exhausted = rows.len() < MARKS_PER_STEP;
        for (key, value) in rows {
            let index = readable(keys::decode_mark(&key))?;
            let mark = readable(Mark::decode(&value))?;
            if !is_due(&account, &mark, limits, now) {
                return Ok(upto);
            }
            upto = Some(index);
            from = keys::mark(shard, index).successor();
        }
        if exhausted {
            return Ok(upto);
        }
    }
}

/// Whether everything up to the mark must go.
fn is_due(account: &Account, mark: &Mark, limits: TrimLimits, now: Time) -> bool {
    let age_max = u64::try_from(limits.age_max.as_millis()).unwrap_or(u64::MAX);
    let behind = account.written_bytes.saturating_sub(mark.written_bytes);
    now.0.saturating_sub(mark.time.0) > age_max || behind >= limits.bytes_max
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TrimLimits = TrimLimits {
        age_max: Duration::from_secs(10),
        bytes_max: 1000,
        interval: Duration::from_secs(1),
    };

    fn due(written_bytes: u64, mark_bytes: u64, mark_age_ms: u64) -> bool {
        let account = Account {
            written_bytes,
            ..Account::default()
        };
        let mark = Mark {
            written_bytes: mark_bytes,
            time: Time(100_000 - mark_age_ms),
        };
        is_due(&account, &mark, LIMITS, Time(100_000))
    }

    #[test]
    fn old_records_are_due() {
        assert!(!due(10, 10, 10_000));
        assert!(due(10, 10, 10_001));
    }

    #[test]
    fn records_that_do_not_fit_are_due() {
        assert!(
            !due(1_999, 1_000, 0),
            "what is behind the mark does not fill the limit"
        );
        assert!(
            due(2_000, 1_000, 0),
            "what is behind the mark fills the limit"
        );
    }

    /// A clock that jumped back must not make everything look old.
    #[test]
    fn records_from_the_future_are_kept() {
        let mark = Mark {
            written_bytes: 1,
            time: Time(u64::MAX),
        };
        assert!(!is_due(&Account::default(), &mark, LIMITS, Time(5)));
    }
}
