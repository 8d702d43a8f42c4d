//! Named roles: what a caller may do, as a document and built in.

mod document;

use std::fmt;
use std::sync::{Arc, LazyLock};

use antumbra_shadow::{DeviceId, IdError, Tenant};
use serde::{Deserialize, Serialize};

use super::strict::Object;
use crate::gateway::dialect::{DeviceScope, Role, ShadowRule, TopicRule, Verb, topic};

pub(super) use self::document::RoleV1;

/// The most rules of one kind in a role: each is looked at for every message.
pub const RULES_MAX: usize = 64;
/// The longest document of a role, in bytes.
pub const ROLE_BYTES_MAX: usize = 32 * 1024;

/// The name of a role: 1–64 characters of `[a-zA-Z0-9:_-]`, as a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleName(Tenant);

impl RoleName {
    /// Checks the text and makes the name.
    ///
    /// # Errors
    ///
    /// When the text is none.
    pub fn parse(text: &str) -> Result<RoleName, IdError> {
        Tenant::parse(text).map(RoleName)
    }

    /// The role of devices.
    pub fn device() -> RoleName {
        RoleName::known("device")
    }

    /// The role of backends.
    pub fn backend() -> RoleName {
        RoleName::known("backend")
    }

    /// The role of operators.
    pub fn admin() -> RoleName {
        RoleName::known("admin")
    }

    /// What somebody who vouches for others may name when nobody says otherwise: every role that is
    /// built in but `admin`.
    pub fn nameable() -> Vec<RoleName> {
        ["device", "backend", "reader"]
            .map(RoleName::known)
            .to_vec()
    }

    /// Every role that is built in.
    pub fn all_built_in() -> Vec<RoleName> {
        BUILT_IN.iter().map(|role| role.name.clone()).collect()
    }

    fn known(text: &'static str) -> RoleName {
        RoleName::parse(text).expect("the names of built-in roles are names")
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that is done to the cluster and its tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminVerb {
    /// Make, change and delete tenants.
    ManageTenants,
    /// Make and revoke credentials and roles of the own tenant.
    ManageCredentials,
    /// See nodes, shards and what they do.
    ReadCluster,
    /// Move, drain, back up and restore.
    OperateCluster,
}

/// A set of [`AdminVerb`], in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdminVerbs(u8);

impl AdminVerb {
    /// Every verb, in the order of the bits.
    pub const ALL: [AdminVerb; 4] = [
        AdminVerb::ManageTenants,
        AdminVerb::ManageCredentials,
        AdminVerb::ReadCluster,
        AdminVerb::OperateCluster,
    ];

    /// Whether the verb reaches beyond one tenant.
    pub fn is_global(self) -> bool {
        self != AdminVerb::ManageCredentials
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl AdminVerbs {
    /// No verb.
    pub const NONE: AdminVerbs = AdminVerbs(0);

    /// Whether the verb is in the set.
    pub fn contains(self, verb: AdminVerb) -> bool {
        self.0 & verb.bit() != 0
    }

    /// The verbs of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = AdminVerb> {
        AdminVerb::ALL
            .into_iter()
            .filter(move |&verb| self.contains(verb))
    }

    /// What is left of the set for a caller of this tenant: verbs that reach beyond a tenant count
    /// only in `default`.
    #[must_use]
    pub fn within(self, tenant: &Tenant) -> AdminVerbs {
        let operator = *tenant == Tenant::default_tenant();
        self.iter()
            .filter(|verb| operator || !verb.is_global())
            .collect()
    }
}

impl FromIterator<AdminVerb> for AdminVerbs {
    fn from_iter<I: IntoIterator<Item = AdminVerb>>(verbs: I) -> AdminVerbs {
        AdminVerbs(verbs.into_iter().fold(0, |bits, verb| bits | verb.bit()))
    }
}

/// Made once: every session has one of them.
static BUILT_IN: LazyLock<[Arc<NamedRole>; 4]> = LazyLock::new(|| {
    [
        NamedRole::known("device", Role::device(), &[]),
        NamedRole::known("backend", Role::backend(), &[]),
        NamedRole::known("reader", reader(), &[AdminVerb::ReadCluster]),
        NamedRole::known("admin", Role::backend(), &AdminVerb::ALL),
    ]
});

/// A role with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRole {
    /// What it is called.
    pub name: RoleName,
    /// What it allows with shadows and topics.
    pub role: Arc<Role>,
    /// What it allows with the cluster and its tenants.
    pub admin: AdminVerbs,
}

/// Why a role is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// The text is longer than [`ROLE_BYTES_MAX`].
    #[error("a role has at most {ROLE_BYTES_MAX} bytes")]
    TooLong,
    /// The text is not a role.
    #[error("{0}")]
    Syntax(String),
    /// There are more than [`RULES_MAX`] rules of one kind.
    #[error("a role has at most {RULES_MAX} rules of a kind")]
    TooManyRules,
    /// A rule that allows nothing, or one thing twice.
    #[error("a rule names each verb once and at least one")]
    Verbs,
    /// A prefix with which no device id begins.
    #[error("no device id begins with the prefix `{0}`")]
    Prefix(String),
    /// A topic filter that is none, or one that begins with `$`.
    #[error("`{0}` is not a filter over topics between clients")]
    Filter(String),
    /// The name belongs to a role that is built in.
    #[error("the role `{0}` is built in")]
    BuiltIn(RoleName),
}

impl NamedRole {
    /// The role built in under this name.
    pub fn built_in(name: &RoleName) -> Option<Arc<NamedRole>> {
        let found = BUILT_IN.iter().find(|role| role.name == *name);
        found.cloned()
    }

    fn known(name: &'static str, role: Role, admin: &[AdminVerb]) -> Arc<NamedRole> {
        Arc::new(NamedRole {
            name: RoleName::known(name),
            role: Arc::new(role),
            admin: admin.iter().copied().collect(),
        })
    }

    /// Reads a role from its document. Strict: a key that is not known is an error, and so is one
    /// that stands there twice.
    ///
    /// # Errors
    ///
    /// When the text is no role, or [`check`](NamedRole::check) refuses it.
    pub fn parse(name: RoleName, text: &str) -> Result<NamedRole, RoleError> {
        if text.len() > ROLE_BYTES_MAX {
            return Err(RoleError::TooLong);
        }
        let Object(document) =
            serde_json::from_str(text).map_err(|error| RoleError::Syntax(error.to_string()))?;
        NamedRole::from_document(name, document)
    }

    /// The document of the role. Reading it gives the same role.
    pub fn to_text(&self) -> String {
        serde_json::to_string(&RoleV1::from(self)).expect("a role has only texts as keys")
    }

    /// Checks a role that comes from outside.
    ///
    /// # Errors
    ///
    /// When the name is built in, or a rule means nothing.
    pub fn check(&self) -> Result<(), RoleError> {
        if NamedRole::built_in(&self.name).is_some() {
            return Err(RoleError::BuiltIn(self.name.clone()));
        }
        let Role {
            shadows, topics, ..
        } = &*self.role;
        if shadows.len() > RULES_MAX || topics.len() > RULES_MAX {
            return Err(RoleError::TooManyRules);
        }
        for rule in shadows {
            let verbs = &rule.verbs;
            let twice = (1..verbs.len()).any(|index| verbs[..index].contains(&verbs[index]));
            if verbs.is_empty() || twice {
                return Err(RoleError::Verbs);
            }
            if let DeviceScope::Prefix(prefix) = &rule.devices {
                check_prefix(prefix)?;
            }
        }
        for rule in topics {
            if rule.filter.starts_with('$') || !(rule.publish || rule.subscribe) {
                return Err(RoleError::Filter(rule.filter.to_string()));
            }
        }
        let bad = |rule: &&TopicRule| topic::check_filter(&rule.filter).is_err();
        match topics.iter().find(bad) {
            Some(rule) => Err(RoleError::Filter(rule.filter.to_string())),
            None => Ok(()),
        }
    }
}

/// What a caller may do that reads everything and changes nothing.
fn reader() -> Role {
    Role {
        shadows: vec![ShadowRule {
            verbs: vec![Verb::Read],
            devices: DeviceScope::Prefix("".into()),
        }],
        topics: vec![TopicRule {
            filter: "#".into(),
            publish: false,
            subscribe: true,
        }],
        presence: true,
    }
}

fn check_prefix(prefix: &str) -> Result<(), RoleError> {
    if prefix.is_empty() || DeviceId::parse(prefix).is_ok() {
        return Ok(());
    }
    Err(RoleError::Prefix(prefix.to_owned()))
}

#[cfg(test)]
mod tests;
