//! Desired states over gRPC, at a fixed rate.

use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::v1::shadows_client::ShadowsClient;
use antumbra_proto::v1::{ShadowKey, UpdateShadowRequest};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tonic::Request;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::cli::bench::tally::Tally;
use crate::cli::connect::{self, Dialer, Shown};
use crate::cli::problem::Problem;

use super::clock;

/// Updates that wait for their answer at one time.
const IN_FLIGHT_MAX: u32 = 4_096;
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Devices, which are updated in turn.
    pub(super) devices: u64,
    /// Start of their ids.
    pub(super) prefix: String,
    /// Named shadow, or nothing.
    pub(super) shadow: String,
    /// Tenant of the devices.
    pub(super) tenant: String,
    /// Token to show, if there is one.
    pub(super) token: Option<Shown>,
    /// Updates in a second.
    pub(super) rate: u32,
    /// For how long.
    pub(super) seconds: u64,
}

impl Load {
    fn update(&self, nth: u64) -> UpdateShadowRequest {
        UpdateShadowRequest {
            key: Some(ShadowKey {
                tenant: self.tenant.clone(),
                device_id: super::device(&self.prefix, nth % self.devices + 1),
                shadow_name: self.shadow.clone(),
            }),
            desired_json: Some(clock::stamp(clock::now_us())),
            ..<_>::default()
        }
    }
}

/// A connection to each gRPC door.
pub(super) async fn open(
    endpoints: &[String],
    dialer: &Dialer,
) -> Result<Vec<ShadowsClient<Channel>>, Problem> {
    let mut clients = Vec::new();
    for endpoint in endpoints {
        clients.push(connect::open(endpoint, dialer).await?);
    }
    Ok(clients)
}

/// Sends the load and awaits its answers. A server that is too slow lowers the rate.
pub(super) async fn run(load: Load, clients: Vec<ShadowsClient<Channel>>) -> Tally {
    let load = Arc::new(load);
    let tally = Arc::new(Mutex::new(Tally::new()));
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize));
    let pause = Duration::from_secs(1) / load.rate;
    let until = Instant::now() + Duration::from_secs(load.seconds);
    let mut next_at = Instant::now();
    for (nth, client) in (0..).zip(clients.iter().cycle()) {
        sleep_until(next_at).await;
        next_at += pause;
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        if Instant::now() >= until {
            break;
        }
        let (load, tally, mut client) = (load.clone(), tally.clone(), client.clone());
        tokio::spawn(async move {
            let mut request = Request::new(load.update(nth));
            connect::show(&mut request, load.token.as_ref());
            request.set_timeout(TIMEOUT);
            let begun = Instant::now();
            match client.update_shadow(request).await {
                Ok(_) => tally.lock().accepted(begun.elapsed()),
                Err(status) => {
                    let info = status.get_details_error_info();
                    let reason = info
                        .map(|info| info.reason)
                        .filter(|reason| !reason.is_empty());
                    let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()));
                    tally.lock().failed(&reason);
                }
            }
            drop(slot);
        });
    }
    let _ = slots.acquire_many(IN_FLIGHT_MAX).await;
    let mut all = Tally::new();
    all.add(&tally.lock());
    all
}
