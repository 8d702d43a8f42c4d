//! What clients publish: requests about shadows, and everything else.

use antumbra_shadow::{Conditions, Delete, DeviceId, Kind, Limits, ShadowName, Update};

use super::outbound::Shape;
use super::topic::Topic;
use crate::dialect::aws::{Refusal as Wrong, parse_client_token, parse_update};
use crate::gateway::dialect::channel::Verb;
use crate::gateway::dialect::identity::Identity;
use crate::gateway::dialect::intent::{Intent, Message, Origin, Reaction, Refusal, Reply, Target};

/// What a message asks for.
pub(super) fn receive(identity: &Identity, limits: &Limits, message: &Message<'_>) -> Reaction {
    let topic = Topic::parse(message.topic);
    // The shadow service takes no wills.
    if message.origin == Origin::Will && topic != Topic::Plain {
        return Reaction::ignore("will");
    }
    match topic {
        Topic::Plain => Reaction::now(Intent::Forward),
        Topic::Foreign => Reaction::refuse(Refusal::NotAuthorized),
        Topic::Reserved { family } => Reaction::ignore(family),
        Topic::Thing { thing, family } => match DeviceId::parse(thing) {
            Ok(device) => drop_message(identity, &device, family),
            Err(_) if identity.may_with_all(Verb::Update) => Reaction::ignore(family),
            Err(_) => Reaction::refuse(Refusal::NotAuthorized),
        },
        // Only the server speaks here.
        Topic::Channel { device, .. } => drop_message(identity, &device, "shadow"),
        // Checked before the payload is read, and again by the translator.
        Topic::Request { device, verb, .. } if !identity.may(verb, &device) => {
            Reaction::refuse(Refusal::NotAuthorized)
        }
        Topic::Request {
            device,
            shadow,
            verb,
        } => {
            let request = Request {
                target: Target { device, shadow },
                verb,
                limits,
                payload: message.payload,
            };
            match verb {
                Verb::Read => request.read(),
                Verb::Update => request.update(),
                Verb::Delete => request.delete(),
            }
        }
    }
}

/// A message to a topic of a thing that does nothing.
fn drop_message(identity: &Identity, device: &DeviceId, family: &'static str) -> Reaction {
    if Verb::ALL.iter().any(|&verb| identity.may(verb, device)) {
        Reaction::ignore(family)
    } else {
        Reaction::refuse(Refusal::NotAuthorized)
    }
}

/// A request about a shadow that the session may make.
struct Request<'a> {
    target: Target,
    verb: Verb,
    limits: &'a Limits,
    payload: &'a [u8],
}

impl Request<'_> {
    fn read(self) -> Reaction {
        match parse_client_token(self.payload, self.limits) {
            Ok(client_token) => Reaction::now(Intent::Read {
                target: self.target,
                client_token,
                reply: Reply::default(),
            }),
            Err(wrong) => self.refuse(wrong),
        }
    }

    fn update(self) -> Reaction {
        let request = match parse_update(self.payload, self.limits) {
            Ok(request) => request,
            Err(wrong) => return self.refuse(wrong),
        };
        let shape = match request.clears_state {
            true => Shape::StateNull,
            false => Shape::Sections,
        };
        let conditions = request.conditions();
        let Target { device, shadow } = self.target;
        Reaction::outcome(Intent::Change {
            device,
            kind: Kind::Update(Update {
                shadow,
                patch: request.patch,
                conditions,
            }),
            client_token: request.client_token,
            reply: shape.reply(),
        })
    }

    fn delete(self) -> Reaction {
        let client_token = match parse_client_token(self.payload, self.limits) {
            Ok(client_token) => client_token,
            Err(wrong) => return self.refuse(wrong),
        };
        let Target { device, shadow } = self.target;
        Reaction::outcome(Intent::Change {
            device,
            kind: delete_of(shadow),
            client_token,
            reply: Reply::default(),
        })
    }

    fn refuse(self, wrong: Wrong) -> Reaction {
        Reaction::now(Intent::Answer {
            target: self.target,
            verb: self.verb,
            error: wrong.error,
            client_token: wrong.client_token,
            reply: Reply::default(),
        })
    }
}

fn delete_of(shadow: ShadowName) -> Kind {
    Kind::Delete(Delete {
        shadow,
        conditions: Conditions::default(),
    })
}
