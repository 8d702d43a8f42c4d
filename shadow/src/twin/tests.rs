//! Unit tests of the parts of a twin: the cache against its rules, tickets against races.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::apply::{RowKey, Rows, apply};
use crate::change::Change;
use crate::command::{Command, DeviceEntry, Draft, Kind, Update};
use crate::id::{DeviceKey, Position, ShadowName, Tenant, Time};
use crate::json::{self, DuplicateKeys};
use crate::limits::Limits;
use crate::patch::{Patch, SectionInput};
use crate::twin::cache::{Budget, Cache};
use crate::twin::ticket::{Admission, Waiter};
use crate::twin::vitals::Vitals;

#[derive(Default)]
struct MemoryRows(BTreeMap<RowKey, Bytes>);

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
        format!("{key:?}")
    }
}

fn draft(shadow: &str, text: &str) -> Draft {
    let value = json::parse(text.as_bytes(), DuplicateKeys::Reject, 16).unwrap();
    let desired = SectionInput::Merge(&value);
    let patch = Patch::build(desired, SectionInput::Absent, &Limits::default()).unwrap();
    let shadow = shadow.parse().unwrap();
    Draft::new(
        "test",
        Kind::Update(Update {
            shadow,
            patch,
            conditions: Default::default(),
        }),
    )
}

/// Changes of one device, one entry each, at the indexes 1, 2, 3 and so on.
fn changes(writes: &[(&str, &str)]) -> Vec<Change> {
    let device = DeviceKey::new(Tenant::default(), "device".parse().unwrap());
    let mut rows = MemoryRows::default();
    let mut changes = Vec::new();
    for (number, (shadow, text)) in writes.iter().enumerate() {
        let commands: Vec<Command> = vec![draft(shadow, text).stamp(Time(1))];
        let entry = DeviceEntry::new(device.clone(), commands);
        let applied = apply(&mut rows, Position::first(number as u64 + 1), &entry).unwrap();
        changes.extend(applied.into_iter().flat_map(|one| one.changes));
    }
    changes
}

fn cache(bytes_max: usize) -> (Cache, Arc<Budget>, Arc<Vitals>) {
    let (budget, vitals) = (Budget::new(bytes_max), Arc::new(Vitals::default()));
    (Cache::new(budget.clone(), vitals.clone()), budget, vitals)
}

fn version(cache: &Cache, shadow: &str) -> Option<u64> {
    let shadow: ShadowName = shadow.parse().unwrap();
    cache.get(&shadow).map(|document| document.version())
}

/// Protects the loaded position: changes that the document contains are dropped, later ones kept.
#[test]
fn changes_at_or_below_the_loaded_position_are_dropped() {
    let writes = [("", r#"{"a":1}"#), ("", r#"{"a":2}"#), ("", r#"{"a":3}"#)];
    let changes = changes(&writes);
    let (mut cache, ..) = cache(1 << 20);
    assert!(cache.loaded(ShadowName::classic(), 2, changes[1].current.clone()));
    assert!(!cache.applied(&changes[0]));
    assert!(!cache.applied(&changes[1]));
    assert_eq!(version(&cache, ""), Some(2));
    assert!(cache.applied(&changes[2]));
    assert_eq!(version(&cache, ""), Some(3));
    assert!(!cache.applied(&changes[2]), "the same news twice");
}

/// Protects the cache from a load that was overtaken by a change while it was under way.
#[test]
fn load_older_than_a_change_is_dropped() {
    let writes = [("", r#"{"a":1}"#), ("", r#"{"a":2}"#), ("x", "{}")];
    let changes = changes(&writes);
    let (mut cache, ..) = cache(1 << 20);
    assert!(cache.applied(&changes[1]));
    assert!(!cache.loaded(ShadowName::classic(), 1, changes[0].current.clone()));
    assert_eq!(version(&cache, ""), Some(2));
    // A load that is older than any change of the device proves nothing either.
    assert!(cache.applied(&changes[2]));
    let (mut other, ..) = self::cache(1 << 20);
    assert!(other.applied(&changes[2]));
    assert!(!other.loaded(ShadowName::classic(), 2, changes[1].current.clone()));
    assert!(other.loaded(ShadowName::classic(), 3, changes[1].current.clone()));
    assert_eq!(version(&other, ""), Some(2));
}

/// Protects the byte bound: without room a document is not kept, and not in an old version either.
#[test]
fn cache_without_room_forgets() {
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(2_000));
    let changes = changes(&[("", "{}"), ("", &large), ("x", "{}")]);
    let (mut cache, budget, vitals) = cache(1_000);
    assert!(cache.applied(&changes[0]));
    assert_eq!(version(&cache, ""), Some(1));
    assert!(cache.applied(&changes[1]));
    assert_eq!(version(&cache, ""), None);
    assert!(budget.take_refused());
    assert!(!budget.take_refused());
    assert!(cache.applied(&changes[2]));
    assert_eq!(version(&cache, "x"), Some(1));
    assert!(budget.used() > 0);
    assert_eq!(
        budget.used(),
        vitals
            .cached_bytes
            .load(std::sync::atomic::Ordering::SeqCst)
    );
    drop(cache);
    assert_eq!(budget.used(), 0);
}

/// Protects honest outcomes: of sending and cancelling a command exactly one happens.
#[test]
fn command_is_either_sent_or_cancelled() {
    let admission = Admission::new(1, 1_000);
    for _ in 0..2_000 {
        let permit = admission.admit(10).unwrap();
        assert!(admission.admit(10).is_none());
        let (waiter, claim) = Waiter::new(draft("", "{}"), permit);
        let sender = std::thread::spawn(move || waiter.send().is_some());
        let was_cancelled = claim.cancel();
        assert_ne!(sender.join().unwrap(), was_cancelled);
    }
    assert!(admission.admit(10).is_some(), "all permits came back");
}
