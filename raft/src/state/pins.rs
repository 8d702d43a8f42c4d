//! States that were kept at the index of a command, so that replicas can be compared.
//!
//! A pin is a RocksDB snapshot on a thread of its own that waits to be asked. It keeps old data on disk
//! alive, so there are few, and they go by themselves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use xxhash_rust::xxh3::Xxh3;

use crate::error::Error;
use crate::ids::{HashRange, ShardId};

use super::keys::data_ranges;
use super::{PinnedView, StateStore};

/// How long a state is kept.
const PIN_LIFETIME: Duration = Duration::from_secs(60);

/// States of one shard that are kept at a time; the oldest one goes.
const PINS_MAX: usize = 4;

/// Checksums of one pin that are asked for and not begun.
const ASKED_MAX: usize = 4;

/// What all rows of a shard were at one index. Equal on every replica that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChecksum {
    /// Index of the last entry that is in the state.
    pub index: u64,
    /// How many rows there are.
    pub rows: u64,
    /// XXH3 over all keys and values in their order.
    pub hash: u64,
}

/// The kept states of one replica.
#[derive(Default)]
pub(crate) struct Pins(Mutex<VecDeque<Pin>>);

struct Pin {
    number: u64,
    until: Instant,
    /// Dropping it lets the state go.
    asked: SyncSender<oneshot::Sender<Result<StateChecksum, Error>>>,
}

/// Which state to keep.
pub(crate) struct Kept {
    pub(crate) store: Arc<StateStore>,
    pub(crate) shard: ShardId,
    pub(crate) range: HashRange,
    pub(crate) index: u64,
    /// The replica has stopped: nobody asks any more.
    pub(crate) stopped: CancellationToken,
    /// Held for as long as the store is used.
    pub(crate) _running: TaskTrackerToken,
}

impl Pins {
    /// Keeps the state as it is now under a number. Returns once it is frozen.
    pub(crate) async fn keep(&self, number: u64, kept: Kept) {
        let (asked, asking) = sync_channel::<oneshot::Sender<_>>(ASKED_MAX);
        let (opened, frozen) = oneshot::channel();
        let until = Instant::now() + PIN_LIFETIME;
        let stopped = kept.stopped.clone();
        tokio::task::spawn_blocking(move || {
            let Ok(view) = kept.store.pin(kept.shard) else {
                // The store fails, and the node with it.
                return;
            };
            if opened.send(()).is_err() {
                return;
            }
            let mut known = None;
            while let Ok(answer) =
                asking.recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                let checksum = match known {
                    Some(checksum) => Ok(checksum),
                    None => checksum(&view, &kept),
                };
                known = checksum.as_ref().ok().copied();
                // Whoever asked may have gone.
                let _ = answer.send(checksum);
            }
        });
        // Without an answer the runtime is going down, and nobody will ask.
        let _ = frozen.await;
        let pin = Pin {
            number,
            until,
            asked,
        };
        let mut pins = self.0.lock();
        if stopped.is_cancelled() {
            // They were let go already: nobody would do so again.
            return;
        }
        pins.retain(|pin| pin.number != number);
        pins.push_back(pin);
        if pins.len() > PINS_MAX {
            pins.pop_front();
        }
    }

    /// The checksum of a kept state, or `None` when there is none under this number. Dropping the future
    /// lets the hashing finish.
    pub(crate) async fn checksum(&self, number: u64) -> Result<Option<StateChecksum>, Error> {
        let (answer, answered) = oneshot::channel();
        {
            let mut pins = self.0.lock();
            let now = Instant::now();
            pins.retain(|pin| pin.until > now);
            let Some(pin) = pins.iter().find(|pin| pin.number == number) else {
                return Ok(None);
            };
            if pin.asked.try_send(answer).is_err() {
                return Err(Error::Timeout {
                    action: "hash the rows of a shard",
                });
            }
        }
        answered.await.map_err(|_| Error::Stopped)?.map(Some)
    }

    /// Lets all states go.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}

fn checksum(view: &PinnedView<'_>, kept: &Kept) -> Result<StateChecksum, Error> {
    let (mut rows, mut hash) = (0, Xxh3::new());
    for range in data_ranges(kept.shard, kept.range) {
        for row in view.rows(&range) {
            if kept.stopped.is_cancelled() {
                return Err(Error::Stopped);
            }
            let (key, value) = row?;
            rows += 1;
            hash.update(&(key.len() as u64).to_be_bytes());
            hash.update(&key);
            hash.update(&(value.len() as u64).to_be_bytes());
            hash.update(&value);
        }
    }
    Ok(StateChecksum {
        index: kept.index,
        rows,
        hash: hash.digest(),
    })
}
