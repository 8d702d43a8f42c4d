//! The AWS IoT dialect: the reserved topics and messages of the Device Shadow service and of lifecycle
//! events, as the AWS IoT Core developer guide and captured traffic show them. The message bodies are
//! those of [`crate::dialect::aws`], which the HTTP door shares.
//!
//! Differences from the service, on purpose: answers, deltas and documents of one shadow come in the
//! order of versions; a device that connects is sent what is left to do; a filter does not bring the
//! requests that others publish to `get`, `update` and `delete`.

mod filter;
mod inbound;
mod outbound;
mod presence;
#[cfg(test)]
mod tests;
mod topic;

use antumbra_shadow::{DeviceId, Limits};

use super::channel::{Channels, Verb};
use super::connect::{
    CatchUp, Claims, Connack, Connect, ConnectRefusal, Link, Proof, Protocol, Secret, SessionRules,
    Sniff,
};
use super::event::{Emit, Event, Publish};
use super::grant::Grant;
use super::identity::{Identity, Role};
use super::intent::{Message, Origin, Qos, Reaction, Refusal};
use super::translator::Translator;
use super::{Dialect, SessionDialect};

use self::filter::Things;

pub(crate) use self::presence::reason_text;

/// The AWS IoT dialect. It has no settings and its sessions no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Aws;

impl Dialect for Aws {
    fn name(&self) -> &'static str {
        "aws"
    }

    /// Nothing marks a client of AWS IoT, so it is what is left when no other dialect is sure.
    fn sniff(&self, _connect: &Connect<'_>) -> Sniff {
        Sniff::Maybe
    }

    fn claims(&self, connect: &Connect<'_>) -> Result<Claims, ConnectRefusal> {
        // The SDKs append `?SDK=…&Platform=…&Metadata=(…)` to the name, even to an empty one.
        let user = connect.username.unwrap_or_default();
        let user = user.split_once('?').map_or(user, |(user, _)| user);
        let proof = match (connect.link, connect.password) {
            (Link::Certificate, _) => Proof::Certificate,
            (Link::Anonymous, Some(Secret(password))) => Proof::Password {
                user: user.into(),
                password: password.into(),
            },
            (Link::Anonymous, None) if !user.is_empty() => {
                return Err(ConnectRefusal::BadCredentials);
            }
            (Link::Anonymous, None) => Proof::Nothing,
        };
        Ok(Claims {
            client_id: connect.client_id.into(),
            device: DeviceId::parse(connect.client_id).ok(),
            proof,
            expires: None,
        })
    }

    /// AWS answers wrong credentials with "not authorized" on MQTT 3.1.1; unconfirmed.
    fn connack(&self, refusal: ConnectRefusal) -> Connack {
        let codes = refusal.connack();
        match refusal {
            ConnectRefusal::BadCredentials => Connack {
                return_code: 0x05,
                ..codes
            },
            _ => codes,
        }
    }

    fn rules(&self, _connect: &Connect<'_>) -> SessionRules {
        SessionRules {
            // AWS asks for 30 at least; whoever asks for less here is taken at its word.
            keep_alive_seconds: 1..=1200,
            catch_up: CatchUp::Always,
            requests_max: 10,
            ..SessionRules::default()
        }
    }

    fn open(
        &self,
        _connect: &Connect<'_>,
        _identity: &Identity,
        _state: &[u8],
    ) -> Box<dyn SessionDialect> {
        Box::new(AwsSession)
    }
}

/// A session of the dialect. Nothing to remember, so a box of it takes no memory.
#[derive(Debug, Clone, Copy)]
struct AwsSession;

impl SessionDialect for AwsSession {
    fn subscribe(&mut self, identity: &Identity, filter: &str) -> Result<Vec<Grant>, Refusal> {
        if !filter.starts_with('$') {
            return Ok(vec![Grant::Topics(filter.into())]);
        }
        let compiled = filter::compile(filter).ok_or(Refusal::NotAuthorized)?;
        // A filter that reaches into the topics of a thing is refused for who may not hear of the
        // thing, whether or not anything is ever published there.
        let allowed = match compiled.things {
            Things::None => true,
            Things::One(thing) => match DeviceId::parse(thing) {
                Ok(device) => identity.may(Verb::Read, &device),
                Err(_) => identity.may_with_all(Verb::Read),
            },
            Things::All => identity.may_with_all(Verb::Read),
        };
        if !allowed {
            return Err(Refusal::NotAuthorized);
        }
        let shadows = compiled.shadows.map(Grant::Shadows);
        let presence = compiled.presence.map(Grant::Presence);
        Ok(shadows.into_iter().chain(presence).collect())
    }

    fn receive(&mut self, identity: &Identity, limits: &Limits, message: &Message<'_>) -> Reaction {
        inbound::receive(identity, limits, message)
    }

    fn emit(&mut self, identity: &Identity, wanted: Channels, event: &Event<'_>) -> Vec<Emit> {
        let publishes: Vec<Publish> = match event {
            Event::Answer(answer) => outbound::answer(wanted, answer).into_iter().collect(),
            Event::Change(change) => outbound::change(identity, wanted, change),
            Event::Current(current) => outbound::current(identity, wanted, current)
                .into_iter()
                .collect(),
            Event::Presence(presence) => presence::message(presence).into_iter().collect(),
        };
        publishes.into_iter().map(Emit::Publish).collect()
    }
}

/// Feeds arbitrary bytes to the dialect: a byte that chooses the identity, a byte pair with the length
/// of the topic, the topic (a filter, a client id and a user name as well), and the payload. Must not
/// panic.
pub fn fuzz(data: &[u8]) {
    let Some((&[choice, high, low], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (topic, payload) = rest.split_at(length);
    let topic = String::from_utf8_lossy(topic);
    let (device, role) = match choice % 2 {
        0 => (DeviceId::parse("pump").ok(), Role::device()),
        _ => (None, Role::backend()),
    };
    let connect = Connect {
        protocol: Protocol::Mqtt311,
        client_id: &topic,
        username: Some(&topic),
        password: (choice & 2 != 0).then_some(Secret(payload)),
        clean: true,
        keep_alive_seconds: 0,
        will_topic: Some(&topic),
        link: Link::Anonymous,
    };
    let _ = (
        Aws.sniff(&connect),
        Aws.claims(&connect),
        Aws.rules(&connect),
    );
    let identity = Identity {
        tenant: antumbra_shadow::Tenant::default(),
        device,
        client_id: "fuzz".into(),
        role: role.into(),
    };
    let mut translator = Translator::open(&Aws, &connect, identity, payload);
    let message = Message {
        topic: &topic,
        payload,
        qos: Qos::AtLeastOnce,
        origin: if choice & 4 == 0 {
            Origin::Publish
        } else {
            Origin::Will
        },
    };
    let _ = translator.receive(&Limits::default(), &message);
    let _ = translator.subscribe(&topic);
}
