//! Watching shadows: the current documents, then every change, across all shards concerned.
//!
//! One task per watch. It follows every shard from a replica on this node where there is one, else
//! from another node, and knows up to which position each shard is complete. That position means the
//! same on every replica, so a shard can be followed from elsewhere at any time: nothing is missed
//! and nothing comes twice (invariant 8). Roles and leaders do not matter to a watch; a shard without
//! a leader only leaves its bookmarks out. A slow reader only slows its own task down; when the relay
//! has moved on it falls behind, and when the feed was trimmed meanwhile it is reset.

mod attach;
mod follow;
mod open;
mod remote;
mod serve;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::ShardId;
use antumbra_shadow::{DeviceKey, Position, Tenant};
use futures::future::try_join_all;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::{Instant, interval_at, timeout};
use tracing::debug;

use crate::access::Verb;
use crate::error::Error;

use super::cursor::{Cursor, end_of};
use super::errand::Errand;
use super::events::{
    ResetReason, Source, WatchChange, WatchEvent, WatchRequest, WatchSelection, WatchStream,
};
use super::feed::prove;
use super::outbox::{Gone, Outbox};
use super::relay::Interest;
use super::wanted::Wanted;
use super::{Caller, Shadows, metrics};

use follow::{Follow, Origin, Turn};
use wire::Start;

/// Devices that one watch may list.
const DEVICES_MAX: usize = 1000;
/// Turns that every shard gets before a watch looks at its table and its clock again.
const TURNS_MAX: usize = 16;

impl Shadows {
    /// Watches shadows until the stream is dropped, the node stops or a shard fails. At once
    /// `Overloaded` when too many watches run.
    pub fn watch(&self, caller: &Caller, request: WatchRequest) -> Result<WatchStream, Error> {
        match &request.selection {
            WatchSelection::Prefix(prefix) => caller.may_read_all(&request.tenant, prefix)?,
            WatchSelection::Devices(devices) => devices.iter().try_for_each(|device| {
                let device = DeviceKey::new(request.tenant.clone(), device.clone());
                caller.may_touch(Verb::Read, &device)
            })?,
        }
        let interest = interest(&request)?;
        let opening = Opening::Documents;
        self.start_watch(caller.tenant.clone(), interest, opening, request.cursor)
    }

    /// Follows what this gateway wants, of all tenants and with the records of the node, from about now
    /// on; more may be told, too. Without opening documents: each [`WatchEvent::Synced`] says that
    /// changes from then on are told, and that those before it may have been missed.
    pub(crate) fn follow_wanted(&self, wanted: &Arc<Wanted>) -> Result<WatchStream, Error> {
        let interest = Interest::Wanted(Arc::clone(wanted));
        self.start_watch(None, interest, Opening::Nothing, None)
    }

    fn start_watch(
        &self,
        only: Option<Tenant>,
        interest: Interest,
        opening: Opening,
        cursor: Option<String>,
    ) -> Result<WatchStream, Error> {
        // The first table from which the watch learns of later ones.
        let tables = self.inner.tables.subscribe();
        let concerned = self.concerned(&interest)?;
        let permit = Arc::clone(&self.inner.watchers)
            .try_acquire_owned()
            .map_err(|_| Error::Overloaded)?;
        let (outbox, receiver) = Outbox::new(self.inner.config.watch_events_max);
        let watch = Watch {
            shadows: self.clone(),
            only,
            opening,
            concerned,
            tables,
            wake: Arc::new(Notify::new()),
            follows: Vec::new(),
            cursor: Cursor::default(),
            interest,
            outbox,
        };
        tokio::spawn(watch.run(cursor, permit));
        Ok(WatchStream::new(receiver))
    }

    /// The shards that hold devices of interest.
    fn concerned(&self, interest: &Interest) -> Result<Vec<ShardId>, Error> {
        let table = self.table();
        let map = table.map()?;
        let shards: BTreeSet<ShardId> = match interest {
            Interest::Prefix { .. } | Interest::Wanted(_) | Interest::Attached(_) => {
                map.places().iter().map(|place| place.shard).collect()
            }
            Interest::Devices(devices) => devices.iter().map(|d| map.route(d.hash())).collect(),
        };
        Ok(shards.into_iter().collect())
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

/// What a watch without a cursor begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// The current documents.
    Documents,
    /// Nothing: with the changes from about now on.
    Nothing,
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
    /// The only tenant that the caller may touch.
    only: Option<Tenant>,
    opening: Opening,
    interest: Interest,
    /// The shards that hold devices of interest.
    concerned: Vec<ShardId>,
    tables: watch::Receiver<u64>,
    wake: Arc<Notify>,
    follows: Vec<Follow>,
    /// What the messages sent so far cover.
    cursor: Cursor,
    outbox: Outbox,
}

/// The way to the next bookmark.
enum Proof {
    /// None is due.
    Rest,
    /// The replicas here are asked.
    Asked(Errand<Vec<(ShardId, u64)>>),
    /// They are up to date as of these entries; the other nodes have to say so too.
    Here(Vec<(ShardId, u64)>),
}

impl Watch {
    async fn run(mut self, cursor: Option<String>, _permit: OwnedSemaphorePermit) {
        let _running = metrics::watch_started();
        let stop = self.shadows.inner.stop.clone();
        let reader = self.outbox.reader();
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => End::Failed(Error::Unavailable("the node is stopping")),
            () = reader.gone() => End::ReaderGone,
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
            Some(text) => Some(match self.resume(&text) {
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
                None => self.follow(false).await?,
                Some(reason) => reason,
            });
        }
    }

    /// Takes the places of a cursor; false when it does not fit this watch.
    fn resume(&mut self, text: &str) -> bool {
        let Some(cursor) = Cursor::decode(text, self.shadows.cluster()) else {
            return false;
        };
        for shard in self.concerned.clone() {
            let Some(position) = cursor.place(shard) else {
                return false;
            };
            self.cursor.set(shard, position);
            let origin = match self.shadows.table().local(shard) {
                Some(context) => self.here(context.clone()),
                None => self.elsewhere(shard, Start::After(position)),
            };
            self.follows.push(Follow::new(shard, origin, position));
        }
        true
    }

    /// Sends changes until the watch has to begin anew.
    async fn follow(&mut self, resumed: bool) -> Result<ResetReason, End> {
        let period = self.shadows.inner.config.bookmark_interval;
        let mut bookmarks = interval_at(Instant::now() + period, period);
        let mut proof = match resumed {
            // Who resumed learns at once that nothing is missing any more.
            true => self.ask_for_proof(),
            false => Proof::Rest,
        };
        // A replica may have come or gone while the documents were sent.
        self.settle();
        loop {
            if let Some(reason) = self.drain().await? {
                return Ok(reason);
            }
            if let Proof::Asked(errand) = &mut proof {
                match errand.result() {
                    Some(Ok(proven)) => proof = Proof::Here(proven),
                    // Left out when a shard cannot prove it now.
                    Some(Err(_)) => proof = Proof::Rest,
                    None => {}
                }
            }
            if let Proof::Here(proven) = &proof {
                // The changes up to a barrier are in the relay before the barrier returns.
                if let Some(reason) = self.drain().await? {
                    return Ok(reason);
                }
                if self.is_complete(proven) {
                    proof = Proof::Rest;
                    self.send(WatchEvent::Bookmark).await?;
                }
            }
            self.outbox.flush().await?;
            tokio::select! {
                biased;
                changed = self.tables.changed() => {
                    let _ = changed;
                    self.settle();
                }
                _ = bookmarks.tick() => {
                    self.settle();
                    if !matches!(proof, Proof::Asked(_)) {
                        proof = self.ask_for_proof();
                    }
                }
                // Last: one shard that always has more must not keep the others waiting.
                () = self.wake.notified() => {}
            }
        }
    }

    /// Gives every shard its turn until none has more to send, or it is time to look around.
    async fn drain(&mut self) -> Result<Option<ResetReason>, End> {
        for _ in 0..TURNS_MAX {
            // Catching up may go on for long without anything to send.
            if self.outbox.is_gone() {
                return Err(End::ReaderGone);
            }
            let mut more = false;
            for nth in 0..self.follows.len() {
                let turn = match &mut self.follows[nth].origin {
                    Origin::Here(_) => self.step(nth).await?,
                    Origin::Elsewhere(remote) => {
                        let pulled = remote.pull();
                        self.take(nth, pulled).await?
                    }
                };
                match turn {
                    Turn::Idle => {}
                    Turn::More => more = true,
                    Turn::Reset(reason) => return Ok(Some(reason)),
                }
            }
            if !more {
                return Ok(None);
            }
        }
        self.wake.notify_one();
        Ok(None)
    }

    /// Has the replicas here prove that they are up to date.
    fn ask_for_proof(&mut self) -> Proof {
        let mut asked = Vec::new();
        for follow in &mut self.follows {
            follow.proven = None;
            if let Origin::Here(feed) = &follow.origin {
                asked.push((follow.shard, feed.context().clone()));
            }
        }
        let patience = Instant::now() + self.shadows.inner.config.bookmark_interval;
        Proof::Asked(Errand::start(&self.wake, async move {
            let proofs = asked.into_iter().map(|(shard, context)| async move {
                let index = prove(&context, patience).await?;
                Ok((shard, index))
            });
            try_join_all(proofs).await
        }))
    }

    /// Whether nothing is missing up to the cursor.
    fn is_complete(&self, proven: &[(ShardId, u64)]) -> bool {
        self.follows.iter().all(|follow| match &follow.origin {
            Origin::Here(_) => {
                let index = proven.iter().find(|(shard, _)| *shard == follow.shard);
                // A position that is still judged may be one that nobody ever came to.
                let is_sure = follow.judge.is_none();
                is_sure && index.is_some_and(|(_, index)| follow.position >= end_of(*index))
            }
            Origin::Elsewhere(_) => follow.proven.is_some_and(|upto| follow.position >= upto),
        })
    }

    async fn send_changes(
        &mut self,
        nth: usize,
        changes: Vec<(Position, Source)>,
        upto: Position,
    ) -> Result<(), End> {
        for (position, source) in changes {
            if position > self.follows[nth].position {
                self.complete(nth, position);
                self.send(WatchEvent::Change(WatchChange { source }))
                    .await?;
            }
        }
        self.complete(nth, upto);
        Ok(())
    }

    async fn send(&mut self, event: WatchEvent) -> Result<(), End> {
        let cursor = self.cursor.encode(self.shadows.cluster());
        Ok(self.outbox.push(cursor, event).await?)
    }

    fn complete(&mut self, nth: usize, upto: Position) {
        let follow = &mut self.follows[nth];
        follow.position = follow.position.max(upto);
        self.cursor.set(follow.shard, follow.position);
    }
}
