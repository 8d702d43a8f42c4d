//! What a gateway wants to hear of.
//!
//! A gateway follows every shard, and has only some of the devices. Where a shard is on another node,
//! that node is told which devices these are, and sends nothing else; as long as it is not told, it
//! sends everything, so nothing is missed when a stream breaks and begins elsewhere. This is the book
//! of a gateway; [`super::attached`] is what the other side has of it.
//!
//! Time line of a device: it is wanted → the streams that leave something out are told → each has
//! answered: [`Wanted::settled`]. Every change from then on comes; what was before is read.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use antumbra_raft::HashRange;
use antumbra_shadow::{DeviceId, DeviceKey, Tenant};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Steps that wait for the slowest stream; then it begins anew.
const STEPS_MAX: usize = 1 << 18;

/// Names a device among those that are wanted. Two devices may have one mark: more is told then, never
/// less. Its low half is the place of the device in the hash ring.
pub(crate) fn mark_of(tenant: &Tenant, device: &DeviceId) -> u64 {
    DeviceKey::wide_hash(tenant, device)
}

/// One change of what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A device, and whether it is wanted from now on.
    Device(u64, bool),
    /// All devices of a tenant.
    Tenant(Tenant, bool),
}

impl Step {
    /// Whether it concerns a shard that owns these hashes.
    fn concerns(&self, range: HashRange) -> bool {
        match self {
            Step::Device(mark, _) => range.contains(*mark as u32),
            Step::Tenant(..) => true,
        }
    }
}

/// The book of a gateway.
pub(crate) struct Wanted {
    book: Mutex<Book>,
    /// The number of the last step.
    written: watch::Sender<u64>,
    /// The last step that all streams know of.
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct Book {
    /// How often each device is wanted.
    devices: HashMap<u64, u32>,
    tenants: BTreeMap<Tenant, u32>,
    /// The last steps, as long as some stream does not know of them.
    steps: VecDeque<Step>,
    /// The number of the last step.
    last: u64,
    /// The streams that leave something out, and the last step that each knows of.
    streams: BTreeMap<u64, u64>,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            book: Mutex::default(),
            written: watch::Sender::new(0),
            settled: watch::Sender::new(u64::MAX),
        }
    }
}

impl Wanted {
    /// A device is wanted, once more.
    pub(crate) fn want(&self, mark: u64) {
        let mut book = self.book.lock();
        let count = book.devices.entry(mark).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.note(&mut book, Step::Device(mark, true));
        }
    }

    /// A device is wanted once less.
    pub(crate) fn leave(&self, mark: u64) {
        let mut book = self.book.lock();
        let Entry::Occupied(mut entry) = book.devices.entry(mark) else {
            return;
        };
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
            self.note(&mut book, Step::Device(mark, false));
        }
    }

    /// All devices of a tenant are wanted, once more.
    pub(crate) fn want_all(&self, tenant: &Tenant) {
        let mut book = self.book.lock();
        let count = book.tenants.entry(tenant.clone()).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.note(&mut book, Step::Tenant(tenant.clone(), true));
        }
    }

    /// All devices of a tenant are wanted once less.
    pub(crate) fn leave_all(&self, tenant: &Tenant) {
        let mut book = self.book.lock();
        let Some(count) = book.tenants.get_mut(tenant) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            book.tenants.remove(tenant);
            self.note(&mut book, Step::Tenant(tenant.clone(), false));
        }
    }

    /// A device is wanted until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>, device: &DeviceKey) -> Want {
        let mark = mark_of(&device.tenant, &device.device);
        self.want(mark);
        Want {
            wanted: Arc::clone(self),
            mark,
        }
    }

    /// Devices and tenants that are wanted.
    #[cfg(test)]
    pub(crate) fn count(&self) -> (usize, usize) {
        let book = self.book.lock();
        (book.devices.len(), book.tenants.len())
    }

    /// Streams that leave something out.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.book.lock().streams.len()
    }

    /// Whether everything that is wanted now comes.
    pub(crate) fn is_settled(&self) -> bool {
        let last = self.book.lock().last;
        *self.settled.borrow() >= last
    }

    /// Waits until everything that is wanted at the call comes. May be dropped midway.
    pub(crate) async fn settled(&self) {
        let last = self.book.lock().last;
        let mut settled = self.settled.subscribe();
        // The sender lives as long as the book.
        let _ = settled.wait_for(|settled| *settled >= last).await;
    }

    /// Resolves when there are steps behind this one. May be dropped midway.
    pub(super) async fn more_than(&self, known: u64) {
        let mut written = self.written.subscribe();
        let _ = written.wait_for(|last| *last > known).await;
    }

    /// A stream is about to leave out what is not wanted: all that is wanted in its shard, to be told
    /// before.
    pub(super) fn begin(self: &Arc<Self>, stream: u64, range: HashRange) -> (Told, Vec<Step>) {
        let mut book = self.book.lock();
        let last = book.last;
        book.streams.insert(stream, last);
        self.settle(&mut book);
        let devices = book.devices.keys().map(|mark| Step::Device(*mark, true));
        let tenants = book.tenants.keys();
        let tenants = tenants.map(|tenant| Step::Tenant(tenant.clone(), true));
        let all = tenants.chain(devices).filter(|step| step.concerns(range));
        let all = all.collect();
        let told = Told {
            wanted: Arc::clone(self),
            stream,
            range,
        };
        (told, all)
    }

    fn note(&self, book: &mut Book, step: Step) {
        book.last += 1;
        if !book.streams.is_empty() {
            book.steps.push_back(step);
            if book.steps.len() > STEPS_MAX {
                book.steps.pop_front();
            }
        }
        self.written.send_replace(book.last);
    }

    /// Says what all streams know of, and forgets the steps.
    fn settle(&self, book: &mut Book) {
        let slowest = book.streams.values().min().copied();
        let waiting = slowest.map_or(0, |slowest| book.last - slowest);
        let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
        let known = book.steps.len().saturating_sub(waiting);
        book.steps.drain(..known);
        if book.steps.is_empty() {
            book.steps = VecDeque::new();
        }
        let settled = slowest.unwrap_or(u64::MAX);
        self.settled.send_if_modified(|now| {
            let before = std::mem::replace(now, settled);
            before != settled
        });
    }
}

/// What one stream was told. Dropping it means that the stream leaves nothing out any more.
pub(super) struct Told {
    wanted: Arc<Wanted>,
    stream: u64,
    range: HashRange,
}

impl Told {
    /// The next steps, at most `steps_max`, and the number of the last; `None` when some of them are not
    /// at hand any more.
    pub(super) fn next(&self, steps_max: usize) -> Option<(Vec<Step>, u64)> {
        let book = self.wanted.book.lock();
        let known = book.streams.get(&self.stream).copied()?;
        let first = book.last - book.steps.len() as u64;
        let skipped = usize::try_from(known.checked_sub(first)?).ok()?;
        let mut steps = Vec::new();
        let mut upto = known;
        for step in book.steps.iter().skip(skipped) {
            if steps.len() == steps_max {
                break;
            }
            upto += 1;
            if step.concerns(self.range) {
                steps.push(step.clone());
            }
        }
        Some((steps, upto))
    }

    /// The stream knows of everything up to this step.
    pub(super) fn knows(&self, upto: u64) {
        let mut book = self.wanted.book.lock();
        book.streams.insert(self.stream, upto);
        self.wanted.settle(&mut book);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut book = self.wanted.book.lock();
        book.streams.remove(&self.stream);
        self.wanted.settle(&mut book);
    }
}

/// Keeps a device wanted.
pub(crate) struct Want {
    wanted: Arc<Wanted>,
    mark: u64,
}

impl Drop for Want {
    fn drop(&mut self) {
        self.wanted.leave(self.mark);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt;

    use super::*;

    const LOW: HashRange = HashRange {
        start: 0,
        end: 1 << 31,
    };
    const HIGH: HashRange = HashRange {
        start: (1 << 31) + 1,
        end: u32::MAX,
    };

    /// Before a stream leaves anything out there is nothing to wait for; afterwards every stream must
    /// have answered.
    #[test]
    fn settled_means_that_every_stream_knows() {
        let wanted = Arc::new(Wanted::default());
        wanted.want(1);
        assert!(wanted.is_settled());
        let (low, all) = wanted.begin(1, LOW);
        assert_eq!(all, [Step::Device(1, true)]);
        let (high, all) = wanted.begin(2, HIGH);
        assert_eq!(all, []);
        assert!(wanted.is_settled());
        wanted.want(2);
        assert!(!wanted.is_settled());
        assert!(wanted.settled().now_or_never().is_none());
        let (steps, upto) = low.next(10).unwrap();
        assert_eq!(steps, [Step::Device(2, true)]);
        low.knows(upto);
        assert!(!wanted.is_settled(), "the other stream was not told");
        let (steps, upto) = high.next(10).unwrap();
        assert_eq!(steps, [], "it concerns another shard");
        high.knows(upto);
        assert!(wanted.settled().now_or_never().is_some());
        assert!(wanted.book.lock().steps.is_empty());
    }

    /// Whoever waits must not wait for a stream that has broken: it will begin with everything.
    #[test]
    fn broken_stream_is_not_waited_for() {
        let wanted = Arc::new(Wanted::default());
        let (told, _) = wanted.begin(1, LOW);
        wanted.want(2);
        assert!(!wanted.is_settled());
        drop(told);
        assert!(wanted.is_settled());
        assert!(wanted.book.lock().steps.is_empty());
    }

    /// Several sessions hear of one device; it is told once, and left with the last of them.
    #[test]
    fn device_is_wanted_as_long_as_anybody_wants_it() {
        let wanted = Arc::new(Wanted::default());
        let (told, _) = wanted.begin(1, LOW);
        let tenant = Tenant::default();
        (0..3).for_each(|_| wanted.want(7));
        wanted.want_all(&tenant);
        wanted.leave(7);
        wanted.leave(7);
        wanted.leave_all(&tenant);
        wanted.leave(7);
        wanted.leave(7);
        let (steps, upto) = told.next(10).unwrap();
        let expected = [
            Step::Device(7, true),
            Step::Tenant(tenant.clone(), true),
            Step::Tenant(tenant, false),
            Step::Device(7, false),
        ];
        assert_eq!((steps, upto), (expected.to_vec(), 4));
        let (first, upto) = told.next(2).unwrap();
        assert_eq!((first.as_slice(), upto), (&expected[..2], 2));
        told.knows(upto);
        assert_eq!(told.next(10).unwrap().0, expected[2..]);
    }

    /// A stream that takes nothing must not fill the memory: it begins anew.
    #[test]
    fn slow_stream_loses_its_place() {
        let wanted = Arc::new(Wanted::default());
        let (slow, _) = wanted.begin(1, LOW);
        for mark in 0..=STEPS_MAX as u64 {
            wanted.want(mark);
        }
        assert!(slow.next(10).is_none());
        assert_eq!(wanted.book.lock().steps.len(), STEPS_MAX);
    }

    #[test]
    fn mark_has_the_place_in_the_ring() {
        let device = DeviceKey::new(Tenant::default(), DeviceId::parse("pump").unwrap());
        let mark = mark_of(&device.tenant, &device.device);
        assert_eq!(mark as u32, device.hash());
    }
}
