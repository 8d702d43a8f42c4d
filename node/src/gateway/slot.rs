//! The mailbox of one connection: what the rest of the node tells it.
//!
//! Bounded by count and bytes: a connection whose client takes nothing loses its mail, and is told
//! so by [`Note::Overflowed`]. A quiet mailbox owns no memory beside itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use antumbra_shadow::{Change, DeviceKey, FeedRecord, ShadowName};
use parking_lot::Mutex;

use super::dialect::{Channel, Presence, Publish};
use super::mqtt::session::ServerCause;
use super::plain::PlainMessage;

/// Notes that wait.
const NOTES_MAX: usize = 4_096;
/// Bytes of what waits.
const BYTES_MAX: usize = 4 << 20;
/// What a note weighs beside its content.
const NOTE_BYTES: usize = 256;

/// One thing that a connection is told.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// A shadow changed.
    Change(Arc<Change>),
    /// A shadow changed, and only the record of it is at hand: the documents have to be read.
    Record(Arc<FeedRecord>),
    /// A client published something.
    Message(Arc<PlainMessage>),
    /// A request of another client of this node about a shadow was answered, without a change.
    Said(Arc<Said>),
    /// A client came or went.
    Presence(Arc<Presence>),
    /// Changes may have been missed: look at every shadow again.
    Resync,
    /// The record of this client was written.
    Recorded {
        /// Version of the record.
        epoch: u64,
        /// Whether it says that this connection holds the session.
        holds: bool,
        /// Why it would not.
        cause: ServerCause,
    },
    /// Records of access changed: look again whether the connection may be here.
    Renew,
    /// Close the connection.
    Close(ServerCause),
    /// More came than fits; some of it is lost.
    Overflowed,
}

/// An answer, as it was told to who asked.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) device: DeviceKey,
    pub(crate) shadow: ShadowName,
    pub(crate) channel: Channel,
    /// Name of the dialect; others say it in other words.
    pub(crate) dialect: &'static str,
    pub(crate) publish: Publish,
}

/// A mailbox.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    inbox: Mutex<Inbox>,
    /// Bytes that wait for the client beyond the mailbox.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inbox {
    notes: Vec<Note>,
    bytes: usize,
    overflowed: bool,
    waker: Option<Waker>,
}

impl Slot {
    /// Leaves a note.
    pub(crate) fn tell(&self, note: Note) {
        let mut inbox = self.inbox.lock();
        let bytes = note.weight();
        let is_order = matches!(note, Note::Close(_));
        let is_full = inbox.notes.len() >= NOTES_MAX || inbox.bytes + bytes > BYTES_MAX;
        if is_full && !is_order {
            inbox.overflowed = true;
        } else {
            inbox.bytes += bytes;
            inbox.notes.push(note);
        }
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Says how many bytes wait for the client beyond the mailbox.
    pub(crate) fn set_waiting(&self, bytes: usize) {
        self.waiting.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that wait for the client, here and beyond.
    pub(crate) fn backlog(&self) -> usize {
        self.inbox.lock().bytes + self.waiting.load(Ordering::Relaxed)
    }

    /// Takes all notes; pending as long as there are none.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Vec<Note>> {
        let mut inbox = self.inbox.lock();
        if inbox.notes.is_empty() && !inbox.overflowed {
            match &mut inbox.waker {
                Some(waker) => waker.clone_from(context.waker()),
                waker => *waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        inbox.bytes = 0;
        let mut notes = std::mem::take(&mut inbox.notes);
        if std::mem::take(&mut inbox.overflowed) {
            notes.push(Note::Overflowed);
        }
        Poll::Ready(notes)
    }
}

impl Note {
    /// Roughly what it holds in memory. Changes are shared by all who are told, and still counted:
    /// whoever is last to take one keeps it alive.
    fn weight(&self) -> usize {
        NOTE_BYTES
            + match self {
                Note::Change(change) => {
                    let previous = change.previous.as_ref();
                    change.current.encoded().len()
                        + previous.map_or(0, |document| document.encoded().len())
                }
                Note::Record(record) => record.patch.encoded_bytes(),
                Note::Message(message) => message.bytes(),
                Note::Said(said) => said.publish.topic.len() + said.publish.payload.len(),
                _ => 0,
            }
    }

    /// The shadow that it is about.
    pub(crate) fn shadow(&self) -> Option<(&DeviceKey, &ShadowName)> {
        match self {
            Note::Change(change) => Some((&change.device, &change.shadow)),
            Note::Record(record) => Some((&record.device, &record.shadow)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    fn take(slot: &Slot) -> Vec<Note> {
        let waker = noop_waker();
        match slot.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(notes) => notes,
            Poll::Pending => Vec::new(),
        }
    }

    /// A client that takes nothing must not fill the memory, and must learn that it missed something;
    /// the order to close arrives in any case.
    #[test]
    fn mailbox_is_bounded_and_says_what_was_lost() {
        let slot = Slot::default();
        assert!(take(&slot).is_empty());
        for _ in 0..NOTES_MAX + 7 {
            slot.tell(Note::Resync);
        }
        slot.tell(Note::Close(ServerCause::TakenOver));
        let notes = take(&slot);
        assert_eq!(notes.len(), NOTES_MAX + 2);
        assert!(matches!(notes[NOTES_MAX], Note::Close(_)));
        assert!(matches!(notes[NOTES_MAX + 1], Note::Overflowed));
        assert!(take(&slot).is_empty());
    }

    /// Who waits is woken by the next note.
    #[test]
    fn note_wakes_who_waits() {
        let slot = Slot::default();
        let (waker, count) = futures_test_waker();
        let waiting = slot.poll(&mut Context::from_waker(&waker));
        assert!(waiting.is_pending());
        slot.tell(Note::Resync);
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    fn futures_test_waker() -> (Waker, Arc<std::sync::atomic::AtomicUsize>) {
        struct Counter(Arc<std::sync::atomic::AtomicUsize>);
        impl std::task::Wake for Counter {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let waker = Waker::from(Arc::new(Counter(Arc::clone(&count))));
        (waker, count)
    }
}
