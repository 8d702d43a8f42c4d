//! SUBSCRIBE and UNSUBSCRIBE, from the packet to the answer.

use std::num::NonZeroU32;

use bytestring::ByteString;

use super::Session;
use super::output::{Output, RequestToken};
use super::subscriptions::Subscription;
use crate::gateway::mqtt::topics;
use crate::gateway::mqtt::wire::{
    Grant, PacketId, Reason, ServerPacket, Subscribe, SubscribeFilter, Unsubscribe,
};

/// Requests that wait for their outcome.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: Vec<Request>,
}

impl Requests {
    /// Bytes on the heap, without the texts: they are slices of the packets.
    pub(super) fn heap_bytes(&self) -> usize {
        let filters: usize = self
            .open
            .iter()
            .map(|request| request.content.heap_bytes())
            .sum();
        size_of::<Self>() + self.open.capacity() * size_of::<Request>() + filters
    }
}

#[derive(Debug)]
struct Request {
    token: RequestToken,
    packet_id: PacketId,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Subscribe {
        identifier: Option<NonZeroU32>,
        /// Each filter, and why the session refused it itself.
        filters: Vec<(SubscribeFilter, Option<Reason>)>,
    },
    Unsubscribe(Vec<ByteString>),
}

impl Content {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Subscribe { filters, .. } => {
                filters.capacity() * size_of::<(SubscribeFilter, Option<Reason>)>()
            }
            Self::Unsubscribe(filters) => filters.capacity() * size_of::<ByteString>(),
        }
    }
}

impl Session {
    /// A SUBSCRIBE arrived: what the session refuses itself is not asked for.
    pub(super) fn subscribe(&mut self, subscribe: Subscribe, now_ms: u64, out: &mut Vec<Output>) {
        let Subscribe {
            packet_id,
            identifier,
            filters,
        } = subscribe;
        let mut room =
            usize::from(self.limits.subscriptions_max).saturating_sub(self.subscriptions.len());
        let filters: Vec<_> = filters
            .into_iter()
            .enumerate()
            .map(|(index, filter)| {
                let refused = self.judge_filter(&filter.filter, index, &mut room);
                (filter, refused)
            })
            .collect();
        let wanted: Vec<SubscribeFilter> = filters
            .iter()
            .filter(|(_, refused)| refused.is_none())
            .map(|(filter, _)| filter.clone())
            .collect();
        let content = Content::Subscribe {
            identifier,
            filters,
        };
        let Some(token) = self.open_request(packet_id, content, now_ms, out) else {
            return;
        };
        if wanted.is_empty() {
            return self.subscribed(token, &[], out);
        }
        out.push(Output::Subscribe {
            token,
            filters: wanted,
            identifier,
        });
    }

    /// Why a filter is refused without asking.
    fn judge_filter(&self, filter: &str, index: usize, room: &mut usize) -> Option<Reason> {
        if topics::is_shared(filter) {
            return Some(Reason::SharedSubscriptionsNotSupported);
        }
        if topics::check_limits(filter, &self.limits.topics).is_err() {
            return Some(Reason::TopicFilterInvalid);
        }
        if index >= usize::from(self.limits.filters_per_subscribe_max) {
            return Some(Reason::QuotaExceeded);
        }
        if self.subscriptions.get(filter).is_none() {
            if *room == 0 {
                return Some(Reason::QuotaExceeded);
            }
            *room -= 1;
        }
        None
    }

    /// A subscribe request is decided: subscribe what was granted and answer.
    pub(super) fn subscribed(
        &mut self,
        token: RequestToken,
        grants: &[Grant],
        out: &mut Vec<Output>,
    ) {
        let is_subscribe = |content: &Content| matches!(content, Content::Subscribe { .. });
        let Some(request) = self.close_request(token, is_subscribe) else {
            return;
        };
        let Content::Subscribe {
            identifier,
            filters,
        } = request.content
        else {
            return;
        };
        let mut grants = grants.iter().copied();
        let answers = filters
            .into_iter()
            .map(|(filter, refused)| {
                let grant = match refused {
                    Some(reason) => Err(reason),
                    None => grants.next().unwrap_or(Err(Reason::UnspecifiedError)),
                };
                self.apply_grant(&filter, identifier, grant)
            })
            .collect();
        let packet = ServerPacket::SubscribeAck {
            packet_id: request.packet_id,
            grants: answers,
        };
        self.send(packet, out);
    }

    /// Subscribes what was granted, with at most the QoS that was asked for [MQTT-3.8.4-8].
    fn apply_grant(
        &mut self,
        filter: &SubscribeFilter,
        identifier: Option<NonZeroU32>,
        grant: Grant,
    ) -> Grant {
        let granted = grant?.min(filter.qos);
        let is_new = self.subscriptions.get(&filter.filter).is_none();
        let subscriptions_max = usize::from(self.limits.subscriptions_max);
        if is_new && self.subscriptions.len() >= subscriptions_max {
            return Err(Reason::QuotaExceeded);
        }
        self.subscriptions.insert(Subscription {
            filter: &filter.filter,
            qos: granted,
            no_local: filter.no_local,
            identifier,
        });
        Ok(granted)
    }

    /// An UNSUBSCRIBE arrived.
    pub(super) fn unsubscribe(
        &mut self,
        unsubscribe: Unsubscribe,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let Unsubscribe { packet_id, filters } = unsubscribe;
        let content = Content::Unsubscribe(filters.clone());
        if let Some(token) = self.open_request(packet_id, content, now_ms, out) {
            out.push(Output::Unsubscribe { token, filters });
        }
    }

    /// An unsubscribe request is carried out: take the subscriptions away and answer.
    pub(super) fn unsubscribed(&mut self, token: RequestToken, out: &mut Vec<Output>) {
        let is_unsubscribe = |content: &Content| matches!(content, Content::Unsubscribe(_));
        let Some(request) = self.close_request(token, is_unsubscribe) else {
            return;
        };
        let Content::Unsubscribe(filters) = request.content else {
            return;
        };
        let reasons = filters
            .iter()
            .map(|filter| match self.subscriptions.remove(filter) {
                true => Reason::Success,
                false => Reason::NoSubscriptionExisted,
            })
            .collect();
        let packet = ServerPacket::UnsubscribeAck {
            packet_id: request.packet_id,
            reasons,
        };
        self.send(packet, out);
    }

    /// Whether no more requests should be read.
    pub(super) fn has_too_many_requests(&self) -> bool {
        let requests_max = usize::from(self.limits.requests_max);
        self.requests
            .as_ref()
            .is_some_and(|requests| requests.open.len() >= requests_max)
    }

    fn open_request(
        &mut self,
        packet_id: PacketId,
        content: Content,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Option<RequestToken> {
        if self.has_too_many_requests() {
            self.violation(Reason::QuotaExceeded, now_ms, out);
            return None;
        }
        let token = RequestToken(self.next_sequence());
        self.requests.get_or_insert_default().open.push(Request {
            token,
            packet_id,
            content,
        });
        Some(token)
    }

    fn close_request(
        &mut self,
        token: RequestToken,
        is_kind: impl Fn(&Content) -> bool,
    ) -> Option<Request> {
        let requests = self.requests.as_mut()?;
        let index = requests
            .open
            .iter()
            .position(|request| request.token == token && is_kind(&request.content))?;
        let request = requests.open.remove(index);
        if requests.open.is_empty() {
            self.requests = None;
        }
        Some(request)
    }
}
