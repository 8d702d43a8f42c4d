//! Closed-loop clients: each has one call in flight, and sends the next when it is answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::tally::{Done, Tally};

/// How long one call may take.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a client waits after a failed call.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the last answers are awaited after the time is up.
const GRACE: Duration = Duration::from_secs(20);

/// One client that makes one call after the other.
pub(crate) trait Caller: Send + 'static {
    /// Makes the next call. The error is a short reason.
    fn call(&mut self) -> impl Future<Output = Result<Done, String>> + Send;
}

/// Starts a client that calls until the time is up.
pub(crate) fn start(clients: &mut JoinSet<()>, tally: &Arc<Tally>, mut caller: impl Caller) {
    let tally = Arc::clone(tally);
    clients.spawn(async move {
        while !tally.over() {
            let sent = Instant::now();
            match caller.call().await {
                Ok(done) => tally.answered(sent, &done),
                Err(reason) => {
                    tally.failed(&reason);
                    sleep(PAUSE).await;
                }
            }
        }
    });
}

/// Waits until all clients have their last answer.
pub(crate) async fn finish(mut clients: JoinSet<()>, tally: &Tally) -> Result<()> {
    let end = tally.until + GRACE;
    loop {
        match timeout_at(end, clients.join_next()).await {
            Ok(Some(client)) => client.context("a client ended early")?,
            Ok(None) => return Ok(()),
            Err(_) => bail!("{} clients have no answer {GRACE:?} later", clients.len()),
        }
    }
}

/// How many connections clients use together: one to each node they talk to. More of them cost
/// both systems processor time and gain nothing.
pub(crate) fn connections(clients: usize, nodes: usize) -> usize {
    clients.min(nodes)
}

/// Opens `count` connections, in turn to each endpoint.
pub(crate) async fn connect(endpoints: &[String], count: usize) -> Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for endpoint in endpoints.iter().cycle().take(count) {
        let door = Endpoint::from_shared(endpoint.clone())?
            .connect_timeout(CALL_LIMIT)
            .timeout(CALL_LIMIT);
        let channel = door.connect().await;
        channels.push(channel.with_context(|| format!("connect {endpoint}"))?);
    }
    Ok(channels)
}

/// The reason of a failed call, or the name of its code.
pub(crate) fn reason(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) if !info.reason.is_empty() => info.reason,
        _ => format!("{:?}: {}", status.code(), status.message()),
    }
}
