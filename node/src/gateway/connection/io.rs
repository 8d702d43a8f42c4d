//! Reading and writing without buffers of the connection's own.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::{Connection, Stream};
use crate::gateway::mqtt::session::Intake;

/// Bytes that are read at one time.
const BUFFER_BYTES: usize = 16 * 1024;

thread_local! {
    /// Never in use by two connections: reading does not wait while it has the buffer.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

impl<S: Stream> Connection<S> {
    /// Reads and takes bytes. `false` when there will be none any more.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut into = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut into))?;
            let bytes = into.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.ingest(bytes);
            Poll::Ready(Ok(true))
        })
    }

    /// Writes what is to be written, as far as it goes.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.outgoing))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.outgoing.advance(written);
        self.written_ms = self.door.clocks.now_ms();
        if self.outgoing.is_empty() {
            // A quiet connection owns no buffer.
            self.outgoing = BytesMut::new();
        }
        self.needs_flush = true;
        Poll::Ready(Ok(()))
    }

    /// Moves on what TLS keeps of what it was given.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.needs_flush = false;
        Poll::Ready(Ok(()))
    }
}

/// When the session takes bytes again. What was read before is due at once when it does already: the
/// pause may have ended between two looks at the clock, and nothing else would wake the connection.
pub(super) fn due_ms(intake: Intake, unread: &[u8], now_ms: u64) -> Option<u64> {
    match intake {
        Intake::Until(until_ms) => Some(until_ms),
        Intake::Open if !unread.is_empty() => Some(now_ms),
        Intake::Open | Intake::Blocked => None,
    }
}
