//! Who is connected to this node, and who has to be told of what.
//!
//! The registry only narrows down: it may tell a connection of something that it does not want, never
//! the other way round. The connection's own subscriptions decide.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use antumbra_shadow::{DeviceId, DeviceKey, Tenant};
use parking_lot::Mutex;
use uuid::Uuid;

use super::mqtt::session::ServerCause;
use super::mqtt::topics;
use super::records::{ClientKey, records_tenant};
use super::shed::{self, BACKLOG_BYTES_MIN};
use super::slot::{Note, Slot};
use crate::shadows::{Wanted, mark_of};

/// The connections of a node.
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    wanted: Arc<Wanted>,
}

#[derive(Default)]
struct Inner {
    clients: HashMap<ClientKey, Client>,
    /// By [`mark_of`]: two devices with one mark are told of each other's changes, and their
    /// subscriptions tell them apart.
    devices: HashMap<u64, Slots>,
    tenants: HashMap<Tenant, Crowd>,
}

struct Client {
    session: Uuid,
    slot: Arc<Slot>,
}

/// What connections of one tenant hear that is not about one device.
#[derive(Default)]
struct Crowd {
    /// Every shadow.
    shadows: Vec<Arc<Slot>>,
    /// Clients that come and go.
    presence: Vec<Arc<Slot>>,
    /// Topics between clients, by their exact name.
    exact: HashMap<Box<str>, Slots>,
    /// Topics between clients, by filters with wildcards.
    wild: Vec<(Box<str>, Arc<Slot>)>,
}

/// Usually one.
enum Slots {
    One(Arc<Slot>),
    Many(Vec<Arc<Slot>>),
}

/// What a connection hears, apart from its own record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hears {
    /// Shadows of a device.
    Device(DeviceId),
    /// Shadows of all devices.
    Devices,
    /// Clients that come and go.
    Presence,
    /// Topics between clients that match a filter.
    Topics(Box<str>),
}

impl Registry {
    /// A registry without connections. What they hear becomes wanted.
    pub(crate) fn new(wanted: Arc<Wanted>) -> Registry {
        Registry {
            inner: Mutex::default(),
            wanted,
        }
    }

    /// A client has connected. The connection before it, if it is still there, is told to close.
    pub(crate) fn enter(&self, client: ClientKey, session: Uuid, slot: &Arc<Slot>) {
        let newcomer = Client {
            session,
            slot: Arc::clone(slot),
        };
        let before = self.inner.lock().clients.insert(client, newcomer);
        if let Some(before) = before {
            before.slot.tell(Note::Close(ServerCause::TakenOver));
        }
    }

    /// A connection has ended, and hears nothing any more.
    pub(crate) fn leave(&self, client: ClientKey, session: Uuid) {
        let mut inner = self.inner.lock();
        if let Entry::Occupied(entry) = inner.clients.entry(client)
            && entry.get().session == session
        {
            entry.remove();
        }
    }

    /// Tells a connection that is still open that another one takes its session over. False when it is
    /// not here.
    pub(crate) fn close(&self, client: ClientKey, session: Uuid) -> bool {
        let inner = self.inner.lock();
        let found = inner.clients.get(&client);
        let found = found.filter(|found| found.session == session);
        if let Some(found) = found {
            found.slot.tell(Note::Close(ServerCause::TakenOver));
        }
        found.is_some()
    }

    /// Whether a connection is still open here.
    pub(crate) fn holds(&self, client: ClientKey, session: Uuid) -> bool {
        let inner = self.inner.lock();
        let found = inner.clients.get(&client);
        found.is_some_and(|found| found.session == session)
    }

    /// Whether a client is connected here.
    pub(crate) fn is_connected(&self, client: ClientKey) -> bool {
        self.inner.lock().clients.contains_key(&client)
    }

    /// The connection wants to be told of this.
    pub(crate) fn listen(&self, tenant: &Tenant, slot: &Arc<Slot>, hears: &Hears) {
        let mut inner = self.inner.lock();
        if let Hears::Device(device) = hears {
            let mark = mark_of(tenant, device);
            let slots = inner.devices.entry(mark);
            if matches!(slots, Entry::Vacant(_)) {
                self.wanted.want(mark);
            }
            return add(slots, slot);
        }
        match hears {
            Hears::Devices => self.wanted.want_all(tenant),
            Hears::Presence => self.wanted.want_all(&records_tenant()),
            Hears::Device(_) | Hears::Topics(_) => {}
        }
        let crowd = inner.tenants.entry(tenant.clone()).or_default();
        match hears {
            Hears::Device(_) => {}
            Hears::Devices => crowd.shadows.push(Arc::clone(slot)),
            Hears::Presence => crowd.presence.push(Arc::clone(slot)),
            Hears::Topics(filter) if topics::has_wildcard(filter) => {
                crowd.wild.push((filter.clone(), Arc::clone(slot)));
            }
            Hears::Topics(filter) => add(crowd.exact.entry(filter.clone()), slot),
        }
    }

    /// The connection does not want to be told of this any more.
    pub(crate) fn ignore(&self, tenant: &Tenant, slot: &Arc<Slot>, hears: &Hears) {
        let mut inner = self.inner.lock();
        if let Hears::Device(device) = hears {
            let mark = mark_of(tenant, device);
            if take(&mut inner.devices, &mark, slot) {
                self.wanted.leave(mark);
            }
            return;
        }
        let Some(crowd) = inner.tenants.get_mut(tenant) else {
            return;
        };
        let is_other = |other: &Arc<Slot>| !Arc::ptr_eq(other, slot);
        match hears {
            Hears::Device(_) => {}
            Hears::Devices => {
                crowd.shadows.retain(is_other);
                self.wanted.leave_all(tenant);
            }
            Hears::Presence => {
                crowd.presence.retain(is_other);
                self.wanted.leave_all(&records_tenant());
            }
            Hears::Topics(filter) if topics::has_wildcard(filter) => {
                let is_this =
                    |(known, owner): &(Box<str>, Arc<Slot>)| known == filter && !is_other(owner);
                crowd.wild.retain(|entry| !is_this(entry));
            }
            Hears::Topics(filter) => {
                take(&mut crowd.exact, filter, slot);
            }
        }
        if crowd.is_empty() {
            inner.tenants.remove(tenant);
        }
    }

    /// Tells whoever may hear of this device's shadows.
    pub(crate) fn tell_of_device(&self, device: &DeviceKey, note: &Note) {
        let inner = self.inner.lock();
        if let Some(slots) = inner.devices.get(&mark_of(&device.tenant, &device.device)) {
            slots.tell(note);
        }
        if let Some(crowd) = inner.tenants.get(&device.tenant) {
            crowd
                .shadows
                .iter()
                .for_each(|slot| slot.tell(note.clone()));
        }
    }

    /// Whether a connection other than this one may hear of this device's shadows.
    pub(crate) fn others_hear(&self, device: &DeviceKey, slot: &Arc<Slot>) -> bool {
        let inner = self.inner.lock();
        let is_other = |other: &Arc<Slot>| !Arc::ptr_eq(other, slot);
        let hash = mark_of(&device.tenant, &device.device);
        let listening = inner.devices.get(&hash);
        let crowd = inner.tenants.get(&device.tenant);
        listening.is_some_and(|slots| slots.as_slice().iter().any(is_other))
            || crowd.is_some_and(|crowd| crowd.shadows.iter().any(is_other))
    }

    /// Tells whoever may hear of this device's shadows, but for this connection.
    pub(crate) fn tell_others(&self, device: &DeviceKey, slot: &Arc<Slot>, note: &Note) {
        let inner = self.inner.lock();
        let hash = mark_of(&device.tenant, &device.device);
        let listening = inner.devices.get(&hash).into_iter();
        let crowd = inner.tenants.get(&device.tenant).into_iter();
        let slots = listening
            .flat_map(|slots| slots.as_slice())
            .chain(crowd.flat_map(|crowd| &crowd.shadows));
        for other in slots.filter(|other| !Arc::ptr_eq(other, slot)) {
            other.tell(note.clone());
        }
    }

    /// Tells whoever may hear of clients that come and go.
    pub(crate) fn tell_of_presence(&self, tenant: &Tenant, note: &Note) {
        let inner = self.inner.lock();
        if let Some(crowd) = inner.tenants.get(tenant) {
            crowd
                .presence
                .iter()
                .for_each(|slot| slot.tell(note.clone()));
        }
    }

    /// Tells whoever may hear of what is published to a topic, each once.
    pub(crate) fn tell_of_topic(&self, tenant: &Tenant, topic: &str, note: &Note) {
        let inner = self.inner.lock();
        let Some(crowd) = inner.tenants.get(tenant) else {
            return;
        };
        let mut told: Vec<*const Slot> = Vec::new();
        let mut tell = |slot: &Arc<Slot>| {
            let pointer = Arc::as_ptr(slot);
            if !told.contains(&pointer) {
                told.push(pointer);
                slot.tell(note.clone());
            }
        };
        if let Some(slots) = crowd.exact.get(topic) {
            slots.as_slice().iter().for_each(&mut tell);
        }
        for (filter, slot) in &crowd.wild {
            if topics::matches(filter, topic) {
                tell(slot);
            }
        }
    }

    /// Tells a client, if it is connected here. `note` is given the name of its connection.
    pub(crate) fn tell_client(&self, client: ClientKey, note: impl FnOnce(Uuid) -> Note) {
        if let Some(client) = self.inner.lock().clients.get(&client) {
            client.slot.tell(note(client.session));
        }
    }

    /// Closes the connections for which most is waiting, until `excess_bytes` are freed or little is left
    /// that waits; gives their number. Looks at every connection.
    pub(crate) fn shed(&self, excess_bytes: u64) -> usize {
        let inner = self.inner.lock();
        let slots = inner.clients.values().map(|client| &client.slot);
        let backlogs = slots.map(|slot| (slot.backlog(), Arc::clone(slot)));
        let backlogs = backlogs.filter(|(bytes, _)| *bytes >= BACKLOG_BYTES_MIN);
        let backlogs = backlogs.collect();
        drop(inner);
        let chosen = shed::largest(backlogs, excess_bytes);
        for slot in &chosen {
            slot.tell(Note::Close(ServerCause::QuotaExceeded));
        }
        chosen.len()
    }

    /// The mailboxes of all that are connected, in no order.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        let inner = self.inner.lock();
        let clients = inner.clients.values();
        clients.map(|client| Arc::clone(&client.slot)).collect()
    }

    /// Tells everybody.
    pub(crate) fn tell_all(&self, note: &Note) {
        let inner = self.inner.lock();
        let clients = inner.clients.values();
        clients.for_each(|client| client.slot.tell(note.clone()));
    }
}

impl Crowd {
    fn is_empty(&self) -> bool {
        self.shadows.is_empty()
            && self.presence.is_empty()
            && self.exact.is_empty()
            && self.wild.is_empty()
    }
}

impl Slots {
    fn as_slice(&self) -> &[Arc<Slot>] {
        match self {
            Slots::One(slot) => std::slice::from_ref(slot),
            Slots::Many(slots) => slots,
        }
    }

    fn tell(&self, note: &Note) {
        self.as_slice()
            .iter()
            .for_each(|slot| slot.tell(note.clone()));
    }
}

/// Adds a connection, once for each time that it asks.
fn add<K>(entry: Entry<'_, K, Slots>, slot: &Arc<Slot>) {
    match entry {
        Entry::Vacant(entry) => {
            entry.insert(Slots::One(Arc::clone(slot)));
        }
        Entry::Occupied(mut entry) => {
            let mut slots = entry.get().as_slice().to_vec();
            if !slots.iter().any(|other| Arc::ptr_eq(other, slot)) {
                slots.push(Arc::clone(slot));
                entry.insert(Slots::Many(slots));
            }
        }
    }
}

/// Removes a connection; true when it was the last.
fn take<K, Q>(map: &mut HashMap<K, Slots>, key: &Q, slot: &Arc<Slot>) -> bool
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    let Some(slots) = map.get_mut(key) else {
        return false;
    };
    let mut left = slots.as_slice().to_vec();
    left.retain(|other| !Arc::ptr_eq(other, slot));
    let is_last = left.is_empty();
    if is_last {
        map.remove(key);
    } else {
        *slots = Slots::Many(left);
    }
    is_last
}

#[cfg(test)]
mod tests;
