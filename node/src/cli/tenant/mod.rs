//! `antumbra tenant …`: who is apart from whom.

mod create;
mod delete;
mod list;

use antumbra_proto::admin::v1::Tenant;
use antumbra_shadow::json::Value;
use clap::Subcommand;

use super::output::{number, object, string};
use super::problem::Problem;
use super::shadow::time_value;
use super::{Context, block_on};

/// Make and delete tenants
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(create::Args),
    List(list::Args),
    Delete(delete::Args),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Create(args) => block_on(create::run(args, context)),
            Self::List(args) => block_on(list::run(args, context)),
            Self::Delete(args) => block_on(delete::run(args, context)),
        }
    }
}

fn value(tenant: &Tenant) -> Value {
    let limits = tenant.limits.unwrap_or_default();
    let limit = |limit: Option<u32>| limit.map_or(Value::Null, |limit| number(limit.into()));
    object([
        ("name", string(tenant.name.clone())),
        ("created", time_value(tenant.created)),
        ("document_bytes_max", limit(limits.document_bytes_max)),
        ("depth_max", limit(limits.depth_max)),
        (
            "shadows_per_device_max",
            limit(limits.shadows_per_device_max),
        ),
        ("sessions_max", limit(limits.sessions_max)),
        (
            "updates_per_second_max",
            limit(limits.updates_per_second_max),
        ),
    ])
}
