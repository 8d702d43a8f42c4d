//! TLS of the doors: our certificate, and the authorities whose clients may come in with theirs.
//!
//! The files are read again when they change, see [`crate::reload`]. Connections that are open keep
//! what they have; every new one uses the newest.
//!
//! Nobody who shakes hands slowly is in the way of others: a handshake that waits for its client
//! holds nothing but its own connection, and that for five seconds at most.

mod material;
pub(crate) mod pem;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{pending, poll};
use metrics::{counter, describe_counter};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::access::{Shown, Visitor};
use crate::reload::Reload;

use material::Material;

pub use pem::PemError;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes that did not come to an end; label `door`.
const HANDSHAKES_FAILED_TOTAL: &str = "antumbra_tls_handshakes_failed_total";

/// Says what the metrics of this module mean.
pub(crate) fn describe_metrics() {
    describe_counter!(
        HANDSHAKES_FAILED_TOTAL,
        "TLS handshakes that did not come to an end, by door"
    );
    for door in [Door::Grpc, Door::Http, Door::Mqtt] {
        counter!(HANDSHAKES_FAILED_TOTAL, "door" => door.label()).increment(0);
    }
}

/// Where the certificates of a door are: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that clients see, followed by the intermediate ones if there are any.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign clients; without it no client shows a certificate.
    pub client_authority: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is of no use.
    #[error(transparent)]
    File(#[from] PemError),
    /// The certificate and the key do not fit, or an authority is none.
    #[error("{path} cannot be used: {reason}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// A door that may have TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// gRPC.
    Grpc,
    /// HTTP.
    Http,
    /// MQTT.
    Mqtt,
}

impl Door {
    /// What it speaks, as clients name it in the handshake (RFC 7301). A client that names nothing
    /// is taken, too.
    fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Door::Grpc => &[b"h2"],
            Door::Http => &[b"h2", b"http/1.1"],
            // What clients of AWS IoT, of other brokers, and of proxies offer.
            Door::Mqtt => &[b"x-amzn-mqtt-ca", b"mqtt", b"http/1.1"],
        }
    }

    /// What its files are called in the log.
    fn certificates(self) -> &'static str {
        match self {
            Door::Grpc => "certificates of the gRPC door",
            Door::Http => "certificates of the HTTP door",
            Door::Mqtt => "certificates of the MQTT door",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Door::Grpc => "grpc",
            Door::Http => "http",
            Door::Mqtt => "mqtt",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Door::Grpc => "gRPC",
            Door::Http => "HTTP",
            Door::Mqtt => "MQTT",
        })
    }
}

/// Makes TLS connections of plain ones. Cloning shares the certificates.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    door: Door,
    files: TlsFiles,
    current: ArcSwap<Material>,
    /// One reload at a time, so that an older state of the files never replaces a newer one.
    reloading: Mutex<()>,
    /// Handshakes that compute: each step takes a third of a millisecond of a core.
    computing: Semaphore,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("door", &self.door)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// A connection whose handshake is done.
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream<TcpStream>,
    /// What the handshake told of the client.
    pub(crate) visitor: Visitor,
}

impl Accepted {
    /// Whether the client chose HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl Tls {
    /// Reads the files. Blocks while it does.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or they do not fit together.
    pub fn open(door: Door, files: TlsFiles) -> Result<Tls, TlsError> {
        let current = Material::load(&files, door.protocols())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Tls(Arc::new(Inner {
            door,
            files,
            current: ArcSwap::from_pointee(current),
            reloading: Mutex::new(()),
            computing: Semaphore::new(cores),
        })))
    }

    /// Shakes hands. `None` when the client is none of ours, or too slow.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<Accepted> {
        let material = self.0.current.load_full();
        let handshake = TlsAcceptor::from(Arc::clone(&material.server)).accept(stream);
        let handshake = by_turns(&self.0.computing, handshake);
        let failed = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => {
                let visitor = visitor(&stream, &material);
                return Some(Accepted { stream, visitor });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "too slow".to_owned(),
        };
        let door = self.0.door.label();
        debug!(door, error = failed, "no TLS handshake");
        counter!(HANDSHAKES_FAILED_TOTAL, "door" => door).increment(1);
        None
    }
}

impl Reload for Tls {
    type Error = TlsError;

    fn name(&self) -> &'static str {
        self.0.door.certificates()
    }

    fn reload(&self) -> Result<bool, TlsError> {
        let _one_at_a_time = self.0.reloading.lock();
        let current = self.0.current.load_full();
        let reloaded = current.reload(&self.0.files, self.0.door.protocols())?;
        let changed = reloaded.is_some();
        if let Some(material) = reloaded {
            self.0.current.store(Arc::new(material));
        }
        Ok(changed)
    }

    fn seconds_left(&self) -> Option<u64> {
        Some(self.0.current.load().seconds_left())
    }
}

fn visitor(stream: &TlsStream<TcpStream>, material: &Material) -> Visitor {
    let Some(authorities) = &material.authorities else {
        return Visitor::default();
    };
    let chain = stream.get_ref().1.peer_certificates();
    let chain = chain.map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect());
    Visitor {
        shown: chain.map(|chain| Arc::new(Shown::new(chain, Arc::clone(authorities)))),
        must_prove: true,
    }
}

/// Runs `work` so that no more of its kind compute at one time than there are turns. A turn is held
/// while there is something to do, never while something is waited for: a storm of handshakes cannot
/// keep the threads from everything else, and handshakes that stand still keep nobody from anything.
async fn by_turns<W: Future>(turns: &Semaphore, work: W) -> W::Output {
    let mut work = pin!(work);
    loop {
        let turn = turns.acquire().await;
        let polled = poll!(work.as_mut());
        drop(turn);
        match polled {
            Poll::Ready(output) => return output,
            // Whatever wakes the work wakes this, too.
            Poll::Pending => pending!(),
        }
    }
}

#[cfg(test)]
mod tests;
