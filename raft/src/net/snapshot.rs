//! Sends a snapshot: a begin, numbered chunks, an end. A few chunks are under way at a time; all
//! snapshots of a node share one rate.
//!
//! Dropping the future tells the receiver that no more will come.

use std::time::Duration;

use openraft::StorageError;
use openraft::errors::{ErrorSource, NetworkError, StreamingError, Timeout};
use openraft::impls::BoxedErrorSource;
use openraft::network::RPCTypes;
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::SnapshotOf;
use tracing::info;

use crate::error::Error;
use crate::metrics::record_chunk_sent;
use crate::state::SnapshotData;
use crate::types::{TypeConfig, Vote};

use super::client::{Client, failed, refused};
use super::link::{CallError, Stream};
use super::{Body, Lane, Route};

/// Chunks that were sent and not yet handed on by the receiver.
pub(super) const WINDOW: usize = 4;

/// A receiver that takes nothing for this long is given up, and so is a sender that sends nothing.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the receiver may take from the last chunk to the answer: it installs what it has staged.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

type Failed = StreamingError<TypeConfig>;

/// Sends a snapshot and waits until it is installed, or refused because of a higher vote.
pub(super) async fn send(
    client: &Client,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
) -> Result<SnapshotResponse<TypeConfig>, Failed> {
    let route = client.route;
    let link = client.link(Lane::Snapshot);
    // The end is answered too.
    let stream = link.stream(route, WINDOW + 1, Body::SnapshotAbort);
    let mut sending = Sending {
        stream,
        route,
        under_way: 0,
    };
    let (meta, mut data) = (snapshot.meta, snapshot.snapshot);
    info!(shard = %route.shard, to = %route.to, "send a snapshot");
    sending.send(Body::Snapshot { vote, meta })?;
    let mut bytes = 0_u64;
    while let Some(chunk) = data.next().await {
        let chunk = chunk.map_err(|error| unreadable(&error))?;
        bytes += chunk.len() as u64;
        client.links.snapshot_rate.wait(chunk.len()).await;
        while sending.under_way >= WINDOW {
            if let Some(vote) = sending.answer(IDLE_TIMEOUT).await? {
                return Ok(SnapshotResponse::new(vote));
            }
        }
        record_chunk_sent(chunk.len());
        sending.send(Body::Chunk(chunk))?;
    }
    sending.send(Body::SnapshotEnd)?;
    while sending.under_way > 0 {
        let patience = if sending.under_way > 1 {
            IDLE_TIMEOUT
        } else {
            INSTALL_TIMEOUT
        };
        if let Some(vote) = sending.answer(patience).await? {
            info!(shard = %route.shard, to = %route.to, bytes, "snapshot sent");
            return Ok(SnapshotResponse::new(vote));
        }
    }
    Err(NetworkError::from_string("the snapshot was not answered").into())
}

struct Sending {
    stream: Stream,
    route: Route,
    /// Messages that have no answer yet.
    under_way: usize,
}

impl Sending {
    fn send(&mut self, body: Body) -> Result<(), Failed> {
        let sent = self.stream.send(body);
        sent.map_err(|error| self.failed(error, Duration::ZERO))?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits for one answer; gives the vote when it was the last one.
    async fn answer(&mut self, patience: Duration) -> Result<Option<Vote>, Failed> {
        let answered = tokio::time::timeout(patience, self.stream.answer()).await;
        self.under_way -= 1;
        match answered {
            Ok(Some(Ok(Body::Taken))) => Ok(None),
            Ok(Some(Ok(Body::Installed(vote)))) => Ok(Some(vote)),
            Ok(Some(Ok(other))) => Err(refused(&other).into()),
            Ok(Some(Err(error))) => Err(self.failed(error, patience)),
            Ok(None) => Err(self.failed(CallError::Lost, patience)),
            Err(_) => Err(Failed::Timeout(Timeout {
                action: RPCTypes::InstallSnapshot,
                id: self.route.from.0,
                target: self.route.to.0,
                timeout: patience,
            })),
        }
    }

    fn failed(&self, error: CallError, timeout: Duration) -> Failed {
        failed(error, self.route, RPCTypes::InstallSnapshot, timeout).into()
    }
}

/// Damage of our own rows stops this replica; anything else is tried again.
fn unreadable(error: &Error) -> Failed {
    if error.is_damage() {
        let source = BoxedErrorSource::from_error(error);
        Failed::StorageError(StorageError::read_snapshot(None, source))
    } else {
        NetworkError::new(error).into()
    }
}
