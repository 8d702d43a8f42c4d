//! Why a node does not run.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::{identity, kubernetes, peer, tls};

use super::access::AccessError;

/// Why a node did not start, or had to stop.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} ({door}): {source}. \
         Stop what uses the port, or choose another address"
    )]
    Listen {
        /// Which door.
        door: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why not.
        source: Arc<std::io::Error>,
    },
    /// The data directory is refused.
    #[error(transparent)]
    Identity(Arc<identity::Error>),
    /// The engine does not open its stores or has met damage.
    #[error(transparent)]
    Engine(Arc<antumbra_raft::Error>),
    /// A certificate or key cannot be used.
    #[error("certificates of the peer link: {0}. `antumbra cert` makes new ones")]
    Tls(Arc<peer::TlsError>),
    /// A certificate or key of a door cannot be used.
    #[error("certificates of the {0} door: {1}")]
    DoorTls(tls::Door, Arc<tls::TlsError>),
    /// The access rules cannot be put into force.
    #[error("who may come in: {0}")]
    Access(Arc<AccessError>),
    /// The node should be a pod of a StatefulSet and is none.
    #[error("`cluster.membership` is `kubernetes`: {0}")]
    Kubernetes(Arc<kubernetes::Error>),
    /// Another data directory took this node's name over.
    #[error(
        "another data directory has joined the cluster under this node's name. This one is not needed \
         any more: set it aside and start with an empty one, or give the node another name"
    )]
    Replaced,
    /// The node has left the cluster for good.
    #[error(
        "this node has left the cluster and keeps nothing any more. Started again, it sets its data \
         directory aside and joins anew"
    )]
    Left,
    /// A bug of ours.
    #[error("a task of the node panicked. Please report it with the log")]
    Panicked,
}

impl Error {
    /// Stable name of the kind of error, as `docs/errors.md` lists it.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Listen { .. } => "LISTEN",
            Error::Identity(error) => error.code(),
            Error::Engine(error) => error.code(),
            Error::Tls(_) => "TLS",
            Error::DoorTls(tls::Door::Grpc, _) => "GRPC_TLS",
            Error::DoorTls(tls::Door::Http, _) => "HTTP_TLS",
            Error::DoorTls(tls::Door::Mqtt, _) => "MQTT_TLS",
            Error::Access(_) => "ACCESS",
            Error::Kubernetes(_) => "KUBERNETES",
            Error::Replaced => "NODE_REPLACED",
            Error::Left => "NODE_LEFT",
            Error::Panicked => "PANICKED",
        }
    }

    /// Whether stored data are damaged or missing.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Identity(error) => matches!(
                **error,
                identity::Error::Damaged { .. } | identity::Error::Missing { .. }
            ),
            Error::Engine(error) => error.is_damage(),
            Error::Listen { .. }
            | Error::Tls(_)
            | Error::DoorTls(..)
            | Error::Access(_)
            | Error::Kubernetes(_)
            | Error::Replaced
            | Error::Left
            | Error::Panicked => false,
        }
    }
}

impl From<identity::Error> for Error {
    fn from(error: identity::Error) -> Error {
        Error::Identity(Arc::new(error))
    }
}

impl From<antumbra_raft::Error> for Error {
    fn from(error: antumbra_raft::Error) -> Error {
        Error::Engine(Arc::new(error))
    }
}
