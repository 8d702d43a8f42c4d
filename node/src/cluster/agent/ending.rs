//! How a node takes its leave of the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use antumbra_raft::Role;
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::cluster::keeper::hand_over;
use crate::cluster::state::{MetaCommand, MetaReply};

use super::Agent;

/// How long a gateway that stops tries to tell the cluster.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

impl Agent {
    /// Gives all leads to other nodes, within `deadline`.
    pub(crate) async fn hand_over(&self, deadline: Instant) {
        for running in self.replicas.values() {
            // Else a keeper could take the lead back. The twins go on following the role: what comes
            // back here before the end is served.
            running.stop_keeping.cancel();
        }
        let led = self.replicas.values().filter(|running| {
            let role = *running.shard.role().borrow();
            matches!(role, Role::Leader { .. })
        });
        let moves = led.map(|running| async {
            let moved = timeout_at(deadline, hand_over(&running.shard)).await;
            if moved != Ok(true) {
                warn!(shard = %running.shard.id(), "the lead could not be handed over");
            }
        });
        join_all(moves).await;
    }

    /// Stops the twins and lets go of all replicas.
    pub(crate) async fn stop(mut self, deadline: Instant) {
        if !self.office.info().storage {
            self.leave(deadline).await;
        }
        self.stop.cancel();
        self.tasks.close();
        for running in self.replicas.values() {
            let Some(data) = &running.data else { continue };
            if timeout_at(deadline, data.context.twins.stop())
                .await
                .is_err()
            {
                warn!(shard = %running.shard.id(), "twins were still busy");
            }
        }
        if timeout_at(deadline, self.tasks.wait()).await.is_err() {
            warn!("tasks were still running");
        }
        self.shadows.set_table(Vec::new(), BTreeMap::new());
        for running in std::mem::take(&mut self.replicas).into_values() {
            if let Some(data) = running.data {
                data.machine.detach();
            }
        }
    }

    /// Tells the cluster that this gateway goes, so that nobody waits for a sign of life from it.
    async fn leave(&self, deadline: Instant) {
        let info = self.office.info();
        let left = MetaCommand::Left {
            name: info.name.clone(),
            incarnation: info.incarnation,
        };
        let soon = deadline.min(Instant::now() + LEAVE_TIMEOUT);
        match self.office.propose(left, soon).await {
            Ok(MetaReply::Refused(why)) | Err(why) => warn!(why, "tell the cluster of the end"),
            Ok(_) => info!("left the cluster"),
        }
    }
}
