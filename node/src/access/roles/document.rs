//! The document of a role: its frozen shape, apart from the types that the node uses.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AdminVerb, AdminVerbs, NamedRole, RoleError, RoleName};
use crate::access::strict::objects;
use crate::gateway::dialect::{DeviceScope, Role, ShadowRule, TopicRule, Verb};

/// A role as stored. Frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::access) struct RoleV1 {
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "objects"
    )]
    shadows: Vec<ShadowRuleV1>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "objects"
    )]
    topics: Vec<TopicRuleV1>,
    #[serde(default)]
    presence: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    admin: Vec<AdminVerb>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShadowRuleV1 {
    verbs: Vec<VerbV1>,
    devices: DevicesV1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum VerbV1 {
    Read,
    Update,
    Delete,
}

/// `"own"`, or `{"prefix": "pump-"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DevicesV1 {
    Own,
    Prefix(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicRuleV1 {
    filter: Box<str>,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    subscribe: bool,
}

impl NamedRole {
    /// The role in a document.
    pub(in crate::access) fn from_document(
        name: RoleName,
        document: RoleV1,
    ) -> Result<NamedRole, RoleError> {
        let admin: AdminVerbs = document.admin.iter().copied().collect();
        if admin.iter().count() != document.admin.len() {
            return Err(RoleError::Verbs);
        }
        let named = NamedRole {
            name,
            role: Arc::new(Role {
                shadows: document.shadows.into_iter().map(ShadowRule::from).collect(),
                topics: document.topics.into_iter().map(TopicRule::from).collect(),
                presence: document.presence,
            }),
            admin,
        };
        named.check()?;
        Ok(named)
    }
}

impl From<&NamedRole> for RoleV1 {
    fn from(named: &NamedRole) -> RoleV1 {
        let shadows = named.role.shadows.iter().map(|rule| ShadowRuleV1 {
            verbs: rule.verbs.iter().copied().map(VerbV1::from).collect(),
            devices: match &rule.devices {
                DeviceScope::Own => DevicesV1::Own,
                DeviceScope::Prefix(prefix) => DevicesV1::Prefix(prefix.clone()),
            },
        });
        let topics = named.role.topics.iter().map(|rule| TopicRuleV1 {
            filter: rule.filter.clone(),
            publish: rule.publish,
            subscribe: rule.subscribe,
        });
        RoleV1 {
            shadows: shadows.collect(),
            topics: topics.collect(),
            presence: named.role.presence,
            admin: named.admin.iter().collect(),
        }
    }
}

impl From<ShadowRuleV1> for ShadowRule {
    fn from(rule: ShadowRuleV1) -> ShadowRule {
        ShadowRule {
            verbs: rule.verbs.into_iter().map(Verb::from).collect(),
            devices: match rule.devices {
                DevicesV1::Own => DeviceScope::Own,
                DevicesV1::Prefix(prefix) => DeviceScope::Prefix(prefix),
            },
        }
    }
}

impl From<TopicRuleV1> for TopicRule {
    fn from(rule: TopicRuleV1) -> TopicRule {
        TopicRule {
            filter: rule.filter,
            publish: rule.publish,
            subscribe: rule.subscribe,
        }
    }
}

impl From<Verb> for VerbV1 {
    fn from(verb: Verb) -> VerbV1 {
        match verb {
            Verb::Read => VerbV1::Read,
            Verb::Update => VerbV1::Update,
            Verb::Delete => VerbV1::Delete,
        }
    }
}

impl From<VerbV1> for Verb {
    fn from(verb: VerbV1) -> Verb {
        match verb {
            VerbV1::Read => Verb::Read,
            VerbV1::Update => Verb::Update,
            VerbV1::Delete => Verb::Delete,
        }
    }
}
