//! openraft's view of one shard's rows: apply, snapshot, install.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::Error;
use crate::failure::Failure;
use crate::machine::{ApplyBatch, EntryPosition, ErasedMachine, Replies};
use crate::metrics::record_snapshot_installed;
use crate::types::{LogId, Payload, Reply, SnapshotMeta, StoredMembership, TypeConfig, term_of};

use super::install;
use super::keys::Key;
use super::position::{Position, PositionRow};
use super::progress::Progress;
use super::snapshot::SnapshotData;
use super::{Flusher, Kept, StateStore, WriteTx};

/// A write batch is closed when it holds this many entries or bytes.
const BATCH_ENTRIES_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The state machine that openraft drives, one per replica.
pub struct ShardState {
    pub(crate) store: Arc<StateStore>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) machine: Arc<dyn ErasedMachine>,
    pub(crate) failure: Failure,
    /// Lets the host wait until openraft has let go of the stores. Dropped last.
    pub(crate) running: TaskTrackerToken,
}

/// Entries that become one write batch.
struct Batch<'a> {
    tx: WriteTx<'a>,
    position: Position,
    machine: Box<dyn ApplyBatch + 'a>,
    replies: Vec<(ApplyResponder<TypeConfig>, Reply)>,
    entries: usize,
    /// Its last entry asks to have the state kept under this number.
    pin: Option<u64>,
}

impl ShardState {
    fn batch(&self) -> Batch<'_> {
        Batch {
            tx: WriteTx::new(&self.store, self.progress.shard),
            position: self.progress.position(),
            machine: self.machine.begin(),
            replies: Vec::new(),
            entries: 0,
            pin: None,
        }
    }

    /// Adds one entry to the batch. A panic of the machine is caught here: it stops this replica only.
    fn add(
        &self,
        batch: &mut Batch<'_>,
        (entry, responder): EntryResponder<TypeConfig>,
    ) -> Result<(), Error> {
        let log_id = entry.log_id;
        let awaited = match responder {
            Some(_) => Replies::Awaited,
            None => Replies::Unheard,
        };
        let replies = match entry.payload {
            Payload::Blank => Vec::new(),
            Payload::Membership(membership) => {
                batch.position.membership = StoredMembership::new(Some(log_id), membership);
                Vec::new()
            }
            Payload::Normal(command) => {
                let at = EntryPosition {
                    shard: self.progress.shard,
                    term: term_of(&log_id),
                    index: log_id.index,
                };
                let applied = catch_unwind(AssertUnwindSafe(|| {
                    batch.pin = command.each().find_map(|one| self.machine.pin(one));
                    let (tx, commands) = (&mut batch.tx, command.each());
                    batch.machine.apply(tx, at, commands, awaited)
                }));
                applied.map_err(|_| Error::apply_panicked(at.shard, at.index))??
            }
        };
        batch.position.applied = Some(log_id);
        batch.entries += 1;
        if let Some(responder) = responder {
            batch.replies.push((responder, Reply(replies)));
        }
        Ok(())
    }

    /// Rows and position in one write; then, where it is asked for, the state is kept as it is between
    /// two batches; then observers are told, then barriers, then proposers.
    async fn commit(&self, batch: Batch<'_>) -> Result<(), Error> {
        let Batch {
            mut tx,
            position,
            machine,
            replies,
            pin,
            ..
        } = batch;
        let shard = self.progress.shard;
        let index = position.index();
        tx.put(
            Key::position(shard),
            PositionRow::encode(self.progress.replica, &position),
        );
        self.progress.advance(position, || self.store.commit(tx))?;
        if let Some(number) = pin {
            self.keep(number, index).await;
        }
        let observed = AssertUnwindSafe(|| machine.applied(shard, index));
        catch_unwind(observed).map_err(|_| Error::apply_panicked(shard, index))?;
        self.progress.publish();
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    async fn keep(&self, number: u64, index: u64) {
        let kept = Kept {
            store: Arc::clone(&self.store),
            shard: self.progress.shard,
            range: self.progress.range,
            index,
            stopped: self.progress.stopped().clone(),
            _running: self.running.clone(),
        };
        self.progress.pins.keep(number, kept).await;
    }

    /// Remembers why this replica stops; openraft only carries a text.
    fn report(&self, error: Error) -> io::Error {
        self.progress.mark_reported();
        self.failure.report(error)
    }
}

impl RaftStateMachine<TypeConfig> for ShardState {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let position = self.progress.position();
        Ok((position.applied, position.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = self.batch();
        while let Some(item) = entries.next().await {
            self.add(&mut batch, item?)
                .map_err(|error| self.report(error))?;
            let full = batch.entries >= BATCH_ENTRIES_MAX || batch.tx.bytes() >= BATCH_BYTES_MAX;
            if full || batch.pin.is_some() {
                let committed = self.commit(batch).await;
                committed.map_err(|error| self.report(error))?;
                tokio::task::yield_now().await;
                batch = self.batch();
            }
        }
        if batch.entries > 0 {
            let committed = self.commit(batch).await;
            committed.map_err(|error| self.report(error))?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            progress: Arc::clone(&self.progress),
            flusher: Arc::clone(&self.flusher),
            failure: self.failure.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> Result<(), io::Error> {
        let position = Position::from_meta(meta);
        let (store, progress) = (Arc::clone(&self.store), Arc::clone(&self.progress));
        let install = move || {
            let staged = data.into_staged();
            let staged =
                staged.or_else(|stream| install::stage(&store, &progress, &position, stream))?;
            install::install(&store, &progress, &position, &staged)
        };
        let installed = tokio::task::spawn_blocking(install).await;
        installed
            .unwrap_or(Err(Error::Stopped))
            .map_err(|error| self.report(error))?;
        self.flusher
            .publish(&self.progress, Position::from_meta(meta));
        record_snapshot_installed();
        self.machine.reset(self.progress.shard);
        self.progress.publish();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        if self.progress.position().applied.is_none() {
            return Ok(None);
        }
        let (shard, range) = (self.progress.shard, self.progress.range);
        let opened = SnapshotData::open(Arc::clone(&self.store), shard, range).await;
        let opened = opened.map_err(|error| self.report(error))?;
        Ok(opened.map(
            |(position, snapshot)| SnapshotOf::<TypeConfig, SnapshotData> {
                meta: position.meta(),
                snapshot,
            },
        ))
    }
}

/// "Builds" a snapshot: writes no file, but makes sure that what it states is durable here, so that
/// openraft may purge the log up to it.
pub struct Builder {
    progress: Arc<Progress>,
    flusher: Arc<Flusher>,
    failure: Failure,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        if !self.progress.take_fresh() {
            let flushed = self.flusher.flush().await;
            flushed.map_err(|error| {
                self.progress.mark_reported();
                self.failure.report(error)
            })?;
        }
        Ok(SnapshotOf::<TypeConfig, SnapshotData> {
            meta: self.progress.flushed().meta(),
            snapshot: SnapshotData::without_rows(),
        })
    }
}
