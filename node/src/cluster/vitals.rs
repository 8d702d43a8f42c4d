//! Looks again and again whether this node is in touch with its cluster, for the probes.

use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Host;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Vitals};

use super::bootstrap::number_of;
use super::control::{Answer, Request};
use super::office::Office;
use super::state::{Life, META_SHARD};

/// How often it is looked, and how long one look may take. A barrier costs a round trip.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Tells `health` what is found until `stop`. The node is in touch when this begins.
pub(crate) async fn look(
    office: Arc<Office>,
    host: Arc<Host>,
    health: Health,
    stop: CancellationToken,
) {
    office.hears(Instant::now());
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Noted before the question: the answer is no older than that.
        let begun = Instant::now();
        let heard = timeout(LOOK_INTERVAL, when_heard(&office, &host, begun)).await;
        if let Ok(Some(heard)) = heard {
            office.hears(heard);
        }
        let writing_for = host.writing_for();
        health.tell(Vitals {
            heard: office.heard(),
            is_drained: is_drained(&office),
            writing_since: writing_for.and_then(|waited| Instant::now().checked_sub(waited)),
        });
    }
}

/// When the leader of shard 0 was reached: now, if the replica here can pass a barrier, else as the first
/// node says that has one.
async fn when_heard(office: &Arc<Office>, host: &Host, now: Instant) -> Option<Instant> {
    if let Some(shard) = host.shard(META_SHARD) {
        return shard.barrier().await.ok().map(|_| now);
    }
    for address in office.peers() {
        let asked = office
            .ask(&address, &Request::Heard, LOOK_INTERVAL / 2)
            .await;
        if let Ok(Answer::Heard(Some(ago_ms))) = asked {
            return now.checked_sub(Duration::from_millis(ago_ms));
        }
    }
    None
}

fn is_drained(office: &Office) -> bool {
    let state = office.state().borrow().clone();
    state.is_some_and(|state| {
        number_of(&state, office.info()).is_some_and(|me| state.life(me) == Life::Draining)
    })
}
