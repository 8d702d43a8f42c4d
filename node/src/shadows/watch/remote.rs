//! Following a shard that has no replica here: a stream from a node that has one, and from the next
//! one when that breaks, from exactly where it broke.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Node, ShardId};
use antumbra_shadow::{Position, Tenant};
use futures::StreamExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;
use uuid::Uuid;

use crate::error::Error;
use crate::shadows::cursor::end_of;
use crate::shadows::events::ResetReason;
use crate::shadows::relay::Interest;
use crate::shadows::{Shadows, metrics};

use super::attach::Attaching;
use super::wire::{FollowRequest, Item, Start};

/// Items that wait for the watch; each has about 256 KiB at most.
const ITEMS_MAX: usize = 4;

/// How long opening a stream may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The changes of one shard from another node.
pub(super) struct Remote {
    items: mpsc::Receiver<Result<Item, Error>>,
    _puller: AbortOnDropHandle<()>,
}

/// What there is in a stream.
pub(super) enum Pulled {
    Item(Item),
    Nothing,
    /// It could not be opened in time.
    Failed(Error),
    /// The task that reads it has gone.
    Ended,
}

impl Remote {
    /// Starts reading. `wake` is notified of every item.
    pub(super) fn start(shadows: &Shadows, request: FollowRequest, wake: &Arc<Notify>) -> Remote {
        let (sender, items) = mpsc::channel(ITEMS_MAX);
        let puller = Puller {
            patience: Instant::now() + shadows.inner.config.patience,
            shadows: shadows.clone(),
            shard: request.shard,
            only: request.only,
            interest: request.interest,
            start: request.start,
            begun: false,
            attempt: 0,
            sender,
            wake: Arc::clone(wake),
        };
        Remote {
            items,
            _puller: AbortOnDropHandle::new(tokio::spawn(puller.run())),
        }
    }

    /// What has arrived, without waiting.
    pub(super) fn pull(&mut self) -> Pulled {
        match self.items.try_recv() {
            Ok(Ok(item)) => Pulled::Item(item),
            Ok(Err(error)) => Pulled::Failed(error),
            Err(mpsc::error::TryRecvError::Empty) => Pulled::Nothing,
            Err(mpsc::error::TryRecvError::Disconnected) => Pulled::Ended,
        }
    }

    /// Waits for the next item. May be dropped midway: nothing is lost.
    pub(super) async fn next(&mut self) -> Pulled {
        match self.items.recv().await {
            Some(Ok(item)) => Pulled::Item(item),
            Some(Err(error)) => Pulled::Failed(error),
            None => Pulled::Ended,
        }
    }
}

/// Reads streams one after another and hands their items on, in order and without gap or repeat.
struct Puller {
    shadows: Shadows,
    shard: ShardId,
    only: Option<Tenant>,
    interest: Interest,
    /// Where the next stream begins: behind what was handed on.
    start: Start,
    /// Something was handed on.
    begun: bool,
    /// Streams that were tried.
    attempt: usize,
    /// Until then the first item must have come.
    patience: Instant,
    sender: mpsc::Sender<Result<Item, Error>>,
    wake: Arc<Notify>,
}

/// The watch has gone, or has been told the end.
struct Over;

impl Puller {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let mut progress = false;
            let Err(why) = self.stream(&mut progress).await else {
                return;
            };
            debug!(shard = %self.shard, why, "a stream of changes broke");
            metrics::stream_broke();
            if self.begun && self.start == Start::Opening {
                // The documents of another replica may be of another moment.
                let _ = self.hand_on(Item::Reset(ResetReason::SourceLost)).await;
                return;
            }
            if !self.begun && Instant::now() + pause >= self.patience {
                let error = Error::Unavailable("no replica of a shard can be reached");
                let _ = self.sender.send(Err(error)).await;
                self.wake.notify_one();
                return;
            }
            pause = match progress {
                true => PAUSE_MIN,
                false => (pause * 2).min(PAUSE_MAX),
            };
            sleep(pause).await;
        }
    }

    /// Reads one stream to its end. `Ok` when nothing is to be read any more.
    async fn stream(&mut self, progress: &mut bool) -> Result<Over, String> {
        let node = self.node().ok_or("no other node has a replica")?;
        let name = Uuid::new_v4().as_u64_pair().0;
        let request = FollowRequest {
            shard: self.shard,
            stream: name,
            only: self.only.clone(),
            interest: self.interest.clone(),
            start: self.start,
        };
        let opening = self.shadows.inner.peers.follow(&node, request.encode());
        let opened = timeout(CONNECT_TIMEOUT, opening).await;
        // Dropped after the stream.
        let mut attaching: Option<Attaching> = None;
        let mut stream = opened.map_err(|_| "opening took too long")??;
        loop {
            let message = tokio::select! {
                biased;
                why = over(&mut attaching) => return Err(why),
                message = stream.next() => message.ok_or("it ended")??,
            };
            // It has begun: before that the other side does not know it.
            if attaching.is_none() {
                attaching = self.attach(&node, name);
            }
            let item = Item::decode(message).ok_or("an item cannot be read")?;
            *progress = true;
            let start = after(&item);
            let is_end = matches!(item, Item::Reset(_));
            if self.hand_on(item).await.is_err() || is_end {
                return Ok(Over);
            }
            self.begun = true;
            if let Some(position) = start {
                self.start = Start::After(position);
            }
        }
    }

    /// Tells the other node what this gateway wants, if it is one.
    fn attach(&self, node: &Node, stream: u64) -> Option<Attaching> {
        let Interest::Wanted(wanted) = &self.interest else {
            return None;
        };
        let table = self.shadows.table();
        let place = table.places().find(|place| place.shard == self.shard)?;
        let about = (stream, place.range);
        Some(Attaching::start(&self.shadows, wanted, node, about))
    }

    /// The replicas in turn.
    fn node(&mut self) -> Option<Node> {
        let table = self.shadows.table();
        let me = &self.shadows.inner.node;
        let nodes: Vec<&Node> = table.nodes(self.shard).filter(|n| n.name != *me).collect();
        let nth = self.attempt.checked_rem(nodes.len())?;
        self.attempt += 1;
        Some(nodes[nth].clone())
    }

    async fn hand_on(&self, item: Item) -> Result<(), Over> {
        self.sender.send(Ok(item)).await.map_err(|_| Over)?;
        self.wake.notify_one();
        Ok(())
    }
}

/// Resolves when the node cannot be told any more what is wanted, and says why.
async fn over(attaching: &mut Option<Attaching>) -> String {
    match attaching {
        Some(attaching) => attaching.over().await,
        None => std::future::pending().await,
    }
}

/// Up to where everything is known with this item.
fn after(item: &Item) -> Option<Position> {
    match item {
        Item::Opened { index } => Some(end_of(*index)),
        Item::Changes { upto, .. } | Item::Proven(upto) => Some(*upto),
        Item::Documents(_) | Item::Reset(_) => None,
    }
}
