//! The documents that a twin keeps at hand, exactly as far as they are proven current.
//!
//! A document enters by a change that was just applied, or by a load that began after the twin was
//! registered. From then on the twin hears of every change, so what is cached is what is applied.
//! Changes at or below the position that a document already contains are dropped, and so is a load
//! that is older than a change the twin has heard of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::change::Change;
use crate::document::Document;
use crate::id::{Position, ShadowName};
use crate::twin::ticket::take;
use crate::twin::vitals::Vitals;

/// What a cached document costs beside its bytes: the map entry, the name, the handles.
const ENTRY_BYTES: usize = 192;

/// The bytes that the cached documents of all twins of a shard may take together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
    refused: AtomicBool,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        let (used, refused) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self {
            used,
            bytes_max,
            refused,
        })
    }

    /// Whether a document found no room since this was asked last: time to evict.
    pub(crate) fn take_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) && self.refused.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    fn take(&self, bytes: usize) -> bool {
        let granted = take(&self.used, bytes, self.bytes_max);
        if !granted {
            self.refused.store(true, Ordering::Release);
        }
        granted
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The cached documents of one twin.
pub(crate) struct Cache {
    budget: Arc<Budget>,
    vitals: Arc<Vitals>,
    /// The last change of this device that was heard of.
    heard: Position,
    documents: BTreeMap<ShadowName, Cached>,
}

struct Cached {
    document: Document,
    /// Changes at or below this position are contained in the document.
    through: Position,
    bytes: usize,
}

impl Cache {
    pub(crate) fn new(budget: Arc<Budget>, vitals: Arc<Vitals>) -> Self {
        Self {
            budget,
            vitals,
            heard: Position::default(),
            documents: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, shadow: &ShadowName) -> Option<&Document> {
        self.documents.get(shadow).map(|cached| &cached.document)
    }

    /// Takes up a change that was applied. False when it is old news and was dropped.
    pub(crate) fn applied(&mut self, change: &Change) -> bool {
        let known = self.documents.get(&change.shadow);
        let is_old = change.position <= self.heard
            || known.is_some_and(|cached| change.position <= cached.through);
        self.heard = self.heard.max(change.position);
        if is_old {
            return false;
        }
        self.put(
            change.shadow.clone(),
            change.current.clone(),
            change.position,
        );
        true
    }

    /// Takes up a document that was loaded at an applied index, by a load that began after the
    /// twin was registered. False when it is older than what is known and was dropped.
    pub(crate) fn loaded(&mut self, shadow: ShadowName, index: u64, document: Document) -> bool {
        let through = Position {
            index,
            sequence: u32::MAX,
        };
        let known = self.documents.get(&shadow);
        if index < self.heard.index || known.is_some_and(|cached| through <= cached.through) {
            return false;
        }
        self.put(shadow, document, through);
        true
    }

    /// Keeps a document if there is room for it; the older one goes in any case.
    fn put(&mut self, shadow: ShadowName, document: Document, through: Position) {
        self.drop_document(&shadow);
        let bytes = document.encoded().len() + shadow.as_str().len() + ENTRY_BYTES;
        if self.budget.take(bytes) {
            self.vitals.cached_bytes.fetch_add(bytes, Ordering::AcqRel);
            self.documents.insert(
                shadow,
                Cached {
                    document,
                    through,
                    bytes,
                },
            );
        }
    }

    fn drop_document(&mut self, shadow: &ShadowName) {
        if let Some(old) = self.documents.remove(shadow) {
            self.vitals
                .cached_bytes
                .fetch_sub(old.bytes, Ordering::AcqRel);
            self.budget.give_back(old.bytes);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let bytes = self.documents.values().map(|cached| cached.bytes).sum();
        self.vitals.cached_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.budget.give_back(bytes);
    }
}
