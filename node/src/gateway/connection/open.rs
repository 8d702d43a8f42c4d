//! What a connection has once its CONNECT is accepted.

use std::sync::Arc;

use antumbra_shadow::{DeviceId, DeviceKey, Patch, ShadowName, Tenant};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::access::Principal;
use crate::gateway::dialect::{
    Devices, Grant, Identity, Push, Reply, SessionRules, Subscriptions, Translator, Verb,
};
use crate::gateway::mqtt::session::DeliveryToken;
use crate::gateway::records::{ClientKey, Record};
use crate::gateway::registry::Hears;
use crate::gateway::tenants::Seat;
use crate::shadows::Want;

/// A push without PUBACK is repeated after so long, then after twice as long, and so on.
const REPEAT_MS: u64 = 20_000;
/// A push is repeated so often on one connection.
const REPEATS_MAX: u8 = 5;
/// Own answers that wait for their change.
const OWN_MAX: usize = 64;

/// An accepted connection.
pub(super) struct Open {
    pub(super) client: ClientKey,
    /// Names the connection.
    pub(super) session: Uuid,
    pub(super) translator: Translator,
    pub(super) subscriptions: Subscriptions,
    pub(super) rules: SessionRules,
    /// Who it has proven to be.
    pub(super) principal: Arc<Principal>,
    /// Its place among the sessions of its tenant, until it ends.
    pub(super) seat: Option<Seat>,
    /// The record of the session, when it has one.
    pub(super) record: Option<Box<Record>>,
    /// Lets this node hear of what others write to the record.
    _hears_record: Option<Want>,
    /// Version of the record that this connection wrote last.
    pub(super) epoch: Option<u64>,
    /// The greatest version of the record that another connection wrote, as long as our own is not
    /// known.
    pub(super) foreign_epoch: u64,
    /// The last version that was told of each shadow that is kept up to date.
    sent: Vec<Sent>,
    /// What is to be looked at later.
    due: Vec<Due>,
    /// Requests whose change has not come yet.
    own: Vec<Own>,
    next_token: u64,
}

/// What a client got for what it showed.
pub(super) struct Proof {
    pub(super) principal: Arc<Principal>,
    pub(super) seat: Seat,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    /// Hash of the device.
    device: u32,
    /// Hash of device and shadow.
    shadow: u64,
    version: u64,
}

/// A shadow that is to be looked at again.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) at_ms: u64,
    pub(super) device: DeviceKey,
    pub(super) shadow: ShadowName,
    /// A push that is repeated unless it was acknowledged before; `None` when the shadow could not
    /// be read.
    push: Option<Pushed>,
    repeats: u8,
}

#[derive(Debug, Clone, Copy)]
struct Pushed {
    token: DeliveryToken,
    push: Push,
}

/// A request whose answer is told with its change, so that all subscribers see one order.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) device: DeviceKey,
    pub(super) shadow: ShadowName,
    pub(super) version: u64,
    pub(super) reply: Reply,
}

impl Open {
    pub(super) fn new(
        (client, session): (ClientKey, Uuid),
        translator: Translator,
        subscriptions: Subscriptions,
        rules: SessionRules,
        proof: Proof,
        (record, epoch, hears_record): (Option<Record>, Option<u64>, Option<Want>),
    ) -> Open {
        Open {
            client,
            session,
            translator,
            subscriptions,
            rules,
            principal: proof.principal,
            seat: Some(proof.seat),
            record: record.map(Box::new),
            _hears_record: hears_record,
            epoch,
            foreign_epoch: 0,
            sent: Vec::new(),
            due: Vec::new(),
            own: Vec::new(),
            next_token: 0,
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        self.translator.identity()
    }

    pub(super) fn tenant(&self) -> &Tenant {
        &self.identity().tenant
    }

    /// What the registry has to tell.
    pub(super) fn hears(&self) -> Vec<Hears> {
        let mut hears: Vec<Hears> = Vec::new();
        for grant in self.subscriptions.grants() {
            let heard = match grant {
                Grant::Shadows(grant) => match &grant.devices {
                    Devices::All => Hears::Devices,
                    Devices::One(device) => Hears::Device(device.clone()),
                },
                Grant::Presence(_) => Hears::Presence,
                Grant::Topics(filter) => Hears::Topics(filter.clone()),
            };
            if !hears.contains(&heard) {
                hears.push(heard);
            }
        }
        hears
    }

    /// Names of deliveries that the session before gave are not given again.
    pub(super) fn skip_tokens(&mut self, last: DeliveryToken) {
        self.next_token = self.next_token.max(last.0);
    }

    pub(super) fn next_token(&mut self) -> DeliveryToken {
        self.next_token += 1;
        DeliveryToken(self.next_token)
    }

    /// The last version of a shadow that was told; 0 when none was.
    pub(super) fn sent_version(&self, device: &DeviceKey, shadow: &ShadowName) -> u64 {
        let shadow = hash_of(device, shadow);
        let mut sent = self.sent.iter();
        let found = sent.find(|sent| sent.shadow == shadow);
        found.map_or(0, |sent| sent.version)
    }

    /// A version of a shadow was told.
    pub(super) fn note_sent(&mut self, device: &DeviceKey, shadow: &ShadowName, version: u64) {
        let (shadow, device) = (hash_of(device, shadow), hash_of_device(&device.device));
        match self.sent.iter_mut().find(|sent| sent.shadow == shadow) {
            Some(sent) => sent.version = sent.version.max(version),
            None => self.sent.push(Sent {
                device,
                shadow,
                version,
            }),
        }
    }

    /// What was told of the shadows of a device does not count any more.
    pub(super) fn forget_sent(&mut self, device: &DeviceId) {
        let device = hash_of_device(device);
        self.sent.retain(|sent| sent.device != device);
    }

    /// A push leaves, to be repeated unless it is acknowledged.
    pub(super) fn pushed(
        &mut self,
        device: &DeviceKey,
        shadow: &ShadowName,
        push: Push,
        token: DeliveryToken,
        now_ms: u64,
    ) {
        let about = |due: &Due| due.device == *device && due.shadow == *shadow;
        let before = self.due.iter().find(|due| about(due));
        let repeats = before.filter(|due| {
            let same = |pushed: &Pushed| pushed.push.version == push.version;
            due.push.as_ref().is_some_and(same)
        });
        let repeats = repeats.map_or(0, |due| due.repeats + 1);
        self.due.retain(|due| {
            let is_older = due
                .push
                .is_none_or(|pushed| pushed.push.version < push.version);
            !(about(due) && (is_older || repeats > 0))
        });
        if repeats >= REPEATS_MAX {
            return;
        }
        self.due.push(Due {
            at_ms: now_ms + (REPEAT_MS << repeats),
            device: device.clone(),
            shadow: shadow.clone(),
            push: Some(Pushed { token, push }),
            repeats,
        });
    }

    /// A message arrived at the client.
    pub(super) fn acknowledged(&mut self, token: DeliveryToken) {
        if !self.due.is_empty() {
            let is_it = |due: &Due| due.push.is_some_and(|pushed| pushed.token == token);
            self.due.retain(|due| !is_it(due));
        }
    }

    /// Whether a delivery is a push, which is repeated until it is acknowledged.
    pub(super) fn is_push(&self, token: DeliveryToken) -> bool {
        let mut due = self.due.iter();
        due.any(|due| due.push.is_some_and(|pushed| pushed.token == token))
    }

    /// The device says that it took a push, or will not take it.
    pub(super) fn delivered(&mut self, shadow: &ShadowName, version: u64, part: u16) {
        self.due.retain(|due| {
            let is_it =
                |pushed: &Pushed| pushed.push.version == version && pushed.push.part == part;
            !(due.shadow == *shadow && due.push.as_ref().is_some_and(is_it))
        });
    }

    /// A message of this name could not be sent: the shadow is looked at again soon. `false` when it
    /// was no push.
    pub(super) fn failed(&mut self, token: DeliveryToken, at_ms: u64) -> bool {
        let mut due = self.due.iter_mut();
        let found = due.find(|due| due.push.is_some_and(|pushed| pushed.token == token));
        found.map(|due| due.at_ms = at_ms).is_some()
    }

    /// A shadow could not be read: it is looked at again.
    pub(super) fn look_again(&mut self, device: DeviceKey, shadow: ShadowName, at_ms: u64) {
        self.due.push(Due {
            at_ms,
            device,
            shadow,
            push: None,
            repeats: 0,
        });
    }

    /// When the next shadow is to be looked at.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.iter().map(|due| due.at_ms).min()
    }

    /// The shadows that are to be looked at now. Pushes stay until they are pushed again.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<Due> {
        let mut taken = Vec::new();
        self.due.retain_mut(|due| {
            if due.at_ms > now_ms {
                return true;
            }
            taken.push(due.clone());
            due.at_ms = now_ms + REPEAT_MS;
            due.push.is_some()
        });
        taken
    }

    /// A request was accepted; its change will come.
    pub(super) fn expect(&mut self, own: Own) {
        if self.own.len() >= OWN_MAX {
            self.own.remove(0);
        }
        self.own.push(own);
    }

    /// The reply of the request that made a change, if it was one of this session.
    pub(super) fn take_own(
        &mut self,
        device: &DeviceKey,
        shadow: &ShadowName,
        version: u64,
    ) -> Option<Own> {
        let is_it =
            |own: &Own| own.version == version && own.device == *device && own.shadow == *shadow;
        let place = self.own.iter().position(is_it)?;
        Some(self.own.remove(place))
    }
}

impl Due {
    /// Whether it repeats a push.
    pub(super) fn is_push(&self) -> bool {
        self.push.is_some()
    }
}

fn hash_of_device(device: &DeviceId) -> u32 {
    xxh3_64(device.as_str().as_bytes()) as u32
}

fn hash_of(device: &DeviceKey, shadow: &ShadowName) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(device.device.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(shadow.as_str().as_bytes());
    xxh3_64(&bytes)
}

/// What a request wants to do, for its answer.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) device: DeviceKey,
    pub(super) shadow: ShadowName,
    pub(super) verb: Verb,
    pub(super) client_token: Option<String>,
    pub(super) patch: Option<Patch>,
    pub(super) reply: Reply,
}
