//! How far one replica has come: applied, flushed, stopped. Shared by everybody who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::ids::{HashRange, ReplicaId, ShardId};

use super::keys::Key;
use super::pins::Pins;
use super::position::Position;
use super::{PinnedView, StateStore};

pub(crate) struct Progress {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) range: HashRange,
    /// Written together with the rows: whoever holds the lock sees exactly this position in the store.
    position: RwLock<Position>,
    /// Index whose changes every observer has been told.
    applied: watch::Sender<u64>,
    flushed: Mutex<Position>,
    /// The flusher has just been here: a snapshot may be built without another flush.
    fresh: AtomicBool,
    stopped: CancellationToken,
    /// Held from the first chunk of a snapshot until it is installed: one at a time.
    pub(crate) installing: Arc<tokio::sync::Mutex<()>>,
    /// States that are kept to be compared.
    pub(crate) pins: Pins,
    /// What stopped this replica has been reported; it needs no further handling by the node.
    reported: AtomicBool,
}

impl Progress {
    /// `position` is what the store held when it was opened, hence flushed.
    pub(crate) fn new(
        shard: ShardId,
        replica: ReplicaId,
        range: HashRange,
        position: Position,
    ) -> Progress {
        Progress {
            shard,
            replica,
            range,
            applied: watch::Sender::new(position.index()),
            flushed: Mutex::new(position.clone()),
            position: RwLock::new(position),
            fresh: AtomicBool::new(false),
            stopped: CancellationToken::new(),
            installing: Arc::default(),
            pins: Pins::default(),
            reported: AtomicBool::new(false),
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.position.read().clone()
    }

    /// Runs `write`, which puts rows and this position into the store, so that no pinned view can
    /// see one without the other.
    pub(crate) fn advance(
        &self,
        position: Position,
        write: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut current = self.position.write();
        write()?;
        *current = position;
        Ok(())
    }

    /// A frozen view, and the applied index of exactly this view.
    pub(crate) fn pin<'a>(&self, store: &'a StateStore) -> Result<(PinnedView<'a>, u64), Error> {
        let position = self.position.read();
        Ok((store.pin(self.shard)?, position.index()))
    }

    /// The value of a ranged row, and the applied index of exactly the state that it is of.
    pub(crate) fn read(
        &self,
        store: &StateStore,
        key: &Key,
    ) -> Result<(u64, Option<Bytes>), Error> {
        let position = self.position.read();
        let index = position.index();
        let value = store.get_at(self.shard, key, position)?;
        Ok((index, value))
    }

    /// Index whose changes every observer has been told.
    pub(crate) fn applied_index(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Lets barriers pass up to the current position: observers have been told.
    pub(crate) fn publish(&self) {
        let index = self.position.read().index();
        self.applied.send_replace(index);
    }

    /// Waits until `index` is applied and observed. False when the replica stopped first.
    pub(crate) async fn wait_applied(&self, index: u64) -> bool {
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= index);
        tokio::select! {
            biased;
            reached = reached => reached.is_ok(),
            () = self.stopped.cancelled() => false,
        }
    }

    pub(crate) fn flushed(&self) -> Position {
        self.flushed.lock().clone()
    }

    /// Notes what is durable now. Never goes back.
    pub(crate) fn set_flushed(&self, position: Position) {
        let mut flushed = self.flushed.lock();
        if flushed.applied < position.applied {
            *flushed = position;
        }
    }

    pub(crate) fn mark_fresh(&self) {
        self.fresh.store(true, Ordering::Release);
    }

    pub(crate) fn take_fresh(&self) -> bool {
        self.fresh.swap(false, Ordering::AcqRel)
    }

    /// The replica notes and reports its own failure, before openraft learns of it.
    pub(crate) fn mark_reported(&self) {
        self.reported.store(true, Ordering::Release);
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.reported.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        self.stopped.cancel();
        self.pins.clear();
    }

    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }
}
