//! `antumbra.admin.v1.Admin`: tenants, credentials and roles.
//!
//! Whoever may do something here is decided by [`may_manage`] and [`may_grant`] alone. Every change is
//! logged with who made it; secrets are in replies and nowhere else.

mod credentials;
mod roles;
mod tenants;

use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::admin::v1;
use antumbra_proto::admin::v1::admin_server::Admin;
use antumbra_shadow::Tenant;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Door, deadline};
use crate::access::ledger::{Ledger, Name};
use crate::access::record::Record;
use crate::access::{AdminVerb, AdminVerbs, Directory, NamedRole, RoleName};
use crate::error::Error;
use crate::shadows::{Caller, OWN_TENANT_PREFIX};

/// How long an answer waits for the change to be in force on this node.
const PATIENCE: Duration = Duration::from_secs(2);

type Reply<T> = Result<Response<T>, Status>;

/// `antumbra.admin.v1.Admin`.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) door: Door,
}

/// A call as the handlers see it.
struct Call {
    door: Door,
    ledger: Ledger,
    deadline: Instant,
}

macro_rules! unary {
    ($self:ident, $request:ident, $handler:path) => {{
        let door = $self.door.of(&$request)?;
        let call = Call {
            ledger: Ledger::new(door.shadows.clone()),
            deadline: deadline::of(&$request).at,
            door,
        };
        let reply = $handler(&call, $request.into_inner()).await;
        reply.map(Response::new).map_err(Status::from)
    }};
}

#[tonic::async_trait]
impl Admin for Service {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Reply<v1::CreateTenantResponse> {
        unary!(self, request, tenants::create)
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Reply<v1::ListTenantsResponse> {
        unary!(self, request, tenants::list)
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Reply<v1::DeleteTenantResponse> {
        unary!(self, request, tenants::delete)
    }

    async fn create_credential(
        &self,
        request: Request<v1::CreateCredentialRequest>,
    ) -> Reply<v1::CreateCredentialResponse> {
        unary!(self, request, credentials::create)
    }

    async fn list_credentials(
        &self,
        request: Request<v1::ListCredentialsRequest>,
    ) -> Reply<v1::ListCredentialsResponse> {
        unary!(self, request, credentials::list)
    }

    async fn revoke_credential(
        &self,
        request: Request<v1::RevokeCredentialRequest>,
    ) -> Reply<v1::RevokeCredentialResponse> {
        unary!(self, request, credentials::revoke)
    }

    async fn put_role(&self, request: Request<v1::PutRoleRequest>) -> Reply<v1::PutRoleResponse> {
        unary!(self, request, roles::put)
    }

    async fn list_roles(
        &self,
        request: Request<v1::ListRolesRequest>,
    ) -> Reply<v1::ListRolesResponse> {
        unary!(self, request, roles::list)
    }

    async fn delete_role(
        &self,
        request: Request<v1::DeleteRoleRequest>,
    ) -> Reply<v1::DeleteRoleResponse> {
        unary!(self, request, roles::delete)
    }
}

impl Call {
    fn caller(&self) -> &Caller {
        &self.door.caller
    }

    /// Waits until a change is in force here.
    async fn settles(&self, is_so: impl Fn(&Directory) -> bool) {
        let left = self.deadline.saturating_duration_since(Instant::now()) / 2;
        self.door.gate.settles(PATIENCE.min(left), is_so).await;
    }

    /// Refuses a tenant that does not exist.
    async fn must_exist(&self, tenant: &Tenant) -> Result<(), Error> {
        if *tenant == Tenant::default_tenant() {
            return Ok(());
        }
        let name = Name::Tenant(tenant.clone());
        match self.ledger.read(&name, self.deadline).await? {
            Some(_) => Ok(()),
            None => Err(Error::invalid("tenant", "does not exist")),
        }
    }

    /// The role that a tenant knows by this name.
    async fn role(&self, tenant: &Tenant, name: &RoleName) -> Result<NamedRole, Error> {
        if let Some(role) = NamedRole::built_in(name) {
            return Ok(Arc::unwrap_or_clone(role));
        }
        let stored = Name::Role(tenant.clone(), name.clone());
        match self.ledger.read(&stored, self.deadline).await? {
            Some((Record::Role(record), _)) => Ok(record.role),
            _ => Err(Error::invalid("role", "does not exist")),
        }
    }
}

/// Whether a caller may see and change credentials and roles of a tenant.
fn may_manage(caller: &Caller, tenant: &Tenant) -> Result<(), Error> {
    if tenant.as_str().starts_with(OWN_TENANT_PREFIX) {
        return Err(Error::PermissionDenied);
    }
    let verb = match caller.principal() {
        Some(principal) if principal.tenant != *tenant => AdminVerb::ManageTenants,
        _ => AdminVerb::ManageCredentials,
    };
    caller.may_administer(verb)
}

/// Whether a caller who may manage a tenant may give away these verbs there: none in the own tenant
/// that it has not itself, else it could make itself anything.
fn may_grant(caller: &Caller, tenant: &Tenant, admin: AdminVerbs) -> Result<(), Error> {
    match caller.principal() {
        Some(principal) if principal.tenant == *tenant => {
            let mut granted = admin.within(tenant).iter();
            granted.try_for_each(|verb| caller.may_administer(verb))
        }
        _ => Ok(()),
    }
}

/// Says what was in the way of a write.
fn taken(error: Error, condition: &'static str) -> Error {
    match error {
        Error::VersionConflict { .. } => Error::ConditionFailed {
            condition: condition.into(),
        },
        other => other,
    }
}
