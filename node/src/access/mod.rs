//! Who a caller is and what that allows: from what was shown at a door to a [`Principal`].
//!
//! What decides is pure: values in, values out. No socket, no store, and no clock: the present time
//! is an argument. Files are read by the caller, their text is handed in. A door asks, this answers,
//! and the door enforces. Four parts hold state: `gate`, `ledger`, `follower` and `visitor`.
//!
//! # Map
//!
//! - [`settings`]: what the operator chose.
//! - [`record`]: tenants, credentials and roles as they are stored.
//! - [`directory`]: a snapshot of all records with its lookups.
//! - [`authenticate`]: what a caller showed, against the directory and the settings.
//! - [`roles`]: named roles, built in and as documents.
//! - [`certificate`], [`jwt`], [`token`], [`sigv4`]: the kinds of proof, one each. They know no
//!   directory.
//! - [`gate`]: the rules in force on this node, which all doors ask.
//! - `visitor`: what the link of a caller tells of it.
//! - `ledger`, `follower`: records as replicated documents, and how a node learns of each change.
//!
//! # Invariants
//!
//! - What is not certainly right is refused. What could be read in two ways is nobody's.
//! - A [`Denied`] never holds a part of what was shown, so it may be logged. A caller is told only
//!   that it is not authenticated: the difference between unknown and wrong is for the audit.
//! - Whoever may vouch for one tenant can never name another; see [`certificate::Authorities`] and
//!   [`jwt::JwtSettings::tenant`].
//! - Verbs that reach beyond a tenant count only in the tenant `default`, which is the operator's.

pub mod authenticate;
pub mod certificate;
pub mod directory;
pub(crate) mod follower;
pub mod gate;
pub(crate) mod hexadecimal;
pub mod jwt;
pub(crate) mod ledger;
pub mod record;
pub mod roles;
pub mod settings;
pub mod sigv4;
mod strict;
pub mod token;
mod visitor;

use std::sync::Arc;

use antumbra_shadow::{DeviceId, Tenant, Time};

use crate::gateway::dialect::{DeviceScope, Identity, Role};

pub use self::authenticate::Authenticator;
pub use self::certificate::Fingerprint;
pub use self::directory::Directory;
pub use self::gate::Gate;
pub use self::record::CredentialId;
pub use self::roles::{AdminVerb, AdminVerbs, NamedRole, RoleName};
pub use self::settings::{AccessSettings, Mode};
pub(crate) use self::visitor::{Shown, Visitor};
pub use crate::gateway::dialect::Verb;

/// A caller that has proven who it is. Clones share their texts.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The tenant; nothing outside it exists for the caller.
    pub tenant: Tenant,
    /// The device, when it is one; backend callers have none.
    pub device: Option<DeviceId>,
    /// What the audit calls it: a credential, a certificate, the subject of a token.
    pub name: Arc<str>,
    /// Name of its role.
    pub role_name: RoleName,
    /// What the role allows with shadows and topics.
    pub role: Arc<Role>,
    /// What the role allows with the cluster and its tenants.
    pub admin: AdminVerbs,
    /// What proved it, to check again when records change.
    pub proven: Proven,
    /// When the proof ends, and every session and stream with it.
    pub expires: Option<Time>,
    /// The directory that this was decided by.
    pub revision: u64,
}

/// What proved who a caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// A stored credential.
    Credential(CredentialId),
    /// A certificate that is not registered.
    Certificate(Fingerprint),
    /// A token that this issuer signed.
    Issuer(Box<str>),
    /// Nothing: the door is open to everybody.
    Open,
}

impl Principal {
    /// Whether a verb about the cluster and its tenants is allowed.
    pub fn may_administer(&self, verb: AdminVerb) -> bool {
        self.admin.contains(verb)
    }

    /// The identity of a session with this client id.
    pub fn identity(&self, client_id: Arc<str>) -> Identity {
        Identity {
            tenant: self.tenant.clone(),
            device: self.device.clone(),
            client_id,
            role: Arc::clone(&self.role),
        }
    }

    /// Whether a verb is allowed on the shadows of a device of the own tenant.
    pub fn may(&self, verb: Verb, device: &DeviceId) -> bool {
        self.allows(verb, |scope| match scope {
            DeviceScope::Own => self.device.as_ref() == Some(device),
            DeviceScope::Prefix(prefix) => device.as_str().starts_with(&**prefix),
        })
    }

    /// Whether a verb is allowed on the shadows of every device whose id begins so.
    pub fn may_with_all(&self, verb: Verb, prefix: &str) -> bool {
        self.allows(verb, |scope| match scope {
            DeviceScope::Own => false,
            DeviceScope::Prefix(allowed) => prefix.starts_with(&**allowed),
        })
    }

    fn allows(&self, verb: Verb, covers: impl Fn(&DeviceScope) -> bool) -> bool {
        let mut rules = self.role.shadows.iter();
        rules.any(|rule| rule.verbs.contains(&verb) && covers(&rule.devices))
    }

    /// Whether it is the same caller with the same rights.
    pub fn is_as(&self, other: &Principal) -> bool {
        self.tenant == other.tenant
            && self.device == other.device
            && self.role_name == other.role_name
            && self.admin == other.admin
            && self.role == other.role
    }

    /// Whether the proof has ended.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// Why a caller is not let in. For logs and the audit: it holds nothing of what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// Nothing was shown, and the door is not open to everybody.
    #[error("no credentials")]
    Missing,
    /// This kind of proof is not taken here.
    #[error("not accepted here: {0}")]
    Unsupported(&'static str),
    /// What was shown cannot be read, or could be read in two ways.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// What was shown is longer than anything good.
    #[error("too long")]
    TooLarge,
    /// There is no such credential.
    #[error("unknown credential")]
    Unknown,
    /// The secret or the signature does not match.
    #[error("wrong secret or signature")]
    Wrong,
    /// The credential was taken back, or is not what it was.
    #[error("revoked")]
    Revoked,
    /// The proof has ended.
    #[error("expired")]
    Expired,
    /// The proof has not begun.
    #[error("not yet valid")]
    NotYetValid,
    /// The time of a signed request is too far from ours.
    #[error("the time of the request is too far from ours")]
    Skewed,
    /// Nobody here trusts who vouches for it.
    #[error("unknown issuer")]
    UnknownIssuer,
    /// The issuer has no such key.
    #[error("unknown key")]
    UnknownKey,
    /// The algorithm of the signature is not one of those allowed.
    #[error("algorithm not allowed")]
    Algorithm,
    /// The token was made for somebody else.
    #[error("wrong audience")]
    Audience,
    /// There is no such tenant.
    #[error("unknown tenant")]
    UnknownTenant,
    /// There is no such role.
    #[error("unknown role")]
    UnknownRole,
    /// Whoever vouches for it may not vouch for this.
    #[error("not for this issuer to say: {0}")]
    Overreach(&'static str),
}

impl Denied {
    /// A short stable word for metrics and the audit.
    pub fn word(self) -> &'static str {
        match self {
            Denied::Missing => "missing",
            Denied::Unsupported(_) => "unsupported",
            Denied::Malformed(_) => "malformed",
            Denied::TooLarge => "too_large",
            Denied::Unknown => "unknown",
            Denied::Wrong => "wrong",
            Denied::Revoked => "revoked",
            Denied::Expired => "expired",
            Denied::NotYetValid => "not_yet_valid",
            Denied::Skewed => "skewed",
            Denied::UnknownIssuer => "unknown_issuer",
            Denied::UnknownKey => "unknown_key",
            Denied::Algorithm => "algorithm",
            Denied::Audience => "audience",
            Denied::UnknownTenant => "unknown_tenant",
            Denied::UnknownRole => "unknown_role",
            Denied::Overreach(_) => "overreach",
        }
    }
}
