//! The beginning of a watch: the current documents of every shard concerned, one shard after the
//! other, from the replica here or from another node.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::ShardId;
use antumbra_shadow::Position;
use tokio::time::{Instant, sleep, timeout};

use crate::error::Error;
use crate::shadows::context::ShardContext;
use crate::shadows::cursor::{Cursor, end_of};
use crate::shadows::events::{ResetReason, WatchEvent};
use crate::shadows::feed::{Feed, prove};
use crate::shadows::scan::{self, Opening, OpeningDocument};

use super::follow::{Follow, Origin};
use super::remote::{Pulled, Remote};
use super::wire::{Item, Start};
use super::{End, Watch};

/// How long a new watch waits for the replica here to be up to date when another node could serve it.
const LOCAL_PATIENCE: Duration = Duration::from_secs(2);

/// Pause before a shard that nobody has is looked for again.
const REPLICA_PAUSE: Duration = Duration::from_millis(10);

/// A shard whose documents were sent, and where its changes go on.
type Opened = (Origin, Position);

impl Watch {
    /// Sends the current documents. Gives the reason when that has to begin anew.
    pub(super) async fn open(&mut self) -> Result<Option<ResetReason>, End> {
        self.follows.clear();
        self.cursor = Cursor::default();
        for shard in self.concerned.clone() {
            self.wait_for_replica(shard).await?;
            let opened = match self.opening {
                super::Opening::Documents => match self.feed_to_open(shard).await? {
                    Some(feed) => self.open_here(feed).await?,
                    None => self.open_elsewhere(shard, Start::Opening).await?,
                },
                super::Opening::Nothing => match self.table_local(shard) {
                    Some(context) => Ok(self.join_here(context)),
                    None => self.open_elsewhere(shard, Start::Now).await?,
                },
            };
            let (origin, position) = match opened {
                Ok(opened) => opened,
                Err(reason) => return Ok(Some(reason)),
            };
            self.cursor.set(shard, position);
            self.follows.push(Follow::new(shard, origin, position));
        }
        self.send(WatchEvent::Synced).await?;
        Ok(None)
    }

    /// A replica here whose documents are those of now. `None` when another node has to be asked.
    async fn feed_to_open(&self, shard: ShardId) -> Result<Option<Feed>, End> {
        let table = self.shadows.table();
        let Some(context) = table.local(shard).cloned() else {
            return Ok(None);
        };
        let is_elsewhere = table.is_elsewhere(shard, &self.shadows.inner.node);
        let patience = self.shadows.inner.config.patience;
        let patience = match is_elsewhere {
            true => patience.min(LOCAL_PATIENCE),
            false => patience,
        };
        // Listening begins first, so that whatever is read afterwards overlaps with it.
        let feed = Feed::live(context.clone(), self.interest.clone(), &self.wake);
        match prove(&context, Instant::now() + patience).await {
            Ok(_) => Ok(Some(feed)),
            Err(_) if is_elsewhere => Ok(None),
            Err(error) => Err(End::Failed(error)),
        }
    }

    /// Waits until some node has a replica that can be followed: that of a node alone is not known yet
    /// when it has just begun.
    async fn wait_for_replica(&self, shard: ShardId) -> Result<(), End> {
        let deadline = Instant::now() + self.shadows.inner.config.patience;
        loop {
            let table = self.shadows.table();
            let is_here = table.local(shard).is_some();
            if is_here || table.is_elsewhere(shard, &self.shadows.inner.node) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = "no replica of a shard can be reached";
                return Err(End::Failed(Error::Unavailable(why)));
            }
            sleep(REPLICA_PAUSE).await;
        }
    }

    fn table_local(&self, shard: ShardId) -> Option<ShardContext> {
        self.shadows.table().local(shard).cloned()
    }

    /// Joins the changes of a replica here as they are now.
    fn join_here(&self, context: ShardContext) -> Opened {
        let feed = Feed::live(context.clone(), self.interest.clone(), &self.wake);
        let index = context.shard.applied_index();
        (Origin::Here(feed), end_of(index))
    }

    async fn open_here(&mut self, feed: Feed) -> Result<Result<Opened, ResetReason>, End> {
        let inner = Arc::clone(&self.shadows.inner);
        let _turn = inner.opening_scans.acquire().await;
        let context = feed.context().clone();
        let stall_timeout = inner.config.stall_timeout;
        let mut steps = scan::open(context, self.interest.clone(), stall_timeout);
        while let Some(step) = steps.recv().await {
            match step? {
                Opening::Documents(documents) => {
                    // Whoever takes nothing must not keep the turn.
                    match timeout(stall_timeout, self.send_documents(documents)).await {
                        Ok(sent) => sent?,
                        Err(_) => return Ok(Err(ResetReason::ReaderTooSlow)),
                    }
                }
                Opening::Done { index } => {
                    return Ok(Ok((Origin::Here(feed), end_of(index))));
                }
            }
        }
        Ok(Err(ResetReason::ReaderTooSlow))
    }

    async fn open_elsewhere(
        &mut self,
        shard: ShardId,
        start: Start,
    ) -> Result<Result<Opened, ResetReason>, End> {
        let request = self.request(shard, start);
        let mut remote = Remote::start(&self.shadows, request, &self.wake);
        loop {
            match remote.next().await {
                Pulled::Item(Item::Documents(documents)) => self.send_documents(documents).await?,
                Pulled::Item(Item::Opened { index }) => {
                    return Ok(Ok((Origin::Elsewhere(remote), end_of(index))));
                }
                Pulled::Item(Item::Reset(reason)) => return Ok(Err(reason)),
                Pulled::Failed(error) => return Err(End::Failed(error)),
                _ => return Ok(Err(ResetReason::SourceLost)),
            }
        }
    }

    async fn send_documents(&mut self, documents: Vec<OpeningDocument>) -> Result<(), End> {
        for opening in documents {
            let event = WatchEvent::Document {
                device: opening.device,
                shadow: opening.shadow,
                document: opening.document,
            };
            self.outbox.push(String::new(), event).await?;
        }
        Ok(())
    }
}
