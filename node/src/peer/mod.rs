//! The link between the nodes of a cluster: gRPC streams over HTTP/2, with TLS both ways where
//! certificates are given.
//!
//! # Map
//! - [`PeerTransport`]: the way out: lanes for the engine, control and follow calls for the cluster.
//! - [`serve`]: the way in; a [`PeerHandler`] gets what others send.
//! - [`Me`], [`Directory`]: who this node is, and where the others are.
//! - [`Tls`]: certificates, read again when their files change.
//! - `handshake`: what two nodes tell each other first, and when they refuse.
//! - `link`: between a stream and the [`Duplex`] of the engine.
//!
//! # Guarantees
//! - A link leads to the node that was named, of this cluster, or there is none: both sides check
//!   name, cluster and version, and with TLS that the certificate says the same.
//! - One connection per node and lane: no lane waits for the bytes of another one. Control and
//!   follow calls share one more, on which no slow reader can hold up the others.
//! - A node that vanished is noticed within [`SILENCE_MAX`], on both sides.
//! - Frames arrive whole and in order. Every queue is bounded; a slow reader slows the sender down.
//!
//! Knows nothing of what is sent.

mod connection;
mod handshake;
mod inbox;
mod limits;
mod link;
mod me;
mod serve;
mod service;
mod tls;
mod transport;

use antumbra_raft::{Duplex, Lane};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use handshake::LINK_VERSION;
pub use limits::{CONNECT_TIMEOUT, FRAME_BYTES_MAX, SILENCE_MAX};
pub use me::{Directory, Me};
pub use serve::serve;
pub use tls::{CertificateName, Certificates, Holder, NameError, Tls, TlsError, TlsFiles};
pub use transport::{ControlError, Follow, FollowError, PeerTransport};

/// Gets what other nodes send. All methods return at once; what takes time is in the future or the
/// stream.
pub trait PeerHandler: Send + Sync + 'static {
    /// Node `from` opened a link. It is served until one side drops its [`Duplex`]. An older link of
    /// the same node and lane has been ended before.
    fn link(&self, lane: Lane, from: String, connection: Duplex);

    /// Answers one request; the error is told to the caller as [`ControlError::Refused`]. Runs to
    /// its end, also when the caller does not wait any more.
    fn control(&self, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Answers one request with many items, the last of which may be an error. Dropped when the
    /// caller goes away; not polled while the caller is slow.
    fn follow(&self, body: Bytes) -> BoxStream<'static, Result<Bytes, String>>;
}
