//! `PutRole`, `ListRoles` and `DeleteRole`.

use antumbra_proto::admin::v1;
use antumbra_shadow::Tenant;
use tracing::info;

use super::{Call, may_grant, may_manage};
use crate::access::ledger::{Expect, Kinds, Name};
use crate::access::record::{Record, RoleRecord};
use crate::access::{NamedRole, RoleName};
use crate::api::{convert, list::page_size};
use crate::error::Error;
use crate::shadows::ListRequest;

pub(super) async fn put(
    call: &Call,
    request: v1::PutRoleRequest,
) -> Result<v1::PutRoleResponse, Error> {
    let tenant = convert::tenant(&request.tenant, call.caller(), "tenant")?;
    may_manage(call.caller(), &tenant)?;
    let name = name(&request.name)?;
    let role = NamedRole::parse(name.clone(), &request.document_json)
        .map_err(|error| Error::invalid("document_json", error.to_string()))?;
    may_grant(call.caller(), &tenant, role.admin)?;
    call.must_exist(&tenant).await?;
    let stored = Name::Role(tenant.clone(), name.clone());
    let before = call.ledger.read(&stored, call.deadline).await?;
    if let Some((Record::Role(before), _)) = &before {
        // Who has the role could else be locked out by who may not give it.
        may_grant(call.caller(), &tenant, before.role.admin)?;
    }
    let record = RoleRecord {
        tenant: Some(tenant.clone()),
        created: match &before {
            Some((Record::Role(before), _)) => before.created,
            _ => call.door.gate.now(),
        },
        role,
    };
    let expect = before.map_or(Expect::Absent, |(_, version)| Expect::Version(version));
    let written = Record::Role(record.clone());
    call.ledger.write(&written, expect, call.deadline).await?;
    info!(actor = call.caller().actor, %tenant, role = %name, "a role is put");
    call.settles(|directory| {
        let known = directory.role(&tenant, &name);
        known.is_some_and(|known| *known == record.role)
    })
    .await;
    Ok(v1::PutRoleResponse {
        role: Some(wire(record)),
    })
}

pub(super) async fn list(
    call: &Call,
    request: v1::ListRolesRequest,
) -> Result<v1::ListRolesResponse, Error> {
    let tenant = convert::tenant(&request.tenant, call.caller(), "tenant")?;
    may_manage(call.caller(), &tenant)?;
    let page = ListRequest {
        page_size: page_size(request.page_size)?,
        page_token: &request.page_token,
    };
    let (records, next_page_token) = call.ledger.list(Kinds::Roles, page, call.deadline).await?;
    let stored = records.into_iter().filter_map(|record| match record {
        Record::Role(record) if record.tenant.as_ref() == Some(&tenant) => Some(wire(record)),
        _ => None,
    });
    let built_in = match request.page_token.is_empty() {
        true => RoleName::all_built_in(),
        false => Vec::new(),
    };
    let built_in = built_in.iter().filter_map(NamedRole::built_in);
    let built_in = built_in.map(|role| v1::Role {
        tenant: String::new(),
        name: role.name.to_string(),
        document_json: role.to_text(),
        created: None,
    });
    Ok(v1::ListRolesResponse {
        roles: built_in.chain(stored).collect(),
        next_page_token,
    })
}

pub(super) async fn delete(
    call: &Call,
    request: v1::DeleteRoleRequest,
) -> Result<v1::DeleteRoleResponse, Error> {
    let tenant = convert::tenant(&request.tenant, call.caller(), "tenant")?;
    may_manage(call.caller(), &tenant)?;
    let name = name(&request.name)?;
    let stored = Name::Role(tenant.clone(), name.clone());
    match call.ledger.read(&stored, call.deadline).await? {
        Some((Record::Role(before), _)) => may_grant(call.caller(), &tenant, before.role.admin)?,
        _ => return Err(Error::NotFound),
    }
    call.ledger.forget(&stored, call.deadline).await?;
    info!(actor = call.caller().actor, %tenant, role = %name, "a role is deleted");
    call.settles(|directory| directory.role(&tenant, &name).is_none())
        .await;
    Ok(v1::DeleteRoleResponse {})
}

fn name(text: &str) -> Result<RoleName, Error> {
    RoleName::parse(text).map_err(|error| Error::invalid("name", error.to_string()))
}

fn wire(record: RoleRecord) -> v1::Role {
    v1::Role {
        tenant: record
            .tenant
            .as_ref()
            .map(Tenant::to_string)
            .unwrap_or_default(),
        name: record.role.name.to_string(),
        document_json: record.role.to_text(),
        created: Some(convert::timestamp(record.created)),
    }
}
