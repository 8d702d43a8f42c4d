//! Whom a session belongs to, and what that allows. Both come from outside: from the certificate,
//! token or password that proved the claim of the CONNECT packet.

use std::sync::Arc;

use antumbra_shadow::{DeviceId, Tenant};

use super::channel::Verb;
use super::topic::{self, TopicError};

/// The level of a topic rule that stands for the session's own device.
pub const OWN_DEVICE: &str = "{me}";

/// Whom a session belongs to. Clones share their texts.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The tenant; nothing outside it exists for the session.
    pub tenant: Tenant,
    /// The device, when it is one; backend clients have none.
    pub device: Option<DeviceId>,
    /// The client id, as connected or as assigned.
    pub client_id: Arc<str>,
    /// What it may do, shared by all sessions of the role.
    pub role: Arc<Role>,
}

/// What a session may do. What no rule allows is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// Which shadows it may touch and hear of.
    pub shadows: Vec<ShadowRule>,
    /// Which topics it may use with other clients.
    pub topics: Vec<TopicRule>,
    /// Whether it may hear of clients that come and go.
    pub presence: bool,
}

/// Allows verbs on the shadows of some devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowRule {
    /// What may be done.
    pub verbs: Vec<Verb>,
    /// To whose shadows.
    pub devices: DeviceScope,
}

/// The devices that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceScope {
    /// The device itself.
    Own,
    /// Devices whose id begins so; the empty prefix is every device.
    Prefix(Box<str>),
}

/// Allows topics between clients. Never those that begin with `$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRule {
    /// The topics, as a filter. A level [`OWN_DEVICE`] is the session's device; a session without one
    /// has no use of such a rule.
    pub filter: Box<str>,
    /// Whether it may be published to.
    pub publish: bool,
    /// Whether it may be subscribed to.
    pub subscribe: bool,
}

impl Role {
    /// Checks a role that comes from settings: the topic rules must be filters.
    ///
    /// # Errors
    ///
    /// When the filter of a rule is none.
    pub fn check(&self) -> Result<(), TopicError> {
        let mut filters = self.topics.iter().map(|rule| &rule.filter);
        filters.try_for_each(|filter| topic::check_filter(filter))
    }

    /// What a device may do when nobody says otherwise: everything with its own shadows, and use
    /// `device/{me}/#`.
    pub fn device() -> Role {
        Role {
            shadows: vec![ShadowRule {
                verbs: Verb::ALL.to_vec(),
                devices: DeviceScope::Own,
            }],
            topics: vec![TopicRule {
                filter: "device/{me}/#".into(),
                publish: true,
                subscribe: true,
            }],
            presence: false,
        }
    }

    /// What a backend that may do everything within its tenant may do.
    pub fn backend() -> Role {
        Role {
            shadows: vec![ShadowRule {
                verbs: Verb::ALL.to_vec(),
                devices: DeviceScope::Prefix("".into()),
            }],
            topics: vec![TopicRule {
                filter: "#".into(),
                publish: true,
                subscribe: true,
            }],
            presence: true,
        }
    }
}

impl Identity {
    /// Whether the verb is allowed on the shadows of a device.
    pub fn may(&self, verb: Verb, device: &DeviceId) -> bool {
        self.rules(verb).any(|rule| match &rule.devices {
            DeviceScope::Own => self.device.as_ref() == Some(device),
            DeviceScope::Prefix(prefix) => device.as_str().starts_with(&**prefix),
        })
    }

    /// Whether the verb is allowed on the shadows of every device.
    pub fn may_with_all(&self, verb: Verb) -> bool {
        self.rules(verb)
            .any(|rule| matches!(&rule.devices, DeviceScope::Prefix(prefix) if prefix.is_empty()))
    }

    /// Whether something may be published to a topic between clients.
    pub fn may_publish(&self, name: &str) -> bool {
        self.may_use(name, |rule| rule.publish)
    }

    /// Whether a filter over topics between clients may be subscribed to: some rule covers all of it.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.may_use(filter, |rule| rule.subscribe)
    }

    fn rules(&self, verb: Verb) -> impl Iterator<Item = &ShadowRule> {
        let rules = self.role.shadows.iter();
        rules.filter(move |rule| rule.verbs.contains(&verb))
    }

    fn may_use(&self, filter: &str, allows: impl Fn(&TopicRule) -> bool) -> bool {
        if filter.starts_with('$') {
            return false;
        }
        let own = self.device.as_ref().map(DeviceId::as_str);
        self.role.topics.iter().any(|rule| {
            let names_own = rule.filter.split('/').any(|level| level == OWN_DEVICE);
            if !allows(rule) || (names_own && own.is_none()) {
                return false;
            }
            let levels = rule.filter.split('/').map(|level| match own {
                Some(own) if level == OWN_DEVICE => own,
                _ => level,
            });
            topic::covers(levels, filter)
        })
    }
}
