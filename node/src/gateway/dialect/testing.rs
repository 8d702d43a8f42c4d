//! A dialect of other habits than AWS, so that no session code grows used to one cloud: a token names
//! the device, nothing is subscribed to, `desired` comes as the patch that was applied, each section
//! has its version, and an update without a request id is answered by its PUBACK alone.
//!
//! Up: `t/report`, `t/report/{id}/{base}`, `t/done/{version}`. Down: `t/reply/{id}/{status}/{version}`
//! to who asked, `t/desired/{version}`.

use antumbra_shadow::json::{self, DuplicateKeys};
use antumbra_shadow::{Conditions, Kind, Limits, Patch, Section, SectionInput, ShadowName, Update};

use super::*;

/// The dialect; its own session, since there is nothing to remember.
#[derive(Debug, Clone, Copy, Default)]
pub struct TestDialect;

impl Dialect for TestDialect {
    fn name(&self) -> &'static str {
        "test"
    }

    fn sniff(&self, connect: &Connect<'_>) -> Sniff {
        match connect.username {
            Some(name) if name.starts_with("token=") => Sniff::Yes,
            _ => Sniff::No,
        }
    }

    fn claims(&self, connect: &Connect<'_>) -> Result<Claims, ConnectRefusal> {
        let token = connect.username.and_then(|n| n.strip_prefix("token="));
        let token = token.ok_or(ConnectRefusal::BadCredentials)?;
        Ok(Claims {
            client_id: "".into(),
            device: None,
            proof: Proof::Token(token.as_bytes().into()),
            expires: None,
        })
    }

    fn open(&self, _: &Connect<'_>, _: &Identity, _: &[u8]) -> Box<dyn SessionDialect> {
        Box::new(*self)
    }
}

impl SessionDialect for TestDialect {
    fn implicit(&self, identity: &Identity) -> Vec<Grant> {
        let own = identity.device.clone().into_iter();
        let desired = [Channel::Desired].into_iter().collect();
        own.map(|device| Grant::Shadows(ShadowGrant::of_device(device, desired)))
            .collect()
    }

    fn subscribe(&mut self, _: &Identity, _: &str) -> Result<Vec<Grant>, Refusal> {
        Ok(Vec::new())
    }

    fn receive(&mut self, identity: &Identity, limits: &Limits, message: &Message<'_>) -> Reaction {
        let Some(device) = identity.device.clone() else {
            return Reaction::refuse(Refusal::NotAuthorized);
        };
        let levels: Vec<&str> = message.topic.split('/').collect();
        let (base, acknowledge, id) = match levels[..] {
            ["t", "report"] => (None, Acknowledge::Success, None),
            ["t", "report", id, base] => (base.parse().ok(), Acknowledge::Outcome, Some(id)),
            ["t", "done", version] => {
                let target = Target {
                    device,
                    shadow: ShadowName::classic(),
                };
                let version = version.parse().unwrap_or(0);
                return Reaction::now(Intent::Delivered {
                    target,
                    version,
                    part: 0,
                    taken: true,
                });
            }
            _ => return Reaction::refuse(Refusal::NotAuthorized),
        };
        let Some(patch) = reported(message.payload, limits) else {
            return Reaction::refuse(Refusal::InvalidPayload);
        };
        let conditions = Conditions {
            expected_reported_version: base,
            ..Default::default()
        };
        let kind = Kind::Update(Update {
            shadow: ShadowName::classic(),
            patch,
            conditions,
        });
        let reply = Reply {
            correlation: id.map(Into::into),
            ..Reply::default()
        };
        let intents = vec![Intent::Change {
            device,
            kind,
            client_token: None,
            reply,
        }];
        Reaction {
            intents,
            acknowledge,
        }
    }

    fn emit(&mut self, _: &Identity, wanted: Channels, event: &Event<'_>) -> Vec<Emit> {
        let publish = match event {
            Event::Answer(answer) => reply_to(answer),
            Event::Change(change) if wanted.contains(Channel::Desired) => {
                let patch = change.patch.section_json(Section::Desired);
                patch.map(|patch| desired(&patch, change.version))
            }
            Event::Current(current) if wanted.contains(Channel::Desired) => {
                let version = current.document.section_version(Section::Desired);
                let state = current.document.state_json(Section::Desired, &[]);
                let state = state.filter(|_| version > current.sent_version);
                state.map(|state| desired(&state, version))
            }
            _ => None,
        };
        publish.map(Emit::Publish).into_iter().collect()
    }
}

fn reported(payload: &[u8], limits: &Limits) -> Option<Patch> {
    let value = json::parse(payload, DuplicateKeys::LastWins, limits.depth()).ok()?;
    Patch::build(SectionInput::Absent, SectionInput::Merge(&value), limits).ok()
}

fn reply_to(answer: &Answer<'_>) -> Option<Publish> {
    let id = answer.request.reply?.correlation.as_deref()?;
    let (status, version) = match answer.result {
        Answered::Accepted { version } => (204, version),
        Answered::Document(document) => (200, document.version()),
        Answered::Refused(error) => (error.row().http, 0),
    };
    let topic = format!("t/reply/{id}/{status}/{version}");
    Some(Publish::new(topic, "", Route::Direct))
}

fn desired(patch: &str, version: u64) -> Publish {
    let (topic, patch) = (format!("t/desired/{version}"), patch.to_owned());
    let publish = Publish::new(topic, patch, Route::Shadow(Channel::Desired));
    publish.pushing(version, Confirm::Message)
}

#[cfg(test)]
mod tests;
