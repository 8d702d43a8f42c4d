//! What the client is told: changes, answers, messages of other clients, and what is left to do.

use std::sync::Arc;

use antumbra_shadow::{Change, DeviceKey, Document, FeedRecord, ShadowName, Time};

use super::job::Job;
use super::open::Due;
use super::{Connection, Stream};
use crate::error::Error;
use crate::gateway::dialect::{
    Answer, Answered, CatchUp, Channel, Channels, Current, Emit, Event, Grant, Presence, Publish,
    Qos as DialectQos, Request, Route, Verb,
};
use crate::gateway::metrics;
use crate::gateway::mqtt::session::{
    DeliverMessage, DeliveryToken, DropCause, Input, Origin, ServerCause,
};
use crate::gateway::mqtt::wire::{Message, Qos, Version};
use crate::gateway::plain::PlainMessage;
use crate::gateway::registry::Hears;
use crate::gateway::slot::{Note, Said};

/// Pause before a shadow that could not be read is read again.
const LOOK_AGAIN_MS: u64 = 1_000;
/// A push that did not fit is tried again after so long.
const FULL_PAUSE_MS: u64 = 5_000;

impl<S: Stream> Connection<S> {
    /// Takes what the node has to say.
    pub(super) fn take_notes(&mut self, notes: Vec<Note>) {
        for note in notes {
            let is_held = note
                .shadow()
                .is_some_and(|(device, shadow)| self.jobs.holds(device, shadow));
            match is_held {
                true => self.held.push(note),
                false => self.take_note(note),
            }
        }
    }

    /// Takes what had to wait for an answer.
    pub(super) fn take_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.take_notes(held);
    }

    fn take_note(&mut self, note: Note) {
        if self.open.is_none() {
            return;
        }
        match note {
            Note::Change(change) => self.shadow_changed(&change),
            Note::Record(record) => self.shadow_recorded(&record),
            Note::Message(message) => self.message(&message),
            Note::Said(said) => self.said(&said),
            Note::Presence(presence) => self.presence(&presence),
            Note::Resync => self.resync(),
            Note::Recorded {
                epoch,
                holds,
                cause,
            } => self.recorded(epoch, holds, cause),
            Note::Renew => self.renew(),
            Note::Close(cause) => self.input(Input::Close(cause)),
            Note::Overflowed => self.input(Input::Close(ServerCause::QuotaExceeded)),
        }
    }

    /// Looks again whether the client may be here, and closes the connection when it may not, or when
    /// it may do other things than before.
    pub(super) fn renew(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        match self.door.gate.renew(&open.principal) {
            Ok(renewed) => open.principal = Arc::new(renewed),
            Err(denied) => {
                tracing::info!(
                    client = &*open.identity().client_id,
                    cause = denied.word(),
                    "a client may no longer be here"
                );
                self.input(Input::Close(ServerCause::NotAuthorized));
            }
        }
    }

    fn shadow_changed(&mut self, change: &Change) {
        let Some(open) = &mut self.open else {
            return;
        };
        let (device, shadow) = (&change.device, &change.shadow);
        let own = open.take_own(device, shadow, change.version);
        let wanted = open.subscriptions.wanted(&device.device, shadow);
        if own.is_none() && wanted.is_empty() {
            return;
        }
        let answer = Answer::of_change(change, own.as_ref().map(|own| &own.reply));
        self.tell(device, shadow, Some(wanted), &Event::Answer(answer));
        let Some(open) = &mut self.open else {
            return;
        };
        let is_told = open.sent_version(device, shadow) >= change.version;
        let wanted = match is_told {
            true => wanted.without(Channel::Desired),
            false => wanted,
        };
        if wanted.contains(Channel::Desired) && !open.subscriptions.crosses_devices() {
            open.note_sent(device, shadow, change.version);
        }
        self.tell(device, shadow, Some(wanted), &Event::Change(change));
    }

    /// A change whose documents are not at hand: the answer is told, and the shadow looked at.
    fn shadow_recorded(&mut self, record: &FeedRecord) {
        let verb = match record.deleted {
            true => Verb::Delete,
            false => Verb::Update,
        };
        let answer = Answer {
            request: Request {
                device: &record.device,
                shadow: &record.shadow,
                verb,
                client_token: record.client_token.as_deref(),
                patch: Some(&record.patch),
                reply: None,
            },
            result: Answered::Accepted {
                version: record.version,
            },
            time: record.time,
        };
        let (device, shadow) = (&record.device, &record.shadow);
        self.tell(device, shadow, None, &Event::Answer(answer));
        let wanted = self
            .open
            .as_ref()
            .map(|open| open.subscriptions.wanted(&device.device, shadow));
        if wanted.is_some_and(|wanted| wanted.contains(Channel::Desired)) {
            self.jobs.look(device.clone(), shadow.clone(), false);
        }
    }

    /// A shadow was read to see what is left to do.
    pub(super) fn looked(
        &mut self,
        device: DeviceKey,
        shadow: ShadowName,
        again: bool,
        result: Result<Document, Error>,
    ) {
        let now_ms = self.door.clocks.now_ms();
        let time = self.door.clocks.time();
        let Some(open) = &mut self.open else {
            return;
        };
        let document = match result {
            Ok(document) => document,
            Err(Error::NotFound | Error::PermissionDenied) => return,
            Err(_) => return open.look_again(device, shadow, now_ms + LOOK_AGAIN_MS),
        };
        let sent_version = open.sent_version(&device, &shadow);
        let is_missed = document.version() > sent_version;
        let is_due = match open.rules.catch_up {
            CatchUp::Always => again || is_missed,
            CatchUp::Missed => is_missed,
            CatchUp::Never => false,
        };
        if !is_due {
            return;
        }
        open.note_sent(&device, &shadow, document.version());
        let wanted = open.subscriptions.wanted(&device.device, &shadow);
        if !wanted.contains(Channel::Desired) {
            return;
        }
        let only: Channels = [Channel::Desired].into_iter().collect();
        let current = Current {
            device: &device,
            shadow: &shadow,
            document: &document,
            sent_version,
            time,
        };
        self.tell(&device, &shadow, Some(only), &Event::Current(current));
    }

    /// Named shadows were found, and each is looked at.
    pub(super) fn listed(&mut self, device: &DeviceKey, result: Result<Vec<ShadowName>, Error>) {
        match result {
            Ok(names) => {
                let named = names.into_iter().filter(|name| !name.is_classic());
                named.for_each(|name| self.jobs.look(device.clone(), name, false));
            }
            Err(Error::PermissionDenied) => {}
            // The next change of a shadow, or the next connection, tells what is missing.
            Err(error) => tracing::debug!(%error, "list the shadows of a device"),
        }
    }

    /// Looks at what is due.
    pub(super) fn look_at_due(&mut self, now_ms: u64) {
        let due = self.open.as_mut().map(|open| open.take_due(now_ms));
        for due in due.unwrap_or_default() {
            let again = due.is_push();
            if again {
                metrics::repeated();
            }
            let Due { device, shadow, .. } = due;
            self.jobs.look(device, shadow, again);
        }
    }

    /// Changes may have been missed.
    fn resync(&mut self) {
        let Some(open) = &self.open else {
            return;
        };
        let grants: Vec<Grant> = open.subscriptions.grants().cloned().collect();
        if let Some(record) = &open.record {
            self.jobs.push(Job::Check(record.clone()));
        }
        self.look_at(&grants);
    }

    /// The record of this client was written. A later one of another connection takes the session
    /// over.
    fn recorded(&mut self, epoch: u64, holds: bool, cause: ServerCause) {
        let Some(open) = &mut self.open else {
            return;
        };
        match (holds, open.epoch) {
            (true, _) => open.epoch = open.epoch.max(Some(epoch)),
            (false, Some(own)) if epoch > own => {
                // The record is not ours any more, so its end is not ours to write.
                open.record = None;
                self.input(Input::Close(cause));
            }
            (false, Some(_)) => {}
            // Which of them is later is known when the own write is.
            (false, None) => open.foreign_epoch = open.foreign_epoch.max(epoch),
        }
    }

    /// The record of this connection was written, or was not.
    pub(super) fn recorded_late(&mut self, result: Result<u64, Error>) {
        let Some(open) = &mut self.open else {
            return;
        };
        match result {
            Ok(epoch) => {
                open.epoch = open.epoch.max(Some(epoch));
                if open.foreign_epoch > epoch {
                    self.input(Input::Close(ServerCause::TakenOver));
                }
            }
            // Nobody else knows of this connection; without presence that is no harm.
            Err(error) => {
                tracing::debug!(%error, "the record of a session is not written");
                open.record = None;
            }
        }
    }

    /// The own record was read, because changes of it may have been missed.
    pub(super) fn checked(
        &mut self,
        result: Result<Option<(crate::gateway::records::Record, u64)>, Error>,
    ) {
        let Some(open) = &self.open else {
            return;
        };
        if let (Ok(Some((record, epoch))), Some(own)) = (result, &open.record) {
            let holds = record.session == own.session && record.connected;
            self.recorded(epoch, holds, ServerCause::TakenOver);
        }
    }

    fn message(&mut self, message: &Arc<PlainMessage>) {
        let Some(open) = &mut self.open else {
            return;
        };
        let origin = match message.publisher == open.client {
            true => Origin::Same,
            false => Origin::Other,
        };
        let topic = &message.message.topic;
        let Some(route) = self.session.subscriptions().route(topic, origin) else {
            return;
        };
        let token = open.next_token();
        metrics::sent();
        self.input(Input::Deliver(Box::new(DeliverMessage {
            token,
            message: message.message.clone(),
            qos: message.qos.min(route.qos),
            subscription_identifiers: route.identifiers,
        })));
    }

    fn presence(&mut self, presence: &Presence) {
        let Some(open) = &mut self.open else {
            return;
        };
        let kind = presence.kind();
        let Some(granted) = open.subscriptions.presence(kind, &presence.client_id) else {
            return;
        };
        let event = Event::Presence(presence);
        for emit in open.translator.emit(Channels::NONE, &event) {
            match emit {
                Emit::Publish(publish) => {
                    let qos = publish.qos.min(granted);
                    self.deliver(publish, qos, None);
                }
                Emit::Close(_) => self.input(Input::Close(ServerCause::NotAuthorized)),
            }
        }
    }

    /// Tells the client of something about a shadow, as far as it hears of it.
    pub(super) fn tell(
        &mut self,
        device: &DeviceKey,
        shadow: &ShadowName,
        wanted: Option<Channels>,
        event: &Event<'_>,
    ) {
        let Some(open) = &mut self.open else {
            return;
        };
        let wanted = wanted.unwrap_or_else(|| open.subscriptions.wanted(&device.device, shadow));
        for emit in open.translator.emit(wanted, event) {
            let publish = match emit {
                Emit::Publish(publish) => publish,
                Emit::Close(_) => {
                    self.input(Input::Close(ServerCause::NotAuthorized));
                    continue;
                }
            };
            let granted = match (&self.open, publish.route) {
                (Some(open), Route::Shadow(channel)) => {
                    open.subscriptions.qos(&device.device, shadow, channel)
                }
                (Some(_), Route::Direct) => Some(publish.qos),
                _ => None,
            };
            if let Some(granted) = granted {
                let qos = publish.qos.min(granted);
                self.deliver(publish, qos, Some((device, shadow)));
            }
        }
    }

    /// Tells the client the answer to one of its requests, and whoever else on this node hears of
    /// it: clouds show everybody's answers to every subscriber.
    pub(super) fn tell_answer(
        &mut self,
        device: &DeviceKey,
        shadow: &ShadowName,
        answer: &Answer<'_>,
    ) {
        let event = Event::Answer(*answer);
        if !self.door.registry.others_hear(device, &self.slot) {
            return self.tell(device, shadow, None, &event);
        }
        let Some(open) = &mut self.open else {
            return;
        };
        for emit in open.translator.emit(Channels::ALL, &event) {
            let publish = match emit {
                Emit::Publish(publish) => publish,
                Emit::Close(_) => {
                    self.input(Input::Close(ServerCause::NotAuthorized));
                    continue;
                }
            };
            let Route::Shadow(channel) = publish.route else {
                // For who asked alone.
                let qos = publish.qos;
                self.deliver(publish, qos, None);
                continue;
            };
            let said = Arc::new(Said {
                device: device.clone(),
                shadow: shadow.clone(),
                channel,
                dialect: self.dialect,
                publish,
            });
            let note = Note::Said(Arc::clone(&said));
            self.door.registry.tell_others(device, &self.slot, &note);
            self.said(&said);
        }
    }

    /// Somebody was answered.
    fn said(&mut self, said: &Said) {
        let granted = self.open.as_ref().and_then(|open| {
            let subscriptions = &open.subscriptions;
            subscriptions.qos(&said.device.device, &said.shadow, said.channel)
        });
        if let Some(granted) = granted.filter(|_| said.dialect == self.dialect) {
            let publish = said.publish.clone();
            let qos = publish.qos.min(granted);
            self.deliver(publish, qos, None);
        }
    }

    /// Sends a message that a dialect made.
    pub(super) fn deliver(
        &mut self,
        publish: Publish,
        qos: DialectQos,
        about: Option<(&DeviceKey, &ShadowName)>,
    ) {
        let now_ms = self.door.clocks.now_ms();
        let Some(open) = &mut self.open else {
            return;
        };
        let token = open.next_token();
        let qos = match qos {
            DialectQos::AtMostOnce => Qos::AtMostOnce,
            DialectQos::AtLeastOnce => Qos::AtLeastOnce,
        };
        if let (Some((device, shadow)), Some(push), Qos::AtLeastOnce) = (about, publish.push, qos) {
            open.pushed(device, shadow, push, token, now_ms);
        }
        // Only MQTT 5 has identifiers.
        let identifiers = match self.session.version() {
            Version::V5 => self
                .session
                .subscriptions()
                .route(&publish.topic, Origin::Other)
                .map(|route| route.identifiers),
            Version::V31 | Version::V311 => None,
        };
        metrics::sent();
        self.input(Input::Deliver(Box::new(DeliverMessage {
            token,
            message: Message::new(publish.topic, publish.payload),
            qos,
            subscription_identifiers: identifiers.unwrap_or_default(),
        })));
    }

    /// A message was not sent.
    pub(super) fn dropped(&mut self, token: DeliveryToken, cause: DropCause) {
        let label = match cause {
            DropCause::NotConnected => "not_connected",
            DropCause::TooLarge => "too_large",
            DropCause::QueueFull => "queue_full",
            DropCause::Expired => "expired",
            DropCause::NotEncodable => "not_encodable",
        };
        metrics::dropped(label);
        let now_ms = self.door.clocks.now_ms();
        let Some(open) = &mut self.open else {
            return;
        };
        match cause {
            DropCause::QueueFull => {
                // A push is made anew from the document; anything else would be a gap.
                if !open.failed(token, now_ms + FULL_PAUSE_MS) {
                    self.input(Input::Close(ServerCause::QuotaExceeded));
                }
            }
            // It can never be sent, so it is not tried again.
            _ => open.acknowledged(token),
        }
    }

    /// Tells the registry what has changed in what the client hears.
    pub(super) fn listen(&mut self, before: &[Hears]) {
        let Some(open) = &self.open else {
            return;
        };
        let after = open.hears();
        let tenant = open.tenant();
        for hears in after.iter().filter(|hears| !before.contains(hears)) {
            self.door.registry.listen(tenant, &self.slot, hears);
        }
        for hears in before.iter().filter(|hears| !after.contains(hears)) {
            self.door.registry.ignore(tenant, &self.slot, hears);
        }
    }
}

/// The time of day in milliseconds.
pub(super) fn milliseconds(time: Time) -> u64 {
    time.milliseconds()
}
