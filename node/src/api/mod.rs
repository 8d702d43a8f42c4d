//! The gRPC door: `antumbra.v1.Shadows`, `antumbra.cluster.v1.Cluster`, `antumbra.admin.v1.Admin`,
//! health, and reflection.
//!
//! Every call has a deadline, every message and stream a limit. What a caller is told when a call
//! fails comes from [`crate::error`] alone.

mod access;
mod admin;
mod batch;
mod calls;
mod cluster;
mod convert;
mod deadline;
mod list;
mod service;
mod single;
mod stream;
mod watch;

pub(crate) use access::bearer;
pub use calls::Calls;

use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::admin::v1::admin_server::{self, AdminServer};
use antumbra_proto::cluster::v1::cluster_server::{self, ClusterServer};
use antumbra_proto::v1::shadows_server::{self, ShadowsServer};
use antumbra_shadow::Limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::access::Gate;
use crate::cluster::Office;
use crate::health::{Health, Phase};
use crate::http::connections::{self, Protocol};
use crate::shadows::{Caller, Shadows};
use crate::tls::Tls;

/// Most gRPC connections at one time.
const CONNECTIONS_MAX: usize = 4096;

/// How often it is looked whether the node is still ready.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// What the gRPC door needs. Cloning shares it.
#[derive(Clone)]
pub struct Door {
    /// The use cases.
    pub shadows: Shadows,
    /// What this node knows of its cluster.
    pub cluster: Arc<Office>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// Who calls: at first whoever shows nothing where the door is open, then who the call is from.
    pub caller: Arc<Caller>,
    /// The limits of the default tenant.
    pub limits: Limits,
    /// Whether the node serves.
    pub health: Health,
    /// Deadline of a call that brings none.
    pub default_deadline: Duration,
    /// Largest request message.
    pub message_bytes_max: usize,
    /// Updates of one update stream that may be held.
    pub stream_updates_max: usize,
}

/// What is around every call.
#[derive(Debug, Clone, Copy)]
struct Settings {
    default_deadline: Duration,
}

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("build the reflection service: {0}")]
pub struct BuildError(#[from] tonic_reflection::server::Error);

/// Every service of this door.
pub fn calls(door: Door) -> Result<Calls, BuildError> {
    let settings = Settings {
        default_deadline: door.default_deadline,
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(report(reporter, door.health.clone()));

    let message_bytes_max = door.message_bytes_max;
    let judge = access::Judge {
        gate: Arc::clone(&door.gate),
        anyone: Arc::clone(&door.caller),
    };
    let cluster = ClusterServer::new(cluster::Service { door: door.clone() });
    let admin = AdminServer::new(admin::Service { door: door.clone() });
    let shadows =
        ShadowsServer::new(service::Service { door }).max_decoding_message_size(message_bytes_max);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(antumbra_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let others = Routes::new(cluster)
        .add_service(admin)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let others = others.into_axum_router();
    Ok(Calls::new(settings, judge, shadows, others))
}

/// Serves the door until `shutdown`, then lets calls in flight finish. Dropping the future closes
/// every connection. With `tls` nothing else is spoken.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) -> Result<(), BuildError> {
    let settings = connections::Settings {
        protocol: Protocol::Http2,
        tls,
        connections_max: CONNECTIONS_MAX,
    };
    connections::serve(listener, calls(door)?, settings, shutdown).await;
    Ok(())
}

/// Tells the health service what the node says, for as long as anybody may ask.
async fn report(reporter: HealthReporter, health: Health) {
    let mut phases = health.watch();
    loop {
        let phase = *phases.borrow_and_update();
        let status = match health.is_ready() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        let services = [
            shadows_server::SERVICE_NAME,
            cluster_server::SERVICE_NAME,
            admin_server::SERVICE_NAME,
        ];
        for service in [""].into_iter().chain(services) {
            reporter.set_service_status(service, status).await;
        }
        // The last phases are final; the reporter keeps what it was told.
        if phase >= Phase::Stopping {
            return;
        }
        tokio::select! {
            biased;
            changed = phases.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}
