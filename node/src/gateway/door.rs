//! What all connections of a gateway share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{Clock, ForwardHandler};
use antumbra_shadow::{DeviceKey, Draft, Limits, Outcome, Tenant};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::clock::Clocks;
use super::dialect::Dialects;
use super::dialect::aws::Aws;
use super::endings::Endings;
use super::hub::Hub;
use super::keeper::LIFE_V1;
use super::mqtt::session::SessionLimits;
use super::plain::Router;
use super::records::Records;
use super::registry::Registry;
use super::tenants::Tenants;
use super::unacknowledged::Unacknowledged;
use super::wills::Wills;
use crate::access::{Gate, Visitor};
use crate::error::Error;
use crate::shadows::{Caller, Shadows, Wanted};

/// How long a request of a device about a shadow may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a change whose outcome is unknown is repeated; then the connection is closed, so that the
/// device sends it again.
const REPEAT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between the repeats.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);

/// What a gateway needs of its node.
pub(crate) struct Wiring {
    pub(crate) node: String,
    pub(crate) shadows: Shadows,
    pub(crate) clock: Arc<dyn Clock>,
    /// Limits of a tenant without limits of its own.
    pub(crate) limits: Limits,
    pub(crate) session_limits: SessionLimits,
    /// Whether sessions that end with their connection have records: other nodes then know that a
    /// client is connected.
    pub(crate) presence: bool,
    /// CONNECT packets of one tenant each second; 0 for no limit.
    pub(crate) tenant_connects_max: u32,
    pub(crate) gate: Arc<Gate>,
    pub(crate) stop: CancellationToken,
}

/// A gateway.
pub(crate) struct Door {
    pub(crate) node: String,
    /// Names this process: a node that starts again is another one.
    pub(crate) boot: Uuid,
    pub(crate) shadows: Shadows,
    pub(crate) clocks: Clocks,
    limits: Limits,
    pub(crate) session_limits: Arc<SessionLimits>,
    pub(crate) dialects: Dialects,
    pub(crate) registry: Arc<Registry>,
    /// What this gateway wants to hear of.
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) records: Records,
    pub(crate) router: Arc<Router>,
    pub(crate) wills: Arc<Wills>,
    pub(crate) unacknowledged: Unacknowledged,
    pub(crate) endings: Arc<Endings>,
    pub(crate) presence: bool,
    pub(crate) gate: Arc<Gate>,
    pub(crate) tenants: Tenants,
    /// Whether the hub tells changes: before that a client would miss some.
    pub(crate) synced: watch::Sender<bool>,
}

/// Who is at the other end of a connection, as far as the link tells.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// What TLS tells of it.
    pub(crate) visitor: Visitor,
}

impl Door {
    /// A gateway that has no connections yet.
    pub(crate) fn new(wiring: Wiring) -> Arc<Door> {
        let Wiring {
            node,
            shadows,
            clock,
            limits,
            session_limits,
            presence,
            tenant_connects_max,
            gate,
            stop,
        } = wiring;
        let records = Records::new(shadows.clone());
        let wanted = Arc::new(Wanted::default());
        let registry = Arc::new(Registry::new(Arc::clone(&wanted)));
        let router = Router::new(Arc::clone(&registry), shadows.clone(), stop.clone());
        let router = Arc::new(router);
        Arc::new(Door {
            node,
            boot: Uuid::new_v4(),
            clocks: Clocks::new(clock),
            limits,
            session_limits: Arc::new(session_limits),
            dialects: Dialects::new(vec![Arc::new(Aws)]),
            wills: Wills::new(
                Arc::clone(&router),
                Arc::clone(&wanted),
                records.clone(),
                stop,
            ),
            records,
            unacknowledged: Unacknowledged::default(),
            endings: Arc::default(),
            router,
            registry,
            wanted,
            shadows,
            presence,
            gate,
            tenants: Tenants::new(tenant_connects_max),
            synced: watch::Sender::new(false),
        })
    }

    /// What shadows of a tenant may be.
    pub(crate) fn limits_of(&self, tenant: &Tenant) -> Limits {
        self.gate.limits(tenant, self.limits)
    }

    /// What tells the connections of changes.
    pub(crate) fn hub(&self) -> Hub {
        Hub {
            shadows: self.shadows.clone(),
            registry: Arc::clone(&self.registry),
            records: self.records.clone(),
            wills: Arc::clone(&self.wills),
            wanted: Arc::clone(&self.wanted),
            synced: self.synced.clone(),
        }
    }

    /// Carries out a change. One whose outcome is unknown is repeated, which does nothing twice
    /// because it has a request id. May be dropped midway; the change may then have been made or
    /// not.
    pub(crate) async fn change(
        &self,
        caller: &Caller,
        device: &DeviceKey,
        mut draft: Draft,
    ) -> Result<Outcome, Error> {
        let end = Instant::now() + REPEAT_TIMEOUT;
        let begun = self.clocks.time();
        let mut is_unknown = false;
        loop {
            let deadline = (Instant::now() + REQUEST_TIMEOUT).min(end);
            let outcome = self
                .shadows
                .update(caller, device, draft.clone(), deadline)
                .await;
            is_unknown |= matches!(outcome, Err(Error::OutcomeUnknown | Error::Deadline));
            match outcome {
                // That a repeat is refused says nothing about the first attempt.
                Err(_) if is_unknown => {}
                outcome => return outcome,
            }
            if Instant::now() >= end {
                return Err(Error::OutcomeUnknown);
            }
            draft.issued.get_or_insert(begun);
            sleep(REPEAT_PAUSE).await;
        }
    }
}

/// Takes the requests of other nodes: those for the gateway, and hands on the others.
pub(crate) struct Handler {
    pub(crate) door: Arc<Door>,
    pub(crate) next: Arc<dyn ForwardHandler>,
}

impl ForwardHandler for Handler {
    fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        if request.first() == Some(&LIFE_V1) {
            return Box::pin(async { Bytes::from_static(&[LIFE_V1]) });
        }
        if !Router::is_batch(&request) {
            return self.next.handle(request);
        }
        let taken = self.door.router.receive(request);
        Box::pin(async move { Bytes::copy_from_slice(&[u8::from(taken)]) })
    }
}
