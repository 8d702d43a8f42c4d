//! Messages to other clients: those that the client publishes, and its will.

use tracing::{debug, info};

use super::admission::qos as dialect_qos;
use super::{Connection, Stream};
use crate::gateway::dialect::{Intent, Message as DialectMessage, Origin, WillRule};
use crate::gateway::metrics;
use crate::gateway::mqtt::session::WillOutcome;
use crate::gateway::mqtt::wire::{Message, Qos, Will};
use crate::gateway::plain::PlainMessage;

impl<S: Stream> Connection<S> {
    /// Passes a message on to other clients.
    pub(super) fn forward(&mut self, message: Message, qos: Qos) {
        if let Some(open) = &self.open {
            self.door.router.publish(PlainMessage {
                tenant: open.tenant().clone(),
                publisher: open.client,
                qos,
                message,
            });
        }
    }

    pub(super) fn ignored(&mut self, family: &'static str, topic: &str) {
        metrics::ignored(family);
        if !std::mem::replace(&mut self.has_ignored, true) {
            let client = self.open.as_ref().map(|open| &*open.identity().client_id);
            info!(
                client,
                topic, family, "messages to a topic that is not served are dropped"
            );
        }
    }

    /// The connection is over, and its will is to be published.
    pub(super) fn will(&mut self, outcome: WillOutcome) {
        let (WillOutcome::Publish { will, delay_s }, Some(open)) = (outcome, &mut self.open) else {
            return;
        };
        if open.rules.will == WillRule::Drop {
            return;
        }
        let limits = self.door.limits_of(open.tenant());
        let reaction = open.translator.receive(
            &limits,
            &DialectMessage {
                topic: &will.message.topic,
                payload: &will.message.payload,
                qos: dialect_qos(will.qos),
                origin: Origin::Will,
            },
        );
        for intent in reaction.intents {
            match intent {
                Intent::Forward => self.publish_will(&will, delay_s),
                Intent::Ignore { family } => self.ignored(family, &will.message.topic),
                Intent::Refuse(refusal) => debug!(%refusal, "a will is not published"),
                _ => debug!("a will asks for what a will cannot ask for"),
            }
        }
    }

    fn publish_will(&mut self, will: &Will, delay_s: u32) {
        let Some(open) = &self.open else {
            return;
        };
        let message = PlainMessage {
            tenant: open.tenant().clone(),
            publisher: open.client,
            qos: will.qos,
            message: will.message.clone(),
        };
        if delay_s == 0 {
            return self.door.router.publish(message);
        }
        self.door
            .wills
            .publish_later(open.session, message, delay_s);
    }
}
