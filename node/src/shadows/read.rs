//! Reading one shadow.

use std::collections::BTreeSet;
use std::sync::Arc;

use antumbra_shadow::{DeviceKey, Document, ShadowName};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;

use super::context::{ShardContext, decode_document, read_failed};
use super::cursor::end_of;
use super::relay::Interest;
use super::{Caller, Shadows, keys};

/// What a read may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Everything acknowledged before the read began.
    #[default]
    Linearizable,
    /// What this replica has applied.
    Local,
}

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// What the read may see.
    pub consistency: Consistency,
    /// Wait until the shadow has at least this version.
    pub min_version: u64,
}

/// What a read saw.
#[derive(Debug, Clone)]
pub struct Read {
    /// The document; never a tombstone.
    pub document: Document,
    /// A watch from here misses nothing that came after the document.
    pub cursor: String,
}

impl Shadows {
    /// Reads one shadow. `NotFound` when it does not exist or was deleted; `Deadline` when it did
    /// not reach `min_version` in time. May be dropped midway.
    pub async fn get(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        shadow: &ShadowName,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<Read, Error> {
        caller.may_touch(&device.tenant)?;
        let context = self.shard_of(device);
        let (seen, document) = match options.min_version {
            0 => read(context, device, shadow, options.consistency, deadline).await?,
            _ => read_from_version(context, device, shadow, options, deadline).await?,
        };
        let document = document
            .filter(|document| !document.is_deleted())
            .ok_or(Error::NotFound)?;
        let position = end_of(seen).max(document.feed_position());
        Ok(Read {
            cursor: self.cursor(device, position),
            document,
        })
    }
}

/// An applied index that the document is not older than, and the document, tombstones included.
async fn read(
    context: &ShardContext,
    device: &DeviceKey,
    shadow: &ShadowName,
    consistency: Consistency,
    deadline: Instant,
) -> Result<(u64, Option<Document>), Error> {
    // Taken first: whatever is applied later than this is at or behind the cursor of the reply.
    let seen = context.shard.applied_index();
    let document = match consistency {
        Consistency::Linearizable => context.twins.read(device, shadow, deadline).await?,
        Consistency::Local => {
            let row = context.shard.view().get(&keys::document(device, shadow));
            row.map_err(read_failed)?.map(decode_document).transpose()?
        }
    };
    Ok((seen, document))
}

/// Reads again after every change of the device until the version is there.
async fn read_from_version(
    context: &ShardContext,
    device: &DeviceKey,
    shadow: &ShadowName,
    options: ReadOptions,
    deadline: Instant,
) -> Result<(u64, Option<Document>), Error> {
    let wake = Arc::new(Notify::new());
    let interest = Interest::Devices(Arc::new(BTreeSet::from([device.clone()])));
    let subscription = context.relay.subscribe(interest, Arc::clone(&wake));
    loop {
        // Before the read: a change that is applied from here on wakes us again.
        subscription.skip();
        let (seen, document) = read(context, device, shadow, options.consistency, deadline).await?;
        let version = document.as_ref().map_or(0, Document::version);
        if version >= options.min_version {
            return Ok((seen, document));
        }
        timeout_at(deadline, wake.notified())
            .await
            .map_err(|_| Error::Deadline)?;
    }
}
