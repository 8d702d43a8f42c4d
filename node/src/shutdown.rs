//! The end of a node: the steps of [`crate::boot`] backwards, with a deadline for what clients and
//! peers may hold up. The data are closed in any case.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Host;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::boot::Error;
use crate::health::{Health, Phase};
use crate::identity::DataDirectory;
use crate::shadows::{ShadowMachine, ShardContext};

/// What a running node holds, in the order in which it was taken.
pub(crate) struct Running {
    /// Released last: until then no other process opens the directory.
    pub(crate) directory: Arc<DataDirectory>,
    /// Shared only with the start of the shards.
    pub(crate) host: Arc<Host<ShadowMachine>>,
    pub(crate) machines: Vec<Arc<ShadowMachine>>,
    pub(crate) contexts: Vec<ShardContext>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop_tasks: CancellationToken,
    pub(crate) stop_watches: CancellationToken,
    pub(crate) doors: TaskTracker,
    pub(crate) stop_doors: CancellationToken,
    pub(crate) health: Health,
    timeout: Duration,
}

impl Running {
    pub(crate) fn new(
        directory: DataDirectory,
        host: Host<ShadowMachine>,
        timeout: Duration,
        health: Health,
    ) -> Running {
        Running {
            directory: Arc::new(directory),
            host: Arc::new(host),
            machines: Vec::new(),
            contexts: Vec::new(),
            tasks: TaskTracker::new(),
            stop_tasks: CancellationToken::new(),
            stop_watches: CancellationToken::new(),
            doors: TaskTracker::new(),
            stop_doors: CancellationToken::new(),
            health,
            timeout,
        }
    }

    /// Gives everything back.
    pub(crate) async fn shutdown(self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        self.health.enter(Phase::Stopping);

        // 8. The doors take nothing new and finish what they have; watches end.
        self.stop_watches.cancel();
        self.stop_doors.cancel();
        self.doors.close();
        if timeout_at(deadline, self.doors.wait()).await.is_err() {
            warn!("requests were still in flight");
        }

        // 7. and 6. Nobody trims or leads any more, and the twins are gone.
        self.stop_tasks.cancel();
        self.tasks.close();
        for context in &self.contexts {
            if timeout_at(deadline, context.twins.stop()).await.is_err() {
                warn!(shard = %context.shard.id(), "twins were still busy");
            }
        }
        if timeout_at(deadline, self.tasks.wait()).await.is_err() {
            warn!("tasks were still running");
        }

        // 4. The replicas stop, 3. the stores are flushed and closed.
        for machine in &self.machines {
            machine.detach();
        }
        drop(self.contexts);
        drop(self.machines);
        let closed = match Arc::into_inner(self.host) {
            Some(host) => host.shutdown().await.map_err(Error::from),
            // A start of a shard that was given up holds it still; it ends as after a crash.
            None => Err(Error::Panicked),
        };

        // 2. The directory is free for the next process.
        drop(self.directory);
        info!("node stopped");
        closed
    }
}

/// Resolves at the first SIGTERM or SIGINT. From then on a second one ends the process at once.
pub async fn requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        warn!("second signal: quit at once");
        std::process::exit(SECOND_SIGNAL_EXIT);
    });
    Ok(())
}

/// 128 + SIGINT, as shells report it.
const SECOND_SIGNAL_EXIT: i32 = 130;
