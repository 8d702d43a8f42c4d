//! A snapshot of all records with its lookups. A change of a record makes a new directory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use antumbra_shadow::{Tenant, Time};

use super::Denied;
use super::certificate::Fingerprint;
use super::record::{
    AccessKeyId, CredentialId, CredentialRecord, Record, Secret, TenantLimits, TenantRecord,
};
use super::roles::{NamedRole, RoleName};

/// All tenants, credentials and roles, as of one revision. Immutable; shared by whoever asks.
///
/// For correctness: the same records give the same directory on every node, in whatever order they
/// come.
#[derive(Debug, Default)]
pub struct Directory {
    revision: u64,
    tenants: HashMap<Tenant, TenantRecord>,
    credentials: HashMap<CredentialId, Arc<CredentialRecord>>,
    access_keys: HashMap<AccessKeyId, Arc<CredentialRecord>>,
    fingerprints: HashMap<Fingerprint, Arc<CredentialRecord>>,
    of_tenant: HashMap<Tenant, Vec<CredentialId>>,
    roles: HashMap<(Option<Tenant>, RoleName), Arc<NamedRole>>,
}

/// A record that the directory leaves out. The others are good nevertheless: one mistake must not
/// lock everybody out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Two records of one name.
    #[error("the {kind} `{name}` stands there twice")]
    Twice {
        /// Tenant, credential, role, access key or certificate.
        kind: &'static str,
        /// Which one.
        name: String,
    },
    /// A credential or role of a tenant that does not exist.
    #[error("the {kind} `{name}` is of the tenant `{tenant}`, which does not exist")]
    NoTenant {
        /// Credential or role.
        kind: &'static str,
        /// Which one.
        name: String,
        /// Which tenant.
        tenant: Tenant,
    },
}

impl Directory {
    /// Puts records together. `revision` grows with every change of a record. Where two records
    /// claim one name, access key or certificate, the older one has it: nobody can take it over.
    pub fn new(revision: u64, records: Vec<Record>) -> (Directory, Vec<Problem>) {
        let mut directory = Directory {
            revision,
            ..Directory::default()
        };
        let mut problems = Vec::new();
        let (mut tenants, mut credentials, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Tenant(record) => tenants.push(record),
                Record::Credential(record) => credentials.push(record),
                Record::Role(record) => roles.push(record),
            }
        }
        tenants.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        for record in tenants {
            let name = record.name.clone();
            match directory.tenants.entry(name.clone()) {
                Entry::Occupied(_) => problems.push(Problem::twice("tenant", &name)),
                Entry::Vacant(entry) => {
                    entry.insert(record);
                }
            }
        }
        roles.sort_by(|a, b| (a.created, &a.role.name).cmp(&(b.created, &b.role.name)));
        for record in roles {
            let name = record.role.name.clone();
            if let Some(tenant) = directory.missing(record.tenant.as_ref()) {
                problems.push(Problem::no_tenant("role", &name, tenant));
                continue;
            }
            let key = (record.tenant, name.clone());
            match directory.roles.entry(key) {
                Entry::Occupied(_) => problems.push(Problem::twice("role", &name)),
                Entry::Vacant(entry) => {
                    entry.insert(Arc::new(record.role));
                }
            }
        }
        credentials.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        for record in credentials {
            if let Err(problem) = directory.add(record) {
                problems.push(problem);
            }
        }
        (directory, problems)
    }

    fn add(&mut self, record: CredentialRecord) -> Result<(), Problem> {
        let record = Arc::new(record);
        let id = &record.id;
        if let Some(tenant) = self.missing(Some(&record.tenant)) {
            return Err(Problem::no_tenant("credential", id, tenant));
        }
        if self.credentials.contains_key(id) {
            return Err(Problem::twice("credential", id));
        }
        match &record.secret {
            Secret::Password(_) => {}
            Secret::AccessKey { access_key, .. } => {
                if self.access_keys.contains_key(access_key) {
                    return Err(Problem::twice("access key", access_key));
                }
                let key = access_key.clone();
                self.access_keys.insert(key, Arc::clone(&record));
            }
            Secret::Certificate(fingerprint) => {
                if self.fingerprints.contains_key(fingerprint) {
                    return Err(Problem::twice("certificate", fingerprint));
                }
                self.fingerprints.insert(*fingerprint, Arc::clone(&record));
            }
        }
        let of_tenant = self.of_tenant.entry(record.tenant.clone()).or_default();
        of_tenant.push(id.clone());
        self.credentials.insert(id.clone(), Arc::clone(&record));
        Ok(())
    }

    fn missing(&self, tenant: Option<&Tenant>) -> Option<Tenant> {
        tenant.filter(|tenant| !self.has_tenant(tenant)).cloned()
    }

    /// The revision that it is of.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the tenant exists. The tenant `default` always does.
    pub fn has_tenant(&self, tenant: &Tenant) -> bool {
        *tenant == Tenant::default_tenant() || self.tenants.contains_key(tenant)
    }

    /// The record of a tenant; the tenant `default` needs none.
    pub fn tenant(&self, tenant: &Tenant) -> Option<&TenantRecord> {
        self.tenants.get(tenant)
    }

    /// Where the limits of a tenant are not those of the cluster.
    pub fn limits(&self, tenant: &Tenant) -> TenantLimits {
        self.tenant(tenant)
            .map(|record| record.limits)
            .unwrap_or_default()
    }

    /// The credential of this id.
    pub fn credential(&self, id: &CredentialId) -> Option<&Arc<CredentialRecord>> {
        self.credentials.get(id)
    }

    /// The credential that signs with this access key.
    pub fn by_access_key(&self, access_key: &AccessKeyId) -> Option<&Arc<CredentialRecord>> {
        self.access_keys.get(access_key)
    }

    /// The credential that is this certificate.
    pub fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Option<&Arc<CredentialRecord>> {
        self.fingerprints.get(fingerprint)
    }

    /// The credentials of a tenant, the oldest first.
    pub fn credentials_of(&self, tenant: &Tenant) -> impl Iterator<Item = &Arc<CredentialRecord>> {
        let ids = self.of_tenant.get(tenant).into_iter().flatten();
        ids.filter_map(|id| self.credentials.get(id))
    }

    /// The role that a tenant knows by this name: one that is built in, its own, or one of all
    /// tenants.
    pub fn role(&self, tenant: &Tenant, name: &RoleName) -> Option<Arc<NamedRole>> {
        if let Some(role) = NamedRole::built_in(name) {
            return Some(role);
        }
        let own = self.roles.get(&(Some(tenant.clone()), name.clone()));
        own.or_else(|| self.roles.get(&(None, name.clone())))
            .cloned()
    }
}

impl CredentialRecord {
    /// Whether it may be used now.
    ///
    /// # Errors
    ///
    /// When it was taken back or has ended.
    pub fn standing(&self, now: Time) -> Result<(), Denied> {
        if self.revoked.is_some() {
            return Err(Denied::Revoked);
        }
        if self.expires.is_some_and(|end| end <= now) {
            return Err(Denied::Expired);
        }
        Ok(())
    }
}

impl Problem {
    fn twice(kind: &'static str, name: &impl ToString) -> Problem {
        Problem::Twice {
            kind,
            name: name.to_string(),
        }
    }

    fn no_tenant(kind: &'static str, name: &impl ToString, tenant: Tenant) -> Problem {
        Problem::NoTenant {
            kind,
            name: name.to_string(),
            tenant,
        }
    }
}

#[cfg(test)]
mod tests;
