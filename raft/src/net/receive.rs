//! Takes in one snapshot that another node sends.
//!
//! Each chunk is answered when it was handed on to the installer, which writes it to disk: a slow disk
//! slows the sender down. Whatever goes wrong before the end changes nothing here.

use std::pin::pin;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::mpsc;
use tracing::{debug, info};

use crate::error::Error;
use crate::metrics::record_chunk_received;
use crate::shard::Shard;
use crate::state::{SnapshotData, SnapshotFeeder};
use crate::types::{SnapshotMeta, Vote};

use super::snapshot::IDLE_TIMEOUT;
use super::{Body, Refusal};

/// What comes after the begin.
pub(super) enum Piece {
    Chunk(Bytes),
    End,
    Abort,
}

/// One snapshot on its way in.
pub(super) struct Receiving {
    pub(super) shard: Shard,
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    /// Ends when the connection does.
    pub(super) pieces: mpsc::Receiver<Piece>,
    /// One for the begin and for each piece.
    pub(super) answers: mpsc::Sender<Body>,
}

impl Receiving {
    /// Ends with the last answer, or when the connection is lost.
    pub(super) async fn run(self) {
        let Receiving {
            shard,
            vote,
            meta,
            pieces,
            answers,
        } = self;
        // The sender learns of a higher vote before it sends anything.
        let known = shard.raft().server_metrics().borrow_watched().vote;
        if known > vote {
            let _ = answers.send(Body::Installed(known)).await;
            return;
        }
        info!(shard = %shard.id(), "receive a snapshot");
        let (feeder, data) = SnapshotData::channel();
        let mut feeding = pin!(feed(feeder, pieces, answers.clone()));
        let mut installing = pin!(shard.install_snapshot(vote, meta, data));
        let mut fed = false;
        let installed = loop {
            tokio::select! {
                biased;
                installed = &mut installing => break installed,
                () = &mut feeding, if !fed => fed = true,
            }
        };
        let answer = match installed {
            Ok(response) => Body::Installed(response.vote),
            Err(error @ Error::SnapshotRefused { .. }) => {
                info!(shard = %shard.id(), %error, "snapshot not installed");
                Body::Refused(Refusal::SnapshotRefused)
            }
            Err(error) => {
                debug!(shard = %shard.id(), %error, "snapshot not installed");
                Body::Refused(Refusal::Stopped)
            }
        };
        let _ = answers.send(answer).await;
    }
}

/// Hands chunks on until the end, or until one side has gone.
async fn feed(
    feeder: SnapshotFeeder,
    mut pieces: mpsc::Receiver<Piece>,
    answers: mpsc::Sender<Body>,
) {
    if answers.send(Body::Taken).await.is_err() {
        return;
    }
    loop {
        match tokio::time::timeout(IDLE_TIMEOUT, pieces.recv()).await {
            Ok(Some(Piece::Chunk(chunk))) => {
                record_chunk_received(chunk.len());
                if !feeder.send(Ok(chunk)).await || answers.send(Body::Taken).await.is_err() {
                    return;
                }
            }
            Ok(Some(Piece::End)) => return,
            Ok(Some(Piece::Abort) | None) | Err(_) => {
                let what = "the sender gave up";
                feeder.send(Err(Error::SnapshotRefused { what })).await;
                return;
            }
        }
    }
}
