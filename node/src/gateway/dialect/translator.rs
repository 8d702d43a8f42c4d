//! The dialect of one session behind the check of its role.
//!
//! Whatever a dialect makes of a message or filter, an intent or grant leaves this module only when
//! the role of the session allows it. The leader of the shard checks commands once more.

use antumbra_shadow::{BatchItem, DeviceId, Kind, Limits};

use super::channel::{Channels, Verb};
use super::connect::Connect;
use super::event::{Emit, Event};
use super::grant::{Devices, Grant};
use super::identity::Identity;
use super::intent::{End, Intent, Message, Reaction, Refusal};
use super::{Dialect, STATE_BYTES_MAX, SessionDialect, topic};

/// The conversation of one session: its dialect, its identity, and the check between them.
pub struct Translator {
    dialect: Box<dyn SessionDialect>,
    identity: Identity,
}

impl Translator {
    /// Starts the conversation. `state` is what [`Translator::state`] gave for the session before.
    pub fn open(
        dialect: &dyn Dialect,
        connect: &Connect<'_>,
        identity: Identity,
        state: &[u8],
    ) -> Translator {
        Translator {
            dialect: dialect.open(connect, &identity, state),
            identity,
        }
    }

    /// Whom the session belongs to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The subscriptions that hold without a SUBSCRIBE; those that the role does not allow are left
    /// out.
    pub fn implicit(&self) -> Vec<Grant> {
        let mut grants = self.dialect.implicit(&self.identity);
        grants.retain(|grant| allows_grant(&self.identity, grant));
        grants
    }

    /// What a filter brings. Empty when it is granted and nothing ever comes.
    ///
    /// # Errors
    ///
    /// When the text is no filter, or the dialect or the role does not allow it. A filter is granted
    /// as a whole or not at all.
    pub fn subscribe(&mut self, filter: &str) -> Result<Vec<Grant>, Refusal> {
        topic::check_filter(filter).map_err(|_| Refusal::InvalidTopic)?;
        if filter == "$share" || filter.starts_with("$share/") {
            return Err(Refusal::SharedSubscription);
        }
        let mut grants = self.dialect.subscribe(&self.identity, filter)?;
        for grant in &mut grants {
            if !allows_grant(&self.identity, grant) {
                return Err(Refusal::NotAuthorized);
            }
            self.share_device(grant);
        }
        Ok(grants)
    }

    /// What a message asks for. A message of which any part is not allowed is refused as a whole.
    pub fn receive(&mut self, limits: &Limits, message: &Message<'_>) -> Reaction {
        if topic::check_name(message.topic).is_err() {
            return Reaction::refuse(Refusal::InvalidTopic);
        }
        let reaction = self.dialect.receive(&self.identity, limits, message);
        let refused = reaction.intents.iter().find_map(|intent| match intent {
            Intent::Refuse(refusal) => Some(*refusal),
            intent if !allows(&self.identity, intent, message.topic) => {
                Some(Refusal::NotAuthorized)
            }
            _ => None,
        });
        refused.map_or(reaction, Reaction::refuse)
    }

    /// The messages that tell the session of an event, in order. `wanted` has the channels of the
    /// shadow concerned that the session hears, from
    /// [`Subscriptions::wanted`](super::Subscriptions::wanted).
    pub fn emit(&mut self, wanted: Channels, event: &Event<'_>) -> Vec<Emit> {
        self.dialect.emit(&self.identity, wanted, event)
    }

    /// What the end of the connection asks for; what is not allowed is left out.
    pub fn closed(&mut self, end: End) -> Vec<Intent> {
        let mut intents = self.dialect.closed(end);
        // There is no message that could be passed on.
        intents.retain(|intent| *intent != Intent::Forward && allows(&self.identity, intent, ""));
        intents
    }

    /// What to keep for the next connection of the session; nothing when the dialect has more to say
    /// than [`STATE_BYTES_MAX`].
    pub fn state(&self) -> Vec<u8> {
        let state = self.dialect.state();
        if state.len() <= STATE_BYTES_MAX {
            state
        } else {
            Vec::new()
        }
    }

    /// A grant about the session's own device shares its name instead of keeping another copy.
    fn share_device(&self, grant: &mut Grant) {
        if let (Grant::Shadows(shadows), Some(own)) = (grant, &self.identity.device)
            && matches!(&shadows.devices, Devices::One(one) if one == own)
        {
            shadows.devices = Devices::One(own.clone());
        }
    }
}

fn allows_grant(identity: &Identity, grant: &Grant) -> bool {
    match grant {
        Grant::Shadows(grant) => match &grant.devices {
            Devices::All => identity.may_with_all(Verb::Read),
            Devices::One(device) => identity.may(Verb::Read, device),
        },
        Grant::Presence(_) => identity.role.presence,
        Grant::Topics(filter) => identity.may_subscribe(filter),
    }
}

fn allows(identity: &Identity, intent: &Intent, topic: &str) -> bool {
    match intent {
        Intent::Read { target, .. } => identity.may(Verb::Read, &target.device),
        Intent::Change { device, kind, .. } => allows_change(identity, device, kind),
        Intent::Answer { target, verb, .. } => identity.may(*verb, &target.device),
        // A push is taken by the device itself, or by who may speak for it.
        Intent::Delivered { target, .. } => identity.may(Verb::Update, &target.device),
        Intent::Forward => identity.may_publish(topic),
        Intent::Send(_) | Intent::Ignore { .. } | Intent::Refuse(_) => true,
    }
}

fn allows_change(identity: &Identity, device: &DeviceId, kind: &Kind) -> bool {
    match kind {
        Kind::Update(_) => identity.may(Verb::Update, device),
        Kind::Delete(_) => identity.may(Verb::Delete, device),
        Kind::Batch(items) => items.iter().all(|item| match item {
            BatchItem::Update(_) => identity.may(Verb::Update, device),
            BatchItem::Delete(_) => identity.may(Verb::Delete, device),
        }),
    }
}

#[cfg(test)]
mod tests;
