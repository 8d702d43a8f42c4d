//! `antumbra role …`: what callers may do.

mod delete;
mod list;
mod put;

use antumbra_proto::admin::v1::Role;
use antumbra_shadow::json::Value;
use clap::Subcommand;

use super::output::{from_json, object, string};
use super::problem::Problem;
use super::shadow::time_value;
use super::{Context, block_on};

/// Make, replace and delete roles
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Put(put::Args),
    List(list::Args),
    Delete(delete::Args),
}

impl Verb {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Problem> {
        match self {
            Self::Put(args) => block_on(put::run(args, context)),
            Self::List(args) => block_on(list::run(args, context)),
            Self::Delete(args) => block_on(delete::run(args, context)),
        }
    }
}

fn value(role: &Role) -> Value {
    object([
        ("name", string(role.name.clone())),
        ("tenant", string(built_in_or(&role.tenant))),
        ("created", time_value(role.created)),
        ("document", from_json(&role.document_json)),
    ])
}

fn built_in_or(tenant: &str) -> String {
    match tenant.is_empty() {
        true => "(built in)".to_owned(),
        false => tenant.to_owned(),
    }
}
