//! A question asked beside a watch, so that changes go on while the answer is awaited.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;

/// Work under way in a task of its own. Dropping it stops the work.
pub(crate) struct Errand<T> {
    result: oneshot::Receiver<Result<T, Error>>,
    _task: AbortOnDropHandle<()>,
}

impl<T: Send + 'static> Errand<T> {
    /// Starts the work; `wake` is notified when it is done.
    pub(crate) fn start(
        wake: &Arc<Notify>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Errand<T> {
        let (sender, result) = oneshot::channel();
        let wake = Arc::clone(wake);
        let task = tokio::spawn(async move {
            // Nobody waits any more when the errand was dropped.
            let _ = sender.send(work.await);
            wake.notify_one();
        });
        Errand {
            result,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The result, once; `None` as long as the work goes on.
    pub(crate) fn result(&mut self) -> Option<Result<T, Error>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => {
                Some(Err(Error::Internal("a task of a watch panicked")))
            }
        }
    }
}
