//! What goes when memory is short: the sessions for which most is waiting.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::door::Door;
use super::metrics;
use crate::memory::Pressure;

/// Sessions that are closed at one look: they come back, and not all of them at once.
const CLOSED_MAX: usize = 1_000;
/// To close a session for which less is waiting would cost more than it gives.
pub(super) const BACKLOG_BYTES_MIN: usize = 4 * 1024;

/// Closes sessions while memory presses too hard, until `stop`.
pub(crate) async fn shed(door: Arc<Door>, stop: CancellationToken) {
    let mut looks = door.gate.memory().looks();
    loop {
        let looked = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            looked = looks.changed() => looked,
        };
        if looked.is_err() {
            return;
        }
        let seen = *looks.borrow_and_update();
        if seen.pressure != Pressure::Shedding {
            continue;
        }
        let closed = door.registry.shed(seen.excess_bytes);
        if closed > 0 {
            warn!(
                closed,
                "sessions with a backlog are closed for want of memory"
            );
            metrics::shed(closed);
        }
    }
}

/// The largest of these backlogs, as many as together have `excess_bytes`.
pub(super) fn largest<T>(mut backlogs: Vec<(usize, T)>, excess_bytes: u64) -> Vec<T> {
    backlogs.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    let mut freed = 0;
    let needed = backlogs.into_iter().take_while(|(bytes, _)| {
        let is_needed = freed < excess_bytes;
        freed += *bytes as u64;
        is_needed
    });
    needed.take(CLOSED_MAX).map(|(_, owner)| owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has most waiting goes first, and no more go than have to.
    #[test]
    fn largest_backlogs_go_until_it_is_enough() {
        let backlogs = || vec![(10, "a"), (300, "b"), (20, "c"), (200, "d")];
        assert_eq!(largest(backlogs(), 0), Vec::<&str>::new());
        assert_eq!(largest(backlogs(), 1), ["b"]);
        assert_eq!(largest(backlogs(), 300), ["b"]);
        assert_eq!(largest(backlogs(), 301), ["b", "d"]);
        assert_eq!(largest(backlogs(), u64::MAX), ["b", "d", "c", "a"]);
        let many = vec![(1, ()); CLOSED_MAX * 2];
        assert_eq!(largest(many, u64::MAX).len(), CLOSED_MAX);
    }
}
