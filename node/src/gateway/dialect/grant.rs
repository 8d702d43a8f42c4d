//! What one topic filter brings, compiled: no text to match when something happens.

use antumbra_shadow::{DeviceId, ShadowName};

use super::channel::Channels;
use super::event::PresenceKind;
use super::topic;

/// What a subscription brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// News of shadows.
    Shadows(ShadowGrant),
    /// Clients that come and go.
    Presence(PresenceGrant),
    /// What clients publish to each other, on topics that match this filter.
    Topics(Box<str>),
}

/// News of shadows: a bit set for the classic shadow and one for named shadows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowGrant {
    /// Of which devices.
    pub devices: Devices,
    /// What of the classic shadow.
    pub classic: Channels,
    /// What of the named shadows in `names`.
    pub named: Channels,
    /// Which named shadows.
    pub names: Names,
}

/// The devices that a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// Every device of the tenant.
    All,
    /// This one.
    One(DeviceId),
}

/// The named shadows that a grant is about; never the classic one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Every named shadow.
    All,
    /// This one.
    One(ShadowName),
}

impl ShadowGrant {
    /// Some channels of every shadow of one device: what implicit subscriptions are made of.
    pub fn of_device(device: DeviceId, channels: Channels) -> ShadowGrant {
        ShadowGrant {
            devices: Devices::One(device),
            classic: channels,
            named: channels,
            names: Names::All,
        }
    }

    /// What the grant brings of one shadow.
    pub fn channels(&self, device: &DeviceId, shadow: &ShadowName) -> Channels {
        let about = match &self.devices {
            Devices::All => true,
            Devices::One(one) => one == device,
        };
        if !about {
            Channels::NONE
        } else if shadow.is_classic() {
            self.classic
        } else {
            match &self.names {
                Names::One(name) if name != shadow => Channels::NONE,
                _ => self.named,
            }
        }
    }

    /// Whether the grant brings nothing at all.
    pub fn is_empty(&self) -> bool {
        self.classic.is_empty() && self.named.is_empty()
    }
}

/// Clients that come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceGrant {
    /// Whether clients that come are told.
    pub connected: bool,
    /// Whether clients that go are told.
    pub disconnected: bool,
    /// Which client ids, as a filter: `+`, `#`, or levels, since a client id may have slashes.
    pub clients: Box<str>,
}

impl PresenceGrant {
    /// Whether the grant brings news of this kind about this client.
    pub fn includes(&self, kind: PresenceKind, client_id: &str) -> bool {
        let told = match kind {
            PresenceKind::Connected => self.connected,
            PresenceKind::Disconnected => self.disconnected,
        };
        told && topic::levels_match(self.clients.split('/'), client_id)
    }
}
