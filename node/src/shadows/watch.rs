//! Watching shadows: the current documents, then every change, across all shards concerned.
//!
//! One task per watch. Per shard it is either *behind* (reading the feed on disk) or *live*
//! (taking from the relay), and knows up to which position it is complete. A shard's subscription
//! begins before its view is pinned and live changes count from behind that view, so nothing falls
//! between them and nothing comes twice (invariant 8). A slow reader only slows its own task down;
//! when the relay has moved on it falls behind, and when the feed was trimmed meanwhile it is reset.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antumbra_shadow::{DeviceKey, Position};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, interval_at, timeout};
use tracing::debug;

use crate::error::Error;

use super::context::ShardContext;
use super::cursor::{Cursor, end_of};
use super::events::{
    ResetReason, Source, WatchChange, WatchEvent, WatchRequest, WatchSelection, WatchStream,
};
use super::outbox::{Gone, Outbox};
use super::relay::{Interest, Subscription, Taken};
use super::scan::{self, CaughtUp, Opening};
use super::{Caller, Shadows, metrics};

/// Devices that one watch may list.
const DEVICES_MAX: usize = 1000;

/// Changes taken from one shard before the next has its turn.
const CHANGES_PER_TURN: usize = 64;

/// How long a watch waits for a shard to prove that it is up to date.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(10);

impl Shadows {
    /// Watches shadows until the stream is dropped, the node stops or a shard fails. At once
    /// `Overloaded` when too many watches run.
    pub fn watch(&self, caller: &Caller, request: WatchRequest) -> Result<WatchStream, Error> {
        caller.may_touch(&request.tenant)?;
        let interest = interest(&request)?;
        let permit = Arc::clone(&self.inner.watchers)
            .try_acquire_owned()
            .map_err(|_| Error::Overloaded)?;
        let (outbox, receiver) = Outbox::new(self.inner.config.watch_events_max);
        let watch = Watch {
            shadows: self.clone(),
            wake: Arc::new(Notify::new()),
            follows: Vec::new(),
            cursor: Cursor::default(),
            interest,
            outbox,
        };
        tokio::spawn(watch.run(request.cursor, permit));
        Ok(WatchStream::new(receiver))
    }
}

fn interest(request: &WatchRequest) -> Result<Interest, Error> {
    let tenant = request.tenant.clone();
    match &request.selection {
        WatchSelection::Devices(devices) if devices.is_empty() || devices.len() > DEVICES_MAX => {
            Err(Error::invalid("device_ids", "must list 1 to 1000 devices"))
        }
        WatchSelection::Devices(devices) => {
            let keys = devices
                .iter()
                .map(|device| DeviceKey::new(tenant.clone(), device.clone()));
            Ok(Interest::Devices(Arc::new(keys.collect::<BTreeSet<_>>())))
        }
        WatchSelection::Prefix(prefix) => Ok(Interest::Prefix {
            tenant,
            prefix: prefix.as_str().into(),
        }),
    }
}

/// Why a watch is over.
enum End {
    ReaderGone,
    Failed(Error),
}

impl From<Gone> for End {
    fn from(_: Gone) -> End {
        End::ReaderGone
    }
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error)
    }
}

/// The task of one watch.
struct Watch {
    shadows: Shadows,
    interest: Interest,
    wake: Arc<Notify>,
    follows: Vec<Follow>,
    /// What the messages sent so far cover.
    cursor: Cursor,
    outbox: Outbox,
}

/// One shard of a watch.
struct Follow {
    context: ShardContext,
    subscription: Subscription,
    phase: Phase,
    /// Everything of interest up to here has been sent.
    position: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reads the feed on disk since the watch began.
    Behind,
    /// Reads the feed on disk because the reader was slower than the relay.
    Overtaken,
    /// Takes from the relay.
    Live,
}

/// What one turn of a shard gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Idle,
    More,
    Reset(ResetReason),
}

impl Watch {
    async fn run(mut self, cursor: Option<String>, _permit: OwnedSemaphorePermit) {
        let _running = metrics::watch_started();
        let stop = self.shadows.inner.stop.clone();
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => End::Failed(Error::Unavailable("the node is stopping")),
            end = self.drive(cursor) => end,
        };
        if let End::Failed(error) = end {
            debug!(%error, "watch ended");
            let last_words = self.outbox.fail(error);
            // A reader that is gone or stuck must not keep the task.
            let _ = timeout(Duration::from_secs(1), last_words).await;
        }
    }

    async fn drive(&mut self, cursor: Option<String>) -> End {
        match self.resume_and_open(cursor).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn resume_and_open(
        &mut self,
        cursor: Option<String>,
    ) -> Result<std::convert::Infallible, End> {
        let mut reset = match cursor {
            None => None,
            Some(text) => Some(match self.resume(&text).await? {
                true => self.follow(true).await?,
                false => ResetReason::CursorUnknown,
            }),
        };
        loop {
            if let Some(reason) = reset {
                metrics::watch_reset(reason.as_str());
                let event = WatchEvent::Reset(reason);
                self.outbox.push(String::new(), event).await?;
            }
            reset = Some(match self.open().await? {
                true => self.follow(false).await?,
                false => ResetReason::ReaderTooSlow,
            });
        }
    }

    /// Takes the places of a cursor; false when it does not fit this watch.
    async fn resume(&mut self, text: &str) -> Result<bool, End> {
        let Some(cursor) = Cursor::decode(text, self.shadows.inner.cluster) else {
            return Ok(false);
        };
        for context in self.concerned() {
            let Some(position) = cursor.place(context.id()) else {
                return Ok(false);
            };
            self.cursor.set(context.id(), position);
            let follow = self.subscribe(context, Phase::Behind, position).await?;
            self.follows.push(follow);
        }
        Ok(true)
    }

    /// Sends the current documents; false when the reader was too slow for that.
    async fn open(&mut self) -> Result<bool, End> {
        self.follows.clear();
        self.cursor = Cursor::default();
        for context in self.concerned() {
            let mut follow = self
                .subscribe(context, Phase::Live, Position::default())
                .await?;
            match self.send_documents(&follow.context).await? {
                None => return Ok(false),
                Some(index) => follow.position = end_of(index),
            }
            self.cursor.set(follow.context.id(), follow.position);
            self.follows.push(follow);
        }
        self.send(WatchEvent::Synced).await?;
        Ok(true)
    }

    /// The applied index of the documents; `None` when the reader stalled.
    async fn send_documents(&mut self, context: &ShardContext) -> Result<Option<u64>, End> {
        let inner = Arc::clone(&self.shadows.inner);
        let _turn = inner.opening_scans.acquire().await;
        let stall_timeout = inner.config.stall_timeout;
        let mut steps = scan::open(context.clone(), self.interest.clone(), stall_timeout);
        while let Some(step) = steps.recv().await {
            let documents = match step? {
                Opening::Documents(documents) => documents,
                Opening::Done { index } => return Ok(Some(index)),
            };
            for opening in documents {
                let event = WatchEvent::Document {
                    device: opening.device,
                    shadow: opening.shadow,
                    document: opening.document,
                };
                self.outbox.push(String::new(), event).await?;
            }
        }
        Ok(None)
    }

    /// Sends changes until the watch has to begin anew.
    async fn follow(&mut self, resumed: bool) -> Result<ResetReason, End> {
        let period = self.shadows.inner.config.bookmark_interval;
        let mut bookmarks = interval_at(Instant::now() + period, period);
        // Who resumed learns at once that nothing is missing any more.
        let mut due = resumed;
        loop {
            if let Some(reason) = self.drain().await? {
                return Ok(reason);
            }
            if due {
                due = false;
                if let Some(reason) = self.bookmark().await? {
                    return Ok(reason);
                }
            }
            self.outbox.flush().await?;
            tokio::select! {
                biased;
                () = self.outbox.gone() => return Err(End::ReaderGone),
                () = self.wake.notified() => {}
                _ = bookmarks.tick() => due = true,
            }
        }
    }

    /// Gives every shard its turn until none has more to send.
    async fn drain(&mut self) -> Result<Option<ResetReason>, End> {
        loop {
            // Catching up may go on for long without anything to send.
            if self.outbox.is_gone() {
                return Err(End::ReaderGone);
            }
            let mut more = false;
            for nth in 0..self.follows.len() {
                match self.turn(nth).await? {
                    Turn::Idle => {}
                    Turn::More => more = true,
                    Turn::Reset(reason) => return Ok(Some(reason)),
                }
            }
            if !more {
                return Ok(None);
            }
        }
    }

    async fn turn(&mut self, nth: usize) -> Result<Turn, End> {
        match self.follows[nth].phase {
            Phase::Live => self.take(nth).await,
            Phase::Behind | Phase::Overtaken => self.catch_up(nth).await,
        }
    }

    async fn take(&mut self, nth: usize) -> Result<Turn, End> {
        let follow = &mut self.follows[nth];
        let taken = follow.subscription.take(follow.position, CHANGES_PER_TURN);
        let Taken::Changes {
            changes,
            upto,
            more,
        } = taken
        else {
            follow.phase = Phase::Overtaken;
            metrics::watch_overtaken();
            return Ok(Turn::More);
        };
        for change in changes {
            let position = change.position;
            self.send_change(nth, position, Source::Live(change))
                .await?;
        }
        self.complete(nth, upto);
        Ok(if more { Turn::More } else { Turn::Idle })
    }

    async fn catch_up(&mut self, nth: usize) -> Result<Turn, End> {
        let follow = &self.follows[nth];
        let (context, phase) = (follow.context.clone(), follow.phase);
        let caught = scan::catch_up(context, self.interest.clone(), follow.position).await?;
        match caught {
            CaughtUp::Trimmed if phase == Phase::Overtaken => {
                Ok(Turn::Reset(ResetReason::ReaderTooSlow))
            }
            CaughtUp::Trimmed => Ok(Turn::Reset(ResetReason::CursorTrimmed)),
            CaughtUp::Unknown => Ok(Turn::Reset(ResetReason::CursorUnknown)),
            CaughtUp::Records {
                records,
                upto,
                more,
            } => {
                for (position, record) in records {
                    self.send_change(nth, position, Source::Stored(record))
                        .await?;
                }
                self.complete(nth, upto);
                if !more {
                    self.follows[nth].phase = Phase::Live;
                }
                Ok(Turn::More)
            }
        }
    }

    /// Proves to the reader that nothing is missing up to the cursor. Left out when a shard cannot
    /// prove it now.
    async fn bookmark(&mut self) -> Result<Option<ResetReason>, End> {
        let mut proven = Vec::with_capacity(self.follows.len());
        for follow in &self.follows {
            match timeout(BARRIER_TIMEOUT, follow.context.barrier()).await {
                Ok(Ok(index)) => proven.push(index),
                _ => return Ok(None),
            }
        }
        if let Some(reason) = self.drain().await? {
            return Ok(Some(reason));
        }
        let mut places = self.follows.iter().zip(proven);
        if places.all(|(follow, index)| follow.position.index >= index) {
            self.send(WatchEvent::Bookmark).await?;
        }
        Ok(None)
    }

    async fn send_change(
        &mut self,
        nth: usize,
        position: Position,
        source: Source,
    ) -> Result<(), End> {
        self.complete(nth, position);
        self.send(WatchEvent::Change(WatchChange { source })).await
    }

    async fn send(&mut self, event: WatchEvent) -> Result<(), End> {
        let cursor = self.cursor.encode(self.shadows.inner.cluster);
        Ok(self.outbox.push(cursor, event).await?)
    }

    fn complete(&mut self, nth: usize, upto: Position) {
        let follow = &mut self.follows[nth];
        follow.position = upto;
        self.cursor.set(follow.context.id(), upto);
    }

    /// Subscribes first and proves then that the replica is up to date, so that whatever is pinned
    /// or read afterwards overlaps with the subscription.
    async fn subscribe(
        &self,
        context: ShardContext,
        phase: Phase,
        position: Position,
    ) -> Result<Follow, End> {
        let wake = Arc::clone(&self.wake);
        let subscription = context.relay.subscribe(self.interest.clone(), wake);
        timeout(BARRIER_TIMEOUT, context.barrier())
            .await
            .unwrap_or(Err(Error::Unavailable("a shard has no leader")))?;
        Ok(Follow {
            context,
            subscription,
            phase,
            position,
        })
    }

    /// The shards that hold devices of interest.
    fn concerned(&self) -> Vec<ShardContext> {
        let shards = &self.shadows.inner.shards;
        match &self.interest {
            Interest::Prefix { .. } => shards.values().cloned().collect(),
            Interest::Devices(devices) => {
                let map = &self.shadows.inner.map;
                let ids: BTreeSet<_> = devices.iter().map(|d| map.route(d.hash())).collect();
                ids.iter().map(|id| shards[id].clone()).collect()
            }
        }
    }
}
