//! The way to other nodes.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use antumbra_proto::peer::v1::{ControlRequest, FollowItem, FollowRequest};
use antumbra_raft::{ConnectError, Duplex, Lane, Node, Transport};
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming};

use super::connection::{Connection, Failure, Purpose};
use super::handshake::{self, Callee};
use super::limits::{CALLEES_MAX, CONNECT_TIMEOUT, FOLLOWS_PER_NODE_MAX, FRAME_BYTES_MAX};
use super::link::{self, LinkName};
use super::me::{Directory, Me};
use super::tls::Tls;

/// How long the other node may take to begin a follow stream, once it is connected.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens links to other nodes and calls them. Cloning shares the connections.
#[derive(Clone)]
pub struct PeerTransport(Arc<Inner>);

struct Inner {
    me: Me,
    directory: Directory,
    tls: Tls,
    /// Connections for calls, by address; the least recently used goes first.
    callees: Mutex<LruCache<String, Arc<CalleeSlot>>>,
}

/// The connection to one address. Whoever finds it closed opens it again while the others wait.
struct CalleeSlot {
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    follows: Arc<Semaphore>,
}

/// Why a control request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It was certainly not delivered.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// It was sent, and no answer came: it may have been carried out.
    #[error("the request was sent, and no answer came: {0}")]
    Unknown(String),
    /// The other node said no: its handler, or because it is not the node that was meant.
    #[error("refused: {0}")]
    Refused(String),
}

/// Why a follow stream did not begin, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FollowError(pub String);

impl PeerTransport {
    /// The way to the nodes of a directory.
    pub fn new(me: Me, directory: Directory, tls: Tls) -> PeerTransport {
        let capacity = NonZeroUsize::new(CALLEES_MAX).unwrap_or(NonZeroUsize::MIN);
        PeerTransport(Arc::new(Inner {
            me,
            directory,
            tls,
            callees: Mutex::new(LruCache::new(capacity)),
        }))
    }

    /// Asks whoever is at `address` and waits for the answer, at most `within`. A node of another
    /// cluster refuses. May be dropped midway; then the outcome is unknown.
    pub async fn control(
        &self,
        address: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, ControlError> {
        let deadline = Instant::now() + within;
        if body.len() > FRAME_BYTES_MAX {
            let text = format!("it has {} bytes, over {FRAME_BYTES_MAX}", body.len());
            return Err(ControlError::NotSent(text));
        }
        let asked = self.0.control(address, body, deadline).await;
        asked.map_err(|failure| match failure {
            Failure::NotSent(text) => ControlError::NotSent(text),
            Failure::Unknown(text) => ControlError::Unknown(text),
            Failure::Refused(text) => ControlError::Refused(text),
        })
    }

    /// Asks a node of this cluster for a stream of items. Ends with an error when the node refuses,
    /// stops or vanishes.
    pub async fn follow(&self, node: &Node, body: Bytes) -> Result<Follow, FollowError> {
        let following = self.0.follow(node, body);
        let follow = timeout(CONNECT_TIMEOUT + FOLLOW_TIMEOUT, following).await;
        let follow = follow.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        follow.map_err(|text| FollowError(format!("follow {}: {text}", node.name)))
    }
}

impl Transport for PeerTransport {
    fn connect(&self, node: &Node, lane: Lane) -> BoxFuture<'static, Result<Duplex, ConnectError>> {
        let (inner, node) = (Arc::clone(&self.0), node.clone());
        Box::pin(async move {
            let linked = timeout(CONNECT_TIMEOUT, inner.link(&node, lane)).await;
            let linked = linked.unwrap_or_else(|_| {
                Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
            });
            linked.map_err(|text| {
                let address = inner.directory.locate(&node).unwrap_or_default();
                ConnectError(format!("connect to {} at {address}: {text}", node.name))
            })
        })
    }
}

impl Inner {
    async fn link(&self, node: &Node, lane: Lane) -> Result<Duplex, String> {
        if self.me.cluster().is_none() {
            return Err(format!("{} belongs to no cluster yet", self.me.name()));
        }
        let address = self.locate(node)?;
        let connection = Connection::open(&address, &self.tls, Purpose::Lane).await?;
        let name = LinkName {
            node: node.name.clone(),
            lane,
        };
        let (duplex, outbound, link) = link::open(name, CancellationToken::new());
        let callee = Callee::Member(&node.name);
        let request = self.request(outbound, callee, Some(lane));
        let answered = connection.client().link(request).await;
        let answer = answered.map_err(|status| Failure::of(&status).into_text())?;
        self.recognise(answer.metadata(), &connection, callee)?;
        tokio::spawn(async move {
            link.run(answer.into_inner()).await;
            drop(connection);
        });
        Ok(duplex)
    }

    async fn control(
        &self,
        address: &str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        let slot = self.slot(address);
        let mut tries = 0;
        loop {
            tries += 1;
            let connected = timeout_at(deadline, self.callee(&slot, address)).await;
            let connected = connected.unwrap_or_else(|_| Err("no connection in time".to_owned()));
            let connection = connected.map_err(Failure::NotSent)?;
            let asking = self.ask(&connection, body.clone());
            let asked = timeout_at(deadline, asking).await;
            match asked.unwrap_or_else(|_| Err(Failure::Unknown("no answer in time".to_owned()))) {
                // It was found closed only when it was used: once more on a new one.
                Err(Failure::NotSent(_)) if tries == 1 => {}
                asked => return asked,
            }
        }
    }

    async fn ask(&self, connection: &Connection, body: Bytes) -> Result<Bytes, Failure> {
        let request = self.request(ControlRequest { body }, Callee::Anyone, None);
        let answered = connection.client().control(request).await;
        let answer = answered.map_err(|status| Failure::of(&status))?;
        self.recognise(answer.metadata(), connection, Callee::Anyone)
            .map_err(Failure::Unknown)?;
        Ok(answer.into_inner().body)
    }

    async fn follow(&self, node: &Node, body: Bytes) -> Result<Follow, String> {
        if body.len() > FRAME_BYTES_MAX {
            return Err(format!("the request has {} bytes", body.len()));
        }
        let address = self.locate(node)?;
        let slot = self.slot(&address);
        let permit = Arc::clone(&slot.follows).try_acquire_owned();
        let permit = permit.map_err(|_| "too many follow streams".to_owned())?;
        let connection = self.callee(&slot, &address).await?;
        let callee = Callee::Member(&node.name);
        let request = self.request(FollowRequest { body }, callee, None);
        let answered = connection.client().follow(request).await;
        let answer = answered.map_err(|status| Failure::of(&status).into_text())?;
        self.recognise(answer.metadata(), &connection, callee)?;
        Ok(Follow {
            items: Some(answer.into_inner()),
            _connection: connection,
            _permit: permit,
        })
    }

    fn locate(&self, node: &Node) -> Result<String, String> {
        let address = self.directory.locate(node);
        address.ok_or_else(|| "its address is not known".to_owned())
    }

    fn request<T>(&self, message: T, callee: Callee<'_>, lane: Option<Lane>) -> Request<T> {
        let mut request = Request::new(message);
        handshake::introduce(&self.me, request.metadata_mut());
        handshake::address(callee, lane, request.metadata_mut());
        request
    }

    fn recognise(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        connection: &Connection,
        callee: Callee<'_>,
    ) -> Result<(), String> {
        handshake::recognise(&self.me, metadata, connection.certificate(), callee)
    }

    fn slot(&self, address: &str) -> Arc<CalleeSlot> {
        let new = || {
            Arc::new(CalleeSlot {
                connection: tokio::sync::Mutex::new(None),
                follows: Arc::new(Semaphore::new(FOLLOWS_PER_NODE_MAX)),
            })
        };
        let mut callees = self.callees.lock();
        Arc::clone(callees.get_or_insert(address.to_owned(), new))
    }

    /// The connection of a slot, opened if need be.
    async fn callee(&self, slot: &CalleeSlot, address: &str) -> Result<Arc<Connection>, String> {
        let mut current = slot.connection.lock().await;
        if let Some(connection) = current.as_ref().filter(|open| !open.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        *current = None;
        let opening = Connection::open(address, &self.tls, Purpose::Calls);
        let opened = timeout(CONNECT_TIMEOUT, opening).await;
        let opened = opened.unwrap_or_else(|_| Err("no connection in time".to_owned()))?;
        let connection = Arc::new(opened);
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }
}

/// The items of a follow stream. Ends after an error. Dropping it tells the other node.
pub struct Follow {
    /// `None` after the end.
    items: Option<Streaming<FollowItem>>,
    _connection: Arc<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Stream for Follow {
    type Item = Result<Bytes, FollowError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(items) = &mut self.items else {
            return Poll::Ready(None);
        };
        let item = std::task::ready!(Pin::new(items).poll_next(cx));
        if !matches!(item, Some(Ok(_))) {
            self.items = None;
        }
        Poll::Ready(item.map(|item| match item {
            Ok(item) => Ok(item.body),
            Err(status) => Err(FollowError(Failure::of(&status).into_text())),
        }))
    }
}
