//! Counters of one twin that are read without asking it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::twin::ticket::take;

/// Reads that may wait in one twin's mailbox; further ones go to the state store.
const READS_MAX: usize = 256;

/// What the roster sees of a twin from outside.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// Commands that wait or are in flight. It grows only under the roster's lock, so that a zero
    /// seen there means that the twin can be stopped.
    pub(crate) commands: AtomicUsize,
    /// Bytes of the documents it caches.
    pub(crate) cached_bytes: AtomicUsize,
    reads: AtomicUsize,
}

impl Vitals {
    pub(crate) fn is_busy(&self) -> bool {
        self.commands.load(Ordering::Acquire) > 0
    }

    /// Takes one of the places for reads in the mailbox, if one is free.
    pub(crate) fn read_slot(self: &Arc<Self>) -> Option<ReadSlot> {
        take(&self.reads, 1, READS_MAX).then(|| ReadSlot(self.clone()))
    }
}

/// A place for one read in a twin's mailbox. Given back when dropped.
#[derive(Debug)]
pub(crate) struct ReadSlot(Arc<Vitals>);

impl Drop for ReadSlot {
    fn drop(&mut self) {
        self.0.reads.fetch_sub(1, Ordering::AcqRel);
    }
}
