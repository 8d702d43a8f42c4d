//! What the clients of one tenant may take of this node together, so that none is crowded out by those of
//! another.

use std::collections::HashMap;
use std::sync::Arc;

use antumbra_shadow::Tenant;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::rate::Rates;

/// The tenants of a node.
pub(crate) struct Tenants {
    connects: Rates<Tenant>,
    /// CONNECT packets of one tenant each second; 0 for no limit.
    connects_per_second_max: u32,
    seats: Arc<Seats>,
}

/// Sessions by tenant; none of those without any.
#[derive(Default)]
struct Seats {
    taken: Mutex<HashMap<Tenant, u32>>,
}

/// The place of one session; free again when dropped.
pub(crate) struct Seat {
    tenant: Tenant,
    seats: Arc<Seats>,
}

impl Tenants {
    /// Tenants without a client.
    pub(crate) fn new(connects_per_second_max: u32) -> Tenants {
        Tenants {
            connects: Rates::new(),
            connects_per_second_max,
            seats: Arc::default(),
        }
    }

    /// Whether a client of this tenant may connect now, as far as the rate goes; it is counted then.
    pub(crate) fn may_connect(&self, tenant: &Tenant, now: Instant) -> bool {
        let max = self.connects_per_second_max;
        max == 0 || self.connects.admit(tenant, max, 1, now)
    }

    /// A place for one more session; `None` when the tenant has `sessions_max` already. A client that
    /// takes over its own session gets one in any case: the connection before it is about to end.
    pub(crate) fn seat(
        &self,
        tenant: &Tenant,
        sessions_max: Option<u32>,
        takes_over: bool,
    ) -> Option<Seat> {
        let mut seats = self.seats.taken.lock();
        let taken = seats.get(tenant).copied().unwrap_or_default();
        if !takes_over && sessions_max.is_some_and(|max| taken >= max) {
            return None;
        }
        seats.insert(tenant.clone(), taken + 1);
        Some(Seat {
            tenant: tenant.clone(),
            seats: Arc::clone(&self.seats),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.taken.lock();
        if let Some(taken) = seats.get_mut(&self.tenant) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).unwrap()
    }

    /// A tenant has as many sessions as it may have, and another one has its own; whoever goes makes
    /// room, and nothing is kept of a tenant that is gone.
    #[test]
    fn seats_are_counted_by_tenant() {
        let tenants = Tenants::new(0);
        let (a, b) = (tenant("a"), tenant("b"));
        let first = tenants.seat(&a, Some(2), false).unwrap();
        let second = tenants.seat(&a, Some(2), false).unwrap();
        assert!(tenants.seat(&a, Some(2), false).is_none());
        let other = tenants.seat(&b, Some(1), false).unwrap();
        let over = tenants.seat(&a, Some(2), true).unwrap();
        drop(first);
        assert!(tenants.seat(&a, Some(2), false).is_none());
        drop(over);
        assert!(tenants.seat(&a, Some(2), false).is_some());
        assert!(tenants.seat(&a, None, false).is_some());
        assert!(tenants.seat(&a, Some(0), false).is_none());
        drop((second, other));
        assert!(tenants.seats.taken.lock().is_empty());
    }

    /// Without a limit everybody connects; with one, each tenant has its own.
    #[test]
    fn connects_are_counted_by_tenant() {
        let now = Instant::now();
        let count = |tenants: &Tenants, name: &str| {
            let tenant = tenant(name);
            (0..50)
                .filter(|_| tenants.may_connect(&tenant, now))
                .count()
        };
        assert_eq!(count(&Tenants::new(0), "a"), 50);
        let tenants = Tenants::new(10);
        assert_eq!((count(&tenants, "a"), count(&tenants, "b")), (11, 11));
    }
}
