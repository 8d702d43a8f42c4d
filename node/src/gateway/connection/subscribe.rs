//! Subscriptions: decided by the dialect, stored where the session outlives the connection, then in
//! force.

use std::num::NonZeroU32;

use antumbra_shadow::ShadowName;
use bytestring::ByteString;
use tracing::debug;

use super::admission::qos as dialect_qos;
use super::job::{Job, Subscribed, key};
use super::requests::reason_of;
use super::{Connection, Stream};
use crate::error::Error;
use crate::gateway::dialect::{CatchUp, Channel, Devices, Grant, Names};
use crate::gateway::mqtt::session::{
    Input, RequestToken, ServerCause, Subscription, Subscriptions,
};
use crate::gateway::mqtt::wire::{Grant as Granted, Reason, SubscribeFilter};
use crate::gateway::records::Record;

/// A subscribe or unsubscribe request that was decided.
pub(super) enum Filters {
    Subscribe {
        token: RequestToken,
        identifier: Option<NonZeroU32>,
        decided: Vec<Decided>,
    },
    Unsubscribe {
        token: RequestToken,
        filters: Vec<ByteString>,
    },
}

/// One filter, and what it brings or why it is refused.
pub(super) struct Decided {
    filter: SubscribeFilter,
    grants: Result<Vec<Grant>, Reason>,
}

impl Filters {
    /// What the session is subscribed to afterwards.
    fn apply(&self, subscriptions: &mut Subscriptions) {
        match self {
            Filters::Subscribe {
                identifier,
                decided,
                ..
            } => {
                for Decided { filter, .. } in decided.iter().filter(|one| one.grants.is_ok()) {
                    subscriptions.insert(Subscription {
                        filter: &filter.filter,
                        qos: filter.qos,
                        no_local: filter.no_local,
                        identifier: *identifier,
                    });
                }
            }
            Filters::Unsubscribe { filters, .. } => {
                for filter in filters {
                    subscriptions.remove(filter);
                }
            }
        }
    }
}

impl<S: Stream> Connection<S> {
    /// The client wants subscriptions.
    pub(super) fn subscribe(
        &mut self,
        token: RequestToken,
        filters: Vec<SubscribeFilter>,
        identifier: Option<NonZeroU32>,
    ) {
        let Some(open) = &mut self.open else {
            return;
        };
        let decided = filters.into_iter().map(|filter| Decided {
            grants: open.translator.subscribe(&filter.filter).map_err(reason_of),
            filter,
        });
        let decided = decided.collect();
        self.jobs.push(Job::Settle(Filters::Subscribe {
            token,
            identifier,
            decided,
        }));
    }

    /// The client gives up subscriptions.
    pub(super) fn unsubscribe(&mut self, token: RequestToken, filters: Vec<ByteString>) {
        let filters = Filters::Unsubscribe { token, filters };
        self.jobs.push(Job::Settle(filters));
    }

    /// Puts a decided request into force; gives what is to be stored before, if the session outlives
    /// the connection.
    pub(super) fn storing(&mut self, filters: Filters) -> Option<Job> {
        if let Some(open) = &self.open
            && let Some(record) = open.record.as_ref().filter(|record| record.expiry_s > 0)
            && let Some(epoch) = open.epoch
        {
            let mut stored = self.session.subscriptions().clone();
            filters.apply(&mut stored);
            let mut record = record.clone();
            record.keep(stored.as_bytes(), &open.translator.state());
            return Some(Job::Store(record, epoch, filters));
        }
        self.settle(filters);
        None
    }

    /// Subscriptions were stored, or were not.
    pub(super) fn stored(
        &mut self,
        record: Box<Record>,
        filters: Filters,
        result: Result<u64, Error>,
    ) {
        match (result, &mut self.open) {
            (Ok(epoch), Some(open)) => {
                open.record = Some(record);
                open.epoch = open.epoch.max(Some(epoch));
                self.settle(filters);
            }
            (Err(Error::VersionConflict { .. }), _) => {
                self.input(Input::Close(ServerCause::TakenOver));
            }
            (Err(error), _) => {
                debug!(%error, "subscriptions of a session are not stored");
                self.unsettled(filters);
            }
            (Ok(_), None) => {}
        }
    }

    /// Puts a decided request into force and answers it.
    fn settle(&mut self, filters: Filters) {
        let Some(open) = &mut self.open else {
            return;
        };
        let before = open.hears();
        match filters {
            Filters::Subscribe { token, decided, .. } => {
                let mut looks = Vec::new();
                let mut granted: Vec<Granted> = Vec::with_capacity(decided.len());
                for Decided { filter, grants } in decided {
                    granted.push(match grants {
                        Ok(grants) => {
                            looks.extend(grants.iter().cloned());
                            let qos = dialect_qos(filter.qos);
                            open.subscriptions.add(&filter.filter, grants, qos);
                            Ok(filter.qos)
                        }
                        Err(reason) => Err(reason),
                    });
                }
                self.listen(&before);
                self.attach(Some(Subscribed {
                    token,
                    grants: granted,
                }));
                self.look_anew(&looks);
            }
            Filters::Unsubscribe { token, filters } => {
                for filter in &filters {
                    open.subscriptions.remove(filter);
                }
                self.listen(&before);
                self.input(Input::Unsubscribed { token });
            }
        }
    }

    /// Answers a request to subscribe once all is told that the session hears of. What is looked at
    /// afterwards waits, too: else a change between the two could be missed.
    pub(super) fn attach(&mut self, subscribed: Option<Subscribed>) {
        match self.door.wanted.is_settled() {
            true => self.attached(subscribed),
            false => self.jobs.push_first(Job::Attach(subscribed)),
        }
    }

    pub(super) fn attached(&mut self, subscribed: Option<Subscribed>) {
        if let Some(Subscribed { token, grants }) = subscribed {
            self.input(Input::Subscribed { token, grants });
        }
    }

    fn unsettled(&mut self, filters: Filters) {
        let token = filters.token();
        match filters {
            Filters::Subscribe { decided, .. } => {
                let refused = decided.iter().map(|_| Err(Reason::UnspecifiedError));
                let grants = refused.collect();
                self.input(Input::Subscribed { token, grants });
            }
            // There is no way to say that it failed before MQTT 5; the client may try again.
            Filters::Unsubscribe { .. } => self.input(Input::Close(ServerCause::Overloaded)),
        }
    }

    /// The same for a client that asks to hear of them: what it was told before does not count.
    fn look_anew(&mut self, grants: &[Grant]) {
        if let Some(open) = &mut self.open {
            let devices = grants.iter().filter_map(|grant| match grant {
                Grant::Shadows(grant) => match &grant.devices {
                    Devices::One(device) => Some(device),
                    Devices::All => None,
                },
                Grant::Presence(_) | Grant::Topics(_) => None,
            });
            devices.for_each(|device| open.forget_sent(device));
        }
        self.look_at(grants);
    }

    /// Brings the client up to date with the shadows that it now hears of.
    pub(super) fn look_at(&mut self, grants: &[Grant]) {
        let Some(open) = &self.open else {
            return;
        };
        if open.rules.catch_up == CatchUp::Never {
            return;
        }
        let tenant = open.tenant().clone();
        for grant in grants {
            let Grant::Shadows(grant) = grant else {
                continue;
            };
            // Whoever hears of all devices is no device that has something to do.
            let Devices::One(device) = &grant.devices else {
                continue;
            };
            let device = key(&tenant, device);
            if grant.classic.contains(Channel::Desired) {
                self.jobs.look(device.clone(), ShadowName::classic(), false);
            }
            if grant.named.contains(Channel::Desired) {
                match &grant.names {
                    Names::One(name) => self.jobs.look(device, name.clone(), false),
                    Names::All => self.jobs.push(Job::List(device)),
                }
            }
        }
    }
}
