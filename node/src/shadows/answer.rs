//! Answers questions from a replica on this node, whichever role it has.

use std::time::Duration;

use antumbra_shadow::{DeviceKey, Document, ShadowName};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;

use super::context::{ShardContext, blocking};
use super::question::{Question, Reply};
use super::read::{Consistency, ReadOptions};
use super::{Shadows, list, read};

/// A follower that does not catch up within this leaves the question to others for a while.
const LAG_MAX: Duration = Duration::from_secs(1);

impl Shadows {
    /// The answer of one replica. `Unavailable` when it cannot give one now. May be dropped midway.
    pub(crate) async fn answer(
        &self,
        context: &ShardContext,
        question: &Question,
        deadline: Instant,
    ) -> Result<Reply, Error> {
        match question {
            Question::Document {
                device,
                shadow,
                options,
            } => {
                let target = (device, shadow);
                let found = match options.min_version {
                    0 => {
                        self.read(context, target, options.consistency, deadline)
                            .await
                    }
                    _ => {
                        self.read_from_version(context, target, *options, deadline)
                            .await
                    }
                };
                let (seen, document) = found?;
                Ok(Reply::Document { seen, document })
            }
            Question::Shadows { device, from, size } => {
                self.prove(context, deadline).await?;
                let (context, device) = (context.clone(), device.clone());
                let (from, size) = (from.clone(), *size);
                let scan = blocking(move || list::shadows_step(&context, &device, from, size));
                Ok(Reply::Shadows(list::within(deadline, scan).await?))
            }
            Question::Devices {
                filter,
                from,
                size,
                rows_max,
            } => {
                self.prove(context, deadline).await?;
                let (context, filter, from) = (context.clone(), filter.clone(), from.clone());
                let bounds = (*size, *rows_max);
                let scan = blocking(move || list::devices_step(&context, &filter, from, bounds));
                Ok(Reply::Devices(list::within(deadline, scan).await?))
            }
        }
    }

    /// Waits until the replica has everything that was acknowledged before the call, and gives its
    /// applied index.
    async fn prove(&self, context: &ShardContext, deadline: Instant) -> Result<u64, Error> {
        let patience = match context.leads() {
            true => deadline,
            false => deadline.min(Instant::now() + LAG_MAX),
        };
        match timeout_at(patience, context.barrier()).await {
            Ok(proven) => proven,
            Err(_) if patience < deadline => {
                self.inner.hints.doubt(context.id());
                Err(Error::Unavailable("the replica lags behind its shard"))
            }
            Err(_) => Err(Error::Deadline),
        }
    }

    /// An applied index that the document is not older than, and the document, tombstones included.
    async fn read(
        &self,
        context: &ShardContext,
        (device, shadow): (&DeviceKey, &ShadowName),
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<(u64, Option<Document>), Error> {
        if consistency == Consistency::Linearizable {
            if context.leads() {
                // Taken first: what is applied later is at or behind the cursor of the reply.
                let seen = context.shard.applied_index();
                let read = context.twins.read(device, shadow, deadline).await?;
                return Ok((seen, read));
            }
            self.prove(context, deadline).await?;
        }
        read::pinned(context, device, shadow)
    }

    /// Reads again after every change of the device until the version is there.
    async fn read_from_version(
        &self,
        context: &ShardContext,
        (device, shadow): (&DeviceKey, &ShadowName),
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<(u64, Option<Document>), Error> {
        let changes = read::Changes::of(context, device);
        loop {
            // Before the read: a change that is applied from here on wakes us again.
            changes.skip();
            let target = (device, shadow);
            let (seen, document) = self
                .read(context, target, options.consistency, deadline)
                .await?;
            let version = document.as_ref().map_or(0, Document::version);
            if version >= options.min_version {
                return Ok((seen, document));
            }
            changes.next(deadline).await?;
            let here = self.table().local(context.id()).cloned();
            if !here.is_some_and(|here| here.is_same(context)) {
                return Err(Error::Unavailable("the replica has gone"));
            }
        }
    }
}
