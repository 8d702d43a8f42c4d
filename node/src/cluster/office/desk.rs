//! The office as the server for other nodes sees it.

use std::sync::Arc;

use antumbra_raft::{Duplex, Lane};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::cluster::control::Request;
use crate::peer::PeerHandler;

use super::Office;

/// The office as the peer server sees it.
pub(crate) struct Desk(pub(crate) Arc<Office>);

impl PeerHandler for Desk {
    fn link(&self, lane: Lane, _from: String, connection: Duplex) {
        // Without stores there is nobody to talk to; the link ends and is opened again.
        if let Some(serving) = self.0.serving() {
            serving.host.accept(lane, connection);
        }
    }

    fn control(&self, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let office = Arc::clone(&self.0);
        Box::pin(async move {
            let request = Request::decode(&body).ok_or("the request cannot be read")?;
            Ok(office.answer(request).await.encode())
        })
    }

    fn follow(&self, body: Bytes) -> BoxStream<'static, Result<Bytes, String>> {
        match self.0.serving() {
            Some(serving) => serving.shadows.follow(body),
            None => Box::pin(futures::stream::iter([Err(
                "this node is starting or stopping".to_owned(),
            )])),
        }
    }
}
