//! Making room: which twins stop because others need their place or because nobody uses them.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use crate::port::ShardPort;
use crate::twin::roster::{Roster, Seats};

/// Twins that one hold of the lock looks at or stops at most, so that no command is delayed long.
const SWEEP_BATCH: usize = 512;

impl<P: ShardPort> Roster<P> {
    /// Stops the least recently used idle twin if one more would be too many. False when none is
    /// idle among the oldest.
    pub(super) fn make_room(&self, seats: &mut Seats) -> bool {
        let is_full = |seats: &Seats| seats.by_device.len() >= self.config.live_max.max(1);
        for _ in 0..seats.by_device.len().min(SWEEP_BATCH) {
            if !is_full(seats) {
                break;
            }
            self.evict_oldest(seats);
        }
        !is_full(seats)
    }

    /// Stops idle twins, least recently used first, when a document has found no room, until an
    /// eighth of the budget is free or the batch is used up.
    pub(super) fn make_room_for_documents(&self, seats: &mut Seats) {
        if !self.budget.take_refused() {
            return;
        }
        let wanted = self.budget.bytes_max() / 8;
        let mut freed = 0;
        for _ in 0..seats.by_device.len().min(SWEEP_BATCH) {
            if freed >= wanted {
                break;
            }
            freed += self.evict_oldest(seats);
        }
    }

    /// Stops the least recently used twin and gives the bytes it cached; a busy one is in use, so
    /// it becomes the most recently used instead.
    fn evict_oldest(&self, seats: &mut Seats) -> usize {
        let Some((device, mut seat)) = seats.by_device.pop_lru() else {
            return 0;
        };
        if seat.vitals.is_busy() {
            seat.used = Instant::now();
            seats.by_device.put(device, seat);
            return 0;
        }
        self.metrics.evictions.increment(1);
        seat.twin.stop(None);
        seat.vitals.cached_bytes.load(Ordering::Acquire)
    }

    /// Stops what was idle for long enough. Gives whether there is more to do now, later or never.
    fn sweep_once(&self, now: Instant) -> Sweep {
        let mut seats = self.seats.lock();
        for _ in 0..SWEEP_BATCH {
            let oldest = seats.by_device.peek_lru();
            let Some((_, seat)) = oldest else {
                seats.by_device = LruCache::unbounded();
                seats.is_sweeping = false;
                return Sweep::Ended;
            };
            if now.saturating_duration_since(seat.used) < self.config.idle_stop {
                self.make_room_for_documents(&mut seats);
                return Sweep::Waits;
            }
            if let Some((device, mut seat)) = seats.by_device.pop_lru() {
                if seat.vitals.is_busy() {
                    seat.used = now;
                    seats.by_device.put(device, seat);
                } else {
                    seat.twin.stop(None);
                }
            }
        }
        Sweep::HasMore
    }
}

/// What is left to do after a sweep.
enum Sweep {
    HasMore,
    Waits,
    Ended,
}

/// Stops idle twins of a shard for as long as it has twins. One task instead of a timer per twin.
pub(super) async fn sweep<P: ShardPort>(roster: Weak<Roster<P>>, idle_stop: Duration) {
    let pause = (idle_stop / 8).clamp(Duration::from_millis(5), Duration::from_secs(5));
    loop {
        tokio::time::sleep(pause).await;
        loop {
            let Some(roster) = roster.upgrade() else {
                return;
            };
            match roster.sweep_once(Instant::now()) {
                Sweep::HasMore => tokio::task::yield_now().await,
                Sweep::Waits => break,
                Sweep::Ended => return,
            }
        }
    }
}
