//! A shard without Raft and disk: the real `apply` over rows in memory, with results that can be
//! held back, lost or refused, and counters of what was asked of it.

#![allow(unreachable_pub)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use antumbra_shadow::apply::apply;
use antumbra_shadow::{
    Change, DeviceKey, Document, Draft, Entry, Failure, Kind, Limits, Outcome, Patch, Position,
    RULES, RowKey, Rows, SectionInput, ShadowName, ShardPort, Tenant, Time, Twins, TwinsConfig,
    Update, encode_outcomes, json,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// What happens to one proposal.
pub enum Fault {
    /// The result is lost; the entry never gets into the log.
    LostBefore,
    /// The result is lost after the entry was applied.
    LostAfter,
    /// The result is lost; the entry is applied when [`FakeShard::apply_late`] says so.
    LostUntilLater,
    /// The shard refuses it.
    Refused(Failure),
    /// The shard answers with bytes that are no outcomes.
    Garbled,
    /// The code that proposes panics.
    Panics,
}

#[derive(Default)]
pub struct MemoryRows(BTreeMap<RowKey, Bytes>);

impl Rows for MemoryRows {
    type Error = String;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, String> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.0.insert(key.clone(), value);
    }

    fn delete(&mut self, key: &RowKey) {
        self.0.remove(key);
    }

    fn damaged(&self, key: &RowKey) -> String {
        format!("damaged row {key:?}")
    }
}

#[derive(Default)]
struct Store {
    index: u64,
    rows: MemoryRows,
    late: Vec<Bytes>,
    in_flight: HashMap<DeviceKey, usize>,
    faults: VecDeque<Fault>,
    changes: Vec<Arc<Change>>,
}

pub struct FakeShard {
    store: Mutex<Store>,
    twins: OnceLock<Twins<FakeShard>>,
    open: watch::Sender<bool>,
    barriers_open: watch::Sender<bool>,
    pub term: AtomicU64,
    pub clock: AtomicU64,
    pub clock_panics: AtomicBool,
    /// What every node has announced.
    pub rules: AtomicU16,
    pub entries: AtomicUsize,
    pub commands: AtomicUsize,
    pub in_flight_max: AtomicUsize,
    pub loads: AtomicUsize,
    pub barriers: AtomicUsize,
}

/// A leading shard and its twins.
pub fn shard(config: TwinsConfig) -> (Arc<FakeShard>, Twins<FakeShard>) {
    let shard = Arc::new(FakeShard {
        store: Mutex::default(),
        twins: OnceLock::new(),
        open: watch::channel(true).0,
        barriers_open: watch::channel(true).0,
        term: AtomicU64::new(1),
        clock: AtomicU64::new(1_000),
        clock_panics: AtomicBool::new(false),
        rules: AtomicU16::new(RULES),
        entries: AtomicUsize::new(0),
        commands: AtomicUsize::new(0),
        in_flight_max: AtomicUsize::new(0),
        loads: AtomicUsize::new(0),
        barriers: AtomicUsize::new(0),
    });
    let twins = Twins::new(shard.clone(), config);
    assert!(shard.twins.set(twins.clone()).is_ok());
    twins.lead(1);
    (shard, twins)
}

impl FakeShard {
    /// Lets proposals through, or holds them back before they are applied.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Lets barriers through, or holds them back.
    pub fn set_barriers_open(&self, open: bool) {
        self.barriers_open.send_replace(open);
    }

    /// What happens to the next proposal that has no fate yet.
    pub fn fail_next(&self, fault: Fault) {
        self.store.lock().faults.push_back(fault);
    }

    /// Applies the entries whose result was lost and whose fate was left open.
    pub fn apply_late(&self) {
        let late = std::mem::take(&mut self.store.lock().late);
        for entry in late {
            self.apply(&entry);
        }
    }

    pub fn proposals_waiting(&self) -> usize {
        self.store.lock().in_flight.values().sum()
    }

    pub fn changes(&self) -> Vec<Arc<Change>> {
        self.store.lock().changes.clone()
    }

    /// Applies an entry as a replica would and tells the twins before anybody can see it as done.
    fn apply(&self, entry: &[u8]) -> Bytes {
        let Ok(Entry::Device(entry)) = Entry::decode(entry) else {
            panic!("not an entry")
        };
        let mut store = self.store.lock();
        let index = store.index + 1;
        let applied = apply(&mut store.rows, Position::first(index), &entry).unwrap();
        let outcomes: Vec<Outcome> = applied.iter().map(|one| one.outcome.clone()).collect();
        let changes: Vec<_> = applied
            .into_iter()
            .flat_map(|one| one.changes)
            .map(Arc::new)
            .collect();
        self.commands.fetch_add(outcomes.len(), Ordering::SeqCst);
        self.entries.fetch_add(1, Ordering::SeqCst);
        self.twins.get().unwrap().applied(index, &changes);
        store.changes.extend(changes);
        store.index = index;
        encode_outcomes(&outcomes).into()
    }

    fn enter(self: &FakeShard, entry: &[u8]) -> InFlight<'_> {
        let Ok(Entry::Device(entry)) = Entry::decode(entry) else {
            panic!("not an entry")
        };
        let mut store = self.store.lock();
        let count = store.in_flight.entry(entry.device.clone()).or_default();
        *count += 1;
        self.in_flight_max.fetch_max(*count, Ordering::SeqCst);
        InFlight {
            shard: self,
            device: entry.device,
        }
    }
}

struct InFlight<'a> {
    shard: &'a FakeShard,
    device: DeviceKey,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut store = self.shard.store.lock();
        *store.in_flight.get_mut(&self.device).unwrap() -= 1;
    }
}

impl ShardPort for FakeShard {
    fn now(&self) -> Time {
        assert!(
            !self.clock_panics.swap(false, Ordering::SeqCst),
            "the clock was told to panic"
        );
        Time(self.clock.load(Ordering::SeqCst))
    }

    fn rules(&self) -> u16 {
        self.rules.load(Ordering::SeqCst)
    }

    async fn propose(&self, term: u64, entry: Bytes) -> Result<Bytes, Failure> {
        let _in_flight = self.enter(&entry);
        let fault = self.store.lock().faults.pop_front();
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        // A commit takes a turn of the scheduler at least.
        tokio::task::yield_now().await;
        if term != self.term.load(Ordering::SeqCst) {
            return Err(Failure::NotLeader);
        }
        match fault {
            None => Ok(self.apply(&entry)),
            Some(Fault::LostBefore) => Err(Failure::Unknown),
            Some(Fault::LostAfter) => {
                self.apply(&entry);
                Err(Failure::Unknown)
            }
            Some(Fault::LostUntilLater) => {
                self.store.lock().late.push(entry);
                Err(Failure::Unknown)
            }
            Some(Fault::Refused(failure)) => Err(failure),
            Some(Fault::Garbled) => Ok(Bytes::from_static(b"\xff\xff\xff")),
            Some(Fault::Panics) => panic!("the proposal was told to panic"),
        }
    }

    async fn barrier(&self) -> Result<u64, Failure> {
        self.barriers.fetch_add(1, Ordering::SeqCst);
        let mut open = self.barriers_open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        tokio::task::yield_now().await;
        Ok(self.store.lock().index)
    }

    async fn load(
        &self,
        device: &DeviceKey,
        shadow: &ShadowName,
    ) -> Result<(u64, Option<Document>), Failure> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let (index, row) = {
            let mut store = self.store.lock();
            let key = RowKey::Document(device.clone(), shadow.clone());
            (store.index, store.rows.0.get_mut(&key).cloned())
        };
        // The state may move on before the answer arrives.
        tokio::task::yield_now().await;
        Ok((index, row.map(|row| Document::decode(row).unwrap())))
    }
}

pub fn device(number: usize) -> DeviceKey {
    DeviceKey::new(
        Tenant::default(),
        format!("device-{number}").parse().unwrap(),
    )
}

pub fn classic() -> ShadowName {
    ShadowName::classic()
}

/// An update of the classic shadow.
pub fn write(text: &str) -> Draft {
    write_to(classic(), text)
}

pub fn write_to(shadow: ShadowName, desired: &str) -> Draft {
    let value = json::parse(desired.as_bytes(), json::DuplicateKeys::Reject, 16).unwrap();
    let limits = Limits::default();
    let desired = SectionInput::Merge(&value);
    let patch = Patch::build(desired, SectionInput::Absent, &limits).unwrap();
    Draft::new(
        "test",
        Kind::Update(Update {
            shadow,
            patch,
            conditions: Default::default(),
        }),
    )
}

/// Far enough never to pass in a test.
pub fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// The version that a command was accepted at.
pub fn version(outcome: Result<Outcome, Failure>) -> u64 {
    match outcome {
        Ok(Outcome::Accepted(items)) => items[0].version,
        other => panic!("not accepted: {other:?}"),
    }
}

/// Waits for a condition, with a deadline.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
