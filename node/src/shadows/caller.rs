//! Who asks, and what that allows.

use std::sync::Arc;

use antumbra_shadow::{BatchItem, DeviceKey, Kind, Tenant, Update};

use crate::access::{AdminVerb, Principal, Verb};
use crate::error::Error;

/// Tenants whose names begin so hold records of the nodes themselves; no door reaches them.
pub const OWN_TENANT_PREFIX: &str = ":";

/// The longest actor: a token may name somebody at great length.
const ACTOR_BYTES_MAX: usize = 256;

/// Who asks. Where a door is open to everybody, who shows nothing is [`Caller::anyone`].
#[derive(Debug, Clone)]
pub struct Caller {
    /// What the feed says about who made a change.
    pub actor: String,
    /// The only tenant the caller may touch; `None` means all of them.
    pub tenant: Option<Tenant>,
    /// Who it has proven to be; `None` for callers that need no proof.
    principal: Option<Arc<Principal>>,
    /// Whether this is the node itself, which may touch [its own tenants](OWN_TENANT_PREFIX).
    is_node: bool,
}

impl Caller {
    /// A caller that nobody has authenticated, named after its door.
    pub fn anyone(door: &str) -> Caller {
        Caller {
            actor: door.to_owned(),
            tenant: None,
            principal: None,
            is_node: false,
        }
    }

    /// A caller that may touch one tenant.
    pub fn of_tenant(actor: impl Into<String>, tenant: Tenant) -> Caller {
        Caller {
            tenant: Some(tenant),
            ..Caller::anyone(&actor.into())
        }
    }

    /// A caller that may do what its role says.
    pub fn of(actor: impl Into<String>, principal: Arc<Principal>) -> Caller {
        let mut actor: String = actor.into();
        actor.truncate(actor.floor_char_boundary(ACTOR_BYTES_MAX));
        Caller {
            tenant: Some(principal.tenant.clone()),
            principal: Some(principal),
            ..Caller::anyone(&actor)
        }
    }

    /// The node itself, for the records that it keeps as documents.
    pub(crate) fn node(part: &str) -> Caller {
        Caller {
            is_node: true,
            ..Caller::anyone(part)
        }
    }

    /// Who it has proven to be.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// Whether a verb about the cluster is allowed.
    pub(crate) fn may_administer(&self, verb: AdminVerb) -> Result<(), Error> {
        let allowed = self.principal.as_ref();
        allow(allowed.is_none_or(|principal| principal.may_administer(verb)))
    }

    /// Whether a verb is allowed on the shadows of a device.
    pub(super) fn may_touch(&self, verb: Verb, device: &DeviceKey) -> Result<(), Error> {
        self.may_enter(&device.tenant)?;
        let allowed = self.principal.as_ref();
        allow(allowed.is_none_or(|principal| principal.may(verb, &device.device)))
    }

    /// Whether the devices whose ids begin so may be listed and watched.
    pub(super) fn may_read_all(&self, tenant: &Tenant, prefix: &str) -> Result<(), Error> {
        self.may_enter(tenant)?;
        let allowed = self.principal.as_ref();
        allow(allowed.is_none_or(|principal| principal.may_with_all(Verb::Read, prefix)))
    }

    /// Whether a command is allowed, with everything in it.
    pub(super) fn may_change(&self, device: &DeviceKey, kind: &Kind) -> Result<(), Error> {
        match kind {
            Kind::Update(update) => self.may_update(device, update),
            Kind::Delete(delete) => {
                self.may_touch(Verb::Delete, device)?;
                self.may_probe(device, !delete.conditions.paths.is_empty())
            }
            Kind::Batch(items) => {
                self.may_enter(&device.tenant)?;
                items.iter().try_for_each(|item| match item {
                    BatchItem::Update(update) => self.may_update(device, update),
                    BatchItem::Delete(delete) => {
                        self.may_touch(Verb::Delete, device)?;
                        self.may_probe(device, !delete.conditions.paths.is_empty())
                    }
                })
            }
        }
    }

    fn may_update(&self, device: &DeviceKey, update: &Update) -> Result<(), Error> {
        self.may_touch(Verb::Update, device)?;
        self.may_probe(device, !update.conditions.paths.is_empty())
    }

    /// Conditions on places of a document tell what is there, so they are reads too.
    fn may_probe(&self, device: &DeviceKey, probes: bool) -> Result<(), Error> {
        match probes {
            true => self.may_touch(Verb::Read, device),
            false => Ok(()),
        }
    }

    fn may_enter(&self, tenant: &Tenant) -> Result<(), Error> {
        match &self.tenant {
            Some(own) if own != tenant => Err(Error::PermissionDenied),
            _ if !self.is_node && tenant.as_str().starts_with(OWN_TENANT_PREFIX) => {
                Err(Error::PermissionDenied)
            }
            _ => Ok(()),
        }
    }
}

fn allow(allowed: bool) -> Result<(), Error> {
    match allowed {
        true => Ok(()),
        false => Err(Error::PermissionDenied),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use antumbra_shadow::{Delete, DeviceId, Draft, Limits, Patch, SectionInput, ShadowName};

    use super::*;
    use crate::access::{
        AccessSettings, Authenticator, Directory, Mode, NamedRole, RoleName, token,
    };

    fn caller(role: &str, device: Option<&str>) -> Caller {
        let settings = AccessSettings {
            mode: Mode::Open,
            ..AccessSettings::default()
        };
        let (directory, _) = Directory::new(1, Vec::new());
        let verified = token::Verified::new(std::num::NonZeroUsize::MIN, [0; 32]);
        let authenticator = Authenticator {
            directory: &directory,
            settings: &settings,
            verified: &verified,
            now: antumbra_shadow::Time(0),
        };
        let mut principal = authenticator.anonymous(None).unwrap();
        let name = RoleName::parse("test").unwrap();
        // The name of a role, or the text of one.
        let built_in = RoleName::parse(role).ok();
        let named = built_in.and_then(|role| NamedRole::built_in(&role));
        let named = named.unwrap_or_else(|| NamedRole::parse(name, role).unwrap().into());
        principal.role = Arc::clone(&named.role);
        principal.device = device.map(|id| DeviceId::parse(id).unwrap());
        Caller::of("test", Arc::new(principal))
    }

    fn key(device: &str) -> DeviceKey {
        DeviceKey::new(Tenant::default(), DeviceId::parse(device).unwrap())
    }

    fn update() -> Update {
        Update {
            shadow: ShadowName::classic(),
            patch: Patch::build(
                SectionInput::Clear,
                SectionInput::Absent,
                &Limits::default(),
            )
            .unwrap(),
            conditions: Default::default(),
        }
    }

    /// A device reaches its own shadows and no others, by no verb (invariant 14).
    #[test]
    fn device_touches_only_its_own_shadows() {
        let lamp = caller("device", Some("lamp"));
        for verb in Verb::ALL {
            assert!(lamp.may_touch(verb, &key("lamp")).is_ok());
            assert!(lamp.may_touch(verb, &key("lamp-2")).is_err());
        }
        assert!(lamp.may_read_all(&Tenant::default(), "lamp").is_err());
        let elsewhere = DeviceKey::new(Tenant::parse("b").unwrap(), key("lamp").device);
        assert!(lamp.may_touch(Verb::Read, &elsewhere).is_err());
    }

    /// Every part of a batch is looked at: one that is not allowed is not carried in by others.
    #[test]
    fn every_part_of_a_batch_must_be_allowed() {
        let role = r#"{"shadows":[{"verbs":["update"],"devices":{"prefix":"pump-"}}]}"#;
        let writer = caller(role, None);
        let update = BatchItem::Update(update());
        let delete = BatchItem::Delete(Delete {
            shadow: ShadowName::classic(),
            conditions: Default::default(),
        });
        let may = |items| writer.may_change(&key("pump-1"), &Kind::Batch(items));
        assert!(may(vec![update.clone()]).is_ok());
        assert!(may(vec![update, delete]).is_err());
        let draft = Draft::new(String::new(), Kind::Batch(Vec::new()));
        assert!(writer.may_change(&key("pump-1"), &draft.kind).is_ok());
    }

    /// Whoever may write and not read must not learn what is there by asking conditions.
    #[test]
    fn conditions_on_places_are_reads() {
        let role = r#"{"shadows":[{"verbs":["update"],"devices":{"prefix":""}}]}"#;
        let writer = caller(role, None);
        let mut update = update();
        assert!(writer.may_update(&key("a"), &update).is_ok());
        update.conditions.paths = vec![antumbra_shadow::PathCondition {
            section: antumbra_shadow::Section::Desired,
            pointer: antumbra_shadow::Pointer::parse("/secret").unwrap(),
            test: antumbra_shadow::PathTest::Exists,
        }];
        assert!(writer.may_update(&key("a"), &update).is_err());
    }

    /// A prefix allows what it covers and nothing beside it.
    #[test]
    fn lists_stay_within_the_prefix_of_the_role() {
        let role = r#"{"shadows":[{"verbs":["read"],"devices":{"prefix":"pump-"}}]}"#;
        let reader = caller(role, None);
        let may = |prefix: &str| reader.may_read_all(&Tenant::default(), prefix).is_ok();
        assert!(may("pump-") && may("pump-7"));
        assert!(!may("") && !may("pump") && !may("lamp"));
    }
}
