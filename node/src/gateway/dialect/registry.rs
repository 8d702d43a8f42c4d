//! The dialects of a listener.

use std::sync::Arc;

use super::Dialect;
use super::connect::{Connect, Sniff};

/// The dialects that a listener takes, in the order in which they are asked. Clones share them.
#[derive(Clone)]
pub struct Dialects {
    dialects: Arc<[Arc<dyn Dialect>]>,
}

impl Dialects {
    /// Those dialects; the specific ones first. A listener that is pinned to a dialect has only it.
    pub fn new(dialects: Vec<Arc<dyn Dialect>>) -> Dialects {
        Dialects {
            dialects: dialects.into(),
        }
    }

    /// The dialect that a client speaks: the first that is sure, else the first that has nothing
    /// against it; `None` when no dialect takes the client.
    pub fn choose(&self, connect: &Connect<'_>) -> Option<&Arc<dyn Dialect>> {
        let mut fallback = None;
        for dialect in self.dialects.iter() {
            match dialect.sniff(connect) {
                Sniff::Yes => return Some(dialect),
                Sniff::Maybe => fallback = fallback.or(Some(dialect)),
                Sniff::No => {}
            }
        }
        fallback
    }
}
