//! Between a gRPC stream and the [`Duplex`] of the engine.
//!
//! What is sent is read from its queue by the stream itself; what is received is moved by one task
//! per link. A link ends as a whole:
//! - The other side ended or vanished: the reader gets what had arrived and then the end; the sender
//!   fails.
//! - This side dropped its `Duplex`: what it had queued still leaves, for a second at most. Dropping
//!   the receiver alone ends the link too, and the sender fails then.
//! - It is stopped, by a newer link or because the node stops: at once.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use antumbra_proto::peer::v1::Frame;
use antumbra_raft::{Duplex, Lane};
use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Streaming;
use tracing::{error, info};

use super::connection::Failure;
use super::inbox::Inbox;
use super::limits::{DRAIN_TIMEOUT, FRAME_BYTES_MAX, INBOX_BYTES_MAX, queue_frames};

/// One link, before its streams exist: the engine's end, what is to be sent, and the rest.
pub(super) fn open(name: LinkName, stop: CancellationToken) -> (Duplex, Outbound, Link) {
    let frames = queue_frames(name.lane);
    let (to_send, sent) = mpsc::channel(frames);
    let (received, to_receive) = mpsc::channel(frames);
    let duplex = Duplex {
        sender: to_send,
        receiver: to_receive,
    };
    let outbound = Outbound {
        frames: Some(sent),
        stopped: Box::pin(stop.clone().cancelled_owned()),
        name: name.clone(),
    };
    let link = Link {
        inbox: Inbox::new(received, INBOX_BYTES_MAX),
        stop,
        name,
    };
    (duplex, outbound, link)
}

/// Which link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkName {
    /// The other node.
    pub(super) node: String,
    pub(super) lane: Lane,
}

/// The frames that are sent, as a stream. Ends when the sender was dropped or the link is stopped.
pub(super) struct Outbound {
    /// `None` after the end, so that the sender fails.
    frames: Option<mpsc::Receiver<Bytes>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    name: LinkName,
}

impl Outbound {
    /// The next frame that may be sent.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(frames) = &mut self.frames else {
            return Poll::Ready(None);
        };
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let Some(frame) = ready!(frames.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        if frame.len() > FRAME_BYTES_MAX {
            // Leaving it out would tear a hole into the stream.
            let (node, lane) = (&self.name.node, self.name.lane.name());
            error!(
                node,
                lane,
                bytes = frame.len(),
                "end a link: a frame is too large"
            );
            return Poll::Ready(None);
        }
        Poll::Ready(Some(frame))
    }
}

impl Stream for Outbound {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let frame = ready!(self.poll_frame(cx));
        if frame.is_none() {
            self.frames = None;
        }
        Poll::Ready(frame.map(|body| Frame { body }))
    }
}

/// How a link ended.
enum End {
    /// This side dropped its receiver.
    Here,
    /// The other side ended its stream.
    There,
    /// The other side, or the way to it, failed.
    Lost(String),
    /// It was stopped.
    Stopped,
}

/// The receiving half of a link.
pub(super) struct Link {
    inbox: Inbox,
    stop: CancellationToken,
    name: LinkName,
}

impl Link {
    /// Moves frames until the link ends, and ends the other half with it. Dropping the future ends
    /// the link at once.
    pub(super) async fn run(mut self, mut frames: Streaming<Frame>) {
        let _stop_outbound = self.stop.clone().drop_guard();
        let (node, lane) = (self.name.node.clone(), self.name.lane.name());
        info!(node, lane, "link is up");
        match self.receive(&mut frames).await {
            End::Here => {
                info!(node, lane, "link ended by this node");
                // The other side ends its stream once it has read all of ours.
                let read_on = async { while let Ok(Some(_)) = frames.message().await {} };
                let _ = timeout(DRAIN_TIMEOUT, self.stop.run_until_cancelled(read_on)).await;
            }
            End::There => info!(node, lane, "link ended by the other node"),
            End::Lost(error) => info!(node, lane, error, "link is down"),
            End::Stopped => info!(node, lane, "link is stopped"),
        }
    }

    async fn receive(&mut self, frames: &mut Streaming<Frame>) -> End {
        let stop = self.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut closed = pin!(self.inbox.closed());
        loop {
            let received = tokio::select! {
                biased;
                () = stopped.as_mut() => return End::Stopped,
                () = closed.as_mut() => return End::Here,
                received = frames.message() => received,
            };
            let frame = match received {
                Ok(Some(frame)) => frame,
                Ok(None) => return End::There,
                Err(status) => return End::Lost(Failure::of(&status).into_text()),
            };
            let pushed = tokio::select! {
                biased;
                () = stopped.as_mut() => return End::Stopped,
                pushed = self.inbox.push(frame.body) => pushed,
            };
            if pushed.is_err() {
                return End::Here;
            }
        }
    }
}
