//! The first failure that must stop the node, and who waits for it.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::error;

use crate::error::Error;

/// Shared by everything that touches the disk; cloning shares it.
#[derive(Clone)]
pub(crate) struct Failure {
    first: Arc<watch::Sender<Option<Arc<Error>>>>,
}

impl Failure {
    pub(crate) fn new() -> Failure {
        Failure {
            first: Arc::new(watch::Sender::new(None)),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Error>>> {
        self.first.subscribe()
    }

    /// The first failure so far.
    pub(crate) fn first(&self) -> Option<Arc<Error>> {
        self.first.borrow().clone()
    }

    /// Notes a failure and gives it in the form that openraft takes. Damage, errors of the disk
    /// and a program that is too old concern the whole node; what concerns one replica or one snapshot only is logged.
    pub(crate) fn report(&self, error: Error) -> io::Error {
        let error = Arc::new(error);
        self.note(&error);
        io::Error::other(error)
    }

    /// As [`Failure::report`], for errors that nobody waits for.
    pub(crate) fn note(&self, error: &Arc<Error>) {
        error!(code = error.code(), %error, "storage failed");
        let of_node = matches!(
            **error,
            Error::Io { .. } | Error::Store { .. } | Error::RulesTooNew { .. }
        );
        if of_node || error.is_damage() {
            self.stop_node(error);
        }
    }

    /// The node must stop, whatever the kind of the error.
    pub(crate) fn stop_node(&self, error: &Arc<Error>) {
        self.first.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(Arc::clone(error));
            }
            is_first
        });
    }
}
