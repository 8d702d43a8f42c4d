//! Serves the requests of other nodes from the replicas on this one. Nothing is passed on: what this
//! node cannot serve is refused, with a word on who may.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ::bytes::Bytes;
use antumbra_raft::ForwardHandler;
use antumbra_shadow::{DeviceKey, Draft, Failure};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info};

use crate::shadows::attached::ATTACH_V1;
use crate::shadows::context::{Order, ShardContext};
use crate::shadows::question::Question;
use crate::shadows::{Inner, Shadows, metrics};
use crate::telemetry::REQUESTS;
use crate::trace;

use super::restore::RESTORE_V1;
use super::wire::{Answer, Envelope, FRAME_BYTES_MAX, Refusal, Request, decode_request};

/// The longest that a request of another node may take.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The handler of a node; it does not keep the use cases alive.
struct Handler {
    inner: Weak<Inner>,
}

impl ForwardHandler for Handler {
    fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        let inner = self.inner.upgrade();
        if request.first() == Some(&ATTACH_V1)
            && let Some(inner) = &inner
        {
            let answer = inner.attachments.serve(request);
            return Box::pin(async move { answer });
        }
        if request.first() == Some(&RESTORE_V1)
            && let Some(inner) = inner
        {
            return Box::pin(async move { Shadows { inner }.serve_restore(request).await });
        }
        Box::pin(async move {
            let answer = match inner {
                Some(inner) => Shadows { inner }.serve(request).await,
                None => Answer::Refused(Refusal::Unavailable),
            };
            let body = answer.encode();
            match body.len() <= FRAME_BYTES_MAX {
                true => body,
                // Only a reply to a read can be so large; an outcome cannot.
                false => Answer::Refused(Refusal::Internal).encode(),
            }
        })
    }
}

impl Shadows {
    /// Serves forwarded requests of other nodes, and never forwards them further.
    pub(crate) fn forward_handler(&self) -> Arc<dyn ForwardHandler> {
        Arc::new(Handler {
            inner: Arc::downgrade(&self.inner),
        })
    }

    async fn serve(&self, request: Bytes) -> Answer {
        let Ok(_place) = self.inner.served.try_acquire() else {
            return Answer::Refused(Refusal::Overloaded);
        };
        metrics::served();
        let Some((envelope, request)) = decode_request(request) else {
            return Answer::Refused(Refusal::NotUnderstood);
        };
        let table = self.table();
        let Some(context) = table.local(envelope.shard) else {
            return Answer::NotLeader(None);
        };
        if !request.is_allowed(&envelope) {
            return Answer::Refused(Refusal::PermissionDenied);
        }
        // The asker's map may be older than ours: a device must never be written to another's shard.
        let in_range = |device: &DeviceKey| context.range.contains(device.hash());
        if request.device().is_some_and(|device| !in_range(device)) {
            return Answer::NotLeader(None);
        }
        let deadline = Instant::now() + envelope.remaining.min(WAIT_MAX);
        match request {
            Request::Command { device, draft } => {
                let span = trace::forwarded(draft.request_id.as_ref());
                let served = self.serve_command(context, &device, *draft, deadline);
                served.instrument(span).await
            }
            Request::Question(question) => self.serve_question(context, question, deadline).await,
        }
    }

    /// Only the leader takes a command. Through the twin, although the node that sent it may keep the
    /// order: what it sent before and had no answer to may still be waiting there.
    async fn serve_command(
        &self,
        context: &ShardContext,
        device: &DeviceKey,
        draft: Draft,
        deadline: Instant,
    ) -> Answer {
        let shard = context.id();
        info!(target: REQUESTS, %shard, "serve a command that another node sent");
        match context.submit(device, draft, Order::ByTwin, deadline).await {
            Ok(outcome) => Answer::Outcome(outcome),
            Err(Failure::NotLeader) => {
                let leader = context.shard.leader().map(|(_, node)| node);
                Answer::NotLeader(leader.filter(|leader| leader.name != self.inner.node))
            }
            Err(failure) => Answer::Refused(Refusal::from(failure)),
        }
    }

    /// Every replica answers, behind its own barrier. In a task of its own: reads use the disk, and
    /// all requests of one link share a task.
    async fn serve_question(
        &self,
        context: &ShardContext,
        question: Question,
        deadline: Instant,
    ) -> Answer {
        let (shadows, context) = (self.clone(), context.clone());
        let answering =
            tokio::spawn(async move { shadows.answer(&context, &question, deadline).await });
        match AbortOnDropHandle::new(answering).await {
            Ok(Ok(reply)) => Answer::Reply(reply),
            Ok(Err(error)) => Answer::Refused(Refusal::from(error)),
            Err(_) => Answer::Refused(Refusal::Internal),
        }
    }
}

impl Request {
    fn device(&self) -> Option<&DeviceKey> {
        match self {
            Request::Command { device, .. } => Some(device),
            Request::Question(question) => question.device(),
        }
    }

    /// Checked here again and not only at the door (invariant 14).
    fn is_allowed(&self, envelope: &Envelope) -> bool {
        let tenant = match self {
            Request::Command { device, .. } => &device.tenant,
            Request::Question(question) => question.tenant(),
        };
        envelope.tenant.as_ref().is_none_or(|own| own == tenant)
    }
}
