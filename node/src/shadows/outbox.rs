//! The bounded queue between a watch and its reader: events travel in batches, so that a busy
//! watch does not pay a wake-up per event.

use tokio::sync::mpsc;

use crate::error::Error;

use super::events::{WatchEvent, WatchMessage};
use super::metrics;

/// Events in one batch.
const BATCH_EVENTS_MAX: usize = 64;

/// Bytes after which a batch is closed.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// Bytes of a message beside its event.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// The reader has dropped its end.
#[derive(Debug)]
pub(crate) struct Gone;

/// What the reader receives.
pub(crate) type Batch = Vec<Result<WatchMessage, Error>>;

/// Collects events and hands them over in order.
pub(crate) struct Outbox {
    sender: mpsc::Sender<Batch>,
    batch: Batch,
    bytes: usize,
}

impl Outbox {
    /// An outbox in which about `events_max` events may wait for the reader.
    pub(crate) fn new(events_max: usize) -> (Outbox, mpsc::Receiver<Batch>) {
        let (sender, receiver) = mpsc::channel((events_max / BATCH_EVENTS_MAX).max(1));
        let outbox = Outbox {
            sender,
            batch: Vec::new(),
            bytes: 0,
        };
        (outbox, receiver)
    }

    /// Adds an event; waits for the reader when a batch is full and the queue too.
    pub(crate) async fn push(&mut self, cursor: String, event: WatchEvent) -> Result<(), Gone> {
        self.bytes += MESSAGE_OVERHEAD_BYTES + event.weight();
        self.batch.push(Ok(WatchMessage { cursor, event }));
        if self.batch.len() >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands over what was collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let place = self.sender.reserve().await.map_err(|_| Gone)?;
        metrics::watch_events(self.batch.len());
        self.bytes = 0;
        place.send(std::mem::take(&mut self.batch));
        Ok(())
    }

    /// Hands over what was collected and, as the last message, an error.
    pub(crate) async fn fail(&mut self, error: Error) -> Result<(), Gone> {
        self.batch.push(Err(error));
        self.flush().await
    }

    /// Whether the reader has dropped its end.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Tells when the reader has dropped its end, beside the work on the outbox.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            sender: self.sender.clone(),
        }
    }
}

/// The reader of an outbox.
pub(crate) struct Reader {
    sender: mpsc::Sender<Batch>,
}

impl Reader {
    /// Resolves when the reader has dropped its end.
    pub(crate) async fn gone(&self) {
        self.sender.closed().await;
    }
}
