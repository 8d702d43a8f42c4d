//! The end of a node: the steps of [`crate::boot`] backwards, with a deadline for what clients and
//! peers may hold up. The data are closed in any case.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Host;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::boot::Error;
use crate::cluster::agent::Agent;
use crate::cluster::office::Office;
use crate::cluster::vitals;
use crate::config::Node;
use crate::gateway::Devices;
use crate::health::{Health, Phase};
use crate::identity::DataDirectory;

/// Kept for what comes after the doors.
const STEPS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the handing over of leads may take.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(4);

/// What a running node holds, in the order in which it was taken.
pub(crate) struct Running {
    /// Released last: until then no other process opens the directory.
    pub(crate) directory: Arc<DataDirectory>,
    pub(crate) host: Arc<Host>,
    pub(crate) office: Arc<Office>,
    pub(crate) manager: Option<Manager>,
    pub(crate) peers: TaskTracker,
    pub(crate) stop_peers: CancellationToken,
    pub(crate) stop_watches: CancellationToken,
    pub(crate) doors: TaskTracker,
    pub(crate) stop_doors: CancellationToken,
    /// Set once devices come in.
    pub(crate) devices: Option<Devices>,
    /// No more devices are let in.
    pub(crate) stop_devices: CancellationToken,
    pub(crate) health: Health,
    timeout: Duration,
    /// How long everything goes on after the probes have said that the node stops.
    delay: Duration,
}

impl Running {
    pub(crate) fn new(
        directory: Arc<DataDirectory>,
        host: Arc<Host>,
        office: Arc<Office>,
        config: &Node,
        health: Health,
    ) -> Running {
        Running {
            directory,
            host,
            office,
            manager: None,
            peers: TaskTracker::new(),
            stop_peers: CancellationToken::new(),
            stop_watches: CancellationToken::new(),
            doors: TaskTracker::new(),
            stop_doors: CancellationToken::new(),
            devices: None,
            stop_devices: CancellationToken::new(),
            health,
            timeout: config.shutdown_timeout,
            delay: config.stop_delay,
        }
    }

    /// Resolves when the node cannot take part in its cluster any more.
    pub(crate) async fn manager_failed(&mut self) -> Error {
        match &mut self.manager {
            Some(manager) => manager.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Has it looked again and again whether the node is in touch with its cluster.
    pub(crate) fn look_after(&self, office: &Arc<Office>) {
        self.doors.spawn(vitals::look(
            Arc::clone(office),
            Arc::clone(&self.host),
            self.health.clone(),
            self.stop_watches.clone(),
        ));
    }

    /// Gives everything back.
    pub(crate) async fn shutdown(self) -> Result<(), Error> {
        let has_served = self.health.phase() == Phase::Serving;
        self.health.enter(Phase::Stopping);
        // Whoever looks at the probes sends no more clients.
        if has_served {
            sleep(self.delay).await;
        }

        // 6. Other nodes lead what this one led, while its doors still forward what comes in.
        if let Some(manager) = &self.manager {
            let soon = Instant::now() + self.timeout.min(HAND_OVER_TIMEOUT);
            manager.order(Order::HandOver, soon).await;
        }

        // 7. Devices go to other nodes, at a rate that those can take.
        self.stop_devices.cancel();
        if let Some(devices) = self.devices.filter(|_| has_served) {
            devices.evacuate().await;
        }

        // 4. The doors take nothing new and finish what they have; watches end.
        let deadline = Instant::now() + self.timeout;
        self.stop_watches.cancel();
        self.stop_doors.cancel();
        self.doors.close();
        // Whoever does not finish must not take the time of the steps that follow.
        let doors_deadline = deadline - STEPS_TIMEOUT.min(self.timeout / 2);
        if timeout_at(doors_deadline, self.doors.wait()).await.is_err() {
            warn!("requests were still in flight");
        }
        // 6. What came to be led here meanwhile goes too.
        if let Some(manager) = &self.manager {
            let soon = deadline.min(Instant::now() + STEPS_TIMEOUT);
            manager.order(Order::HandOver, soon).await;
        }

        // 6. Nobody trims or leads any more, and the twins are gone.
        if let Some(manager) = self.manager {
            manager.order(Order::Stop, deadline).await;
            let _ = timeout_at(deadline, manager.task).await;
        }
        // 5. Other nodes are not answered any more.
        self.office.close();
        self.stop_peers.cancel();
        self.peers.close();
        if timeout_at(deadline, self.peers.wait()).await.is_err() {
            warn!("other nodes were still being answered");
        }

        // 3. The replicas stop; the stores are flushed and closed.
        let closed = self.host.shutdown().await.map_err(Error::from);

        // 2. The directory is free for the next process.
        drop(self.office);
        drop(self.directory);
        info!("node stopped");
        closed
    }
}

/// The task that owns the agent.
pub(crate) struct Manager {
    orders: mpsc::Sender<(Order, Instant, oneshot::Sender<()>)>,
    failure: watch::Receiver<Option<Error>>,
    task: JoinHandle<()>,
}

/// What the agent is told at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    HandOver,
    Stop,
}

impl Manager {
    pub(crate) fn start(agent: Agent) -> Manager {
        let (orders, receiver) = mpsc::channel(2);
        let (failed, failure) = watch::channel(None);
        Manager {
            orders,
            failure,
            task: tokio::spawn(manage(agent, receiver, failed)),
        }
    }

    pub(crate) async fn failed(&mut self) -> Error {
        match self.failure.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone().unwrap_or(Error::Panicked),
            Err(_) => Error::Panicked,
        }
    }

    async fn order(&self, order: Order, deadline: Instant) {
        let (done, carried_out) = oneshot::channel();
        if self.orders.send((order, deadline, done)).await.is_ok() {
            // The agent keeps the deadline by itself; a panic of it ends the wait.
            let _ = carried_out.await;
        }
    }
}

async fn manage(
    mut agent: Agent,
    mut orders: mpsc::Receiver<(Order, Instant, oneshot::Sender<()>)>,
    failed: watch::Sender<Option<Error>>,
) {
    loop {
        let order = tokio::select! {
            biased;
            order = orders.recv() => order,
            error = agent.run(), if failed.borrow().is_none() => {
                failed.send_replace(Some(error));
                continue;
            }
        };
        match order {
            Some((Order::HandOver, deadline, done)) => {
                agent.hand_over(deadline).await;
                let _ = done.send(());
            }
            Some((Order::Stop, deadline, done)) => {
                agent.stop(deadline).await;
                let _ = done.send(());
                return;
            }
            None => return,
        }
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
