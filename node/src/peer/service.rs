//! The service that other nodes call: lets in who may come in, within limits, and hands over.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use antumbra_proto::peer::v1::peer_server::Peer;
use antumbra_proto::peer::v1::{ControlReply, ControlRequest, FollowItem, FollowRequest, Frame};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

use super::PeerHandler;
use super::handshake::{self, Audience};
use super::limits::{CONTROLS_MAX, DRAIN_TIMEOUT, FOLLOWS_MAX, FRAME_BYTES_MAX, LINKS_MAX};
use super::link::{self, LinkName};
use super::me::Me;
use super::tls::CertificateName;

/// What is known of the connection that a call came on.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Who the certificate is for, or why it is not good enough; `None` without TLS.
    pub(super) certificate: Option<Result<CertificateName, String>>,
    /// Told of every call.
    pub(super) called: Arc<Notify>,
    /// Ends the connection.
    pub(super) hang_up: CancellationToken,
    /// The connection has ended.
    pub(super) gone: CancellationToken,
}

impl Visitor {
    /// Sees to it that the connection of a link that has ended ends too. Both sides close it by
    /// themselves; but a stream whose reader stands still would keep it for ever.
    async fn see_off(self) {
        if timeout(DRAIN_TIMEOUT, self.gone.cancelled()).await.is_err() {
            self.hang_up.cancel();
        }
    }
}

/// The service. Cloning shares it.
#[derive(Clone)]
pub(super) struct Service(Arc<Inner>);

struct Inner {
    me: Me,
    handler: Arc<dyn PeerHandler>,
    /// Ends all links and follow streams.
    stop: CancellationToken,
    /// Links and control requests.
    tasks: TaskTracker,
    links: Arc<Links>,
    controls: Arc<Semaphore>,
    follows: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(me: Me, handler: Arc<dyn PeerHandler>, stop: CancellationToken) -> Service {
        Service(Arc::new(Inner {
            me,
            handler,
            stop,
            tasks: TaskTracker::new(),
            links: Arc::new(Links::default()),
            controls: Arc::new(Semaphore::new(CONTROLS_MAX)),
            follows: Arc::new(Semaphore::new(FOLLOWS_MAX)),
        }))
    }

    /// Ends when no link and no control request is left, once nothing new comes.
    pub(super) fn finished(&self) -> impl Future<Output = ()> + Send + 'static {
        let tasks = self.0.tasks.clone();
        async move {
            tasks.close();
            tasks.wait().await;
        }
    }
}

impl Inner {
    fn refusal(&self, text: impl Into<String>) -> Status {
        handshake::refusal(&self.me, Code::FailedPrecondition, text)
    }

    fn overload(&self, what: &str) -> Status {
        let text = format!("{} serves too many {what}", self.me.name());
        handshake::refusal(&self.me, Code::ResourceExhausted, text)
    }

    /// The name of the caller of a call that may be served.
    fn admit<T>(&self, request: &Request<T>, audience: Audience) -> Result<String, Status> {
        let certificate = certificate(request.extensions()).map_err(|text| self.refusal(text))?;
        handshake::admit(&self.me, request.metadata(), certificate, audience)
            .map_err(|text| self.refusal(text))
    }

    fn answer<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        handshake::introduce(&self.me, response.metadata_mut());
        response
    }

    fn lane(&self, metadata: &MetadataMap) -> Result<antumbra_raft::Lane, Status> {
        handshake::lane(metadata).map_err(|text| self.refusal(text))
    }
}

/// Whose certificate the call came with; `None` without TLS. Tells the connection of the call.
fn certificate(extensions: &Extensions) -> Result<Option<&CertificateName>, String> {
    let visitor = extensions.get::<Visitor>();
    let visitor = visitor.ok_or("the connection is not known")?;
    visitor.called.notify_one();
    match &visitor.certificate {
        None => Ok(None),
        Some(Ok(name)) => Ok(Some(name)),
        Some(Err(text)) => Err(text.clone()),
    }
}

#[tonic::async_trait]
impl Peer for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let inner = &self.0;
        let node = inner.admit(&request, Audience::Members)?;
        let lane = inner.lane(request.metadata())?;
        let name = LinkName { node, lane };
        let registered = Links::register(&inner.links, name.clone(), &inner.stop)
            .ok_or_else(|| inner.overload("links"))?;

        let (duplex, outbound, link) = link::open(name.clone(), registered.stop.clone());
        let visitor = request.extensions().get::<Visitor>().cloned();
        let frames = request.into_inner();
        inner.tasks.spawn(async move {
            link.run(frames).await;
            drop(registered);
            if let Some(visitor) = visitor {
                visitor.see_off().await;
            }
        });
        inner.handler.link(lane, name.node, duplex);
        let outbound: Self::LinkStream = Box::pin(outbound.map(Ok));
        Ok(inner.answer(outbound))
    }

    async fn control(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let inner = &self.0;
        inner.admit(&request, Audience::Newcomers)?;
        let permit = Arc::clone(&inner.controls).try_acquire_owned();
        let permit = permit.map_err(|_| inner.overload("control requests"))?;
        // A task of its own: half of a request must not be left out because the caller went away.
        let answering = inner.handler.control(request.into_inner().body);
        let answering = inner.tasks.spawn(async move {
            let answer = answering.await;
            drop(permit);
            answer
        });
        match answering.await {
            Ok(Ok(body)) if body.len() <= FRAME_BYTES_MAX => {
                Ok(inner.answer(ControlReply { body }))
            }
            Ok(Err(text)) => Err(inner.refusal(text)),
            // Not refusals: the request was carried out, or who knows.
            Ok(Ok(body)) => {
                let text = format!("the answer has {} bytes", body.len());
                Err(Status::internal(text))
            }
            Err(_) => Err(Status::internal("the handler of the request panicked")),
        }
    }

    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowItem, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let inner = &self.0;
        inner.admit(&request, Audience::Members)?;
        let permit = Arc::clone(&inner.follows).try_acquire_owned();
        let permit = permit.map_err(|_| inner.overload("follow streams"))?;
        let items = inner.handler.follow(request.into_inner().body);
        let following = Following {
            items,
            inner: Arc::clone(inner),
            _permit: permit,
        };
        let items: Self::FollowStream = Box::pin(stream::unfold(Some(following), Following::next));
        Ok(inner.answer(items))
    }
}

/// A follow stream that is served.
struct Following {
    items: BoxStream<'static, Result<Bytes, String>>,
    inner: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl Following {
    /// The next item and whatever may follow it: nothing after an error.
    async fn next(
        following: Option<Following>,
    ) -> Option<(Result<FollowItem, Status>, Option<Following>)> {
        let mut following = following?;
        let inner = &following.inner;
        let item = tokio::select! {
            biased;
            () = inner.stop.cancelled() => {
                let text = format!("{} stops", inner.me.name());
                return Some((Err(inner.refusal(text)), None));
            }
            item = following.items.next() => item?,
        };
        match item {
            Ok(body) if body.len() <= FRAME_BYTES_MAX => {
                Some((Ok(FollowItem { body }), Some(following)))
            }
            Ok(body) => {
                let text = format!("an item has {} bytes, over {FRAME_BYTES_MAX}", body.len());
                Some((Err(inner.refusal(text)), None))
            }
            Err(text) => Some((Err(inner.refusal(text)), None)),
        }
    }
}

/// The links that are served: one per node and lane.
#[derive(Default)]
struct Links(Mutex<LinkTable>);

#[derive(Default)]
struct LinkTable {
    open: BTreeMap<LinkName, (u64, CancellationToken)>,
    opened: u64,
}

/// The place of a link. Dropping it gives it back.
struct Registered {
    links: Arc<Links>,
    name: LinkName,
    number: u64,
    /// Ends the link.
    stop: CancellationToken,
}

impl Links {
    /// Gives a link its place and ends the one that had it; `None` when there are too many.
    fn register(
        links: &Arc<Links>,
        name: LinkName,
        stop: &CancellationToken,
    ) -> Option<Registered> {
        let mut table = links.0.lock();
        if table.open.len() >= LINKS_MAX && !table.open.contains_key(&name) {
            return None;
        }
        table.opened += 1;
        let (number, stop) = (table.opened, stop.child_token());
        if let Some((_, older)) = table.open.insert(name.clone(), (number, stop.clone())) {
            older.cancel();
        }
        Some(Registered {
            links: Arc::clone(links),
            name,
            number,
            stop,
        })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut table = self.links.0.lock();
        let current = table.open.get(&self.name);
        if current.is_some_and(|(number, _)| *number == self.number) {
            table.open.remove(&self.name);
        }
    }
}
