//! What a client asks for: publishes, subscriptions, and their outcomes.

use antumbra_shadow::{Kind, Outcome, ShadowName};
use tracing::debug;

use super::admission::qos as dialect_qos;
use super::job::{Job, Receipt, key};
use super::open::{Asked, Own};
use super::{Connection, Stream};
use crate::error::Error;
use crate::gateway::dialect::{
    Acknowledge, Answer, Answered, Intent, Message as DialectMessage, Origin, Publish, Refusal,
    Reply, Request, Target, Verb,
};
use crate::gateway::metrics;
use crate::gateway::mqtt::session::{Input, PublishOutcome, PublishToken};
use crate::gateway::mqtt::wire::{Message, Qos, Reason};

impl<S: Stream> Connection<S> {
    /// The client publishes.
    pub(super) fn publish(&mut self, token: PublishToken, message: &Message, qos: Qos) {
        metrics::received();
        let Some(open) = &mut self.open else {
            return;
        };
        let limits = self.door.limits_of(open.tenant());
        let reaction = open.translator.receive(
            &limits,
            &DialectMessage {
                topic: &message.topic,
                payload: &message.payload,
                qos: dialect_qos(qos),
                origin: Origin::Publish,
            },
        );
        let mut outcome = PublishOutcome::Committed;
        let mut work = Vec::new();
        for intent in reaction.intents {
            match intent {
                Intent::Refuse(Refusal::InvalidTopic) => {
                    outcome = PublishOutcome::Refused(Reason::TopicNameInvalid);
                }
                Intent::Refuse(refusal) => outcome = PublishOutcome::Refused(reason_of(refusal)),
                intent => work.extend(self.begin(intent, message, qos)),
            }
        }
        if work.is_empty() || reaction.acknowledge == Acknowledge::Now {
            self.input(Input::Published { token, outcome });
        }
        let is_answered = reaction.acknowledge == Acknowledge::Now;
        let last = work.len().saturating_sub(1);
        for (nth, (asked, kind)) in work.into_iter().enumerate() {
            let receipt = Receipt {
                token: (nth == last && !is_answered).then_some(token),
                acknowledge: reaction.acknowledge,
            };
            self.request(receipt, asked, kind);
        }
    }

    /// Carries out what needs no waiting, and gives what does.
    fn begin(
        &mut self,
        intent: Intent,
        message: &Message,
        qos: Qos,
    ) -> Option<(Asked, Option<Kind>)> {
        let open = self.open.as_mut()?;
        match intent {
            Intent::Read {
                target,
                client_token,
                reply,
            } => Some((asked(open, target, Verb::Read, client_token, reply), None)),
            Intent::Change {
                device,
                kind,
                client_token,
                reply,
            } => {
                let (shadow, verb) = subject(&kind);
                let target = Target { device, shadow };
                let mut asked = asked(open, target, verb, client_token, reply);
                if let Kind::Update(update) = &kind {
                    asked.patch = Some(update.patch.clone());
                }
                Some((asked, Some(kind)))
            }
            Intent::Answer {
                target,
                verb,
                error,
                client_token,
                reply,
            } => {
                let asked = asked(open, target, verb, client_token, reply);
                self.answer(&asked, Answered::Refused(&error));
                None
            }
            Intent::Delivered {
                target,
                version,
                part,
                taken: _,
            } => {
                open.delivered(&target.shadow, version, part);
                None
            }
            Intent::Send(publishes) => {
                publishes
                    .into_iter()
                    .for_each(|publish| self.send_direct(publish));
                None
            }
            Intent::Forward => {
                self.forward(message.clone(), qos);
                None
            }
            Intent::Ignore { family } => {
                self.ignored(family, &message.topic);
                None
            }
            // Told by the caller.
            Intent::Refuse(_) => None,
        }
    }

    fn request(&mut self, receipt: Receipt, asked: Asked, kind: Option<Kind>) {
        let requests_max = self.open.as_ref().map_or(0, |open| open.rules.requests_max);
        if self.jobs.requests() >= usize::from(requests_max) {
            // Certainly not done, and told so.
            self.answer(&asked, Answered::Refused(&Error::Overloaded));
            return self.settle_request(receipt, false);
        }
        self.jobs.push(match kind {
            Some(kind) => Job::Change(receipt, asked, Box::new(kind)),
            None => Job::Read(receipt, asked),
        });
    }

    /// A request was answered, well or badly.
    fn settle_request(&mut self, receipt: Receipt, is_good: bool) {
        if let Some(token) = receipt.token {
            let outcome = match receipt.acknowledge {
                Acknowledge::Success if !is_good => PublishOutcome::Unknown,
                _ => PublishOutcome::Committed,
            };
            self.input(Input::Published { token, outcome });
        }
    }

    /// A shadow was read for a request.
    pub(super) fn read(
        &mut self,
        receipt: Receipt,
        asked: &Asked,
        result: &Result<antumbra_shadow::Document, Error>,
    ) {
        match result {
            Ok(document) => self.answer(asked, Answered::Document(document)),
            Err(error) => self.answer(asked, Answered::Refused(error)),
        }
        self.settle_request(receipt, result.is_ok());
    }

    /// A shadow was changed for a request, or was not.
    pub(super) fn changed(
        &mut self,
        receipt: Receipt,
        asked: Asked,
        result: Result<Outcome, Error>,
    ) {
        let error = match result {
            Ok(Outcome::Accepted(items)) => {
                let version = items.first().map_or(0, |item| item.version);
                self.accepted(asked, version);
                return self.settle_request(receipt, true);
            }
            Ok(Outcome::Rejected(rejection)) => rejection.into(),
            Err(error @ (Error::OutcomeUnknown | Error::Deadline)) => {
                debug!(%error, "a request of a device has an unknown outcome");
                if let Some(token) = receipt.token {
                    let outcome = PublishOutcome::Unknown;
                    self.input(Input::Published { token, outcome });
                }
                return;
            }
            Err(error) => error,
        };
        self.answer(&asked, Answered::Refused(&error));
        self.settle_request(receipt, false);
    }

    /// The answer of an accepted change is told when the change comes, because all subscribers see
    /// one order.
    fn accepted(&mut self, asked: Asked, version: u64) {
        if let Some(open) = &mut self.open
            && asked.reply != Reply::default()
        {
            open.expect(Own {
                device: asked.device,
                shadow: asked.shadow,
                version,
                reply: asked.reply,
            });
        }
    }

    /// Tells this session the answer to one of its requests.
    fn answer(&mut self, asked: &Asked, result: Answered<'_>) {
        let time = self.door.clocks.time();
        let answer = Answer {
            request: Request {
                device: &asked.device,
                shadow: &asked.shadow,
                verb: asked.verb,
                client_token: asked.client_token.as_deref(),
                patch: asked.patch.as_ref(),
                reply: Some(&asked.reply),
            },
            result,
            time,
        };
        self.tell_answer(&asked.device, &asked.shadow, &answer);
    }

    /// A message that needs no subscription.
    fn send_direct(&mut self, publish: Publish) {
        let qos = publish.qos;
        self.deliver(publish, qos, None);
    }
}

fn asked(
    open: &super::open::Open,
    target: Target,
    verb: Verb,
    client_token: Option<String>,
    reply: Reply,
) -> Asked {
    Asked {
        device: key(open.tenant(), &target.device),
        shadow: target.shadow,
        verb,
        client_token,
        patch: None,
        reply,
    }
}

/// The shadow that a change is about, and what it does; of a batch, those of its first item.
fn subject(kind: &Kind) -> (ShadowName, Verb) {
    match kind {
        Kind::Update(update) => (update.shadow.clone(), Verb::Update),
        Kind::Delete(delete) => (delete.shadow.clone(), Verb::Delete),
        Kind::Batch(items) => {
            let first = items.first().map(|item| item.shadow().clone());
            (first.unwrap_or_else(ShadowName::classic), Verb::Update)
        }
    }
}

pub(super) fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::NotAuthorized => Reason::NotAuthorized,
        Refusal::InvalidTopic => Reason::TopicFilterInvalid,
        Refusal::SharedSubscription => Reason::SharedSubscriptionsNotSupported,
        Refusal::InvalidPayload => Reason::PayloadFormatInvalid,
    }
}
