#![allow(clippy::unwrap_used)]

use std::task::{Context, Poll};

use futures::task::noop_waker;

use super::*;

fn notes(slot: &Slot) -> usize {
    let waker = noop_waker();
    match slot.poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(notes) => notes.len(),
        Poll::Pending => 0,
    }
}

fn registry() -> Registry {
    Registry::new(Arc::default())
}

fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

fn key(id: &str) -> DeviceKey {
    DeviceKey::new(Tenant::default(), device(id))
}

/// When load is shed, who takes nothing goes, and quiet connections stay.
#[test]
fn connections_with_a_backlog_are_shed() {
    let registry = registry();
    let slots: Vec<_> = (0..3).map(|_| Arc::new(Slot::default())).collect();
    for (nth, slot) in slots.iter().enumerate() {
        let client = ClientKey::new(&Tenant::default(), &nth.to_string());
        registry.enter(client, Uuid::from_u128(nth as u128), slot);
    }
    slots[1].set_waiting(BACKLOG_BYTES_MIN);
    slots[2].set_waiting(BACKLOG_BYTES_MIN * 10);
    assert_eq!(registry.shed(1), 1);
    assert_eq!(
        slots.iter().map(|slot| notes(slot)).collect::<Vec<_>>(),
        [0, 0, 1]
    );
    assert_eq!(registry.shed(u64::MAX), 2);
    assert_eq!(
        slots.iter().map(|slot| notes(slot)).collect::<Vec<_>>(),
        [0, 1, 1]
    );
}

/// A client has one connection: the one before is closed, and its end does not remove the new one.
#[test]
fn later_connection_of_a_client_closes_the_earlier() {
    let registry = registry();
    let client = ClientKey::new(&Tenant::default(), "a");
    let (first, second) = (Arc::new(Slot::default()), Arc::new(Slot::default()));
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    registry.enter(client, one, &first);
    registry.enter(client, two, &second);
    assert_eq!((notes(&first), notes(&second)), (1, 0));
    registry.leave(client, one);
    assert!(registry.is_connected(client));
    registry.leave(client, two);
    assert!(!registry.is_connected(client));
}

/// Connections are told of their device, or of all devices of their tenant, until they leave.
#[test]
fn changes_reach_whoever_hears_of_the_device() {
    let registry = registry();
    let (pump, backend, other) = (
        Arc::new(Slot::default()),
        Arc::new(Slot::default()),
        Arc::new(Slot::default()),
    );
    let tenant = Tenant::default();
    registry.listen(&tenant, &pump, &Hears::Device(device("pump")));
    registry.listen(&tenant, &pump, &Hears::Device(device("pump")));
    registry.listen(&tenant, &backend, &Hears::Devices);
    let elsewhere = Tenant::parse("other").unwrap();
    registry.listen(&elsewhere, &other, &Hears::Devices);
    registry.tell_of_device(&key("pump"), &Note::Resync);
    registry.tell_of_device(&key("valve"), &Note::Resync);
    assert_eq!((notes(&pump), notes(&backend), notes(&other)), (1, 2, 0));
    registry.ignore(&tenant, &pump, &Hears::Device(device("pump")));
    registry.ignore(&tenant, &backend, &Hears::Devices);
    registry.tell_of_device(&key("pump"), &Note::Resync);
    assert_eq!((notes(&pump), notes(&backend)), (0, 0));
    assert_eq!(registry.inner.lock().devices.len(), 0);
    assert_eq!(registry.inner.lock().tenants.len(), 1);
}

/// A message reaches a connection once, whatever the number of its filters that match.
#[test]
fn message_reaches_a_connection_once() {
    let registry = registry();
    let tenant = Tenant::default();
    let (one, two) = (Arc::new(Slot::default()), Arc::new(Slot::default()));
    let filters = ["a/b", "a/+", "a/#", "b"];
    for filter in filters {
        registry.listen(&tenant, &one, &Hears::Topics(filter.into()));
    }
    registry.listen(&tenant, &two, &Hears::Topics("a/b".into()));
    registry.tell_of_topic(&tenant, "a/b", &Note::Resync);
    assert_eq!((notes(&one), notes(&two)), (1, 1));
    registry.ignore(&tenant, &one, &Hears::Topics("a/b".into()));
    registry.tell_of_topic(&tenant, "a/b", &Note::Resync);
    assert_eq!((notes(&one), notes(&two)), (1, 1));
    for filter in &filters[1..] {
        registry.ignore(&tenant, &one, &Hears::Topics((*filter).into()));
    }
    registry.ignore(&tenant, &two, &Hears::Topics("a/b".into()));
    registry.tell_of_topic(&tenant, "a/b", &Note::Resync);
    assert_eq!((notes(&one), notes(&two)), (0, 0));
    assert!(registry.inner.lock().tenants.is_empty());
}

/// What nobody hears of any more must not be sent to this node.
#[test]
fn what_connections_hear_is_wanted_and_nothing_else() {
    let wanted = Arc::new(Wanted::default());
    let registry = Registry::new(Arc::clone(&wanted));
    let tenant = Tenant::default();
    let (first, second) = (Arc::new(Slot::default()), Arc::new(Slot::default()));
    let lamp = Hears::Device(device("lamp"));
    let all = [&lamp, &Hears::Devices, &Hears::Presence];
    for hears in all {
        registry.listen(&tenant, &first, hears);
        registry.listen(&tenant, &second, hears);
    }
    let count = || wanted.count();
    assert_eq!(
        count(),
        (1, 2),
        "one device; its tenant, and that of records"
    );
    for hears in all {
        registry.ignore(&tenant, &first, hears);
    }
    assert_eq!(count(), (1, 2));
    for hears in all {
        registry.ignore(&tenant, &second, hears);
    }
    assert_eq!(count(), (0, 0));
    assert_eq!(records_tenant().as_str(), ":sessions");
}
