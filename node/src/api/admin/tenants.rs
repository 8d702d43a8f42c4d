//! `CreateTenant`, `ListTenants` and `DeleteTenant`.

use antumbra_proto::admin::v1;
use antumbra_shadow::Tenant;
use tracing::info;

use super::{Call, taken};
use crate::access::AdminVerb;
use crate::access::ledger::{Expect, Kinds, Name};
use crate::access::record::{Record, TenantLimits, TenantRecord};
use crate::api::{convert, list::page_size};
use crate::error::Error;
use crate::shadows::{Caller, ListRequest, OWN_TENANT_PREFIX};

/// Records that are looked at at a time.
const PAGE: usize = 500;

pub(super) async fn create(
    call: &Call,
    request: v1::CreateTenantRequest,
) -> Result<v1::CreateTenantResponse, Error> {
    call.caller().may_administer(AdminVerb::ManageTenants)?;
    let name = name(&request.name)?;
    let exists = "the tenant must not exist";
    if name == Tenant::default_tenant() {
        return Err(taken(Error::VersionConflict { current: 0 }, exists));
    }
    let record = TenantRecord {
        name: name.clone(),
        created: call.door.gate.now(),
        limits: limits(request.limits),
    };
    let stored = Record::Tenant(record.clone());
    let written = call.ledger.write(&stored, Expect::Absent, call.deadline);
    written.await.map_err(|error| taken(error, exists))?;
    info!(actor = call.caller().actor, tenant = %name, "a tenant is made");
    call.settles(|directory| directory.has_tenant(&name)).await;
    Ok(v1::CreateTenantResponse {
        tenant: Some(wire(record)),
    })
}

pub(super) async fn list(
    call: &Call,
    request: v1::ListTenantsRequest,
) -> Result<v1::ListTenantsResponse, Error> {
    call.caller().may_administer(AdminVerb::ManageTenants)?;
    let page = ListRequest {
        page_size: page_size(request.page_size)?,
        page_token: &request.page_token,
    };
    let (records, next_page_token) = call
        .ledger
        .list(Kinds::Tenants, page, call.deadline)
        .await?;
    let tenants = records.into_iter().filter_map(|record| match record {
        Record::Tenant(record) => Some(wire(record)),
        _ => None,
    });
    Ok(v1::ListTenantsResponse {
        tenants: tenants.collect(),
        next_page_token,
    })
}

/// Forgets what lets callers in first, so that a tenant made anew does not have it again. Stopped
/// midway, it is repeated.
pub(super) async fn delete(
    call: &Call,
    request: v1::DeleteTenantRequest,
) -> Result<v1::DeleteTenantResponse, Error> {
    call.caller().may_administer(AdminVerb::ManageTenants)?;
    let tenant = name(&request.name)?;
    let stored = Name::Tenant(tenant.clone());
    if call.ledger.read(&stored, call.deadline).await?.is_none() {
        return Err(Error::NotFound);
    }
    let first = ListRequest {
        page_size: 1,
        page_token: "",
    };
    let (shadows, node) = (&call.door.shadows, Caller::node("access"));
    let devices = shadows.list_devices(&node, &tenant, "", first, call.deadline);
    if !devices.await?.devices.is_empty() {
        return Err(Error::ConditionFailed {
            condition: "the tenant must have no shadows".into(),
        });
    }
    for kind in [Kinds::Credentials, Kinds::Roles] {
        forget_all(call, &tenant, kind).await?;
    }
    call.ledger.forget(&stored, call.deadline).await?;
    info!(actor = call.caller().actor, %tenant, "a tenant is deleted");
    call.settles(|directory| !directory.has_tenant(&tenant))
        .await;
    Ok(v1::DeleteTenantResponse {})
}

async fn forget_all(call: &Call, tenant: &Tenant, kind: Kinds) -> Result<(), Error> {
    let mut token = String::new();
    loop {
        let page = ListRequest {
            page_size: PAGE,
            page_token: &token,
        };
        let (records, next) = call.ledger.list(kind, page, call.deadline).await?;
        for record in records {
            let of = match &record {
                Record::Credential(record) => Some(&record.tenant),
                Record::Role(record) => record.tenant.as_ref(),
                Record::Tenant(_) => None,
            };
            if of == Some(tenant) {
                call.ledger
                    .forget(&Name::of(&record), call.deadline)
                    .await?;
            }
        }
        token = next;
        if token.is_empty() {
            return Ok(());
        }
    }
}

fn name(text: &str) -> Result<Tenant, Error> {
    let tenant = Tenant::parse(text).map_err(|error| Error::invalid("name", error.to_string()))?;
    match text.starts_with(OWN_TENANT_PREFIX) {
        true => Err(Error::invalid("name", "must not begin with a colon")),
        false => Ok(tenant),
    }
}

fn limits(wire: Option<v1::TenantLimits>) -> TenantLimits {
    let wire = wire.unwrap_or_default();
    TenantLimits {
        document_bytes_max: wire.document_bytes_max,
        depth_max: wire.depth_max,
        shadows_per_device_max: wire.shadows_per_device_max,
        sessions_max: wire.sessions_max,
        updates_per_second_max: wire.updates_per_second_max,
    }
}

fn wire(record: TenantRecord) -> v1::Tenant {
    v1::Tenant {
        name: record.name.to_string(),
        created: Some(convert::timestamp(record.created)),
        limits: Some(v1::TenantLimits {
            document_bytes_max: record.limits.document_bytes_max,
            depth_max: record.limits.depth_max,
            shadows_per_device_max: record.limits.shadows_per_device_max,
            sessions_max: record.limits.sessions_max,
            updates_per_second_max: record.limits.updates_per_second_max,
        }),
    }
}
