//! The guard alone, with a dialect that obeys nobody.

#![allow(clippy::unwrap_used)]

use antumbra_shadow::{Conditions, Delete, DeviceId, Kind, Patch, ShadowName, Update};

use super::*;
use crate::error::Error;
use crate::gateway::dialect::harness::{backend, connect, device};
use crate::gateway::dialect::*;

/// Makes of every message, filter and end what it was told to.
#[derive(Clone, Default)]
struct Liar {
    intents: Vec<Intent>,
    grants: Vec<Grant>,
    state: Vec<u8>,
}

impl Dialect for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn sniff(&self, _: &Connect<'_>) -> Sniff {
        Sniff::Yes
    }

    fn claims(&self, _: &Connect<'_>) -> Result<Claims, ConnectRefusal> {
        Err(ConnectRefusal::BadIdentifier)
    }

    fn open(&self, _: &Connect<'_>, _: &Identity, _: &[u8]) -> Box<dyn SessionDialect> {
        Box::new(self.clone())
    }
}

impl SessionDialect for Liar {
    fn implicit(&self, _: &Identity) -> Vec<Grant> {
        self.grants.clone()
    }

    fn subscribe(&mut self, _: &Identity, _: &str) -> Result<Vec<Grant>, Refusal> {
        Ok(self.grants.clone())
    }

    fn receive(&mut self, _: &Identity, _: &Limits, _: &Message<'_>) -> Reaction {
        Reaction {
            intents: self.intents.clone(),
            acknowledge: Acknowledge::Outcome,
        }
    }

    fn emit(&mut self, _: &Identity, _: Channels, _: &Event<'_>) -> Vec<Emit> {
        Vec::new()
    }

    fn closed(&mut self, _: End) -> Vec<Intent> {
        self.intents.clone()
    }

    fn state(&self) -> Vec<u8> {
        self.state.clone()
    }
}

fn target(id: &str) -> Target {
    Target {
        device: DeviceId::parse(id).unwrap(),
        shadow: ShadowName::classic(),
    }
}

fn update() -> Update {
    Update {
        shadow: ShadowName::classic(),
        patch: Patch::clear_both(),
        conditions: Conditions::default(),
    }
}

fn delete() -> Delete {
    Delete {
        shadow: ShadowName::classic(),
        conditions: Conditions::default(),
    }
}

/// One of every intent that names a device.
fn intents(id: &str) -> Vec<Intent> {
    let reply = Reply::default;
    let change = |kind| Intent::Change {
        device: target(id).device,
        kind,
        client_token: None,
        reply: reply(),
    };
    let batch = vec![BatchItem::Update(update()), BatchItem::Delete(delete())];
    vec![
        Intent::Read {
            target: target(id),
            client_token: None,
            reply: reply(),
        },
        change(Kind::Update(update())),
        change(Kind::Delete(delete())),
        change(Kind::Batch(batch)),
        Intent::Answer {
            target: target(id),
            verb: Verb::Update,
            error: Error::NotFound,
            client_token: None,
            reply: reply(),
        },
        Intent::Delivered {
            target: target(id),
            version: 1,
            part: 0,
            taken: true,
        },
    ]
}

fn open(liar: Liar, identity: Identity) -> Translator {
    Translator::open(&liar, &connect(), identity, &[])
}

fn receive(intents: Vec<Intent>, identity: Identity, topic: &str) -> Reaction {
    let liar = Liar {
        intents,
        ..Liar::default()
    };
    let message = Message {
        topic,
        payload: b"",
        qos: Qos::AtLeastOnce,
        origin: Origin::Publish,
    };
    open(liar, identity).receive(&Limits::default(), &message)
}

/// Every intent is held against the role, and one that is not allowed takes the others with it.
#[test]
fn no_intent_passes_without_the_role() {
    let refused = Reaction::refuse(Refusal::NotAuthorized);
    for (own, other) in intents("pump").into_iter().zip(intents("valve")) {
        let allowed = receive(vec![own.clone()], device("pump"), "x");
        assert_eq!(allowed.intents, std::slice::from_ref(&own));
        assert_eq!(
            receive(vec![other.clone()], device("pump"), "x"),
            refused,
            "{other:?}"
        );
        let both = receive(vec![own, other.clone()], device("pump"), "x");
        assert_eq!(both, refused, "{other:?}");
        assert_eq!(
            receive(vec![other.clone()], backend(), "x").intents,
            [other]
        );
    }
    assert_eq!(receive(vec![Intent::Forward], device("pump"), "x"), refused);
    assert_eq!(receive(vec![Intent::Forward], backend(), "$aws/x"), refused);
    let invalid = Reaction::refuse(Refusal::InvalidTopic);
    assert_eq!(receive(vec![Intent::Forward], backend(), "a/+"), invalid);
}

/// A batch needs the right to every one of its items.
#[test]
fn a_batch_is_held_against_the_role_item_by_item() {
    let role = Role {
        shadows: vec![ShadowRule {
            verbs: vec![Verb::Update],
            devices: DeviceScope::Own,
        }],
        ..Role::default()
    };
    let identity = Identity {
        role: role.into(),
        ..device("pump")
    };
    let mut passed = Vec::new();
    for intent in intents("pump") {
        let reaction = receive(vec![intent.clone()], identity.clone(), "x");
        passed.push(reaction.intents == [intent]);
    }
    assert_eq!(passed, [false, true, false, false, true, true]);
}

/// Every grant is held against the role; what is implicit and not allowed is left out.
#[test]
fn no_grant_passes_without_the_role() {
    let shadows = |devices| {
        Grant::Shadows(ShadowGrant {
            devices,
            classic: Channels::ALL,
            named: Channels::NONE,
            names: Names::All,
        })
    };
    let own = shadows(Devices::One(target("pump").device));
    let others = [
        shadows(Devices::One(target("valve").device)),
        shadows(Devices::All),
        Grant::Topics("#".into()),
        Grant::Topics("device/+/x".into()),
        Grant::Presence(PresenceGrant {
            connected: true,
            disconnected: false,
            clients: "pump".into(),
        }),
    ];
    for other in others {
        let liar = Liar {
            grants: vec![own.clone(), other.clone()],
            ..Liar::default()
        };
        let mut pump = open(liar.clone(), device("pump"));
        assert_eq!(
            pump.subscribe("x"),
            Err(Refusal::NotAuthorized),
            "{other:?}"
        );
        assert_eq!(pump.implicit(), std::slice::from_ref(&own), "{other:?}");
        assert_eq!(open(liar, backend()).subscribe("x").unwrap().len(), 2);
    }
}

/// The end of a connection can do no more than a message, and state has a limit.
#[test]
fn the_end_of_a_session_is_guarded_too() {
    let mut all = intents("valve");
    all.push(Intent::Forward);
    all.extend(intents("pump"));
    let liar = Liar {
        intents: all,
        state: vec![0; STATE_BYTES_MAX],
        ..Liar::default()
    };
    let mut pump = open(liar.clone(), device("pump"));
    assert_eq!(pump.closed(End::Abrupt), intents("pump"));
    let mut cloud = open(liar.clone(), backend());
    let there_is_no_message = cloud.closed(End::Clean);
    assert!(!there_is_no_message.contains(&Intent::Forward));
    assert_eq!(pump.state().len(), STATE_BYTES_MAX);
    let state = vec![0; STATE_BYTES_MAX + 1];
    assert!(
        open(Liar { state, ..liar }, device("pump"))
            .state()
            .is_empty()
    );
}

/// Protects the memory of a million idle sessions.
#[test]
fn a_conversation_is_small() {
    assert!(size_of::<Translator>() <= 72, "{}", size_of::<Translator>());
}
