//! How a stopping node sends its clients to other nodes: one after another, so that those who take them in
//! are not overrun.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::door::Door;
use super::mqtt::session::ServerCause;
use super::slot::Note;

/// Clients are told in batches, this long apart at least.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// How long clients may take to be gone after the last was told.
const LINGER: Duration = Duration::from_secs(3);

/// The clients of a node, and how fast they may be sent away.
pub(crate) struct Devices {
    pub(crate) door: Arc<Door>,
    pub(crate) per_second: u32,
}

impl Devices {
    /// Tells every client to use another server (0x9C; before MQTT 5 its connection is closed), and returns when
    /// all are gone or have had their time. Nobody is told when there is no other node. No more clients
    /// may be let in meanwhile. May be dropped midway.
    pub(crate) async fn evacuate(&self) {
        let registry = &self.door.registry;
        let mut slots = registry.slots();
        if slots.is_empty() || self.door.shadows.other_nodes().is_empty() {
            return;
        }
        let begun = Instant::now();
        let (batch, pause) = pace(self.per_second);
        let batches = u32::try_from(slots.len().div_ceil(batch)).unwrap_or(u32::MAX);
        let end = begun + pause.saturating_mul(batches) + LINGER;
        let clients = slots.len();
        info!(clients, "clients are sent to other nodes");
        // Whoever was still on its way in comes later.
        while !slots.is_empty() {
            for told in slots.chunks(batch) {
                if Instant::now() >= end {
                    warn!(left = registry.slots().len(), "clients are still connected");
                    return;
                }
                let note = Note::Close(ServerCause::UseAnotherServer);
                told.iter().for_each(|slot| slot.tell(note.clone()));
                sleep(pause).await;
            }
            slots = registry.slots();
        }
        let seconds = begun.elapsed().as_secs();
        info!(clients, seconds, "clients were sent to other nodes");
    }
}

/// How many are told at once, and the pause before the next.
fn pace(per_second: u32) -> (usize, Duration) {
    let second = Duration::from_secs(1);
    let pause = (second / per_second.max(1)).max(PAUSE_MIN);
    let batch = u64::from(per_second) * pause.as_millis() as u64 / 1_000;
    (usize::try_from(batch.max(1)).unwrap_or(1), pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_make_the_rate() {
        let milliseconds = Duration::from_millis;
        assert_eq!(pace(1), (1, milliseconds(1_000)));
        assert_eq!(pace(4), (1, milliseconds(250)));
        assert_eq!(pace(10), (1, milliseconds(100)));
        assert_eq!(pace(500), (50, milliseconds(100)));
        assert_eq!(pace(100_000), (10_000, milliseconds(100)));
    }
}
