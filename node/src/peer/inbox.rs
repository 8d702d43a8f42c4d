//! The queue of received frames: bounded in frames and in bytes.
//!
//! A channel counts frames only. The newest frames that together fit the byte limit are known, so
//! the next one is sent when the channel holds at most those: that is, when the channel has as many
//! free places as it would have then.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::mpsc;

/// The sending half of a queue of frames.
#[derive(Debug)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Bytes>,
    bytes_max: usize,
    /// Sizes of the newest frames that together fit; the last one is the newest.
    newest: VecDeque<usize>,
    newest_bytes: usize,
}

/// The reader of an inbox went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

impl Inbox {
    pub(super) fn new(sender: mpsc::Sender<Bytes>, bytes_max: usize) -> Inbox {
        Inbox {
            newest: VecDeque::with_capacity(sender.max_capacity()),
            newest_bytes: 0,
            sender,
            bytes_max,
        }
    }

    /// Ends when the reader went away.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let sender = self.sender.clone();
        async move { sender.closed().await }
    }

    /// Adds a frame as soon as it fits. A frame that is larger than the limit waits until the queue
    /// is empty.
    pub(super) async fn push(&mut self, frame: Bytes) -> Result<(), Closed> {
        let frames_max = self.sender.max_capacity();
        self.newest.push_back(frame.len());
        self.newest_bytes += frame.len();
        while self.newest.len() > 1
            && (self.newest_bytes > self.bytes_max || self.newest.len() > frames_max)
        {
            self.newest_bytes -= self.newest.pop_front().unwrap_or_default();
        }
        // The frames before this one that may still be queued keep their places.
        let free = frames_max + 1 - self.newest.len();
        let mut places = self.sender.reserve_many(free).await.map_err(|_| Closed)?;
        if let Some(place) = places.next() {
            place.send(frame);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn inbox(frames: usize, bytes_max: usize) -> (Inbox, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(frames);
        (Inbox::new(sender, bytes_max), receiver)
    }

    fn frame(size: usize) -> Bytes {
        Bytes::from(vec![0; size])
    }

    /// Few large frames must not take the memory of many small ones.
    #[test]
    fn waits_at_the_byte_limit_and_at_the_frame_limit() {
        let (mut bytes, mut reader) = inbox(256, 10);
        assert_eq!(bytes.push(frame(4)).now_or_never(), Some(Ok(())));
        assert_eq!(bytes.push(frame(6)).now_or_never(), Some(Ok(())));
        let mut waiting = Box::pin(bytes.push(frame(5)));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        assert_eq!(reader.try_recv().unwrap().len(), 4);
        assert_eq!(waiting.as_mut().now_or_never(), None, "6 + 5 do not fit");
        assert_eq!(reader.try_recv().unwrap().len(), 6);
        assert_eq!(waiting.as_mut().now_or_never(), Some(Ok(())));

        let (mut frames, mut reader) = inbox(2, 1000);
        assert_eq!(frames.push(frame(1)).now_or_never(), Some(Ok(())));
        assert_eq!(frames.push(frame(1)).now_or_never(), Some(Ok(())));
        let mut waiting = Box::pin(frames.push(frame(1)));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        reader.try_recv().unwrap();
        assert_eq!(waiting.as_mut().now_or_never(), Some(Ok(())));
    }

    /// What waits never exceeds the limits, and everything arrives in order.
    #[test]
    fn never_holds_more_than_its_limits() {
        let (mut inbox, mut reader) = inbox(4, 100);
        let sizes = [
            1, 99, 100, 3, 3, 3, 3, 3, 60, 60, 10, 10, 10, 10, 10, 200, 1,
        ];
        let mut queued = VecDeque::new();
        let mut read = Vec::new();
        for size in sizes {
            let mut pushing = Box::pin(inbox.push(frame(size)));
            while pushing.as_mut().now_or_never().is_none() {
                read.push(reader.try_recv().unwrap().len());
                queued.pop_front();
            }
            queued.push_back(size);
            let bytes = queued.iter().sum::<usize>();
            assert!(
                queued.len() <= 4 && (bytes <= 100 || queued.len() == 1),
                "{queued:?}"
            );
        }
        while let Ok(frame) = reader.try_recv() {
            read.push(frame.len());
        }
        assert_eq!(read, sizes);
    }

    /// A link whose reader went away must end, not wait.
    #[tokio::test]
    async fn notices_that_the_reader_went_away() {
        let (mut inbox, reader) = inbox(1, 10);
        inbox.push(frame(1)).await.unwrap();
        let closed = inbox.closed();
        drop(reader);
        closed.await;
        assert_eq!(inbox.push(frame(1)).await, Err(Closed));
    }
}
