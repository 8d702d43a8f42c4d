//! Sessions of any dialects around shadows in memory: what a node does with the boundary, without a
//! network or a cluster. Knows no dialect.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use antumbra_shadow::apply::apply;
use antumbra_shadow::{
    Change, DeviceEntry, DeviceId, DeviceKey, Document, Draft, Kind, Limits, Outcome, Patch,
    Position, RowKey, Rows, SectionInput, ShadowName, Tenant, Time, Update, json,
};
use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::error::Error;

/// All sessions and shadows of one tenant.
#[derive(Default)]
pub(super) struct World {
    store: Store,
    members: Vec<Member>,
    /// What the next command fails with, instead of being carried out.
    pub(super) fault: Option<Error>,
}

struct Member {
    translator: Translator,
    subscriptions: Subscriptions,
    inbox: Vec<Publish>,
}

/// What became of a message that a session published.
#[derive(Debug, PartialEq)]
pub(super) enum Published {
    /// Acknowledged, as one with QoS 1.
    Acknowledged,
    /// Dropped, and acknowledged.
    Ignored(&'static str),
    /// Passed on to other clients.
    Forwarded,
    /// The device has taken a push.
    Delivered(u64),
    /// Refused.
    Refused(Refusal),
    /// The link is closed because its PUBACK would have been a lie.
    Closed,
}

impl World {
    /// Connects a session.
    pub(super) fn join(&mut self, dialect: &dyn Dialect, identity: Identity) -> usize {
        let translator = Translator::open(dialect, &connect(), identity, &[]);
        let mut subscriptions = Subscriptions::default();
        subscriptions.add_implicit(translator.implicit(), Qos::AtLeastOnce);
        self.members.push(Member {
            translator,
            subscriptions,
            inbox: Vec::new(),
        });
        self.members.len() - 1
    }

    pub(super) fn subscribe(&mut self, member: usize, filter: &str) -> Result<(), Refusal> {
        let member = &mut self.members[member];
        let grants = member.translator.subscribe(filter)?;
        member.subscriptions.add(filter, grants, Qos::AtLeastOnce);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, member: usize, filter: &str) {
        self.members[member].subscriptions.remove(filter);
    }

    /// Publishes a message and carries out what it asks for.
    pub(super) fn publish(&mut self, member: usize, topic: &str, payload: &str) -> Published {
        let message = Message {
            topic,
            payload: payload.as_bytes(),
            qos: Qos::AtLeastOnce,
            origin: Origin::Publish,
        };
        let reaction = self.members[member]
            .translator
            .receive(&Limits::default(), &message);
        let mut published = Published::Acknowledged;
        let mut all_done = true;
        for intent in reaction.intents {
            match intent {
                Intent::Ignore { family } => published = Published::Ignored(family),
                Intent::Refuse(refusal) => return Published::Refused(refusal),
                Intent::Forward => {
                    self.forward(topic, payload);
                    published = Published::Forwarded;
                }
                Intent::Delivered { version, .. } => published = Published::Delivered(version),
                Intent::Send(publishes) => self.members[member].inbox.extend(publishes),
                intent => all_done &= self.carry_out(member, intent),
            }
        }
        if !all_done && reaction.acknowledge == Acknowledge::Success {
            return Published::Closed;
        }
        published
    }

    /// A change through another door.
    pub(super) fn change(&mut self, device: &str, desired: &str) -> Change {
        let value = json::parse(desired.as_bytes(), json::DuplicateKeys::Reject, 16).unwrap();
        let limits = Limits::default();
        let patch = Patch::build(SectionInput::Merge(&value), SectionInput::Absent, &limits);
        let kind = Kind::Update(Update {
            shadow: ShadowName::classic(),
            patch: patch.unwrap(),
            conditions: Default::default(),
        });
        let (outcome, changes) = self.store.run(&key(device), None, kind);
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
        self.tell(&changes[0], None);
        changes[0].clone()
    }

    /// Brings a session up to date after it has missed changes.
    pub(super) fn catch_up(&mut self, member: usize, device: &str, sent_version: u64) {
        let (device, shadow) = (key(device), ShadowName::classic());
        let document = self.store.document(&device, &shadow).unwrap();
        let current = Current {
            device: &device,
            shadow: &shadow,
            document: &document,
            sent_version,
            time: self.store.now(),
        };
        self.emit(member, &device, &shadow, &Event::Current(current));
    }

    /// Tells of a client that came or went.
    pub(super) fn presence(&mut self, presence: &Presence) {
        for member in &mut self.members {
            let (kind, client) = (presence.kind(), &presence.client_id);
            if member.subscriptions.presence(kind, client).is_some() {
                let emitted = member
                    .translator
                    .emit(Channels::NONE, &Event::Presence(presence));
                member.receive(emitted, |_| panic!("no channel of a shadow"));
            }
        }
    }

    /// Takes what a session was sent: topics and payloads.
    pub(super) fn take(&mut self, member: usize) -> Vec<(String, Value)> {
        let publishes = self.members[member].inbox.drain(..);
        publishes
            .map(|publish| {
                let payload = match publish.payload.is_empty() {
                    true => Value::Null,
                    false => serde_json::from_slice(&publish.payload).unwrap(),
                };
                (publish.topic, payload)
            })
            .collect()
    }

    /// Takes what a session was sent, as it was.
    pub(super) fn take_publishes(&mut self, member: usize) -> Vec<Publish> {
        std::mem::take(&mut self.members[member].inbox)
    }

    fn carry_out(&mut self, member: usize, intent: Intent) -> bool {
        let fault = self.fault.take();
        match intent {
            Intent::Read {
                target,
                client_token,
                reply,
            } => {
                let device = self.key_of(member, &target.device);
                let found = self.store.document(&device, &target.shadow);
                let found = found.filter(|document| !document.is_deleted());
                let found = fault.map_or(found.ok_or(Error::NotFound), Err);
                let result = match &found {
                    Ok(document) => Answered::Document(document),
                    Err(error) => Answered::Refused(error),
                };
                let request = request(&device, &target.shadow, Verb::Read, &client_token, &reply);
                self.answer(member, request, result);
                found.is_ok()
            }
            Intent::Answer {
                target,
                verb,
                error,
                client_token,
                reply,
            } => {
                let device = self.key_of(member, &target.device);
                let request = request(&device, &target.shadow, verb, &client_token, &reply);
                self.answer(member, request, Answered::Refused(&error));
                false
            }
            Intent::Change {
                device,
                kind,
                client_token,
                reply,
            } => {
                let device = self.key_of(member, &device);
                let (shadow, verb) = match &kind {
                    Kind::Update(update) => (update.shadow.clone(), Verb::Update),
                    Kind::Delete(delete) => (delete.shadow.clone(), Verb::Delete),
                    Kind::Batch(_) => panic!("no dialect here makes batches"),
                };
                let error = match fault {
                    Some(error) => error,
                    None => match self.store.run(&device, client_token.clone(), kind) {
                        (Outcome::Accepted(_), changes) => {
                            self.tell(&changes[0], Some((member, &reply)));
                            return true;
                        }
                        (Outcome::Rejected(rejection), _) => rejection.into(),
                    },
                };
                let request = request(&device, &shadow, verb, &client_token, &reply);
                self.answer(member, request, Answered::Refused(&error));
                false
            }
            other => panic!("{other:?} is not carried out"),
        }
    }

    fn key_of(&self, member: usize, device: &DeviceId) -> DeviceKey {
        let identity = self.members[member].translator.identity();
        DeviceKey::new(identity.tenant.clone(), device.clone())
    }

    /// An answer goes to everybody; only who asked has the handle.
    fn answer(&mut self, asked: usize, request: Request<'_>, result: Answered<'_>) {
        for member in 0..self.members.len() {
            let reply = request.reply.filter(|_| member == asked);
            let answer = Answer {
                request: Request { reply, ..request },
                result,
                time: self.store.now(),
            };
            self.emit(
                member,
                request.device,
                request.shadow,
                &Event::Answer(answer),
            );
        }
    }

    fn tell(&mut self, change: &Change, asked: Option<(usize, &Reply)>) {
        for member in 0..self.members.len() {
            let reply = asked.filter(|(asked, _)| *asked == member);
            let answer = Answer::of_change(change, reply.map(|(_, reply)| reply));
            for event in [Event::Answer(answer), Event::Change(change)] {
                self.emit(member, &change.device, &change.shadow, &event);
            }
        }
    }

    fn emit(&mut self, member: usize, device: &DeviceKey, shadow: &ShadowName, event: &Event<'_>) {
        let member = &mut self.members[member];
        let wanted = member.subscriptions.wanted(&device.device, shadow);
        let emitted = member.translator.emit(wanted, event);
        member.receive(emitted, |channel| wanted.contains(channel));
    }

    fn forward(&mut self, topic: &str, payload: &str) {
        for member in &mut self.members {
            if member.subscriptions.topic(topic).is_some() {
                let payload = payload.to_owned();
                let publish = Publish::new(topic.to_owned(), payload, Route::Direct);
                member.inbox.push(publish);
            }
        }
    }
}

impl Member {
    fn receive(&mut self, emitted: Vec<Emit>, wanted: impl Fn(Channel) -> bool) {
        for emit in emitted {
            let Emit::Publish(publish) = emit else {
                panic!("no dialect here closes links")
            };
            if let Route::Shadow(channel) = publish.route {
                assert!(wanted(channel), "{publish:?} is not wanted");
            }
            self.inbox.push(publish);
        }
    }
}

fn request<'a>(
    device: &'a DeviceKey,
    shadow: &'a ShadowName,
    verb: Verb,
    client_token: &'a Option<String>,
    reply: &'a Reply,
) -> Request<'a> {
    Request {
        device,
        shadow,
        verb,
        client_token: client_token.as_deref(),
        patch: None,
        reply: Some(reply),
    }
}

/// A CONNECT packet that says nothing.
pub(super) fn connect<'a>() -> Connect<'a> {
    Connect {
        protocol: Protocol::Mqtt311,
        client_id: "",
        username: None,
        password: None,
        clean: true,
        keep_alive_seconds: 60,
        will_topic: None,
        link: Link::Anonymous,
    }
}

/// A device with the role that devices have when nobody says otherwise.
pub(super) fn device(id: &str) -> Identity {
    Identity {
        tenant: Tenant::default(),
        device: Some(DeviceId::parse(id).unwrap()),
        client_id: id.into(),
        role: Role::device().into(),
    }
}

/// A backend that may do everything within the tenant.
pub(super) fn backend() -> Identity {
    Identity {
        tenant: Tenant::default(),
        device: None,
        client_id: "backend".into(),
        role: Role::backend().into(),
    }
}

fn key(device: &str) -> DeviceKey {
    DeviceKey::new(Tenant::default(), DeviceId::parse(device).unwrap())
}

/// Shadows in memory. The clock is one second and 999 ms on at every command.
#[derive(Default)]
struct Store {
    rows: BTreeMap<RowKey, Bytes>,
    index: u64,
}

impl Store {
    fn now(&self) -> Time {
        Time((1_700_000_000 + self.index) * 1_000 + 999)
    }

    fn run(
        &mut self,
        device: &DeviceKey,
        token: Option<String>,
        kind: Kind,
    ) -> (Outcome, Vec<Change>) {
        self.index += 1;
        let mut draft = Draft::new("test", kind);
        draft.client_token = token;
        let entry = DeviceEntry::new(device.clone(), vec![draft.stamp(self.now())]);
        let first = Position::first(self.index);
        let applied = apply(self, first, &entry).unwrap().remove(0);
        (applied.outcome, applied.changes)
    }

    fn document(&self, device: &DeviceKey, shadow: &ShadowName) -> Option<Document> {
        let row = self
            .rows
            .get(&RowKey::Document(device.clone(), shadow.clone()))?;
        Some(Document::decode(row.clone()).unwrap())
    }
}

impl Rows for Store {
    type Error = String;

    fn get(&mut self, key: &RowKey) -> Result<Option<Bytes>, String> {
        Ok(self.rows.get(key).cloned())
    }

    fn put(&mut self, key: &RowKey, value: Bytes) {
        self.rows.insert(key.clone(), value);
    }

    fn delete(&mut self, key: &RowKey) {
        self.rows.remove(key);
    }

    fn damaged(&self, key: &RowKey) -> String {
        format!("{key:?} is damaged")
    }
}
