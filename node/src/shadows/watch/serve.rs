//! Serves the changes of a shard that has a replica here to a node that has none.
//!
//! The other node holds the watch; this side only reads one shard in order and says from time to
//! time that nothing is missing. It ends when the replica goes, and the other node moves on.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::ShardId;
use antumbra_shadow::{Position, Tenant};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;

use crate::error::Error;
use crate::shadows::context::ShardContext;
use crate::shadows::cursor::end_of;
use crate::shadows::errand::Errand;
use crate::shadows::events::{ResetReason, Source};
use crate::shadows::feed::{Feed, Step, prove};
use crate::shadows::relay::Interest;
use crate::shadows::scan::{self, Opening};
use crate::shadows::{Shadows, metrics};

use super::wire::{
    FollowRequest, Item, Start, encode_changes, encode_documents, encode_whole_changes,
};

/// Messages that wait for the link; each has about 256 KiB at most.
const MESSAGES_MAX: usize = 4;

/// How long the other node waits here for a leader before it should try elsewhere.
const PATIENCE: Duration = Duration::from_secs(10);

impl Shadows {
    /// Serves a remote watch of one shard that has a replica here. Dropping the stream ends it.
    pub(crate) fn follow(&self, body: Bytes) -> BoxStream<'static, Result<Bytes, String>> {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let shadows = self.clone();
        tokio::spawn(async move {
            let stop = shadows.inner.stop.clone();
            let last_words = sender.clone();
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => End::Failed("the node is stopping".to_owned()),
                () = last_words.closed() => End::Gone,
                end = shadows.serve_follow(body, sender) => end,
            };
            if let End::Failed(why) = end {
                debug!(why, "a stream of changes for another node ends");
                // A reader that is stuck must not keep the task.
                let _ = timeout(Duration::from_secs(1), last_words.send(Err(why))).await;
            }
        });
        ReceiverStream::new(receiver).boxed()
    }

    async fn serve_follow(&self, body: Bytes, sender: mpsc::Sender<Result<Bytes, String>>) -> End {
        let Some(request) = FollowRequest::decode(body) else {
            return End::Failed("the request cannot be read".to_owned());
        };
        let Ok(_permit) = Arc::clone(&self.inner.watchers).try_acquire_owned() else {
            return End::Failed("too many watches".to_owned());
        };
        if !is_allowed(request.only.as_ref(), &request.interest) {
            return End::Failed("not allowed".to_owned());
        }
        let tables = self.inner.tables.subscribe();
        let Some(context) = self.table().local(request.shard).cloned() else {
            return End::Failed("no replica of the shard here".to_owned());
        };
        let _running = metrics::watch_started();
        let _attachment = match &request.interest {
            Interest::Attached(attached) => Some(self.inner.attachments.open(attached)),
            _ => None,
        };
        let wake = Arc::new(Notify::new());
        let interest = request.interest.clone();
        let feed = match request.start {
            Start::Opening | Start::Now => Feed::live(context, interest, &wake),
            Start::After(_) => Feed::behind(context, interest, &wake),
        };
        let serving = Serving {
            shadows: self.clone(),
            shard: request.shard,
            interest: request.interest,
            feed,
            position: Position::default(),
            wake,
            tables,
            sender,
        };
        match serving.run(request.start).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }
}

fn is_allowed(only: Option<&Tenant>, interest: &Interest) -> bool {
    only.is_none_or(|only| match interest {
        Interest::Prefix { tenant, .. } => tenant == only,
        Interest::Devices(devices) => devices.iter().all(|device| device.tenant == *only),
        Interest::Wanted(_) | Interest::Attached(_) => false,
    })
}

/// Why a stream is over.
enum End {
    /// The other side has closed it, or has been told the end.
    Gone,
    Failed(String),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error.to_string())
    }
}

/// One stream.
struct Serving {
    shadows: Shadows,
    shard: ShardId,
    interest: Interest,
    feed: Feed,
    /// Everything of interest up to here has been sent.
    position: Position,
    wake: Arc<Notify>,
    tables: watch::Receiver<u64>,
    sender: mpsc::Sender<Result<Bytes, String>>,
}

impl Serving {
    async fn run(mut self, start: Start) -> Result<std::convert::Infallible, End> {
        self.position = match start {
            Start::Opening => self.open().await?,
            Start::Now => self.join().await?,
            Start::After(position) => position,
        };
        // Half of what a watch waits for, so that one proof in each of its intervals is certain.
        let period = self.shadows.inner.config.bookmark_interval / 2;
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut proof: Option<Errand<u64>> = None;
        let mut proven = None;
        loop {
            self.drain().await?;
            match proof.as_mut().and_then(Errand::result) {
                Some(Ok(index)) => (proof, proven) = (None, Some(index)),
                // Left out when the shard cannot prove it now.
                Some(Err(_)) => proof = None,
                None => {}
            }
            if let Some(index) = proven {
                // The changes up to a barrier are in the relay before the barrier returns.
                self.drain().await?;
                if self.position >= end_of(index) {
                    proven = None;
                    self.send(Item::proven(self.position)).await?;
                }
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                changed = self.tables.changed() => {
                    let _ = changed;
                    self.check_replica()?;
                }
                _ = ticks.tick() => {
                    self.check_replica()?;
                    if proof.is_none() {
                        proof = Some(self.prove());
                    }
                }
            }
        }
    }

    /// Sends the current documents and gives their place.
    async fn open(&mut self) -> Result<Position, End> {
        let context = self.feed.context().clone();
        prove(&context, Instant::now() + PATIENCE).await?;
        match self.send_documents(context).await? {
            Some(index) => {
                self.send(Item::opened(index)).await?;
                Ok(end_of(index))
            }
            None => Err(self.reset(ResetReason::ReaderTooSlow).await),
        }
    }

    /// Says where the changes begin that are told from now on.
    async fn join(&mut self) -> Result<Position, End> {
        let index = self.feed.context().shard.applied_index();
        self.send(Item::opened(index)).await?;
        Ok(end_of(index))
    }

    /// Sends the current documents, and gives the index that they are of; `None` when the reader is too
    /// slow. Whoever takes nothing must not keep the turn.
    async fn send_documents(&self, context: ShardContext) -> Result<Option<u64>, End> {
        let inner = Arc::clone(&self.shadows.inner);
        let _turn = inner.opening_scans.acquire().await;
        let stall_timeout = inner.config.stall_timeout;
        let mut steps = scan::open(context, self.interest.clone(), stall_timeout);
        while let Some(step) = steps.recv().await {
            match step? {
                Opening::Documents(documents) => {
                    for message in encode_documents(&documents) {
                        match timeout(stall_timeout, self.send(message)).await {
                            Ok(sent) => sent?,
                            Err(_) => return Ok(None),
                        }
                    }
                }
                Opening::Done { index } => return Ok(Some(index)),
            }
        }
        Ok(None)
    }

    /// Sends everything that there is.
    async fn drain(&mut self) -> Result<(), End> {
        let mut is_judged = false;
        loop {
            match self.feed.step(self.position).await? {
                Step::Changes {
                    changes,
                    upto,
                    more,
                } => {
                    if !changes.is_empty() {
                        for message in self.encode(&changes, upto) {
                            self.send(message).await?;
                        }
                    }
                    self.position = upto;
                    if !more {
                        return Ok(());
                    }
                }
                Step::Trimmed(reason) => return Err(self.reset(reason).await),
                Step::Ahead if is_judged => {
                    return Err(self.reset(ResetReason::CursorUnknown).await);
                }
                // This replica may only lag behind the one that was followed before.
                Step::Ahead => {
                    prove(self.feed.context(), Instant::now() + PATIENCE).await?;
                    is_judged = true;
                }
            }
        }
    }

    /// A gateway needs the documents, too: it tells devices what is left to do.
    fn encode(&self, changes: &[(Position, Source)], upto: Position) -> Vec<Bytes> {
        match self.interest {
            Interest::Wanted(_) | Interest::Attached(_) => encode_whole_changes(changes, upto),
            Interest::Devices(_) | Interest::Prefix { .. } => encode_changes(changes, upto),
        }
    }

    fn prove(&self) -> Errand<u64> {
        let context: ShardContext = self.feed.context().clone();
        let patience = Instant::now() + PATIENCE;
        Errand::start(&self.wake, async move { prove(&context, patience).await })
    }

    /// Fails when the replica has gone, or another has taken its place.
    fn check_replica(&self) -> Result<(), End> {
        let table = self.shadows.table();
        let here = table.local(self.shard);
        match here.is_some_and(|here| here.is_same(self.feed.context())) {
            true => Ok(()),
            false => Err(End::Failed("the replica here has gone".to_owned())),
        }
    }

    async fn reset(&self, reason: ResetReason) -> End {
        match self.send(Item::reset(reason)).await {
            Ok(()) => End::Gone,
            Err(end) => end,
        }
    }

    async fn send(&self, message: Bytes) -> Result<(), End> {
        self.sender.send(Ok(message)).await.map_err(|_| End::Gone)
    }
}
