//! The one queue between all shards and the log writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::Error;
use crate::types::TypeConfig;

use super::store::Change;
use super::tail::{Appended, Tail};

/// What a request weighs beside its entries.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// One change that waits for the disk.
pub(super) struct Request {
    pub(super) tail: Arc<Tail>,
    pub(super) change: Change,
    pub(super) completion: Completion,
    pub(super) place: Place,
}

/// Who is told that a request is durable.
pub(super) enum Completion {
    /// openraft, about entries.
    Flushed(IOFlushed<TypeConfig>, Appended),
    /// Whoever waits.
    Waiter(oneshot::Sender<Result<(), Arc<Error>>>),
    /// Nobody.
    Nobody,
}

/// A place in the queue; dropping it makes room.
pub(super) struct Place {
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What the writer finds.
pub(super) enum Taken {
    /// Requests in their order.
    Requests(Vec<Request>),
    /// Nothing for as long as the writer was willing to wait.
    Idle,
    /// Everything before was taken: finish and tell.
    Close(oneshot::Sender<Result<(), Arc<Error>>>),
    /// The log was dropped.
    Abandoned,
}

/// Bounded in bytes. Whoever wants to add waits for room first, then adds without waiting.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    room: Arc<Semaphore>,
    bytes_max: u32,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    close: Option<oneshot::Sender<Result<(), Arc<Error>>>>,
    /// No request is taken any more, and why.
    stopped: Option<Arc<Error>>,
    abandoned: bool,
    writer_waits: bool,
    /// Commands of the requests that wait.
    commands: usize,
    /// The writer is to be woken when so many wait.
    wanted: Option<usize>,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Queue {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        Queue {
            state: Mutex::default(),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
        }
    }

    /// Waits for room. May be dropped midway. A request larger than the queue takes all of it.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Place, Arc<Error>> {
        let bytes = bytes + REQUEST_OVERHEAD_BYTES;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        match Arc::clone(&self.room).acquire_many_owned(permits).await {
            Ok(permit) => Ok(Place {
                bytes,
                _permit: permit,
            }),
            Err(_) => Err(self.why_stopped()),
        }
    }

    /// Adds a request, or gives it back with the reason.
    pub(super) fn push(&self, request: Request) -> Result<(), (Box<Request>, Arc<Error>)> {
        let mut state = self.state.lock();
        if let Some(error) = &state.stopped {
            let error = Arc::clone(error);
            return Err((Box::new(request), error));
        }
        state.commands += request.change.commands();
        state.requests.push_back(request);
        if state.wanted.is_some_and(|wanted| state.commands >= wanted) {
            self.filled.notify_one();
        }
        self.wake(&mut state);
        Ok(())
    }

    /// Asks the writer to finish what is queued and to close the store. Nothing is taken after it.
    pub(super) fn close(&self, done: oneshot::Sender<Result<(), Arc<Error>>>) {
        let mut state = self.state.lock();
        if let Some(error) = &state.stopped {
            let _ = done.send(Err(Arc::clone(error)));
            return;
        }
        state.stopped = Some(Arc::new(Error::Stopped));
        state.close = Some(done);
        self.room.close();
        self.filled.notify_one();
    }

    /// Nobody will add or wait any more: the writer leaves everything as a crash would.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.abandoned = true;
        self.filled.notify_one();
    }

    /// The writer failed: all that is queued and all that comes is told why.
    pub(super) fn stop(&self, error: &Arc<Error>) -> VecDeque<Request> {
        let mut state = self.state.lock();
        state.stopped.get_or_insert_with(|| Arc::clone(error));
        self.room.close();
        if let Some(done) = state.close.take() {
            let _ = done.send(Err(Arc::clone(error)));
        }
        state.commands = 0;
        std::mem::take(&mut state.requests)
    }

    /// Takes requests up to `bytes_max`, at least one; waits for the first one up to `patience`.
    pub(super) fn take(&self, bytes_max: usize, patience: Duration) -> Taken {
        let mut state = self.state.lock();
        if state.requests.is_empty() && state.close.is_none() && !state.abandoned {
            state.writer_waits = true;
            self.filled.wait_for(&mut state, patience);
            state.writer_waits = false;
        }
        if state.abandoned {
            return Taken::Abandoned;
        }
        if state.requests.is_empty() {
            return state.close.take().map_or(Taken::Idle, Taken::Close);
        }
        let mut bytes = 0;
        let count = state
            .requests
            .iter()
            .take_while(|request| {
                let fits = bytes == 0 || bytes + request.place.bytes() <= bytes_max;
                bytes += request.place.bytes();
                fits
            })
            .count();
        let taken: Vec<Request> = state.requests.drain(..count).collect();
        let commands: usize = taken.iter().map(|request| request.change.commands()).sum();
        state.commands -= commands;
        Taken::Requests(taken)
    }

    /// Waits until so many commands wait, until there is nothing more to wait for, or until `due`.
    pub(super) fn gather(&self, commands: usize, due: Instant) {
        let mut state = self.state.lock();
        state.wanted = Some(commands);
        while state.commands < commands && state.close.is_none() && !state.abandoned {
            if self.filled.wait_until(&mut state, due).timed_out() {
                break;
            }
        }
        state.wanted = None;
    }

    fn why_stopped(&self) -> Arc<Error> {
        let state = self.state.lock();
        state.stopped.clone().unwrap_or(Arc::new(Error::Stopped))
    }

    fn wake(&self, state: &mut State) {
        if state.writer_waits {
            self.filled.notify_one();
        }
    }
}
