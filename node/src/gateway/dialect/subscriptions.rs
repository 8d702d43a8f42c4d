//! The subscriptions of one session, small: no filter text, one record of at most 72 bytes per grant.

use std::hash::{DefaultHasher, Hash, Hasher};

use antumbra_shadow::{DeviceId, ShadowName};

use super::channel::{Channel, Channels};
use super::event::PresenceKind;
use super::grant::{Devices, Grant, Names, ShadowGrant};
use super::intent::Qos;
use super::topic;

/// The mark of what nobody subscribed to.
const IMPLICIT: u64 = 0;

/// What a session hears. Filters that overlap bring a message once, with the best of their QoS (MQTT
/// 5.0, section 3.3.4).
///
/// A filter is known by a 64-bit hash of its text: of two filters of *one* session with the same
/// hash, the later replaces the earlier.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    filter: u64,
    qos: Qos,
    /// `None` for a filter that is granted and brings nothing.
    grant: Option<Grant>,
}

/// What the leader of a device's shard has to know of a session: bit sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attachment {
    /// Channels of the classic shadow.
    pub classic: Channels,
    /// Channels of every named shadow.
    pub named: Channels,
    /// Channels of single named shadows, beyond those in `named`.
    pub names: Vec<(ShadowName, Channels)>,
}

/// Whether a subscription was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is new.
    Absent,
    /// It was there; of an added one, it has been replaced.
    Present,
}

impl Subscriptions {
    /// Adds what holds without a SUBSCRIBE.
    pub fn add_implicit(&mut self, grants: Vec<Grant>, qos: Qos) {
        self.push(IMPLICIT, grants, qos);
    }

    /// Adds what a filter brings; replaces what the same filter brought before.
    pub fn add(&mut self, filter: &str, grants: Vec<Grant>, qos: Qos) -> Before {
        let filter = hash(filter);
        let before = self.drop_filter(filter);
        self.push(filter, grants, qos);
        before
    }

    /// Removes a filter.
    pub fn remove(&mut self, filter: &str) -> Before {
        self.drop_filter(hash(filter))
    }

    /// What all subscriptions bring.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.entries.iter().filter_map(|entry| entry.grant.as_ref())
    }

    /// How many filters were subscribed to.
    pub fn filters(&self) -> usize {
        let mut filters: Vec<u64> = self.entries.iter().map(|entry| entry.filter).collect();
        filters.retain(|&filter| filter != IMPLICIT);
        filters.sort_unstable();
        filters.dedup();
        filters.len()
    }

    /// The channels of one shadow that the session hears.
    pub fn wanted(&self, device: &DeviceId, shadow: &ShadowName) -> Channels {
        self.shadows().fold(Channels::NONE, |wanted, (grant, _)| {
            wanted.union(grant.channels(device, shadow))
        })
    }

    /// The QoS of one channel of one shadow; `None` when the session does not hear it.
    pub fn qos(&self, device: &DeviceId, shadow: &ShadowName, channel: Channel) -> Option<Qos> {
        self.shadows()
            .filter(|(grant, _)| grant.channels(device, shadow).contains(channel))
            .map(|(_, qos)| qos)
            .max()
    }

    /// The QoS of news about a client; `None` when the session does not hear them.
    pub fn presence(&self, kind: PresenceKind, client_id: &str) -> Option<Qos> {
        let matching = self.entries.iter().filter(|entry| {
            matches!(&entry.grant, Some(Grant::Presence(grant)) if grant.includes(kind, client_id))
        });
        matching.map(|entry| entry.qos).max()
    }

    /// The QoS of what clients publish to a topic; `None` when the session does not hear it.
    pub fn topic(&self, name: &str) -> Option<Qos> {
        let matching = self.entries.iter().filter(|entry| {
            matches!(&entry.grant, Some(Grant::Topics(filter)) if topic::matches(filter, name))
        });
        matching.map(|entry| entry.qos).max()
    }

    /// Whether the session hears of every device, so that it must not be attached to single ones.
    pub fn crosses_devices(&self) -> bool {
        self.shadows()
            .any(|(grant, _)| grant.devices == Devices::All)
    }

    /// What the leader of a device has to send to this session.
    pub fn attachment(&self, device: &DeviceId) -> Attachment {
        let mut attachment = Attachment::default();
        for (grant, _) in self.shadows() {
            if matches!(&grant.devices, Devices::One(one) if one != device) {
                continue;
            }
            attachment.classic = attachment.classic.union(grant.classic);
            match &grant.names {
                Names::All => attachment.named = attachment.named.union(grant.named),
                Names::One(name) => attachment.add(name, grant.named),
            }
        }
        let everywhere = attachment.named;
        attachment
            .names
            .retain(|(_, channels)| everywhere.union(*channels) != everywhere);
        attachment
    }

    fn shadows(&self) -> impl Iterator<Item = (&ShadowGrant, Qos)> {
        self.entries.iter().filter_map(|entry| match &entry.grant {
            Some(Grant::Shadows(grant)) => Some((grant, entry.qos)),
            _ => None,
        })
    }

    /// Kept without spare room: most sessions subscribe once and stay quiet.
    fn push(&mut self, filter: u64, grants: Vec<Grant>, qos: Qos) {
        self.entries.reserve_exact(grants.len().max(1));
        if grants.is_empty() {
            self.entries.push(Entry {
                filter,
                qos,
                grant: None,
            });
        }
        self.entries.extend(grants.into_iter().map(|grant| Entry {
            filter,
            qos,
            grant: Some(grant),
        }));
    }

    fn drop_filter(&mut self, filter: u64) -> Before {
        let count = self.entries.len();
        self.entries.retain(|entry| entry.filter != filter);
        if self.entries.len() < count {
            Before::Present
        } else {
            Before::Absent
        }
    }
}

impl Attachment {
    fn add(&mut self, name: &ShadowName, channels: Channels) {
        match self.names.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = known.union(channels),
            None => self.names.push((name.clone(), channels)),
        }
    }
}

/// Never [`IMPLICIT`].
fn hash(filter: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    filter.hash(&mut hasher);
    hasher.finish().max(IMPLICIT + 1)
}

#[cfg(test)]
mod tests;
