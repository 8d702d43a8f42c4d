//! What a watch tells its reader, free of any door.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use antumbra_shadow::{
    Change, DeviceId, DeviceKey, Document, FeedRecord, Patch, ShadowName, Tenant, Time,
};
use futures::Stream;
use tokio::sync::mpsc;

use crate::error::Error;

use super::outbox::Batch;
use super::relay;

/// What to watch.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// Whose devices.
    pub tenant: Tenant,
    /// Which of them.
    pub selection: WatchSelection,
    /// Go on just behind this place; without it the stream begins with the current documents.
    pub cursor: Option<String>,
}

/// Which devices of the tenant to watch.
#[derive(Debug, Clone)]
pub enum WatchSelection {
    /// These, at most 1000.
    Devices(Vec<DeviceId>),
    /// All whose id starts with this; empty for the whole tenant.
    Prefix(String),
}

/// One message of a watch.
#[derive(Debug, Clone)]
pub struct WatchMessage {
    /// Resume from here to get everything after this event; empty while the opening documents have
    /// not all been sent.
    pub cursor: String,
    /// What there is to tell.
    pub event: WatchEvent,
}

/// What a watch tells.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// A current document.
    Document {
        /// Its device.
        device: DeviceKey,
        /// Its shadow.
        shadow: ShadowName,
        /// The document; never a tombstone.
        document: Document,
    },
    /// An accepted change.
    Change(WatchChange),
    /// All current documents were sent; what follows are changes.
    Synced,
    /// Forget everything: the current documents follow, then `Synced`.
    Reset(ResetReason),
    /// Nothing to tell: the stream is alive and complete up to the cursor.
    Bookmark,
}

/// Why a watch begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The feed does not reach back to the cursor.
    CursorTrimmed,
    /// The cursor is damaged, of another cluster, or does not cover what is watched.
    CursorUnknown,
    /// The reader fell behind the feed.
    ReaderTooSlow,
    /// The node that sent the opening documents was lost before all of them had come.
    SourceLost,
}

impl ResetReason {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            ResetReason::CursorTrimmed => "CURSOR_TRIMMED",
            ResetReason::CursorUnknown => "CURSOR_UNKNOWN",
            ResetReason::ReaderTooSlow => "READER_TOO_SLOW",
            ResetReason::SourceLost => "SOURCE_LOST",
        }
    }
}

/// One accepted change as a watcher sees it.
#[derive(Debug, Clone)]
pub struct WatchChange {
    pub(crate) source: Source,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Live(Arc<Change>),
    Stored(Arc<FeedRecord>),
}

macro_rules! change_parts {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)+) => {
        impl WatchChange {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> &$type {
                    match &self.source {
                        Source::Live(change) => &change.$name,
                        Source::Stored(record) => &record.$name,
                    }
                }
            )+
        }
    };
}

change_parts! {
    /// The device.
    device: DeviceKey,
    /// The shadow.
    shadow: ShadowName,
    /// The version that the change made.
    version: u64,
    /// When.
    time: Time,
    /// Who made it.
    actor: String,
    /// The caller's token.
    client_token: Option<String>,
    /// Whether the shadow was deleted.
    deleted: bool,
    /// What was merged.
    patch: Patch,
}

/// The events of a watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct WatchStream {
    receiver: mpsc::Receiver<Batch>,
    current: std::vec::IntoIter<Result<WatchMessage, Error>>,
}

impl WatchStream {
    pub(crate) fn new(receiver: mpsc::Receiver<Batch>) -> WatchStream {
        WatchStream {
            receiver,
            current: Vec::new().into_iter(),
        }
    }

    /// The next message; `None` after an error. May be dropped midway: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<WatchMessage, Error>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<WatchMessage, Error>>> {
        loop {
            if let Some(message) = self.current.next() {
                return Poll::Ready(Some(message));
            }
            match self.receiver.poll_recv(context) {
                Poll::Ready(Some(batch)) => self.current = batch.into_iter(),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchMessage, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl WatchEvent {
    /// Roughly what the event weighs while it waits for its reader, in bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            WatchEvent::Document { document, .. } => document.encoded().len(),
            WatchEvent::Change(change) => match &change.source {
                Source::Live(change) => relay::weight(change),
                Source::Stored(record) => record.patch.encoded_bytes() * 2,
            },
            WatchEvent::Synced | WatchEvent::Reset(_) | WatchEvent::Bookmark => 0,
        }
    }
}
