//! Reading one shadow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antumbra_shadow::{DeviceKey, Document, ShadowName};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::access::Verb;
use crate::error::Error;

use super::context::{ShardContext, decode_document, read_failed};
use super::cursor::end_of;
use super::question::{Question, Reply};
use super::relay::{Interest, Subscription};
use super::{Caller, Shadows, keys};

/// A read that waits for a version looks again after this long, even without a change: the replica
/// that it waits at may be on its way out.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a read may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Everything acknowledged before the read began.
    #[default]
    Linearizable,
    /// What one replica has applied.
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
        caller.may_touch(Verb::Read, device)?;
        let shard = self.table().shard_of(device)?;
        let question = Question::Document {
            device: device.clone(),
            shadow: shadow.clone(),
            options,
        };
        let asked = self.ask(caller.tenant.as_ref(), shard, &question, deadline);
        let Reply::Document { seen, document } = asked.await? else {
            return Err(Error::Internal("a document was asked for"));
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

/// The applied index of the replica's state, and the document in exactly this state: the rows of a
/// replica that installs a snapshot come and go.
pub(super) fn pinned(
    context: &ShardContext,
    device: &DeviceKey,
    shadow: &ShadowName,
) -> Result<(u64, Option<Document>), Error> {
    let row = context.shard.read(&keys::document(device, shadow));
    let (index, row) = row.map_err(read_failed)?;
    Ok((index, row.map(decode_document).transpose()?))
}

/// Tells of the changes of one device on a replica here.
pub(super) struct Changes {
    subscription: Subscription,
    wake: Arc<Notify>,
}

impl Changes {
    pub(super) fn of(context: &ShardContext, device: &DeviceKey) -> Changes {
        let wake = Arc::new(Notify::new());
        let interest = Interest::Devices(Arc::new(BTreeSet::from([device.clone()])));
        Changes {
            subscription: context.relay.subscribe(interest, Arc::clone(&wake)),
            wake,
        }
    }

    /// Forgets the changes so far.
    pub(super) fn skip(&self) {
        self.subscription.skip();
    }

    /// Waits for a change, or long enough to look again without one.
    pub(super) async fn next(&self, deadline: Instant) -> Result<(), Error> {
        let look_again = Instant::now() + LOOK_AGAIN;
        match timeout_at(deadline.min(look_again), self.wake.notified()).await {
            Err(_) if look_again >= deadline => Err(Error::Deadline),
            _ => Ok(()),
        }
    }
}
