//! The relay of a shard: hands the changes of the `applied` hook to watchers without ever blocking
//! the shard.
//!
//! Changes are kept once, in a bounded ring that all watchers of the shard share; a watcher holds
//! no queue here, only the place of the first change it has not taken. A watcher whose place has
//! left the ring is told so and catches up from the feed. Watchers that are not concerned by a
//! change are not woken.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use antumbra_shadow::{Change, DeviceKey, Position, Tenant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attached::Attached;
use super::cursor::end_of;
use super::wanted::Wanted;

/// Changes that one call of [`Subscription::take`] looks at: bounds the time under the lock.
const SCAN_MAX: usize = 1024;

/// What a change weighs in the ring beside its documents.
const CHANGE_OVERHEAD_BYTES: usize = 512;

/// Which devices a watcher wants to hear of.
#[derive(Clone)]
pub(crate) enum Interest {
    /// Exactly these.
    Devices(Arc<BTreeSet<DeviceKey>>),
    /// Those of a tenant whose id starts with a prefix; an empty one means all.
    Prefix {
        /// The tenant.
        tenant: Tenant,
        /// Start of the device id.
        prefix: Arc<str>,
    },
    /// Those that this gateway wants, records of the node included. From a replica here every device
    /// is told, because that costs nothing.
    Wanted(Arc<Wanted>),
    /// Those that a gateway on another node wants.
    Attached(Arc<Attached>),
}

impl Interest {
    /// Whether the watcher wants to hear of this device.
    pub(crate) fn matches(&self, device: &DeviceKey) -> bool {
        match self {
            Interest::Devices(devices) => devices.contains(device),
            Interest::Prefix { tenant, prefix } => {
                device.tenant == *tenant && device.device.as_str().starts_with(&**prefix)
            }
            Interest::Wanted(_) => true,
            Interest::Attached(attached) => attached.wants(device),
        }
    }
}

/// How much the ring of one shard holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelayLimits {
    pub(crate) changes_max: usize,
    pub(crate) bytes_max: usize,
}

/// Fans the changes of one shard out.
pub(crate) struct Relay {
    limits: RelayLimits,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The newest changes in order of position; empty while nobody watches.
    ring: VecDeque<Arc<Change>>,
    ring_bytes: usize,
    /// Everything up to this entry was published.
    applied: u64,
    next_id: u64,
    slots: BTreeMap<u64, Slot>,
    by_device: HashMap<DeviceKey, Vec<u64>>,
    by_prefix: Vec<u64>,
}

struct Slot {
    interest: Interest,
    pending: Pending,
    wake: Arc<Notify>,
}

/// What a watcher has not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// The first change that concerns it; everything before does not.
    From(Position),
    /// Changes were published that the ring no longer has, or that never went through it.
    Lost,
}

/// What a watcher gets from the ring.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The next changes; with them the watcher has seen everything up to `upto`.
    Changes {
        changes: Vec<Arc<Change>>,
        upto: Position,
        /// Call again at once.
        more: bool,
    },
    /// The ring has moved on: catch up from the feed, then take again.
    Lost,
}

impl Relay {
    pub(crate) fn new(limits: RelayLimits) -> Arc<Relay> {
        Arc::new(Relay {
            limits,
            inner: Mutex::default(),
        })
    }

    /// Hands on what the entries up to `index` changed.
    pub(crate) fn publish(&self, index: u64, changes: Vec<Arc<Change>>) {
        let mut inner = self.inner.lock();
        inner.applied = inner.applied.max(index);
        if inner.slots.is_empty() {
            return;
        }
        for change in changes {
            inner.mark(&change);
            inner.ring_bytes += weight(&change);
            inner.ring.push_back(change);
        }
        while inner.ring.len() > self.limits.changes_max || inner.ring_bytes > self.limits.bytes_max
        {
            let Some(dropped) = inner.ring.pop_front() else {
                break;
            };
            inner.ring_bytes -= weight(&dropped);
        }
    }

    /// The rows of the shard were replaced: every watcher must catch up from the feed.
    pub(crate) fn reset(&self) {
        let mut inner = self.inner.lock();
        inner.ring.clear();
        inner.ring_bytes = 0;
        for slot in inner.slots.values_mut() {
            slot.pending = Pending::Lost;
            slot.wake.notify_one();
        }
    }

    /// Starts listening. Every change published from now on is either taken or reported lost.
    /// `wake` is notified when there is something to take.
    pub(crate) fn subscribe(
        self: &Arc<Relay>,
        interest: Interest,
        wake: Arc<Notify>,
    ) -> Subscription {
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        match &interest {
            Interest::Devices(devices) => {
                for device in devices.iter() {
                    inner.by_device.entry(device.clone()).or_default().push(id);
                }
            }
            Interest::Prefix { .. } | Interest::Wanted(_) | Interest::Attached(_) => {
                inner.by_prefix.push(id);
            }
        }
        let slot = Slot {
            interest,
            pending: Pending::Nothing,
            wake,
        };
        inner.slots.insert(id, slot);
        Subscription {
            relay: Arc::clone(self),
            id,
        }
    }

    fn unsubscribe(&self, id: u64) {
        let mut inner = self.inner.lock();
        let Some(slot) = inner.slots.remove(&id) else {
            return;
        };
        match &slot.interest {
            Interest::Devices(devices) => {
                for device in devices.iter() {
                    if let Some(ids) = inner.by_device.get_mut(device) {
                        ids.retain(|other| *other != id);
                        if ids.is_empty() {
                            inner.by_device.remove(device);
                        }
                    }
                }
            }
            Interest::Prefix { .. } | Interest::Wanted(_) | Interest::Attached(_) => {
                inner.by_prefix.retain(|other| *other != id);
            }
        }
        if inner.slots.is_empty() {
            inner.ring = VecDeque::new();
            inner.ring_bytes = 0;
        }
    }
}

impl Inner {
    /// Notes and wakes the watchers that a change concerns.
    fn mark(&mut self, change: &Change) {
        let Inner {
            slots,
            by_device,
            by_prefix,
            ..
        } = self;
        let listed = by_device.get(&change.device).into_iter().flatten();
        for id in listed.chain(by_prefix.iter()) {
            let Some(slot) = slots.get_mut(id) else {
                continue;
            };
            if slot.pending == Pending::Nothing && slot.interest.matches(&change.device) {
                slot.pending = Pending::From(change.position);
                slot.wake.notify_one();
            }
        }
    }
}

/// One watcher's place in the relay; dropping it ends the subscription.
pub(crate) struct Subscription {
    relay: Arc<Relay>,
    id: u64,
}

impl Subscription {
    /// The next changes behind `after`, at most `changes_max`, in order.
    pub(crate) fn take(&self, after: Position, changes_max: usize) -> Taken {
        let mut inner = self.relay.inner.lock();
        let inner = &mut *inner;
        let nothing = Taken::Changes {
            changes: Vec::new(),
            upto: end_of(inner.applied).max(after),
            more: false,
        };
        let Some(slot) = inner.slots.get_mut(&self.id) else {
            return nothing;
        };
        let from = match std::mem::replace(&mut slot.pending, Pending::Nothing) {
            Pending::Nothing => return nothing,
            Pending::Lost => return Taken::Lost,
            Pending::From(from) => from,
        };
        if inner.ring.front().is_none_or(|first| first.position > from) {
            return Taken::Lost;
        }
        let start = first_from_end(inner.ring.len(), |at| inner.ring[at].position < from);
        let mut changes = Vec::new();
        for (scanned, change) in inner.ring.range(start..).enumerate() {
            if scanned == SCAN_MAX || changes.len() == changes_max {
                slot.pending = Pending::From(change.position);
                let upto = inner.ring[start + scanned - 1].position.max(after);
                return Taken::Changes {
                    changes,
                    upto,
                    more: true,
                };
            }
            if change.position > after && slot.interest.matches(&change.device) {
                changes.push(Arc::clone(change));
            }
        }
        Taken::Changes {
            changes,
            upto: end_of(inner.applied).max(after),
            more: false,
        }
    }
}

impl Subscription {
    /// Forgets what is waiting, for a reader that only wants to be woken.
    pub(crate) fn skip(&self) {
        if let Some(slot) = self.relay.inner.lock().slots.get_mut(&self.id) {
            slot.pending = Pending::Nothing;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.relay.unsubscribe(self.id);
    }
}

/// Index of the first of `count` changes that does not come before what is wanted. Looked for from the
/// newest on, in growing strides: a reader that keeps up wants the last ones, and the others are in no
/// cache of the processor.
fn first_from_end(count: usize, comes_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high, mut stride) = (0, count, 1);
    while low < high {
        let middle = match stride {
            0 => low + (high - low) / 2,
            stride => high.saturating_sub(stride),
        };
        if comes_before(middle) {
            low = middle + 1;
            stride = 0;
        } else {
            high = middle;
            stride *= 2;
        }
    }
    low
}

/// Roughly what a change holds in memory.
pub(crate) fn weight(change: &Change) -> usize {
    let previous = change.previous.as_ref();
    CHANGE_OVERHEAD_BYTES
        + change.current.encoded().len()
        + previous.map_or(0, |document| document.encoded().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cut of every length, and few looks for the newest.
    #[test]
    fn first_is_found_from_the_end() {
        for count in 0..70 {
            for cut in 0..=count {
                let looks = std::cell::Cell::new(0);
                let found = first_from_end(count, |at| {
                    looks.set(looks.get() + 1);
                    at < cut
                });
                assert_eq!(found, cut, "of {count}");
                assert!(
                    looks.get() <= 2 * (count - cut + 2).ilog2() + 1,
                    "{cut} of {count}"
                );
            }
        }
    }
}
