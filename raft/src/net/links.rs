//! All links of a node, and the rate at which it sends snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::types::Node;

use super::link::{CallError, Link};
use super::{Body, ForwardError, Lane, Refusal, Route, Transport};

/// One link for each lane to each node that was ever asked something.
pub(crate) struct Links {
    transport: Arc<dyn Transport>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// By the name of the node, in the order of [`Lane::ALL`].
    links: Mutex<BTreeMap<String, [Arc<Link>; Lane::ALL.len()]>>,
    /// Shared by all snapshots that this node sends.
    pub(super) snapshot_rate: Rate,
}

impl Links {
    /// Connections end when `stop` is cancelled; their tasks belong to `tasks`.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        snapshot_bytes_per_second: u64,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Links {
        Links {
            transport,
            tasks,
            stop,
            links: Mutex::new(BTreeMap::new()),
            snapshot_rate: Rate::new(snapshot_bytes_per_second),
        }
    }

    /// The link to a node. Does not connect.
    pub(crate) fn link(&self, node: &Node, lane: Lane) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(lanes) = links.get(&node.name) {
            let link = &lanes[lane as usize];
            link.update(node);
            return Arc::clone(link);
        }
        let lanes = Lane::ALL.map(|lane| {
            let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
            Link::new(node.clone(), lane, Arc::clone(&self.transport), tasks, stop)
        });
        let link = Arc::clone(&lanes[lane as usize]);
        links.insert(node.name.clone(), lanes);
        link
    }

    /// One request to the handler of another node.
    pub(crate) async fn forward(
        &self,
        node: &Node,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, ForwardError> {
        let link = self.link(node, Lane::Forward);
        let asked = link.call(Route::default(), Body::Forward(request), timeout);
        match asked.await {
            Ok(Body::Forwarded(answer)) => Ok(answer),
            Ok(Body::Refused(Refusal::NoHandler | Refusal::Overloaded))
            | Err(CallError::NotSent) => Err(ForwardError::NotSent),
            Ok(_) | Err(CallError::Lost | CallError::TimedOut) => Err(ForwardError::Unknown),
        }
    }
}

/// Lets so many bytes pass in a second, one sender after another.
pub(super) struct Rate {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Rate {
    fn new(bytes_per_second: u64) -> Rate {
        Rate {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::new(None),
        }
    }

    /// Waits until `bytes` may be sent. A future that is dropped midway has used up its share.
    pub(super) async fn wait(&self, bytes: usize) {
        let now = Instant::now();
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let begin = {
            let mut free_at = self.free_at.lock();
            let begin = free_at.map_or(now, |free_at| free_at.max(now));
            *free_at = Some(begin + takes);
            begin
        };
        if begin > now {
            tokio::time::sleep_until(begin).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many snapshots are sent at once, the node keeps to its rate.
    #[tokio::test]
    async fn senders_share_the_rate() {
        let rate = Rate::new(100_000);
        let begun = Instant::now();
        let sender = async || {
            for _ in 0..5 {
                rate.wait(1000).await;
            }
        };
        tokio::join!(sender(), sender());
        rate.wait(0).await;
        assert!(begun.elapsed() >= Duration::from_millis(99));
    }
}
