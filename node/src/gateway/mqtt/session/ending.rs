//! How a connection ends, and what is left of the session.

use super::input::ServerCause;
use super::output::{CloseCause, Expiry, Output, SessionEnd, WillOutcome};
use super::state::SessionState;
use super::{Phase, Session};
use crate::gateway::mqtt::wire::{Disconnect, DisconnectNotice, Reason, ServerPacket, Version};

impl Session {
    /// The client takes leave, perhaps with a new session expiry.
    pub(super) fn disconnect(
        &mut self,
        disconnect: &Disconnect,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        if let Some(expiry_s) = disconnect.session_expiry_s {
            if expiry_s != 0 && !self.expiry_was_asked {
                // Section 3.14.2.2.2: a session that was to end cannot be kept.
                return self.violation(Reason::ProtocolError, now_ms, out);
            }
            self.session_expiry_s = expiry_s.min(self.session_expiry_max_s);
        }
        self.close(
            CloseCause::ClientDisconnected(disconnect.reason),
            now_ms,
            out,
        );
    }

    /// Ends the connection, once.
    pub(super) fn close(&mut self, cause: CloseCause, now_ms: u64, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Closed => return,
            Phase::AwaitConnect => {}
            Phase::Authenticating(_) => {
                if let CloseCause::Server(cause) = cause {
                    self.answer_refusal(refusal_reason(cause), None, out);
                }
            }
            Phase::Connected => self.end(cause, now_ms, out),
        }
        self.phase = Phase::Closed;
        self.will = None;
        self.inbound = None;
        self.outbound = None;
        self.requests = None;
        self.aliases = None;
        out.push(Output::Close(cause));
    }

    fn end(&mut self, cause: CloseCause, now_ms: u64, out: &mut Vec<Output>) {
        if self.version == Version::V5
            && let Some(reason) = cause.disconnect_reason()
        {
            let notice = DisconnectNotice {
                reason,
                reason_string: None,
            };
            self.send(ServerPacket::Disconnect(notice), out);
        }
        if let Some(will) = self.will.take() {
            // Everything but a normal DISCONNECT publishes the will [MQTT-3.1.2-8, MQTT-3.14.4-3],
            // at the latest when the session ends [MQTT-3.1.3-9].
            out.push(Output::Will(match cause {
                CloseCause::ClientDisconnected(Reason::Success) => WillOutcome::Discard,
                _ => WillOutcome::Publish {
                    delay_s: will.delay_s.min(self.session_expiry_s),
                    will,
                },
            }));
        }
        let subscriptions = std::mem::take(&mut self.subscriptions);
        let pending = self.take_pending(now_ms);
        out.push(Output::Ended(Box::new(SessionEnd {
            expiry: Expiry::from_seconds(self.session_expiry_s),
            state: SessionState {
                subscriptions,
                pending,
            },
        })));
    }
}

/// The reason for a CONNACK, which has fewer than DISCONNECT.
fn refusal_reason(cause: ServerCause) -> Reason {
    match cause {
        ServerCause::TakenOver | ServerCause::ShuttingDown => Reason::ServerUnavailable,
        ServerCause::Administrative => Reason::NotAuthorized,
        ServerCause::MessageRateTooHigh => Reason::QuotaExceeded,
        cause => cause.reason(),
    }
}
